"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from xaicmp.core.machine.devices import autocast, find_device
from xaicmp.errors import UsageError, XaicmpError


def test_auto_is_an_accelerator_if_there_is_one() -> None:
    there = torch.cuda.is_available(), torch.backends.mps.is_available()
    expected = "cuda" if there[0] else "mps" if there[1] else "cpu"
    assert find_device("auto").type == find_device().type == expected
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", "cuda:", "CPU", "cuda:-1", "auto:0", "meta"])
def test_a_name_of_no_device_is_a_wrong_command_line(name: str) -> None:
    with pytest.raises(UsageError, match=r"choose from auto, cpu, cuda"):
        find_device(name)


@pytest.mark.parametrize("name", ["cuda:999", "cpu:1", "mps:9"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(XaicmpError, match=f"device {name}: there is none") as caught:
        find_device(name)
    assert not isinstance(caught.value, UsageError)


def test_bf16_is_used_only_where_it_is_asked_for() -> None:
    layer, values = torch.nn.Linear(4, 4), torch.ones(1, 4)
    with autocast(torch.device("cpu"), "float32"):
        assert layer(values).dtype == torch.float32
    with autocast(torch.device("cpu"), "bf16"):
        assert layer(values).dtype == torch.bfloat16

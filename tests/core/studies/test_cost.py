"""What a method costs, counted by a model that counts for itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SmallNet, choose, quick, registered, small_engine, state
from torch import Tensor, nn

from xaicmp.core.attribution import get_methods
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.run.engine import Engine
from xaicmp.core.studies import cost
from xaicmp.core.studies.cost import Cost, measure
from xaicmp.errors import XaicmpError


def costs_of(names: list[str], images: ImageSet, engine: Engine | None = None, **options: Any) -> list[Cost]:
    engine = engine or small_engine(batch_size=4)
    chosen = choose(engine, images, Selection(n=6, only="all"))
    return measure(engine, images, chosen, quick(names, **options))


def passes(names: list[str], images: ImageSet, **options: Any) -> list[float]:
    return [each.passes for each in costs_of(names, images, **options)]


def test_passes_are_counted_forward_and_backward(sample: ImageSet) -> None:
    assert passes(["saliency"], sample) == [2, 2]
    # Each alone, and in the end all together, which share a pass.
    assert passes(["saliency", "input-x-gradient", "grad-cam", "layercam"], sample) == [2] * 5
    assert passes(["edge", "random", "centre"], sample) == [0] * 4
    # Beside the steps: what the image and the one baseline of the batch of four score.
    for steps in (2, 5):
        assert passes(["integrated-gradients"], sample, steps=steps)[0] == 2 * steps + 2 + 1 / 4
    assert passes(["smoothgrad"], sample, samples=7)[0] == 2 * 7


def test_what_needs_no_gradient_makes_no_backward_pass(sample: ImageSet) -> None:
    """An occlusion is one forward pass; only the forward passes of a model that counts for itself agree."""
    forwards: list[int] = []

    class Counting(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            forwards.append(len(images))
            return super().forward(images)

    engine = small_engine(Counting(), batch_size=4)
    inputs = engine.inputs(sample.tensor[:2])
    engine.settle(inputs)
    engine.model(inputs)  # merged by a forward pass of its own
    chosen = choose(engine, sample, Selection(n=4, only="all"))
    forwards.clear()
    found = measure(engine, sample, chosen, get_methods(["occlusion"]))
    assert found[0].passes == found[1].passes > 2
    assert sum(forwards) == 4 * (found[0].passes + found[1].passes)


def test_all_together_share_a_pass_in_whatever_order(sample: ImageSet) -> None:
    names = ["saliency", "grad-cam", "input-x-gradient", "layercam", "edge"]
    for order in (names, names[::-1]):
        *single, together = costs_of(order, sample)
        assert sum(each.passes for each in single) == 8
        assert together.passes == 2
        assert together.title == "all together"
        assert [each.title for each in single] == [each.title for each in get_methods(order)]


def test_a_method_that_takes_the_model_as_it_was_given_is_counted_too(sample: ImageSet) -> None:
    with registered(
        "own", lambda model, images, targets: torch.autograd.grad(model(images).sum(), images)[0]
    ):
        assert passes(["own"], sample) == [2, 2]
        engine = small_engine(batch_size=4)
        chosen = choose(engine, sample, Selection(n=6, only="all"))
        plugin = replace(get_methods(["own"])[0], sees_modules=True)
        assert [each.passes for each in measure(engine, sample, chosen, [plugin])] == [2, 2]


@pytest.mark.parametrize(("batch_size", "images"), [(1, 1), (4, 4), (64, 6)])
def test_one_batch_is_explained(batch_size: int, images: int, sample: ImageSet) -> None:
    found = costs_of(["saliency", "random"], sample, small_engine(batch_size=batch_size))
    assert [each.images for each in found] == [images] * 3
    assert [each.passes for each in found] == [2, 0, 2]
    assert all(each.seconds > 0 for each in found)


def test_memory_is_that_of_the_method(sample: ImageSet) -> None:
    def hungry(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return images + torch.ones(256 << 18).mean()  # 256 MiB

    with registered("hungry", hungry):
        frugal, large, _ = costs_of(["edge", "hungry"], sample)
    if large.memory is not None and frugal.memory is not None:
        assert large.memory > 128 << 20 > frugal.memory


def test_the_model_is_left_as_it_was_also_when_a_method_fails(sample: ImageSet) -> None:
    def failing(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        model(images)
        raise ZeroDivisionError

    engine = small_engine(batch_size=4)
    chosen = choose(engine, sample, Selection(n=6, only="all"))
    models = engine.model(engine.inputs(sample.tensor[:2])), engine.classifier.module
    before = [state(each) for each in models]
    measure(engine, sample, chosen, get_methods(["saliency", "grad-cam"]))
    with registered("failing", failing), pytest.raises(XaicmpError, match="ZeroDivisionError"):
        measure(engine, sample, chosen, get_methods(["saliency", "failing"]))
    assert [state(each) for each in models] == before


def test_where_the_system_does_not_tell_memory_the_rest_is_told(
    sample: ImageSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def forbidden(self: Path, text: str) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", forbidden)
        assert {each.memory for each in costs_of(["saliency"], sample)} == {None}
    monkeypatch.setattr(cost, "_status", lambda key: None)
    found = costs_of(["saliency"], sample)
    assert [(each.memory, each.passes) for each in found] == [(None, 2), (None, 2)]

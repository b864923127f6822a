"""The same image several times counts once, wherever it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SmallNet, small_engine
from torch import Tensor

import xaicmp
from xaicmp import Running, Selection
from xaicmp.core.attribution import get_methods
from xaicmp.core.images.tensors import TensorImages
from xaicmp.core.run.comparing import compare_explanations
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.run.explaining import explain_selection
from xaicmp.core.run.journal import Journal
from xaicmp.views.document import to_json
from xaicmp.views.text import caption

METHODS = ["saliency", "grad-cam", "edge"]
ORDER = [0, 1, 1, 2, 0, 3, 4, 5, 5, 5, 6, 7, 2, 8]
REPEATED = [2, 4, 8, 9, 12]
SAID = "images left out, because they are pixel for pixel one that came before"
FIRST = [each for each in range(len(ORDER)) if each not in REPEATED]


@pytest.fixture(scope="module")
def some() -> Tensor:
    return torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def compared(images: Tensor, targets: Any = "predicted", **running: Any) -> xaicmp.Result:
    return xaicmp.compare(SmallNet().eval(), images, targets, METHODS, running=Running(**running))


@pytest.mark.parametrize("size", [1, 3, 64])
def test_what_is_given_twice_has_one_vote_and_this_is_said(size: int, some: Tensor) -> None:
    said: list[str] = []
    found = compared(some[ORDER], batch_size=size, remark=said.append).comparison
    once = compared(some, batch_size=size).comparison
    assert found.predictions.ids.tolist() == FIRST
    where = ", ".join(map(str, REPEATED))
    assert said == [f"{SAID}: 5 (ids {where})"]
    assert f"{SAID.capitalize()}: 5." in caption(found)
    document, wanted = json.loads(to_json(found)), json.loads(to_json(once))
    assert (document["repeated"], wanted["repeated"]) == (REPEATED, [])
    assert (document["n"], wanted["n"]) == (9, 9)
    for one, other in zip(document["pairs"], wanted["pairs"], strict=True):
        for statistic in ("pearson", "iou"):
            for key in ("mean", "std", "ci", "other_image", "images_above_other"):
                assert one[statistic][key] == pytest.approx(other[statistic][key], abs=1e-6)
            left, right = (each[statistic]["above_other_image"] for each in (one, other))
            assert left["p"] == right["p"]
            assert left["difference"] == pytest.approx(right["difference"], abs=1e-6)


def test_the_same_image_for_another_class_is_another_question(some: Tensor) -> None:
    said: list[str] = []
    found = compared(some[[0, 0, 0, 1]], [3, 4, 3, 3], remark=said.append)
    assert found.comparison.predictions.ids.tolist() == [0, 1, 3]
    assert said == [f"{SAID}: 1 (ids 2)"]


def test_what_differs_by_less_than_is_drawn_is_not_the_same(some: Tensor) -> None:
    found = compared(torch.cat([some[:2], some[:2] + 1e-5]))
    assert len(found) == 4


@pytest.mark.parametrize("size", [1, 3, 64])
def test_as_many_as_are_asked_for_are_found_and_no_more_is_said(size: int, some: Tensor) -> None:
    said: list[str] = []
    images = TensorImages(some[ORDER])
    running = Running(batch_size=size, remark=said.append)
    found = xaicmp.compare(
        SmallNet().eval(), images, methods=METHODS, select=Selection(n=4, only="all"), running=running
    )
    assert found.comparison.predictions.ids.tolist() == [0, 1, 3, 5]
    assert found.comparison.source.details["repeated"] == [2, 4]
    assert said == [f"{SAID}: 2 (ids 2, 4)"]


def test_a_run_that_is_resumed_says_the_same(some: Tensor, tmp_path: Path) -> None:
    found, methods = [], get_methods(METHODS)
    for resume in (False, True):
        journal = Journal(tmp_path / "a.json", {}, resume=resume)
        engine = small_engine(batch_size=2)
        stream = explain_selection(
            Explainer(engine, methods),
            TensorImages(some[ORDER]),
            Selection(n=14, only="all"),
            journal=journal,
        )
        found.append(to_json(compare_explanations(engine, stream, methods, xaicmp.Settings())[1]))
        journal.close()
    assert journal.found > 1
    assert found[0] == found[1]
    assert json.loads(found[0])["repeated"] == REPEATED

"""Images on which the model says nothing finite: left out, counted and said; never a class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SmallNet, compare_selection, small_engine
from torch import Tensor

from xaicmp.core.attribution import get_methods
from xaicmp.core.images.cifar10 import MEAN, STD, load_sample
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet, normalise
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.run.explaining import explain_selection
from xaicmp.core.run.journal import Journal
from xaicmp.errors import XaicmpError
from xaicmp.views.document import to_json
from xaicmp.views.text import caption

METHODS = get_methods(["saliency", "edge"])
VALUES = [torch.nan, torch.inf, -torch.inf]


class Broken(SmallNet):
    """One class's logit is ``value`` on bright images."""

    def __init__(self, value: float, brightness: float = 0.0) -> None:
        super().__init__()
        self.value, self.brightness = value, brightness

    def forward(self, images: Tensor) -> Tensor:
        logits, bright = super().forward(images), images.mean(dim=(1, 2, 3)) > self.brightness
        return torch.where(bright[:, None] & (torch.arange(10) == 4), self.value, logits)


def bright(sample: ImageSet, ids: np.ndarray) -> np.ndarray:
    return (normalise(sample.pixels(ids), MEAN, STD).mean(dim=(1, 2, 3)) > 0).numpy()


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("only", ["all", "correct", "wrong", "ids"])
def test_they_are_left_out_counted_and_said(value: float, only: str, size: int, sample: ImageSet) -> None:
    said: list[str] = []
    engine = small_engine(Broken(value), batch_size=size, remark=said.append)
    by_id = only == "ids"
    select = Selection(ids=tuple(range(40)), only="all") if by_id else Selection(n=12, only=only)
    _, comparison = compare_selection(engine, select, METHODS, data=sample)
    chosen = comparison.predictions
    assert not bright(sample, chosen.ids).any()
    assert np.isfinite(chosen.confidence).all()
    looked = np.arange(40 if by_id else chosen.ids[-1] + 1)
    left = looked[bright(sample, looked)].tolist()
    assert len(left) > 3
    assert json.loads(to_json(comparison))["excluded"] == left
    assert f"Images left out, because the model's logits on them are not finite: {len(left)}." in caption(
        comparison
    )
    assert len(said) == 1
    assert said[0].startswith(
        f"images left out, because the model's logits on them are not finite: {len(left)}"
    )
    if by_id:
        assert sorted([*left, *chosen.ids.tolist()]) == looked.tolist()
    else:
        assert len(chosen) == 12


def test_without_any_nothing_is_said(sample: ImageSet) -> None:
    said: list[str] = []
    engine = small_engine(remark=said.append)
    _, comparison = compare_selection(engine, Selection(n=12, only="all"), METHODS, data=sample)
    assert (said, comparison.source.details["excluded"]) == ([], [])
    assert "left out" not in caption(comparison)


def unreachable() -> ImageSet:
    raise XaicmpError("there is no network")


@pytest.mark.parametrize("value", VALUES)
def test_all_of_them_are_an_error(value: float, sample: ImageSet) -> None:
    engine = small_engine(Broken(value, -9.0))
    with pytest.raises(XaicmpError, match="not finite on any of 1000 images; check its weights and norm"):
        compare_selection(engine, Selection(n=12, only="correct"), METHODS, data=sample)
    with pytest.raises(XaicmpError, match="not finite on any of 1000 images"):  # and none is downloaded
        list(explain_selection(Explainer(engine, METHODS), load_sample(unreachable), Selection(n=3)))
    with pytest.raises(XaicmpError, match="not finite on any of 2 images"):
        compare_selection(engine, Selection(ids=(3, 7), only="all"), METHODS, data=sample)


def test_a_run_that_is_resumed_says_the_same(sample: ImageSet, tmp_path: Path) -> None:
    select, found = Selection(n=12, only="all"), []
    for resume in (False, True):
        journal = Journal(tmp_path / "a.json", {}, resume=resume)
        engine = small_engine(Broken(torch.nan), batch_size=5)
        found.append(compare_selection(engine, select, METHODS, data=sample, journal=journal)[1])
        journal.close()
    assert journal.found > 1
    assert to_json(found[0]) == to_json(found[1])

"""Controls that are scored: of images of unknown class, and such as are added from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from xaicmp.core.agreement.controls import (
    CONTROLS,
    KEYS,
    Context,
    Control,
    ControlKey,
    Controlled,
    get_controls,
    register_control,
)
from xaicmp.core.agreement.registry import STATISTICS
from xaicmp.core.agreement.statistic import Prepared, Statistic, is_orderless, register
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.maps_file import compare_maps
from xaicmp.core.run.scoring import score
from xaicmp.errors import UsageError
from xaicmp.views.table import to_markdown, to_text
from xaicmp.views.tables.comparison import pairs_table

SIDE = 8
ALL = ("other_image", "other_image_same_class", "shifted", "pooled", "other_class", "other_class_runner_up")


def noise(images: int) -> Tensor:
    """The maps of two methods that have something in common."""
    found = torch.randn(2, images, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return found + found[:1]


def by_hand(name: str, a: np.ndarray, b: np.ndarray) -> float:
    if name == "pearson":
        return float(scipy.stats.pearsonr(a.ravel(), b.ravel()).statistic)
    sets = [set(np.argsort(-each.ravel(), kind="stable")[: int(0.2 * a.size)]) for each in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def explanations_of(maps: Tensor, labels: list[int]) -> Explanations:
    of_class = np.array(labels)
    chosen = Predictions(np.arange(len(labels)), of_class, of_class, np.full(len(labels), 0.5), of_class)
    return Explanations(chosen, torch.empty(0), ("a", "b"), maps)


def test_images_of_unknown_class_have_no_other_of_their_class() -> None:
    labels = [0, -1, 0, -1, -1, 0]
    maps = noise(len(labels))
    found = score(
        explanations_of(maps, labels), Settings(controls=("other_image", "other_image_same_class"))
    ).controls
    for name in ("pearson", "iou"):
        same, other = (found[key][name]["a", "b"] for key in ("other_image_same_class", "other_image"))
        assert np.isnan(same).tolist() == [label < 0 for label in labels]
        assert np.isfinite(other).all()
        for i in (0, 2, 5):
            others = [j for j in (0, 2, 5) if j != i]
            expected = np.mean([by_hand(name, maps[0, i].numpy(), maps[1, j].numpy()) for j in others])
            assert same[i] == pytest.approx(expected, abs=1e-6)


def test_images_of_unknown_class_in_a_file_of_maps_are_not_of_one_class(tmp_path: Path) -> None:
    maps, known = noise(6), np.array(["cat", "unknown", "cat", "unknown", "unknown", "dog"])
    for labels, alone in (({}, [True] * 6), ({"labels": known}, [False, True, False, True, True, True])):
        np.savez(tmp_path / "maps.npz", methods=["a", "b"], maps=maps.numpy(), **labels)
        comparison = compare_maps(tmp_path / "maps.npz", Settings())
        same = comparison.scores.controls["other_image_same_class"]["pearson"]["a", "b"]
        assert np.isnan(same).tolist() == alone
        classes = [comparison.source.classes[label] for label in comparison.predictions.labels]
        assert classes == labels.get("labels", np.array(["unknown"] * 6)).tolist()


# What is added from outside.


@pytest.fixture
def unchanged_registries() -> Iterator[None]:
    """What a test adds to the registries is gone after it."""
    registries: list[dict[str, Any]] = [STATISTICS, CONTROLS, KEYS]
    before = [dict(each) for each in registries]
    yield
    for each, kept in zip(registries, before, strict=True):
        each.clear()
        each.update(kept)


@pytest.mark.usefixtures("unchanged_registries")
def test_a_statistic_and_a_control_are_added_in_one_place_each_and_seen_in_a_comparison(
    tmp_path: Path,
) -> None:
    register(
        Statistic(
            "brightest",
            label="Same brightest pixel",
            chance=lambda top, pixels: 1 / pixels,
            source="this test",
            prepare=lambda maps, top: Prepared.of(
                is_orderless(maps.flatten(-2)), maps.flatten(-2).argmax(dim=-1)
            ),
            formula=lambda a, b: (a[0] == b[0]).double(),
            moves=False,
        )
    )

    def mirrored(context: Context) -> Controlled:
        turned = context.statistic.prepare(context.maps.flip(-1), context.top)
        values = context.statistic.compare_pairs(context.prepared, turned, context.pairs)
        return Controlled(values, p=(values >= context.observed).double())

    register_control(
        Control(
            "mirror",
            (ControlKey("mirrored", "mirrored map", "Mirrored", mirrored),),
            about="the other map is mirrored: what symmetry alone explains",
            source="this test",
        )
    )
    maps = noise(7)
    maps[1, 0] = maps[0, 0]
    np.savez(tmp_path / "maps.npz", methods=["a", "b"], maps=maps.numpy())
    comparison = compare_maps(
        tmp_path / "maps.npz", Settings(["pearson", "brightest", "iou"], controls=["mirror", "shift"])
    )
    scores = comparison.scores
    assert list(scores.values) == ["pearson", "brightest", "iou"]
    assert list(scores.controls) == ["mirrored", "shifted"]
    brightest = maps.flatten(2).argmax(dim=2)
    same = (brightest[0] == brightest[1]).double().tolist()
    assert same[0] == 1
    assert scores.values["brightest"]["a", "b"].tolist() == same
    turned = np.ascontiguousarray(maps.numpy()[1, :, :, ::-1])
    for name in ("pearson", "iou"):
        expected = [by_hand(name, maps[0, i].numpy(), turned[i]) for i in range(7)]
        np.testing.assert_allclose(scores.controls["mirrored"][name]["a", "b"], expected, atol=1e-6)
    p = scores.controls["mirrored"]["pearson"]["a", "b"] >= scores.values["pearson"]["a", "b"]
    assert scores.p_values["mirrored"]["pearson"]["a", "b"].tolist() == p.astype(float).tolist()
    (pair,) = comparison.pairs
    result = comparison.result(STATISTICS["brightest"], pair)
    assert (result.summary.mean, result.chance) == (pytest.approx(np.mean(same)), 1 / SIDE**2)
    assert result.controls["mirrored"] == pytest.approx(
        scores.controls["mirrored"]["brightest"]["a", "b"].mean()
    )
    for text in (to_markdown, to_text):
        table = text(pairs_table(comparison, details=True))
        assert "Same brightest pixel" in table
        assert "Mirrored" in table
    with pytest.raises(
        UsageError, match="choose from other-image, shift, resolution, other-class, mirror, none"
    ):
        get_controls(["chance"])


@pytest.mark.usefixtures("unchanged_registries")
@pytest.mark.parametrize(
    ("name", "key"),
    [("shift", "new"), ("new", "pooled"), ("none", "new"), ("other_image", "new"), ("new", "shift")],
)
def test_a_control_whose_name_is_taken_is_refused(name: str, key: str) -> None:
    before = list(CONTROLS), list(KEYS)
    one = ControlKey(key, "title", "short", lambda context: Controlled(context.observed))
    with pytest.raises(ValueError, match="already"):
        register_control(Control(name, (one,), about="", source=""))
    assert (list(CONTROLS), list(KEYS)) == before


@pytest.mark.usefixtures("unchanged_registries")
def test_a_control_with_two_keys_of_one_name_is_refused() -> None:
    before = list(CONTROLS), list(KEYS)
    keys = [ControlKey("new", title, title, lambda context: Controlled(context.observed)) for title in "ab"]
    with pytest.raises(ValueError, match="two keys of the control 'new' have one name"):
        register_control(Control("new", tuple(keys), about="", source=""))
    assert (list(CONTROLS), list(KEYS)) == before


def test_each_control_says_what_it_is() -> None:
    own_chance = ("pooled_chance", "pooled_other_image")
    assert [key for key in KEYS if key not in own_chance] == list(ALL)
    for control in CONTROLS.values():
        assert control.about
        assert control.source
        assert "\n" not in control.about
    assert repr(CONTROLS["other-image"]) == "Control('other-image': other_image, other_image_same_class)"
    assert repr(KEYS["shifted"]) == "ControlKey('shifted', 'shifted map')"
    assert repr(Controlled(torch.zeros(3, 2), torch.zeros(3, 2))) == "Controlled(3 x 2 values, p)"
    assert repr(Controlled(torch.zeros(3, 2))) == "Controlled(3 x 2 values)"

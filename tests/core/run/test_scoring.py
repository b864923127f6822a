"""What a block of maps scores, against a loop over the images in numpy and scipy."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import choose, compare, small_engine
from torch import Tensor

from xaicmp.core.agreement import statistic
from xaicmp.core.agreement.controls import CONTROLS, OTHER_CLASS, get_controls
from xaicmp.core.agreement.partners import DRAWS, other_images
from xaicmp.core.agreement.registry import STATISTICS, agreement, get_statistics
from xaicmp.core.agreement.rolling import roll, shifts
from xaicmp.core.attribution import get_methods
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores
from xaicmp.core.results.settings import Settings
from xaicmp.core.run import comparing
from xaicmp.core.run.scoring import score
from xaicmp.errors import UsageError

SIDE = 8
SCORE = r"""
import re, sys
from pathlib import Path
import numpy as np
import torch
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.scoring import score

count = int(sys.argv[1])
rows = np.arange(count)
chosen = Predictions(rows, rows % 10, rows % 10, np.full(count, 0.5), rows % 10)
maps = torch.rand(3, count, 32, 32).relu_()
score(Explanations(chosen, torch.empty(0), ("a", "b", "c"), maps), Settings())
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
"""
POOLED = ("pooled", "pooled_chance", "pooled_other_image")
ALL = ("other_image", "other_image_same_class", "shifted", *POOLED)


def explanations_of(
    maps: Tensor,
    labels: list[int] | None = None,
    grids: dict[str, tuple[int, int]] | None = None,
    gaps: dict[str, np.ndarray] | None = None,
) -> Explanations:
    """Maps ``(M, N, H, W)`` as if methods called a, b, c had made them."""
    count = maps.shape[1]
    of_class = np.array(labels or [0] * count)
    chosen = Predictions(3 + 2 * np.arange(count), of_class, of_class, np.full(count, 0.5), of_class)
    pixels = torch.zeros(count, 3, 1, 1, dtype=torch.uint8)
    return Explanations(chosen, pixels, tuple("abcdef"[: len(maps)]), maps, gaps or {}, grids or {})


def random_maps(methods: int, images: int, seed: int = 0, side: int = SIDE) -> Tensor:
    noise = torch.randn(methods, images, side, side, generator=torch.Generator().manual_seed(seed))
    return noise + noise[:1]  # so that the methods have something in common


def by_hand(name: str, a: np.ndarray, b: np.ndarray, top: float = 0.2) -> float:
    if name in ("pearson", "spearman"):
        return float(getattr(scipy.stats, f"{name}r")(a.ravel(), b.ravel()).statistic)
    sets = [set(np.argsort(-each.ravel(), kind="stable")[: int(top * a.size)]) for each in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def settings_with(*controls: str, **values: object) -> Settings:
    return Settings(controls=controls, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_the_values_are_those_of_each_image_for_itself(count: int) -> None:
    maps = random_maps(3, count)
    scores = score(explanations_of(maps), settings_with())
    assert set(scores.values["pearson"]) == set(combinations("abc", 2))
    assert scores.controls == {}
    for name in ("pearson", "iou"):
        for (a, b), values in scores.values[name].items():
            one, other = ("abc".index(each) for each in (a, b))
            expected = [by_hand(name, maps[one, i].numpy(), maps[other, i].numpy()) for i in range(count)]
            assert values.dtype == np.float64
            np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize("count", [2, 9, 70])
@pytest.mark.parametrize("name", ["pearson", "iou"])
def test_the_value_with_other_images_is_that_of_a_loop_over_all_of_them(count: int, name: str) -> None:
    maps = random_maps(2, count)
    scores = score(explanations_of(maps), settings_with("other_image"))
    values = np.array([[by_hand(name, a, b) for b in maps[1].numpy()] for a in maps[0].numpy()])
    np.fill_diagonal(values, np.nan)
    expected = np.nanmean(values, axis=1) + np.nanmean(values, axis=0) - np.nanmean(values)
    found = scores.controls["other_image"][name]["a", "b"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.mean() == pytest.approx(np.nanmean(values), abs=1e-6)


@pytest.mark.parametrize("name", STATISTICS)
def test_with_a_hundred_other_images_or_fewer_no_control_of_them_depends_on_the_seed(name: str) -> None:
    maps = random_maps(2, 14, side=12)
    found = [
        score(
            explanations_of(maps, [0, 1] * 7),
            settings_with("other_image", "other_image_same_class", seed=seed, statistics=name),
        ).controls
        for seed in range(3)
    ]
    for key in ("other_image", "other_image_same_class"):
        first, *others = (each[key][name]["a", "b"] for each in found)
        for other in others:
            np.testing.assert_allclose(other, first, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["mass-overlap", "rbo"])
def test_of_more_other_images_a_hundred_are_drawn_where_it_is_no_product(name: str) -> None:
    count = 130
    maps = random_maps(3, count)
    scores = score(explanations_of(maps), settings_with("other_image", seed=5, statistics=name))
    partners = other_images(np.zeros(count), DRAWS, 5).numpy()
    for (a, b), values in scores.controls["other_image"][name].items():
        one, other = (maps["abc".index(each)] for each in (a, b))
        expected = np.mean([agreement(name, one, other[row]).mean() for row in partners])
        assert len(partners) == DRAWS
        assert values.shape == (count,)
        assert values.mean() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["pearson", "iou"])
def test_the_floor_of_its_class_is_the_mean_over_other_images_of_it(name: str) -> None:
    labels = [0, 1, 0, 2, 1, 0, 0]
    maps = random_maps(2, len(labels))
    found = score(explanations_of(maps, labels), settings_with("other_image_same_class")).controls
    for i, value in enumerate(found["other_image_same_class"][name]["a", "b"]):
        others = [j for j in range(len(labels)) if labels[j] == labels[i] and j != i]
        if not others:
            assert np.isnan(value)
            continue
        expected = np.mean([by_hand(name, maps[0, i].numpy(), maps[1, j].numpy()) for j in others])
        assert value == pytest.approx(expected, abs=1e-6)


def test_without_another_image_there_is_no_floor_but_a_shift() -> None:
    scores = score(explanations_of(random_maps(2, 1)), Settings())
    for control in ("other_image", "other_image_same_class"):
        assert np.isnan(scores.controls[control]["pearson"]["a", "b"]).all()
    assert np.isfinite(scores.controls["shifted"]["pearson"]["a", "b"]).all()


@pytest.mark.parametrize("name", ["pearson", "iou"])
def test_the_shifted_floor_and_its_p_are_those_of_a_loop_over_the_shifts(name: str) -> None:
    maps = random_maps(3, 5)
    explanations = explanations_of(maps)
    scores = score(explanations, settings_with("shifted", seed=2))
    for a, b in combinations(range(3), 2):
        pair = ("abc"[a], "abc"[b])
        rolled = [
            roll(maps[b].flatten(1)[:, None], shift).view_as(maps[b])
            for shift in shifts((SIDE, SIDE), explanations.predictions.ids, seed=2)
        ]
        for i in range(5):
            null = np.array([by_hand(name, maps[a, i].numpy(), each[i].numpy()) for each in rolled])
            own = by_hand(name, maps[a, i].numpy(), maps[b, i].numpy())
            p = (1 + (null >= own - 1e-9).sum()) / (1 + len(null))
            assert scores.controls["shifted"][name][pair][i] == pytest.approx(null.mean(), abs=1e-6)
            assert scores.shifted_p[name][pair][i] == pytest.approx(p)


@pytest.mark.parametrize("name", ["pearson", "iou"])
def test_both_maps_are_pooled_to_the_coarser_of_their_grids(name: str) -> None:
    maps = random_maps(3, 4)
    scores = score(explanations_of(maps, grids={"b": (4, 4), "c": (2, 4)}), settings_with("pooled", top=0.3))
    for pair, (height, width) in {("a", "b"): (4, 4), ("a", "c"): (2, 4), ("b", "c"): (2, 4)}.items():
        for i in range(4):
            coarse = []
            for each in pair:
                blocks = maps["abc".index(each), i].double().numpy()
                blocks = blocks.reshape(height, SIDE // height, width, SIDE // width)
                coarse.append(blocks.mean(axis=(1, 3)))
            expected = by_hand(name, coarse[0], coarse[1], top=0.3)
            assert scores.controls["pooled"][name][pair][i] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["pearson", "spearman", "iou"])
def test_pooled_maps_are_held_against_chance_and_other_images_at_their_own_grid(name: str) -> None:
    maps = random_maps(3, 7)
    grids, how = {"b": (4, 4), "c": (2, 4)}, {"top": 0.3, "statistics": [name]}
    maps[1, 5] = 1  # which has no statistic, and is no other image
    found = score(explanations_of(maps, grids=grids), settings_with(*POOLED, **how)).controls
    for pair, grid in {("a", "b"): (4, 4), ("a", "c"): (2, 4), ("b", "c"): (2, 4)}.items():
        small = [
            maps["abc".index(each)]
            .double()
            .unflatten(1, (grid[0], -1))
            .unflatten(3, (grid[1], -1))
            .mean(dim=(2, 4))
            for each in pair
        ]
        alone = score(explanations_of(torch.stack(small)), settings_with("other_image", **how))
        expected = alone.controls["other_image"][name]["a", "b"]
        np.testing.assert_allclose(found["pooled_other_image"][name][pair], expected, atol=1e-9)
        defined = [i for i in range(7) if not ("b" in pair and i == 5)]
        others = [(small[0][i].numpy(), small[1][j].numpy()) for i in defined for j in defined if i != j]
        mean = np.mean([by_hand(name, a, b, 0.3) for a, b in others])
        assert np.nanmean(found["pooled_other_image"][name][pair]) == pytest.approx(mean, abs=1e-9)
        chance = STATISTICS[name].chance(0.3, math.prod(grid))
        by_image = np.where(np.isnan(found["pooled"][name][pair]), np.nan, chance)
        np.testing.assert_array_equal(found["pooled_chance"][name][pair], by_image)
        assert np.flatnonzero(np.isnan(by_image)).tolist() == [5] * ("b" in pair)
    if name == "iou":  # two of eight cells: 0, 1 or 2 in common
        assert found["pooled_chance"][name]["a", "c"][0] == pytest.approx((12 / 28) / 3 + 1 / 28)


def test_a_grid_too_coarse_for_the_top_pixels_has_no_overlap_rather_than_no_result() -> None:
    explanations = explanations_of(random_maps(3, 4), grids={"b": (2, 2), "c": (1, 1)})
    found = score(explanations, settings_with("pooled", top=0.1)).controls["pooled"]
    assert np.isnan(found["iou"]["a", "b"]).all()
    assert np.isfinite(found["pearson"]["a", "b"]).all()
    assert np.isnan(found["pearson"]["a", "c"]).all()


def test_a_pooled_grid_has_the_top_pixels_that_its_share_says() -> None:
    maps = random_maps(2, 4, side=20)
    scores = score(explanations_of(maps, grids={"b": (10, 10)}), settings_with("pooled", top=0.29))
    for row, value in enumerate(scores.controls["pooled"]["iou"]["a", "b"]):
        a, b = maps[:, row].double().numpy().reshape(2, 10, 2, 10, 2).mean(axis=(2, 4)).reshape(2, 100)
        tops = [set(np.argsort(-each)[:29]) for each in (a, b)]
        assert value == pytest.approx(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))
    few = explanations_of(maps, grids={"b": (2, 2)})
    assert not np.isnan(
        score(few, settings_with("pooled", top=0.25)).controls["pooled"]["iou"]["a", "b"]
    ).any()


def test_constant_maps_enter_no_value_and_no_control() -> None:
    maps, without = random_maps(2, 9, side=12), [0, 3, 8]
    maps[0, 0], maps[0, 3], maps[1, 8] = 0, 1, -2.5
    kept = [row for row in range(9) if row not in without]
    settings = settings_with("other_image", "shifted", "pooled", statistics=get_statistics(list(STATISTICS)))
    scores = score(explanations_of(maps, grids={"b": (11, 11)}), settings)
    for name in STATISTICS:
        for found in (scores.values, *(scores.controls[each] for each in ("shifted", "pooled"))):
            assert np.isnan(found[name]["a", "b"][without]).all(), name
            assert np.isfinite(found[name]["a", "b"][kept]).all(), name
        other = scores.controls["other_image"][name]["a", "b"]
        assert np.isnan(other[[0, 3, 8]]).all(), name
        values = np.array([agreement(name, maps[0], maps[1][[j] * 9]).numpy() for j in range(9)]).T
        np.fill_diagonal(values, np.nan)
        with np.errstate(all="ignore"):
            means = [
                np.nanmean(values[row]) + np.nanmean(values[:, row]) - np.nanmean(values) for row in kept
            ]
        np.testing.assert_allclose(other[kept], means, atol=1e-9, err_msg=name)


def test_two_maps_of_the_full_grid_are_pooled_to_themselves() -> None:
    scores = score(explanations_of(random_maps(2, 4)), settings_with("pooled"))
    for name in ("pearson", "iou"):
        np.testing.assert_allclose(
            scores.controls["pooled"][name]["a", "b"], scores.values[name]["a", "b"], atol=1e-12
        )


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda maps: maps.clone(), True),
        (lambda maps: 1e-20 * maps, True),
        (lambda maps: 3e20 * maps, True),
        (lambda maps: maps * (1 + 5e-6 * torch.rand_like(maps)), True),
        (lambda maps: maps + 2e-4 * maps.abs().amax() * torch.rand_like(maps), False),
        (lambda maps: -maps, False),
        (lambda maps: maps + 1, False),
        (lambda maps: maps.abs(), False),
        (torch.zeros_like, False),
        (lambda maps: torch.full_like(maps, torch.nan), False),
    ],
)
def test_maps_are_the_same_if_one_is_the_other_times_a_positive_number(change: object, same: bool) -> None:
    torch.manual_seed(0)
    maps = random_maps(1, 6)[0]
    scores = score(explanations_of(torch.stack([maps, change(maps)])), settings_with())  # type: ignore[operator]
    assert scores.identical["a", "b"].tolist() == [same] * 6


def identical(a: np.ndarray, b: np.ndarray) -> list[float]:
    maps = torch.from_numpy(np.stack([a, b]))
    return (
        score(explanations_of(maps), settings_with(statistics=(STATISTICS["sign"],)))
        .identical["a", "b"]
        .tolist()
    )


STRUCTURES = {
    "noise": lambda noise: noise,
    "on an offset": lambda noise: noise + 1000,
    "sparse": lambda noise: np.where(noise > 1, noise, 0),
    "most of it sparse": lambda noise: np.where(noise > -1, noise, 0),
    "one pixel": lambda noise: np.where(noise == noise.max(axis=(1, 2), keepdims=True), 1, 0),
    "two values": lambda noise: np.where(noise > 0.3, 1, -2),
    "segments": lambda noise: noise.round(),
    "a spike": lambda noise: np.where(noise == noise.max(axis=(1, 2), keepdims=True), 1e6, noise),
    "heavy tails": lambda noise: noise**5,
    "smooth": lambda noise: scipy.ndimage.gaussian_filter(noise, (0, 2, 2)),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), power=st.floats(-30, 30), sides=st.tuples(*[st.integers(4, 14)] * 2))
def test_a_map_is_the_same_as_itself_at_every_scale_and_rounded(
    structure: str, dtype: type, seed: int, power: float, sides: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    a = STRUCTURES[structure](rng.normal(size=(3, *sides))).astype(dtype)
    assert identical(a, (a * 10.0**power).astype(dtype)) == [
        1.0 if len(np.unique(x)) > 1 else math.nan for x in a
    ]
    assert identical(a, (a.astype(np.float32) * np.float32(0.7)).astype(dtype)) == [1] * 3
    assert identical(a, -a) == [0] * 3


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.floats(-9, 3),
    offset=st.sampled_from([0.0, 1.0, -1.0, 1e3]),
    spikes=st.integers(0, 20),
    height=st.floats(0, 12),
    covered=st.sampled_from([0.0, 0.2, 0.8]),
)
def test_independent_noise_is_never_the_same_whatever_it_lies_on(
    seed: int, noise: float, offset: float, spikes: int, height: float, covered: float
) -> None:
    """On a common offset, beside common spikes, or in the few pixels that are not 0 in both."""
    rng = np.random.default_rng(seed)
    a, b = 10.0**noise * rng.normal(size=(2, 3, 12, 12)) * (rng.random((12, 12)) >= covered) + offset
    where = rng.choice(144, spikes // (5 if covered == 0.8 else 1), replace=False)
    for each in (a, b):
        each.reshape(3, 144)[:, where] = 10.0**height
    assert identical(a, b) == [0] * 3


@pytest.mark.parametrize("noise", [1e-6, 1e-8, 1e-12])
def test_a_pair_is_the_same_or_not_in_either_order(noise: float) -> None:
    """One map varies in a few pixels alone, the other a little everywhere."""
    few, rng = np.zeros((3, 12, 12)), np.random.default_rng(0)
    few[:, :2] = rng.random((3, 2, 12))
    all_over = few + noise * rng.random((3, 12, 12))
    assert identical(few, all_over) == identical(all_over, few) == [0] * 3


def test_an_image_whose_maps_both_have_a_nan_does_not_count_against_an_identity() -> None:
    maps = np.random.default_rng(0).random((2, 2, 12, 12))
    maps[1] = 3 * maps[0]
    maps[:, 0, 4, 4] = np.nan
    np.testing.assert_array_equal(identical(*maps), [np.nan, 1])
    maps[1, 1, 4, 4] = np.nan
    np.testing.assert_array_equal(identical(*maps), [np.nan, 0])


def test_a_bent_map_is_not_the_same_though_its_order_is() -> None:
    noise = np.random.default_rng(0).random((3, 12, 12))
    for a, b in (
        (noise, noise**2),
        (1 + 1e-6 * noise, 1 + 1e-6 * noise**2),
        (1 + 1e-6 * noise, 1 + 2e-6 * noise),
    ):
        assert identical(a, b) == [0] * 3


def test_which_images_have_the_same_map_is_said_one_by_one() -> None:
    maps = random_maps(1, 6).repeat(2, 1, 1, 1)
    maps[1, 1] = maps[1, 1].flip(0)
    maps[:, 2] = 0  # where neither map varies, there is nothing to be the same
    maps[:, 3] = torch.tensor([1.0, 7.0])[:, None, None]
    maps[1, 4, 0, 0] = torch.nan
    maps[1, 5] = 0
    scores = score(explanations_of(maps), settings_with())
    same = scores.identical["a", "b"].tolist()
    assert same == pytest.approx([1, 0, math.nan, math.nan, 0, 0], nan_ok=True)
    assert np.isnan(scores.values["pearson"]["a", "b"]).tolist() == [False, False, True, True, True, True]


def test_ties_of_either_map_are_marked() -> None:
    maps = random_maps(3, 3)
    maps[0, 1], maps[2, 2] = 0, 1
    tied = score(explanations_of(maps), settings_with()).tied
    assert list(tied) == ["iou"]
    assert {pair: each.tolist() for pair, each in tied["iou"].items()} == {
        ("a", "b"): [False, True, False],
        ("a", "c"): [False, True, True],
        ("b", "c"): [False, False, True],
    }


def arrays_of(scores: Scores) -> dict[tuple[object, ...], np.ndarray]:
    found: dict[tuple[object, ...], np.ndarray] = {}

    def walk(value: object, path: tuple[object, ...]) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                walk(each, (*path, key))
        else:
            assert isinstance(value, np.ndarray)
            found[path] = value

    for name in Scores.__dataclass_fields__:
        walk(getattr(scores, name), (name,))
    return found


def test_rows_and_join_undo_each_other() -> None:
    gaps = {"a": np.arange(9.0)}
    own = explanations_of(random_maps(3, 9), [0, 1] * 4 + [0], gaps=gaps)
    others = {"other_maps": torch.randn(2, *own.maps.shape), "other_targets": np.arange(18).reshape(2, 9)}
    whole = score(replace(own, **others), settings_with(*ALL, *OTHER_CLASS, curve=True))
    joined = Scores.join([whole.rows(np.arange(9) < 4), whole.rows(np.arange(4, 9))])
    assert {path[0] for path in arrays_of(whole)} == set(Scores.__dataclass_fields__)
    before, after = arrays_of(replace(whole, pairing={})), arrays_of(joined)  # of a part there is none
    assert list(before) == list(after)
    for path, values in before.items():
        np.testing.assert_array_equal(values, after[path])
    assert whole.rows(np.array([7, 2])).completeness["a"].tolist() == [7, 2]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_blocks_do_not_depend_on_the_batch_size(
    batch_size: int, sample: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "BLOCK", 4)
    sizes: list[list[int]] = []
    monkeypatch.setattr(
        comparing,
        "score",
        lambda explanations, how, progress: (
            sizes.append(explanations.predictions.ids.tolist()),
            score(explanations, how),
        )[1],
    )
    engine = small_engine(batch_size=batch_size)
    chosen = choose(engine, sample, Selection(n=10, only="all"))
    compare(engine, sample, chosen, get_methods(["saliency", "edge"]))
    assert sizes == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_small_blocks_change_nothing_but_who_an_image_is_compared_with(
    sample: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = get_methods(["saliency", "edge", "grad-cam"])
    engine = small_engine(batch_size=5)
    chosen = choose(engine, sample, Selection(n=11, only="all"))
    every = Settings(controls=ALL, curve=True)
    kept: list[Explanations] = []
    whole = arrays_of(compare(engine, sample, chosen, methods, every, keep=kept.append).scores)
    monkeypatch.setattr(comparing, "BLOCK", 4)
    blocks = compare(engine, sample, chosen, methods, every).scores
    for path, values in arrays_of(blocks).items():
        assert len(values) == (3 if path[0] == "pairing" else 11)  # of each block, or each image
        if path[0] != "pairing" and not any("other_image" in str(key) for key in path):
            np.testing.assert_array_equal(values, whole[path])
    saliency, edge = (torch.cat([each.maps[index] for each in kept]).numpy() for index in (0, 1))
    floor = blocks.controls["other_image"]["pearson"]["saliency", "edge"]
    for block in (range(4), range(4, 8), range(8, 11)):
        for i in block:
            expected = [
                np.mean([by_hand("pearson", *maps) for maps in drawn])
                for drawn in (
                    [(saliency[i], edge[j]) for j in block if j != i],
                    [(saliency[j], edge[i]) for j in block if j != i],
                    [(saliency[j], edge[k]) for j in block for k in block if j != k],
                )
            ]
            assert floor[i] == pytest.approx(expected[0] + expected[1] - expected[2], abs=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (13, 11)])
def test_however_many_images_are_worked_on_at_once_the_scores_are_the_same_to_the_bit(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = torch.randn(3, 8, *shape, generator=torch.Generator().manual_seed(3))
    maps[1], maps[2, 3], maps[2, 5:7] = maps[1].relu(), 0, torch.nan
    explanations = explanations_of(maps, [0, 1] * 3 + [0, 2], grids={"b": (4, 4), "c": (2, 3)})
    measured = [
        each for name, each in STATISTICS.items() if name != "pairwise-rank-agreement"
    ]  # by Kendall's
    how = settings_with(*ALL, statistics=tuple(measured))
    whole = arrays_of(score(explanations, how))
    for cells in (1, 5 * maps[:, 0].numel()):
        monkeypatch.setattr(statistic, "CELLS", cells)
        for path, values in arrays_of(score(explanations, how)).items():
            np.testing.assert_array_equal(values, whole[path], err_msg=str(path))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux")
def test_memory_does_not_grow_with_the_images_beyond_what_is_held_of_their_maps() -> None:
    """Of 1,000 images more, the maps are 4 KiB for each of 3 methods, and what the last two statistics made of them 8 each.

    The control takes a few matrices of all images by all images. The peak is that of the program alone: what
    ``getrusage`` says begins with that of the process that started it.
    """
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", SCORE, str(count)], capture_output=True, text=True, check=True
            ).stdout
        )
        for count in (100, 1100)
    ]
    held = 1000 * 3 * 1024 * (4 + 8 + 8) + 6 * 8 * 1100**2
    assert (peaks[1] - peaks[0]) * 1024 < 1.2 * held


def test_the_tops_of_a_share_are_those_asked_for() -> None:
    maps = random_maps(2, 4)
    for top in (0.05, 0.5):
        how = settings_with(top=top, statistics=get_statistics(["iou"]))
        found = score(explanations_of(maps), how).values["iou"]["a", "b"]
        expected = [by_hand("iou", maps[0, i].numpy(), maps[1, i].numpy(), top) for i in range(4)]
        np.testing.assert_allclose(found, expected)


def test_each_share_has_its_own_values_ties_and_controls() -> None:
    maps = random_maps(2, 6)
    maps[0, 1].view(-1)[:20] = 9  # tied among the top 5%, and not among the top 20 of 64 pixels
    tops = (20 / 64, 0.05, 0.5)
    explanations = explanations_of(maps, grids={"b": (4, 4)})
    together = score(
        explanations, settings_with(*ALL, top=tops[0], statistics=get_statistics(["iou"], tops[1:]))
    )
    for name, top in zip(("iou", "iou@5%", "iou@50%"), tops, strict=True):
        alone = score(explanations, settings_with(*ALL, top=top, statistics=get_statistics(["iou"])))
        for found, expected in (
            (together.values, alone.values),
            (together.tied, alone.tied),
            (together.shifted_p, alone.shifted_p),
            *((together.controls[each], alone.controls[each]) for each in ALL),
        ):
            np.testing.assert_array_equal(found[name]["a", "b"], expected["iou"]["a", "b"])
    assert [int(each["a", "b"].sum()) for each in together.tied.values()] == [0, 1, 0]
    assert np.isnan(together.controls["pooled"]["iou@5%"]["a", "b"]).all()


def test_a_share_that_leaves_no_pixel_is_refused_whoever_has_it() -> None:
    for how in (settings_with(top=0.01), settings_with(statistics=get_statistics(["iou"], [0.01]))):
        how.check(100)
        with pytest.raises(UsageError, match=r"top 0\.01 leaves no pixel"):
            how.check(99)


def test_controls_are_asked_for_by_name() -> None:
    assert get_controls([]) == Settings().controls
    assert get_controls(["none"]) == ()
    assert get_controls(["resolution", "other-image", "resolution"]) == (
        *POOLED,
        "other_image",
        "other_image_same_class",
    )
    assert set(get_controls(list(CONTROLS))) == {*ALL, *OTHER_CLASS}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["another"],
            "unknown control 'another'; choose from other-image, shift, resolution, other-class, none",
        ),
        (["shift", "none"], "controls none goes alone; leave it or the others out"),
        ([""], "unknown control ''; choose from"),
    ],
)
def test_wrong_controls_are_named(names: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_controls(names)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)

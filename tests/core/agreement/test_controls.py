from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from xaicmp.core.agreement.controls import KEYS, Context, pool
from xaicmp.core.agreement.partners import other_image, other_images, place, with_every_other, with_partners
from xaicmp.core.agreement.registry import IOU, PEARSON, STATISTICS, pearson
from xaicmp.core.agreement.rolling import prepare_rolled, roll, shifts
from xaicmp.core.agreement.statistic import Prepared, Statistic
from xaicmp.core.results.place import Place
from xaicmp.core.results.significance import PairedTest
from xaicmp.core.results.verdict import Verdict, corrected, verdict

TOP = 0.2
NAN = float("nan")


def maps_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth_maps(count: int, side: int, seed: int) -> Tensor:
    """Noise blurred over the edges: every place of such a map is as likely as any other."""
    noise = maps_of(count, side, side, seed=seed)
    return sum((noise.roll((y, x), (1, 2)) for y in range(3) for x in range(3)), torch.zeros(()))


def reference(statistic: Statistic, a: np.ndarray, b: np.ndarray) -> float:
    """The statistic of two maps by numpy and scipy."""
    if statistic is PEARSON:
        constant = np.ptp(a) == 0 or np.ptp(b) == 0
        return NAN if constant else scipy.stats.pearsonr(a.ravel(), b.ravel()).statistic
    if statistic is IOU:
        count = int(TOP * a.size)
        tops = [set(np.argsort(-each.ravel(), kind="stable")[:count]) for each in (a, b)]
        return len(tops[0] & tops[1]) / len(tops[0] | tops[1])
    return float(jensenshannon(a.ravel(), b.ravel(), base=2))


def prepared_of(statistic: Statistic, *methods: Tensor) -> Prepared:
    """What a statistic makes of one or more methods' maps ``(N, H, W)``."""
    return statistic.prepare(torch.stack(methods, dim=1), TOP)


def shifted_pair(statistic: Statistic, a: Tensor, b: Tensor, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Of two methods' maps, the mean over shifted ones, p, and whether that is in the top 5%."""
    maps, ids = torch.stack([a, b], dim=1), np.arange(len(a))
    prepared = statistic.prepare(maps, TOP)
    observed = statistic.compare_pairs(prepared, prepared, AB)
    found = KEYS["shifted"].compute(
        Context(statistic, TOP, maps, prepared, AB, observed, ids, 0 * ids, [a.shape[1:]] * 2, seed)
    )
    assert found.p is not None
    assert found.among is not None
    assert found.values.shape == found.p.shape == found.among.shape == (len(a), 1)
    above = [Place(*each).above for each in torch.cat([found.p, found.among.nan_to_num()], dim=1).tolist()]
    return found.values[:, 0].numpy(), found.p[:, 0].numpy(), np.array(above)


AA, AB = torch.tensor([[0], [0]]), torch.tensor([[0], [1]])


def only(found: Iterable[Tensor]) -> Tensor:
    """The mean over the partners, of the only pair."""
    (values,) = found
    return other_image(values)


MEASURED = [PEARSON, IOU, STATISTICS["jensen-shannon"]]


@given(groups=st.lists(st.integers(0, 3), max_size=30), draws=st.integers(1, 7), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_partners_are_other_images_of_the_group_each_at_most_once(
    groups: list[int], draws: int, seed: int
) -> None:
    labels = np.array(groups, dtype=np.int64)
    partners = other_images(labels, draws, seed).numpy()
    assert partners.shape == (draws, len(groups))
    for image, column in enumerate(partners.T):
        found = column[column >= 0]
        assert image not in found
        assert len(set(found)) == len(found) == min(draws, (labels == labels[image]).sum() - 1)
        assert (labels[found] == labels[image]).all()
    for row in partners:
        found = row[row >= 0]
        assert len(set(found)) == len(found), "a draw gives two images the same partner"


def test_every_other_image_is_as_likely_a_partner() -> None:
    counts = np.zeros((5, 5))
    for seed in range(1500):
        partners = other_images(np.zeros(5), 2, seed).numpy()
        for row in partners:
            counts[np.arange(5), row] += 1
    assert (counts.diagonal() == 0).all()
    off = counts[~np.eye(5, dtype=bool)]
    assert scipy.stats.chisquare(off).pvalue > 1e-3


def test_partners_depend_on_the_seed_alone() -> None:
    labels = np.arange(40) % 3
    assert (other_images(labels, 5, 1) == other_images(labels, 5, 1)).all()
    assert (other_images(labels, 5, 1) != other_images(labels, 5, 2)).any()


@pytest.mark.parametrize("statistic", MEASURED, ids=lambda each: each.name)
@pytest.mark.parametrize("labels", [[0] * 9, [0, 1, 0, 2, 1, 0, 0, 1, 0]], ids=["any", "same class"])
def test_other_image_is_the_mean_of_a_loop_over_the_partners(statistic: Statistic, labels: list[int]) -> None:
    a, b = maps_of(9, 6, 5, seed=1), maps_of(9, 6, 5, seed=2)
    partners = other_images(np.array(labels), 4, seed=3)
    both = prepared_of(statistic, a, b)
    values = only(with_partners(statistic, both, both, AB, partners))
    for image in range(9):
        found = [j for j in partners[:, image].tolist() if j >= 0]
        expected = [reference(statistic, a[image].numpy(), b[j].numpy()) for j in found]
        if labels[image] == 2:
            assert values[image].isnan()
        else:
            assert values[image].item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_an_image_without_another_has_no_floor() -> None:
    alone = prepared_of(PEARSON, maps_of(1, 4, 4))
    assert only(with_partners(PEARSON, alone, alone, AA, other_images(np.zeros(1)))).isnan().tolist() == [
        True
    ]
    assert only(with_every_other(PEARSON, alone, alone, AA, np.zeros(1))).isnan().tolist() == [True]


def test_a_partner_with_a_constant_map_does_not_enter_the_mean() -> None:
    a, b = maps_of(4, 4, 4, seed=1), maps_of(4, 4, 4, seed=2)
    b[2] = 0
    both = prepared_of(PEARSON, a, b)
    partners = other_images(np.zeros(4), 3)
    for values in (
        with_partners(PEARSON, both, both, AB, partners),
        with_every_other(PEARSON, both, both, AB, np.zeros(4)),
    ):
        for image, mean in enumerate(only(values).tolist()):
            others = [j for j in range(4) if j not in (image, 2)]
            expected = np.mean([reference(PEARSON, a[image].numpy(), b[j].numpy()) for j in others])
            assert mean == pytest.approx(expected, abs=1e-6)


def test_what_is_common_to_all_images_reaches_the_floor_and_what_is_not_does_not() -> None:
    common, own = maps_of(1, 8, 8, seed=1), maps_of(60, 8, 8, seed=2)
    partners = other_images(np.zeros(60))
    floors = []
    for maps in (common + 0 * own, own):
        prepared = prepared_of(PEARSON, maps)
        floors.append(only(with_partners(PEARSON, prepared, prepared, AA, partners)).mean().item())
    assert floors[0] == pytest.approx(1)
    assert abs(floors[1]) < 0.05


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (1, 7)])
def test_shifts_roll_each_map_by_different_offsets_and_never_by_none(shape: tuple[int, int]) -> None:
    maps = torch.arange(3 * shape[0] * shape[1]).view(3, *shape).float()
    rolled = [roll(maps.flatten(1)[:, None], each).view_as(maps) for each in shifts(shape, [4, 7, 9], 19, 1)]
    assert len(rolled) == min(19, shape[0] * shape[1] - 1)
    every = [(y, x) for y in range(shape[0]) for x in range(shape[1])]
    offsets = []
    for image in range(3):
        found = [
            next(at for at in every if (maps[image].roll(at, (0, 1)) == each[image]).all()) for each in rolled
        ]
        assert (0, 0) not in found
        assert len(set(found)) == len(found)
        offsets.append(found)
    assert offsets[0] != offsets[1]


def test_an_image_is_shifted_alone_as_among_many() -> None:
    among = torch.stack(list(shifts((6, 6), [3, 1, 4, 15, 9], seed=2)))
    alone = torch.stack(list(shifts((6, 6), [15], seed=2)))
    assert (among[:, 3:4] == alone).all()
    assert (torch.stack(list(shifts((6, 6), [15], seed=3))) != alone).any()


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
def test_what_is_rolled_is_what_is_made_of_rolled_maps(statistic: Statistic) -> None:
    maps = smooth_maps(24, 12, 1).view(8, 3, 12, 12) - 4.5
    maps[:, 1] = maps[:, 1].clamp_min(0.3)  # most of it tied, within the top pixels and below
    maps[2, 0], maps[3, 0, 1, 1], maps[4, 2] = 0, torch.nan, maps[4, 2].round()
    prepared = statistic.prepare(maps, TOP)
    for shift in shifts((12, 12), range(8), draws=5):
        moved = roll(maps.flatten(2), shift).view_as(maps)
        found = prepare_rolled(statistic, maps, prepared, shift, TOP)
        expected = statistic.prepare(moved, TOP)
        assert (found.undefined == expected.undefined).all()
        assert (found.tied == expected.tied).all()
        defined = ~found.undefined
        for ours, theirs in zip(found.values, expected.values, strict=True):
            torch.testing.assert_close(ours[defined], theirs[defined], rtol=0, atol=1e-13)


@pytest.mark.parametrize("statistic", MEASURED, ids=lambda each: each.name)
def test_shifted_is_what_a_loop_over_the_shifts_gives(statistic: Statistic) -> None:
    a = smooth_maps(6, 6, 1)
    b = a + 0.5 * maps_of(6, 6, 6, seed=2)
    b[5] = maps_of(6, 6, seed=3)
    rolled = [roll(b.flatten(1)[:, None], each).view_as(b) for each in shifts((6, 6), range(6), seed=1)]
    mean, p, above = shifted_pair(statistic, a, b, seed=1)
    for image in range(6):
        null = [reference(statistic, a[image].numpy(), each[image].numpy()) for each in rolled]
        own = reference(statistic, a[image].numpy(), b[image].numpy())
        as_good = sum(x >= own - 1e-9 if statistic.higher else x <= own + 1e-9 for x in null)
        assert mean[image] == pytest.approx(np.mean(null), abs=1e-6)
        assert p[image] == pytest.approx((1 + as_good) / 20)
    assert (above == (p <= 0.05)).all()
    assert above[:5].any()


def test_p_of_the_shifts_is_uniform_where_two_maps_have_nothing_in_common() -> None:
    _, p, above = shifted_pair(PEARSON, smooth_maps(2000, 8, 1), smooth_maps(2000, 8, 2))
    # p takes the values 1/20 to 1: spread evenly below each, it is continuous and the test of it exact.
    spread = p - np.random.default_rng(0).uniform(size=2000) / 20
    assert scipy.stats.kstest(spread, "uniform").pvalue > 1e-2
    assert above.mean() == pytest.approx(0.05, abs=0.015)


def test_p_of_the_shifts_is_lowest_where_two_maps_are_the_same_and_undefined_for_constant_ones() -> None:
    maps = maps_of(3, 8, 8)
    maps[2] = 1
    mean, p, above = shifted_pair(PEARSON, maps, maps)
    assert p[:2].tolist() == [0.05, 0.05]
    assert above[:2].tolist() == [1, 1]
    assert np.isnan([above[2], p[2], mean[2]]).all()


def test_values_that_are_equal_but_for_rounding_count_as_equal() -> None:
    """Where A repeats itself every 3 pixels, so does the statistic: 8 of 80 offsets give the observed value."""
    a, b = maps_of(60, 3, 3).repeat(1, 3, 3), maps_of(60, 9, 9, seed=1)
    rolled = [roll(b.flatten(1)[:, None], each).view_as(b) for each in shifts((9, 9), range(60), draws=80)]
    p, _ = place(torch.stack([pearson(a, each) for each in rolled]), pearson(a, b), higher=True)
    assert (p >= 9 / 81).all()
    assert (p * 81 / 9 % 1 < 1e-9).all()


@pytest.mark.parametrize(("shape", "grid"), [((8, 8), (4, 4)), ((6, 9), (2, 3)), ((4, 4), (1, 1))])
def test_pooling_is_the_mean_of_each_block(shape: tuple[int, int], grid: tuple[int, int]) -> None:
    maps = maps_of(3, *shape)
    blocks = maps.double().numpy().reshape(3, grid[0], shape[0] // grid[0], grid[1], shape[1] // grid[1])
    np.testing.assert_allclose(pool(maps, grid), blocks.mean(axis=(2, 4)), rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-307, 1e-150, 1e150, 1e307, np.finfo(float).max])
def test_means_of_blocks_stay_in_the_range_of_float64(scale: float) -> None:
    maps = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0)).double()
    blocks = maps.numpy().reshape(3, 4, 2, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(pool(maps * scale, (4, 3)), blocks * scale, rtol=1e-12)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (7, 7)])
def test_a_constant_map_stays_constant_to_the_bit_when_pooled(grid: tuple[int, int]) -> None:
    pooled = pool(torch.tensor([0.1, 1 / 3, 1e-30])[:, None, None].expand(3, 11, 16), grid)
    assert (pooled == pooled[:, :1, :1]).all()


def test_pooled_maps_agree_where_only_the_detail_differs() -> None:
    coarse = maps_of(5, 4, 4, seed=1).double()
    detail = maps_of(5, 8, 8, seed=2).double()
    detail = detail - pool(detail, (4, 4)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
    a, b = (PEARSON.prepare(each, TOP) for each in (fine + detail, fine - detail))
    assert (PEARSON.compare(a, b) < 0.9).all()
    a, b = (PEARSON.prepare(pool(each, (4, 4)), TOP) for each in (fine + detail, fine - detail))
    torch.testing.assert_close(PEARSON.compare(a, b), torch.ones(5).double())


def test_corrected_is_0_at_chance_and_1_for_the_same_maps() -> None:
    assert corrected(0.111, 0.111) == 0
    assert corrected(1, 0.111) == 1
    assert corrected(0.2, 0.1) == pytest.approx(1 / 9)
    assert corrected(0.05, 0.1) < 0


def outcome(difference: float, p: float, lowest: float = 0.01, **more: float) -> PairedTest:
    """A test of 100 images with that outcome."""
    return PairedTest(difference, NAN, NAN, p, lowest, 100, p, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chance", "other", "found"),
    [
        ((NAN, NAN, 1.0), None, Verdict.FEW),
        ((0.5, 0.0625, 0.0625), (0.5, 0.0625, 0.0625), Verdict.FEW),
        ((-0.1, 0.01), None, Verdict.BELOW_CHANCE),
        ((-0.1, 0.01), (0.5, 0.01), Verdict.BELOW_CHANCE),
        ((-0.1, 0.05), (0.5, 0.01), Verdict.CHANCE),
        ((0.1, 0.05), (0.5, 0.01), Verdict.CHANCE),
        ((0.1, 0.049), None, Verdict.ABOVE_CHANCE),
        ((0.1, 0.01), (0.1, 0.049), Verdict.MORE),
        ((0.1, 0.01), (-0.1, 0.049), Verdict.LESS),
        ((0.1, 0.01), (0.1, 0.05), Verdict.UNTOLD),
        ((0.1, 0.01), (-0.1, 0.05), Verdict.UNTOLD),
        ((0.1, 0.01), (0.1, 0.0625, 0.0625), Verdict.FEW),
        (None, (0.1, 0.01), Verdict.MORE),
        (None, None, Verdict.NO_CONTROL),
    ],
)
def test_the_verdict_follows_its_table(
    chance: tuple[float, ...] | None, other: tuple[float, ...] | None, found: Verdict
) -> None:
    tests = [None if each is None else outcome(*each) for each in (chance, other)]
    assert verdict(*tests) is found
    # A distance is the other way round.
    turned = [each and replace(each, difference=-each.difference) for each in tests]
    assert verdict(*turned, higher=False) is found


def test_what_is_shown_to_be_about_equal_is_no_difference_that_was_found() -> None:
    chance = outcome(0.3, 0.001)
    assert verdict(chance, outcome(0.01, 0.3, equal=0.049)) is Verdict.EQUAL
    assert verdict(chance, outcome(0.01, 0.3, equal=0.05)) is Verdict.UNTOLD
    assert verdict(chance, outcome(0.01, 0.04, equal=0.001)) is Verdict.MORE


def test_the_adjusted_p_of_more_than_ten_tests_decides() -> None:
    for tests, found in ((10, Verdict.MORE), (11, Verdict.UNTOLD)):
        other = replace(outcome(0.1, 0.01), adjusted=0.2, tests=tests)
        assert verdict(outcome(0.3, 0.001), other) is found


def test_without_another_image_the_verdict_is_about_chance() -> None:
    assert verdict(outcome(0.3, 0.001), replace(outcome(NAN, NAN, 1.0), n=0)) is Verdict.ABOVE_CHANCE


@pytest.mark.parametrize("sides", [(1, 2), (3, 3), (4, 4), (1, 19), (4, 5), (5, 5)])
def test_a_share_in_the_top_5_percent_is_undefined_where_no_map_can_get_there(sides: tuple[int, int]) -> None:
    maps = maps_of(5, *sides)
    _, p, above = shifted_pair(PEARSON, maps, maps)
    draws = min(19, maps[0].numel() - 1)
    np.testing.assert_allclose(p, 1 / (1 + draws), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(above, [1.0 if draws == 19 else math.nan] * 5)


@given(draws=st.integers(1, 60), beaten=st.integers(0, 60))
def test_what_no_p_can_show_is_undefined(draws: int, beaten: int) -> None:
    p = (1 + min(beaten, draws)) / (1 + draws)
    possible = any((1 + each) / (1 + draws) <= 0.05 for each in range(draws + 1))
    assert possible == (draws >= 19)
    expected = float(p <= 0.05) if possible else math.nan
    above = [Place(each, 1 + draws).above for each in (p, math.nan)]
    np.testing.assert_array_equal(above, [expected, math.nan])


def test_the_floors_of_three_methods_and_a_hundred_images_are_cheap() -> None:
    maps = maps_of(3, 100, 32, 32)
    labels = np.arange(100) % 10
    pairs = torch.combinations(torch.arange(3)).T

    def floors() -> float:
        start = time.process_time()
        for statistic in (PEARSON, IOU):
            prepared = prepared_of(statistic, *maps)
            for groups in (0 * labels, labels):
                for values in with_partners(statistic, prepared, prepared, pairs, other_images(groups)):
                    other_image(values)
        return time.process_time() - start

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert min(floors() for _ in range(5)) < 0.3
    finally:
        torch.set_num_threads(threads)


def test_a_place_counts_the_values_that_agree_as_well_and_the_observed_one() -> None:
    nan = torch.nan
    null = torch.tensor([[0.1, nan, 0.1], [0.5, 0.2, 0.2], [0.3 - 1e-14, 0.9, 0.3]], dtype=torch.float64)
    observed = torch.tensor([0.3, 0.5, nan], dtype=torch.float64)
    for higher, expected in ((True, [3 / 4, 2 / 3, nan]), (False, [3 / 4, 2 / 3, nan])):
        p, among = place(null, observed, higher)
        np.testing.assert_allclose(p, expected)
        np.testing.assert_array_equal(among, [4, 3, nan])
    p, _ = place(-null, -observed + 0.01, higher=True)
    np.testing.assert_allclose(p, [2 / 4, 2 / 3, nan])

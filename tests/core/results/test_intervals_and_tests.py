from __future__ import annotations

import math
import statistics
import time
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from xaicmp.core.results.intervals import (
    FEW,
    interval,
    ratio_interval,
    student,
    summarise,
    summarise_share,
)
from xaicmp.core.results.significance import PairedTest, flip_signs, holm, lowest_p, paired_tests, pairing_of


@pytest.mark.parametrize("n", [1, 2, 3, 100])
def test_mean_and_population_standard_deviation(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    summary = summarise(values)
    assert summary.mean == pytest.approx(statistics.fmean(values), abs=1e-12)
    assert summary.std == pytest.approx(statistics.pstdev(values), abs=1e-12)
    assert (summary.n, summary.undefined, summary.tied) == (n, 0, None)


def paired_test(
    observed: np.ndarray, floor: np.ndarray, *, two_sided: bool = False, **given: Any
) -> PairedTest:
    """One of ``paired_tests``."""
    return paired_tests(observed[None], floor[None], two_sided=two_sided, **given)[0]


def test_worked_out_on_paper() -> None:
    summary = summarise(np.array([1.0, np.nan, 3.0, np.nan, 5.0]), np.array([True, False, True, True, False]))
    assert summary.mean == 3
    assert summary.std == pytest.approx(math.sqrt(8 / 3))
    assert (summary.n, summary.undefined, summary.tied) == (3, 2, 2)


@pytest.mark.parametrize("values", [np.full(4, np.nan), np.empty(0)])
@pytest.mark.filterwarnings("error")
def test_what_is_defined_nowhere_has_no_mean(values: np.ndarray) -> None:
    summary = summarise(values)
    assert math.isnan(summary.mean)
    assert math.isnan(summary.std)
    assert (summary.n, summary.undefined) == (0, len(values))


def test_undefined_values_do_not_move_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    holes = np.insert(values, rng.integers(0, 50, 9), np.nan)
    full, holed = summarise(values), summarise(holes)
    assert (holed.mean, holed.std, holed.n, holed.undefined) == (full.mean, full.std, 50, 9)
    assert (holed.low, holed.high) == (full.low, full.high)


# Intervals.


@pytest.mark.parametrize("n", [2, 3, 5, 29])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.filterwarnings("error")
def test_of_few_values_the_interval_is_students(n: int, level: float) -> None:
    values = np.random.default_rng(n).gamma(1, size=n)
    expected = scipy.stats.t.interval(level, n - 1, values.mean(), scipy.stats.sem(values))
    assert interval(values, level) == pytest.approx(expected, rel=1e-12)
    rows = np.full((3, n + 4), np.nan)
    rows[0, 2 : n + 2], rows[1, 1] = values, 0.5
    low, high = student(rows, level)
    assert (low[0], high[0]) == pytest.approx(expected, rel=1e-12)
    assert np.isnan([low[1:], high[1:]]).all()


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [1, 3, 10, 100])
def test_the_interval_of_a_share_is_scipys_exact_one(n: int, level: float) -> None:
    for yes in {0, 1, n // 3, n - 1, n}:
        flags = np.r_[np.ones(yes), np.nan, np.zeros(n - yes)]
        found = summarise_share(flags, level=level)
        expected = scipy.stats.binomtest(yes, n).proportion_ci(level, method="exact")
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
        assert (found.mean, found.n, found.undefined) == (pytest.approx(yes / n), n, 1)
        assert found.std == pytest.approx(math.sqrt(yes / n * (1 - yes / n)))
    assert summarise_share(np.ones(3)).low == pytest.approx(0.025 ** (1 / 3))
    assert np.isnan([summarise_share(np.full(2, np.nan)).mean, summarise_share(np.empty(0)).low]).all()


@pytest.mark.parametrize("n", [2, 5, 17, 40])
def test_the_interval_of_a_share_holds_it_often_enough_whatever_it_is(n: int) -> None:
    counts = np.arange(n + 1)
    found = [summarise_share(np.repeat([1.0, 0.0], [yes, n - yes])) for yes in counts]
    for share in np.linspace(0, 1, 101):
        held = [each.low - 1e-12 <= share <= each.high + 1e-12 for each in found]
        assert scipy.stats.binom.pmf(counts, n, share)[held].sum() >= 0.95 - 1e-9


@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.filterwarnings("error")
def test_of_more_the_interval_is_scipys_bootstrap_on_the_same_resamples(n: int, level: float) -> None:
    values = np.random.default_rng(n).gamma(1, size=n)
    found = scipy.stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(3),
        batch=1_000_000 // n,
    ).confidence_interval
    summary = summarise(values, level=level, seed=3)
    assert (summary.low, summary.high) == pytest.approx((found.low, found.high), abs=1e-12)


def test_on_normal_values_the_interval_is_students_and_narrows_with_n() -> None:
    widths = []
    for n in (100, 400, 6400):
        values = scipy.stats.norm.ppf((np.arange(n) + 0.5) / n)
        summary = summarise(values)
        expected = scipy.stats.t.interval(0.95, n - 1, 0, values.std(ddof=1) / math.sqrt(n))
        widths.append(summary.high - summary.low)
        assert (summary.low, summary.high) == pytest.approx(expected, abs=0.05 * widths[-1])
    assert widths == sorted(widths, reverse=True)


def test_on_skewed_values_the_interval_leans_to_the_long_tail() -> None:
    summary = summarise(scipy.stats.expon.ppf((np.arange(40) + 0.5) / 40))
    assert summary.high - summary.mean > 1.2 * (summary.mean - summary.low)


@pytest.mark.parametrize("n", [0, 1])
def test_of_fewer_than_two_values_there_is_no_interval(n: int) -> None:
    summary = summarise(np.array([0.25, np.nan, np.nan])[: n or 3] if n else np.full(3, np.nan))
    assert summary.n == n
    assert math.isnan(summary.low)
    assert math.isnan(summary.high)


@pytest.mark.parametrize("value", [0.0, -1.0, 0.1, 1e-300])
@pytest.mark.filterwarnings("error")
def test_of_equal_values_the_interval_is_the_value(value: float) -> None:
    summary = summarise(np.full(7, value))
    assert (summary.low, summary.high) == (value, value)
    almost = np.array([value, np.nextafter(value, 2), value, value])
    if value > 1e-300:
        assert (summarise(almost).low, summarise(almost).high) == (almost.min(), almost.max())


@pytest.mark.parametrize("scale", [1e-310, 1e-120, 1e120, 1e300])
@pytest.mark.parametrize("values", [(0, 1), (0,) * 99 + (1,), (1,) * 99 + (0,), (1, 2, 4)])
@pytest.mark.filterwarnings("error")
def test_no_values_are_too_lopsided_large_or_small(values: tuple[int, ...], scale: float) -> None:
    plain, scaled = interval(np.array(values, float)), interval(np.array(values) * scale)
    assert plain[0] < np.mean(values) < plain[1]
    if len(values) >= FEW:  # Student's may leave the range of the values
        assert min(values) <= plain[0] < plain[1] <= max(values)
    assert scaled == pytest.approx((plain[0] * scale, plain[1] * scale), rel=1e-9, abs=1e-320)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(8, 60), move=st.floats(-5, 5), turn=st.sampled_from([1, -1])
)
def test_the_interval_holds_the_mean_and_moves_with_the_values(
    seed: int, n: int, move: float, turn: int
) -> None:
    values = np.random.default_rng(seed).normal(size=n)
    low, high = interval(values)
    assert low < values.mean() < high
    assert interval(turn * values + move)[::turn] == pytest.approx(
        (turn * low + move, turn * high + move), abs=0.03
    )
    assert low < interval(values, 0.8)[0] < interval(values, 0.8)[1] < high


def test_the_seed_decides_and_its_choice_matters_little() -> None:
    for n in (100, 1500):
        values = np.random.default_rng(4).beta(2, 5, size=n)
        ends = np.array([interval(values, seed=seed) for seed in range(12)])
        assert interval(values, seed=5) == tuple(ends[5])
        assert len(set(ends[:, 0])) == 12
        error = values.std() / math.sqrt(n)
        assert ends.std(axis=0).max() < 0.12 * error
        assert np.ptp(ends, axis=0).max() < 0.0025


def test_six_intervals_over_a_hundred_images_take_well_under_half_a_second() -> None:
    values = np.random.default_rng(0).beta(2, 5, size=(6, 100))
    summarise(values[0])
    start = time.process_time()
    for row in values:
        summarise(row)
    assert time.process_time() - start < 0.4


# Tests.


@pytest.mark.parametrize("two_sided", [False, True])
def test_flips_of_few_images_are_scipys_exact_permutation_test(two_sided: bool) -> None:
    rng = np.random.default_rng(1)
    for n in (2, 5, 11, 13):
        for differences in (rng.normal(0.4, 1, n), rng.integers(-2, 3, n).astype(float)):
            expected = scipy.stats.permutation_test(
                (differences,),
                lambda x, axis: np.abs(x.mean(axis)) if two_sided else x.mean(axis),
                permutation_type="samples",
                vectorized=True,
                n_resamples=2**n,
                alternative="greater",
            ).pvalue
            assert flip_signs(differences[None], two_sided=two_sided)[0] == pytest.approx(expected, abs=1e-12)


def test_flips_worked_out_on_paper() -> None:
    # Of the 8 sums of 1, 2 and 3 with signs, 6 and 4 are 4 or more; with -1, 2, 3 the sum is 4 as well.
    assert flip_signs(np.array([[-1.0, 2, 3], [1, 2, 3]]), two_sided=False).tolist() == [2 / 8, 1 / 8]
    assert flip_signs(np.array([[-1.0, 2, 3], [1, 2, 3]]), two_sided=True).tolist() == [4 / 8, 2 / 8]


@pytest.mark.parametrize("n", [20, 100])
def test_random_flips_are_close_to_the_t_test_on_normal_differences(n: int) -> None:
    differences = np.random.default_rng(2).normal(0.15, 1, (300, n))
    for two_sided, alternative in ((True, "two-sided"), (False, "greater")):
        expected = scipy.stats.ttest_1samp(differences, 0, axis=1, alternative=alternative).pvalue
        np.testing.assert_allclose(
            flip_signs(differences, two_sided=two_sided), expected, rtol=0.1, atol=0.02
        )


def test_p_values_below_what_the_flips_can_tell_come_from_the_normal_limit() -> None:
    rng = np.random.default_rng(3)
    clear = np.abs(rng.normal(1, 0.1, 50))
    # Every difference is positive: of all 2^50 flips, one is as large.
    assert 2.0**-50 < flip_signs(clear[None], two_sided=False)[0] < 1e-11
    assert flip_signs(-clear[None], two_sided=False)[0] == 1
    assert flip_signs(-clear[None], two_sided=True)[0] == pytest.approx(
        2 * flip_signs(clear[None], two_sided=False)[0]
    )
    # Where the flips can tell, and where they no longer can, p falls as the difference grows.
    noise = rng.normal(size=60)
    p = flip_signs(np.linspace(0, 1.5, 40)[:, None] + noise - noise.mean(), two_sided=False)
    assert (np.diff(p) <= 0).all()
    assert (p[0], p[-1]) == (pytest.approx(0.5, abs=0.02), pytest.approx(0, abs=1e-8))


def test_the_normal_limit_errs_on_the_safe_side() -> None:
    # All 2^22 flips of 22 differences, against what random ones leave to the limit.
    rng = np.random.default_rng(4)
    for _ in range(3):
        differences = rng.gamma(3, size=22) * rng.choice([1, 1, 1, 1, 1, 1, -0.2], 22)
        left, right = (
            np.array(list(product((-1, 1), repeat=11))) @ part for part in np.split(differences, 2)
        )
        exact = (left[:, None] + right >= differences.sum() - 1e-9).mean()
        assert exact < 1e-4
        assert exact <= flip_signs(differences[None], two_sided=False)[0] <= 1e-4 + 50 * exact


def test_images_without_a_difference_take_no_part() -> None:
    rng = np.random.default_rng(5)
    differences = rng.normal(0.5, 1, 10)
    padded = np.concatenate([differences, [0, 0, np.nan]])
    expected = flip_signs(differences[None], two_sided=True)
    assert flip_signs(padded[None], two_sided=True) == pytest.approx(expected, abs=1e-12)
    assert flip_signs(np.array([[0.0, 0, np.nan], [np.nan] * 3]), two_sided=True).tolist() == [
        1,
        pytest.approx(np.nan, nan_ok=True),
    ]
    many = np.zeros((2, 200))
    many[1] = np.nan
    assert flip_signs(many, two_sided=False).tolist() == [1, pytest.approx(np.nan, nan_ok=True)]


def test_a_row_of_many_differences_is_tested_as_it_is_alone() -> None:
    differences = np.random.default_rng(6).normal(0.1, 1, (250, 70))
    together = flip_signs(differences, two_sided=True)
    for row in (0, 120, 249):
        assert flip_signs(differences[row : row + 1], two_sided=True)[0] == together[row]


def test_the_paired_test_gives_the_mean_difference_its_interval_and_p() -> None:
    rng = np.random.default_rng(7)
    floor = rng.normal(size=80)
    observed = floor + rng.normal(0.1, 0.2, 80)
    observed[3], floor[5] = np.nan, np.nan
    both = np.delete(observed - floor, [3, 5])
    test = paired_test(observed, floor, level=0.9, seed=1)
    assert test.difference == pytest.approx(both.mean(), abs=1e-15)
    assert (test.low, test.high) == interval(both, 0.9, 1)
    assert test.p == flip_signs(both[None], two_sided=False, seed=1)[0] < 0.01
    assert paired_test(floor, observed).p > 0.99
    assert paired_test(floor, observed, two_sided=True).p == flip_signs(both[None], two_sided=True)[0] < 0.01


def test_what_differs_by_rounding_only_does_not_differ() -> None:
    floor = np.linspace(0.5, 1, 30)
    same = paired_test(floor * (1 + 1e-15), floor, two_sided=True)
    assert (same.difference, same.low, same.high, same.p, same.lowest) == (0, 0, 0, 1, 2**-29)
    assert paired_test(floor * (1 + 1e-9), floor, two_sided=True).p < 0.01


@pytest.mark.filterwarnings("error")
def test_a_paired_test_without_images_or_differences() -> None:
    nothing = paired_test(np.array([np.nan, 1.0]), np.array([0.0, np.nan]))
    assert np.isnan([nothing.difference, nothing.low, nothing.high, nothing.p]).all()
    one = paired_test(np.array([2.0]), np.array([1.0]))
    assert (one.difference, one.p) == (1, 1 / 2)
    assert math.isnan(one.low)
    same = paired_test(np.arange(30.0), np.arange(30.0))
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("n", [2, 6, 40])
def test_equivalence_is_shown_by_scipys_two_one_sided_tests(n: int) -> None:
    rng = np.random.default_rng(n)
    observed = rng.normal(0.02, 0.05, (4, n + 1))
    observed[1, 0] = np.nan
    floor = rng.normal(0, 0.05, (4, n + 1))
    for row, test in enumerate(paired_tests(observed, floor, margin=0.05)):
        each = (observed - floor)[row]
        each = each[~np.isnan(each)]
        above, below = (
            scipy.stats.ttest_1samp(each, edge, alternative=way).pvalue
            for edge, way in ((-0.05, "greater"), (0.05, "less"))
        )
        assert test.equal == pytest.approx(max(above, below), rel=1e-9)
        assert test.d_z == pytest.approx(each.mean() / each.std(ddof=1))
        assert test.n == len(each)
    assert paired_tests(observed + 0.2, observed, margin=0.05)[0].equal > 0.99


@pytest.mark.parametrize("n", [2, 6, 10])
@pytest.mark.parametrize("apart", [0, 0.04, -0.04, 0.06, -0.06])
def test_equivalence_of_equal_differences_is_what_all_flips_of_the_signs_show(n: int, apart: float) -> None:
    floor = np.random.default_rng(n).normal(size=(1, n))  # so that the differences round
    (test,) = paired_tests(floor + apart, floor, margin=0.05)
    signs = np.array(list(product([-1, 1], repeat=n)))
    within = [np.full(n, 0.05 - apart), np.full(n, 0.05 + apart)]
    assert test.equal == max(np.mean(signs @ each >= each.sum() - 1e-9) for each in within)
    assert math.isnan(test.d_z)


def test_no_p_is_0_however_many_images_agree() -> None:
    floor = np.zeros((1, 5000))
    observed = np.random.default_rng(0).normal(1, 1e-3, floor.shape)
    (far,), (near,) = paired_tests(observed, floor), paired_tests(observed / 100, floor, margin=0.05)
    (same,) = paired_tests(floor, floor, margin=0.05)
    blocks = np.array([[1e-4, 100.0]] * 400)
    for p in (far.p, far.lowest, far.adjusted, near.equal, same.equal, pairing_of(blocks)):
        assert 0 < p < 1e-300


def test_tests_made_at_once_are_those_made_alone_and_more_than_ten_are_adjusted() -> None:
    rng = np.random.default_rng(9)
    floor = rng.normal(size=(12, 40))
    observed = floor + rng.normal(0.2, 1, (12, 40))
    observed[3, :5], floor[7] = np.nan, np.nan
    observed[:, 9] = np.nan
    together = paired_tests(observed, floor, seed=2, margin=0.1)
    p = np.array([each.p for each in together])
    for index, test in enumerate(together):
        alone = paired_test(observed[index], floor[index], two_sided=True, seed=2)
        tolerance = 1e-12 if index not in (3, 7) else 0.01
        assert (alone.low, alone.high) == pytest.approx((test.low, test.high), nan_ok=True)
        for one in (alone.p, alone.adjusted):
            assert one == pytest.approx(test.p, abs=tolerance, nan_ok=True)
        assert test.adjusted == pytest.approx(holm(p)[index], nan_ok=True)
        assert test.decides is test.adjusted
        assert test.lowest == pytest.approx(min(1, 11 * alone.lowest))
    ten = paired_tests(observed[:11], floor[:11], seed=2)
    assert [each.decides for each in ten] == pytest.approx(p[:11], nan_ok=True)
    assert {each.tests for each in ten} == {10}


def test_no_p_is_below_what_so_few_images_can_give() -> None:
    observed = np.full((2, 100), np.nan)
    observed[0], observed[1, :4] = np.linspace(-1, 1, 100), 1.0
    few = paired_tests(observed, np.zeros((2, 100)))[1]
    assert (few.n, few.lowest) == (4, 0.125)
    assert few.p == pytest.approx(0.125, abs=0.02)
    assert few.p >= 0.125


def test_holm_worked_out_on_paper() -> None:
    p = np.array([0.04, 0.01, np.nan, 0.03, 0.005, 0.9])
    # Sorted .005 .01 .03 .04 .9 times 5 4 3 2 1, never falling: .025 .04 .09 .09 .9.
    np.testing.assert_allclose(holm(p), [0.09, 0.04, np.nan, 0.09, 0.025, 0.9], atol=1e-15)
    assert holm(np.array([0.4, 0.6, 0.5])).tolist() == [1, 1, 1]
    assert holm(np.array([])).tolist() == []


@pytest.mark.parametrize("two_sided", [False, True])
def test_the_lowest_p_is_that_of_differences_of_one_sign_and_size(two_sided: bool) -> None:
    rng = np.random.default_rng(0)
    for images in range(1, 13):
        found = flip_signs(rng.normal(0.5, 1, (500, images)), two_sided=two_sided)
        best = flip_signs(np.ones((1, images)), two_sided=two_sided)[0]
        lowest = lowest_p(images, two_sided=two_sided)
        assert lowest == best == pytest.approx(min(1, (1 + two_sided) / 2**images), abs=1e-15)
        assert (found >= lowest).all()
        assert paired_test(np.ones(images), np.zeros(images), two_sided=two_sided).lowest == lowest


@pytest.mark.parametrize("count", [2, 3, 40])
def test_at_the_ends_of_a_ratios_interval_students_test_has_its_level(count: int) -> None:
    rng = np.random.default_rng(count)
    spread = 0.1 if count > 2 else 0.01
    whole = rng.normal(1.0, spread, count)
    part = 0.4 * whole + rng.normal(0, spread, count)
    for level in (0.5, 0.95):
        low, high = ratio_interval(part, whole, level)
        assert low < part.mean() / whole.mean() < high
        for end in (low, high):
            assert scipy.stats.ttest_1samp(part - end * whole, 0).pvalue == pytest.approx(1 - level)


def test_a_ratios_interval_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        whole = rng.exponential(1.0, 20)
        low, high = ratio_interval(0.5 * whole + rng.exponential(0.3, 20), whole)
        held.append(low <= 0.8 <= high)
    assert 0.92 < np.mean(held) < 0.975


def test_a_ratio_to_what_may_be_nothing_has_no_interval() -> None:
    whole = np.array([-1.0, 1.2, -0.9, 1.1])
    assert np.isnan(ratio_interval(np.ones(4), whole)).all()
    assert np.isnan(ratio_interval(np.ones(1), np.ones(1))).all()

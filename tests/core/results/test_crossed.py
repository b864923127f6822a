from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from xaicmp.core.results.crossed import crossed, variance_shares


def test_with_one_draw_it_is_students_t_over_the_images() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, (1, 20))
    expected = scipy.stats.ttest_1samp(values[0], 0)
    mean, low, high, p = crossed(values, 0.9)
    assert (mean, p) == (pytest.approx(values.mean()), pytest.approx(expected.pvalue))
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_two_draws_of_two_images_worked_out_on_paper() -> None:
    """Draws 1 and 3, images 1.5 and 2.5, rest 0: variances of the mean 1 and 0.25, and 1.25^2 / (1 + 0.0625) degrees."""
    mean, low, high, p = crossed(np.array([[0.5, 1.5], [2.5, 3.5]]))
    spread = scipy.stats.t(1.25**2 / (1 + 0.0625), scale=1.25**0.5)
    assert (mean, p) == (2, pytest.approx(2 * spread.sf(2)))
    assert (low, high) == pytest.approx((2 - spread.isf(0.025), 2 + spread.isf(0.025)))


def test_what_is_undefined_takes_no_part() -> None:
    values = np.random.default_rng(0).normal(size=(3, 6))
    wide = np.full((4, 8), np.nan)
    wide[1:, 2:] = values
    assert crossed(wide) == crossed(values)
    assert np.isnan(crossed(np.full((2, 3), np.nan))).all()
    one = crossed(np.array([[0.5, np.nan], [0.7, np.nan]]))
    assert one[0] == pytest.approx(0.6)
    assert np.isnan(one[1:]).all()


@pytest.mark.parametrize("value", [1, 0.1, -1e-300])
def test_of_equal_values_p_is_what_so_many_signs_can_show_and_never_0(value: float) -> None:
    assert crossed(np.full((3, 4), value)) == (*[pytest.approx(value)] * 3, 2 / 2**4)
    assert crossed(np.zeros((2, 4))) == (0, 0, 0, 1)
    assert 0 < crossed(np.full((2, 2000), value))[3] < 1e-300
    assert 0 < crossed(np.random.default_rng(0).normal(value, abs(value) / 1e4, (1, 2000)))[3] < 1e-300


def of_crossed(values: np.ndarray) -> tuple[float, float]:
    """The interval of ``crossed``, which holds 0 exactly if its p says so."""
    _, low, high, p = crossed(values)
    assert (low <= 0 <= high) == (p >= 0.05)
    return low, high


def of_resamples(values: np.ndarray) -> tuple[float, float]:
    """The interval of 999 resamples of the draws, and in each of the images."""
    rng, (draws, images) = np.random.default_rng(0), values.shape
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), size=999) / n for n in (draws, images))
    low, high = np.quantile(((rows @ values) * columns).sum(axis=1), [0.025, 0.975])
    return low, high


def coverage(
    spreads: tuple[float, float, float],
    draws: int,
    images: int,
    simulations: int,
    of: Callable[[np.ndarray], tuple[float, float]] = of_crossed,
) -> np.ndarray:
    """Whether the interval of normal values holds their true mean, in each simulation."""
    rng, (by_draw, by_image, rest) = np.random.default_rng(1), spreads
    held = []
    for _ in range(simulations):
        values = by_draw * rng.normal(size=(draws, 1)) + by_image * rng.normal(size=images)
        low, high = of(values + rest * rng.normal(size=(draws, images)))
        held.append(low <= 0 <= high)
    return np.array(held)


@pytest.mark.parametrize("spreads", [(0.0, 1.0, 1.0), (0.3, 1.0, 0.5), (1.0, 0.1, 0.1)])
def test_the_interval_holds_the_mean_as_often_as_it_says(spreads: tuple[float, float, float]) -> None:
    assert 0.93 < coverage(spreads, 5, 30, 1000).mean() < 0.975


def test_of_three_checkpoints_that_differ_resampling_gives_too_short_an_interval() -> None:
    of_three = (1.0, 0.1, 0.1), 3, 30, 300
    assert coverage(*of_three, of_resamples).mean() < 0.85
    assert coverage(*of_three).mean() > 0.92


def test_the_variance_of_two_draws_of_three_images_worked_out_on_paper() -> None:
    """Means of draws 2 and 4, of images 1, 3, 5, and a rest of 1, -1, 0 and the reverse.

    Mean squares: 3 (1 + 1) / 1 = 6, 2 (4 + 0 + 4) / 2 = 8, and (1 + 1) 2 / 2 = 2. So 4 / 3, 6 / 2 and 2, of 19 / 3.
    """
    values = np.array([[1.0, 1, 4], [1, 5, 6]])
    assert variance_shares(values) == pytest.approx((4 / 19, 9 / 19, 6 / 19))
    wide = np.concatenate([values, [[np.nan], [7]]], axis=1)
    assert variance_shares(wide) == variance_shares(values)


def test_the_shares_of_the_variance_are_those_that_made_the_values() -> None:
    rng = np.random.default_rng(3)
    values = 1 * rng.normal(size=(300, 1)) + 2 * rng.normal(size=300) + 3 * rng.normal(size=(300, 300))
    assert variance_shares(values) == pytest.approx((1 / 14, 4 / 14, 9 / 14), abs=0.04)
    assert variance_shares(np.add.outer([0.0, 1.0], [0.0, 1, 5]))[2] == 0
    for nothing in (np.ones((3, 4)), np.ones((1, 4)), np.ones((3, 1))):
        assert np.isnan(variance_shares(nothing)).all()

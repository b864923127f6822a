"""Tests of the tests: on simulated maps, intervals cover the truth and p-values are uniform where nothing is there.

A population is 20,000 pairs of correlated random fields. Its mean agreement is known exactly, and a simulation
draws its images from it. ``tests/benchmarks/calibration.py`` does the same with more images and resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from torch import Tensor

from xaicmp.core.agreement.registry import STATISTICS, agreement
from xaicmp.core.results.intervals import interval
from xaicmp.core.results.pair_tests import compare_pairs
from xaicmp.core.results.significance import flip_signs

IMAGES = 100


def fields(rng: np.random.Generator, count: int, side: int = 8) -> np.ndarray:
    """Smooth Gaussian random fields ``(count, side, side)`` of variance 1."""
    noise = rng.normal(size=(count, side, side))
    return scipy.ndimage.gaussian_filter(noise, (0, 1, 1), mode="wrap") / 0.28


@cache
def population(name: str, share: float = 3, count: int = 20_000) -> np.ndarray:
    """Agreement of pairs of maps that have a part in common, which is Beta(1, ``share``) of the image."""
    rng = np.random.default_rng([int(10 * share), count])
    a, b = fields(rng, count), fields(rng, count)
    common = rng.beta(1, share, size=(count, 1, 1))
    return agreement(name, torch.from_numpy(a), torch.from_numpy(common * a + (1 - common) * b)).numpy()


def coverage(name: str, images: int, simulations: int, of: Callable[..., Any]) -> float:
    """How often the interval ``of`` the values of ``images`` images holds the mean of the population."""
    values = population(name)
    truth = values.mean()
    rng = np.random.default_rng(images)
    ends = np.array([of(rng.choice(values, images), seed=simulation) for simulation in range(simulations)])
    return float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())


def null_differences(images: int, simulations: int) -> np.ndarray:
    """Differences ``(simulations, images)`` of two pairs with the same mean, but of other spread and skewness."""
    one, other = population("pearson"), population("pearson", 8)
    rng = np.random.default_rng(images)
    size = (simulations, images)
    return rng.choice(one - one.mean(), size) - rng.choice(other - other.mean(), size)


def unrelated_maps(rng: np.random.Generator, images: int, spread: float = 0.6) -> tuple[Tensor, Tensor]:
    """Maps that share nothing but the centre, which some images have more of than others."""
    offsets = np.mgrid[:8, :8] - 3.5
    centre = 3 * np.exp(-(offsets**2).sum(axis=0) / 8)
    a, b = (np.exp(spread * rng.normal(size=(images, 1, 1))) * centre + fields(rng, images) for _ in range(2))
    return torch.from_numpy(a), torch.from_numpy(b)


@cache
def null_above_other_images(images: int, simulations: int) -> tuple[np.ndarray, np.ndarray]:
    """Pearson of unrelated maps of each image less what the maps of all other images give.

    Returns:
        ``(simulations, images)`` twice: less A's own mean with the other B's; and less B's own mean with the other
        A's as well, the mean over all of them added back.
    """
    rng = np.random.default_rng(0)
    statistic = STATISTICS["pearson"]
    one, both = [], []
    for _ in range(simulations):
        (a,), (b,) = (statistic.prepare(maps, 0.2).values for maps in unrelated_maps(rng, images))
        values = (a @ b.T).numpy()
        observed = values.diagonal().copy()
        np.fill_diagonal(values, np.nan)
        one.append(observed - np.nanmean(values, axis=1))
        both.append(one[-1] - np.nanmean(values, axis=0) + np.nanmean(values))
    return np.stack(one), np.stack(both)


@pytest.mark.parametrize("name", ["pearson", "iou"])
def test_95_percent_intervals_hold_the_truth_95_percent_of_the_time(name: str) -> None:
    assert coverage(name, IMAGES, 1000, partial(interval, resamples=999)) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("images", [3, 10, 29])
@pytest.mark.parametrize("name", ["pearson", "iou"])
def test_intervals_of_few_images_hold_the_truth_as_often(name: str, images: int) -> None:
    # The bootstrap's do so 72% of the time at 3 images and 90% at 10.
    assert coverage(name, images, 2000, interval) == pytest.approx(0.95, abs=0.03)


def test_p_values_of_equal_means_are_uniform() -> None:
    differences = null_differences(IMAGES, 2000)
    for two_sided in (False, True):
        p = flip_signs(differences, two_sided=two_sided)
        assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
        assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_p_values_against_other_images_are_uniform_for_unrelated_maps() -> None:
    p = flip_signs(null_above_other_images(IMAGES, 1000)[1], two_sided=False)
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_a_floor_of_one_method_only_errs_on_the_safe_side() -> None:
    # What the other method's map has in common with all maps stays in the difference as noise.
    p = flip_signs(null_above_other_images(IMAGES, 1000)[0], two_sided=False)
    assert (p < 0.05).mean() < 0.03
    assert scipy.stats.kstest(p, "uniform").pvalue < 0.01


def test_of_pairs_that_agree_alike_hardly_any_are_told_apart_after_holm() -> None:
    values = population("pearson")
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(100):
        pairs = {("a", str(index)): rng.choice(values, IMAGES) for index in range(4)}
        false += any(test.adjusted < 0.05 for test in compare_pairs(pairs))
    assert false <= scipy.stats.binom.ppf(0.999, 100, 0.05)


def test_skewed_differences_of_equal_mean_mislead_wilcoxons_test_and_not_this_one() -> None:
    rng = np.random.default_rng(2)
    differences = rng.exponential(size=(1000, IMAGES)) - 1
    assert (scipy.stats.wilcoxon(differences, axis=1).pvalue < 0.05).mean() > 0.15
    assert (flip_signs(differences, two_sided=True) < 0.05).mean() == pytest.approx(0.05, abs=0.02)

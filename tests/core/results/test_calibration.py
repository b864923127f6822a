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

from xaicmp.core.agreement.correlation import PEARSON
from xaicmp.core.agreement.pairing import pairing_p
from xaicmp.core.agreement.registry import STATISTICS, agreement
from xaicmp.core.results.intervals import interval
from xaicmp.core.results.significance import flip_signs, paired_tests
from xaicmp.core.studies.pair_tests import compare_pairs

IMAGES = 100


def fields(rng: np.random.Generator, count: int, side: int = 8) -> np.ndarray:
    """Smooth Gaussian random fields ``(count, side, side)`` of variance 1."""
    noise = rng.normal(size=(count, side, side))
    return scipy.ndimage.gaussian_filter(noise, (0, 1, 1), mode="wrap") / 0.28


@cache
def population(name: str, share: float = 3, count: int = 20_000) -> np.ndarray:
    """Agreement, as ``iou@5%``, of pairs of maps that have a part in common, which is Beta(1, ``share``) of the image."""
    rng = np.random.default_rng([int(10 * share), count])
    a, b = fields(rng, count), fields(rng, count)
    common = rng.beta(1, share, size=(count, 1, 1))
    name, _, top = name.partition("@")
    both = torch.from_numpy(a), torch.from_numpy(common * a + (1 - common) * b)
    return agreement(name, *both, float(top[:-1] or 20) / 100).numpy()


def coverage(name: str, images: int, simulations: int, of: Callable[..., Any]) -> float:
    """How often the interval ``of`` the values of ``images`` images holds the mean of the population."""
    values = population(name)
    truth = values.mean()
    rng = np.random.default_rng(images)
    ends = np.array([of(rng.choice(values, images), seed=simulation) for simulation in range(simulations)])
    return float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())


def bootstrapped(values: np.ndarray, seed: int) -> tuple[float, float]:
    """The bootstrap's interval, also where values are few."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    drawn = {"method": "BCa", "n_resamples": 1999, "rng": np.random.default_rng(seed)}
    found = scipy.stats.bootstrap((values,), np.mean, **drawn).confidence_interval
    return found.low, found.high


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


def share_found(images: int, common: float, simulations: int) -> np.ndarray:
    """How often p < 0.05 says that maps with so much in common agree: of the paired test, and of the pairing's."""
    rng, found = np.random.default_rng(images), []
    for _ in range(simulations):
        a, b = unrelated_maps(rng, images)
        (a,), (b,) = (PEARSON.prepare(maps, 0.2).values for maps in (a, common * a + (1 - common) * b))
        values = (a @ b.T).numpy()
        others = np.where(np.eye(images), np.nan, values)
        floor = np.nanmean(others, axis=1) + np.nanmean(others, axis=0) - np.nanmean(others)
        test = paired_tests(values.diagonal()[None], floor[None], level=None)[0]
        found.append((test.p < 0.05, pairing_p(values) < 0.05))
    return np.mean(found, axis=0)


def false_above(pairs: int, simulations: int, images: int = 30) -> np.ndarray:
    """How many of so many pairs that agree no more than with another image are called above it, and how many adjusted."""
    rng, found = np.random.default_rng(pairs), []
    for _ in range(simulations):
        differences = rng.normal(size=(pairs, images))
        tests = paired_tests(differences, np.zeros((pairs, images)), level=None)
        above = [test for test in tests if test.difference > 0]
        found.append([sum(getattr(each, key) < 0.05 for each in above) for key in ("p", "adjusted")])
    return np.array(found)


@pytest.mark.parametrize("name", ["pearson", "iou"])
def test_95_percent_intervals_hold_the_truth_95_percent_of_the_time(name: str) -> None:
    assert coverage(name, IMAGES, 1000, partial(interval, resamples=999)) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("images", [3, 10, 29])
@pytest.mark.parametrize("name", ["pearson", "iou"])
def test_intervals_of_few_images_hold_the_truth_as_often(name: str, images: int) -> None:
    # The bootstrap's do so 72% of the time at 3 images and 90% at 10.
    assert coverage(name, images, 2000, interval) == pytest.approx(0.95, abs=0.03)


def test_of_few_skewed_values_students_interval_holds_the_truth_more_often_than_the_bootstraps() -> None:
    for images in (3, 10):
        of_students, of_bootstrap = (coverage("iou@5%", images, 200, of) for of in (interval, bootstrapped))
        assert of_students > of_bootstrap


def test_of_406_pairs_without_a_finding_several_are_above_another_image_and_none_after_holm() -> None:
    raw, adjusted = false_above(406, 20).T
    assert raw.mean() > 4
    assert (adjusted > 0).sum() <= 3


def test_the_test_of_the_pairing_finds_more_in_few_images_than_the_paired_one() -> None:
    paired, pairing = share_found(10, 0.2, 100)
    assert pairing > paired + 0.1


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

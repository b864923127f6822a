"""Whether two means over the same images differ: sign-flip permutation tests.

The test flips the signs of the images' differences, which changes nothing in distribution if the two are
exchangeable. It is about the mean, which is what the tables show (Wilcoxon's is about the pseudo-median, and for
skewed differences rejects equal means), it needs no normality, and images that agree exactly take no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xaicmp.core.results.intervals import CELLS, RESAMPLES, interval


@dataclass(frozen=True)
class PairedTest:
    """Whether one mean is above another over the same images.

    Attributes:
        difference: the mean of the differences, NaN where both are defined nowhere.
        low, high: ends of its confidence interval.
        p: of a difference as large or larger if there is none; two-sided, of one as far from 0.
        lowest: the lowest p that so many images can give.
    """

    difference: float
    low: float
    high: float
    p: float
    lowest: float


def paired_test(
    observed: np.ndarray,
    floor: np.ndarray,
    *,
    two_sided: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Whether the mean of ``observed`` is above that of ``floor``, over the images where both are defined.

    Interval and p hold for images whose differences are independent. A floor made of maps of other images keeps
    some of what the own maps have in common with all maps; if it leaves that in the difference, as the mean of one
    method's map with the other's of other images does, both err on the safe side.

    Args:
        observed, floor: float64 ``(N,)``, NaN where undefined.
        two_sided: whether it may be below as well.
        level: of the confidence interval.
        seed: of all draws.
    """
    known = ~np.isnan(observed - floor)
    if not known.any():
        return PairedTest(*[float("nan")] * 5)
    differences = observed[known] - floor[known]
    # Where both are the same but for rounding, its direction is no finding.
    differences[np.abs(differences) <= 1e-12 * np.abs(observed[known]).max()] = 0
    p = flip_signs(differences[None], two_sided=two_sided, seed=seed)
    lowest = lowest_p(len(differences), two_sided=two_sided)
    return PairedTest(float(differences.mean()), *interval(differences, level, seed), float(p[0]), lowest)


def flip_signs(differences: np.ndarray, *, two_sided: bool, seed: int = 0) -> np.ndarray:
    """Sign-flip permutation test of mean 0 (Fisher, 1935) in each row.

    p is the share of the sign flips whose mean is as large as observed or larger (two-sided: as far from 0), the
    observed one among them: of all 2^N where these are few, else of 9,999 random ones. Where none of those is,
    p is below what they can tell, and comes from the normal limit of all flips, mean 0 and variance sum d^2,
    which errs on the safe side in the tails: many comparisons need small p-values.

    Args:
        differences: float64 ``(C, N)``; NaN takes no part, as 0 does not.
        two_sided: whether negative means count.
        seed: of the flips.

    Returns:
        float64 ``(C,)``, 1 where all differences are 0, NaN where all are NaN.
    """
    given = np.nan_to_num(differences, nan=0.0)
    images = given.shape[1]
    measure = np.abs if two_sided else np.asarray
    sums = measure(given.sum(axis=1))
    reached = sums - 1e-12 * np.abs(given).sum(axis=1)  # sums in another order are the same but for rounding
    exact = 2**images <= RESAMPLES + 1
    count, flips = np.zeros(len(given)), 0
    for signs in _every_sign(images) if exact else _random_signs(images, seed):
        for part in np.array_split(np.arange(len(given)), 1 + len(given) * len(signs) // CELLS):
            count[part] += (measure(signs @ given[part].T) >= reached[part]).sum(axis=0)
        flips += len(signs)
    p = count / flips if exact else (1 + count) / (1 + flips)
    if not exact:
        from scipy.special import ndtr

        with np.errstate(invalid="ignore"):
            tail = (2 if two_sided else 1) * ndtr(-sums / np.sqrt((given**2).sum(axis=1)))
        p = np.where(count == 0, np.minimum(p, tail), p)
    return np.where(np.isnan(differences).all(axis=1), np.nan, p)


def lowest_p(images: int, *, two_sided: bool) -> float:
    """The lowest p that ``flip_signs`` can give for so many images: that of differences of one sign and size."""
    return min(1.0, (2 if two_sided else 1) * 0.5**images)


def _every_sign(images: int) -> Iterator[np.ndarray]:
    yield 1.0 - 2 * (np.arange(2**images)[:, None] >> np.arange(images) & 1)


def _random_signs(images: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for start in range(0, RESAMPLES, step := max(1, CELLS // images)):
        yield 1.0 - 2 * rng.integers(2, size=(min(step, RESAMPLES - start), images), dtype=np.int8)

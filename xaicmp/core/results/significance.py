"""Whether two means over the same images differ: sign-flip permutation tests.

The test flips the signs of the images' differences, which changes nothing in distribution if the two are
exchangeable. It is about the mean, which is what the tables show (Wilcoxon's is about the pseudo-median, and for
skewed differences rejects equal means), it needs no normality, and images that agree exactly take no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xaicmp.core.results.intervals import CELLS, RESAMPLES, defined_mean, interval, moments

MANY = 10
"""With more tests than this at once, their adjusted p-values decide."""

LEAST = float(np.finfo(float).tiny)
"""What a p is that is lower than float64 holds: none is 0."""


@dataclass(frozen=True)
class PairedTest:
    """Whether one mean is above another over the same images.

    Attributes:
        difference: the mean of the differences, NaN where both are defined nowhere.
        low, high: ends of its confidence interval.
        p: of a difference as large or larger if there is none; two-sided, of one as far from 0.
        lowest: the lowest p that so many images can give; among more than ``MANY`` tests, the lowest adjusted one.
        n: images where both are defined.
        adjusted: p after Holm's correction for all tests that were made at once.
        equal: p of a difference as small as this if the true one is the margin or more, see ``paired_tests``.
        d_z: the difference in units of its standard deviation over the images (Lakens, 2013).
        tests: how many were made at once.
    """

    difference: float
    low: float
    high: float
    p: float
    lowest: float
    n: int = 0
    adjusted: float = float("nan")
    equal: float = float("nan")
    d_z: float = float("nan")
    tests: int = 1

    @property
    def decides(self) -> float:
        """The p that a verdict goes by: the adjusted one of more than ``MANY`` tests."""
        return self.adjusted if self.tests > MANY else self.p


def paired_tests(
    observed: np.ndarray,
    floor: np.ndarray,
    *,
    two_sided: bool = True,
    level: float | None = 0.95,
    seed: int = 0,
    margin: float = 0.0,
) -> list[PairedTest]:
    """Whether the mean of each row of ``observed`` is above that of ``floor``, where both are defined.

    Interval and p hold for images whose differences are independent. A floor made of maps of other images keeps
    some of what the own maps have in common with all maps; if it leaves that in the difference, as the mean of one
    method's map with the other's of other images does, both err on the safe side.

    That no difference is found does not say that there is none. That it is smaller than ``margin`` is shown by two
    one-sided t-tests (Schuirmann, 1987; Lakens, 2017), whose larger p is ``equal``. Where all differences are the same
    they have no spread to go by, and ``equal`` is that of two one-sided sign-flip tests: 2^-n within the margin.

    Args:
        observed, floor: float64 ``(C, N)``, NaN where undefined.
        two_sided: whether it may be below as well.
        level: of the confidence interval; None for none.
        seed: of all draws.
        margin: how large a difference may be and count for nothing.
    """
    differences = observed - floor
    known = ~np.isnan(differences).all(axis=0)
    differences, observed = differences[:, known], observed[:, known]
    # Where both are the same but for rounding, its direction is no finding.
    largest = np.where(np.isnan(differences), 0, np.abs(observed)).max(axis=1, keepdims=True, initial=0)
    differences[np.abs(differences) <= 1e-12 * largest] = 0
    counts = (~np.isnan(differences)).sum(axis=1)
    tests = int((counts > 0).sum())
    lowest = np.array([lowest_p(count, two_sided=two_sided) for count in counts.tolist()])
    p = np.maximum(
        flip_signs(differences, two_sided=two_sided, seed=seed), np.where(counts > 0, lowest, np.nan)
    )
    equal, d_z = _equivalence(differences, margin)
    if tests > MANY:
        equal, lowest = holm(equal), np.minimum(1, tests * lowest)
    numbers = np.stack([p, lowest, holm(p), equal, d_z], axis=1).tolist()
    found = []
    for row, n, (own, least, adjusted, same, effect) in zip(
        differences, counts.tolist(), numbers, strict=True
    ):
        known = row[~np.isnan(row)]
        low, high = interval(known, level, seed) if level else (float("nan"),) * 2
        found.append(PairedTest(defined_mean(row), low, high, own, least, n, adjusted, same, effect, tests))
    return found


def _equivalence(differences: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of ``(C, N)`` the p of two one-sided tests, and d_z; NaN for fewer than two differences."""
    from scipy.special import stdtr

    count, mean, spread = moments(differences)
    alike = spread <= 1e-12 * np.abs(mean)  # the same but for rounding
    spread[alike] = np.nan
    p = stdtr(count - 1, (np.abs(mean) - margin) / (spread / np.sqrt(count)))
    p[alike] = np.where(np.abs(mean) < margin, 0.5**count, 1)[alike]
    return np.maximum(p, LEAST), mean / spread


def pairing_of(blocks: np.ndarray) -> float:
    """The p of the permutation test of the pairing over blocks of images ``(B, 2)``, see ``Scores``.

    Several are combined by their normal scores, weighted by the root of their images (Stouffer; Liptak, 1958).
    """
    p, images = blocks[~np.isnan(blocks[:, 0])].T
    if len(p) < 2:
        return float(p[0]) if len(p) else float("nan")
    from scipy.stats import combine_pvalues  # here, because it takes most of a second to import

    return max(LEAST, float(combine_pvalues(p, "stouffer", weights=np.sqrt(images)).pvalue))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values ``(C,)`` corrected for their number by Holm's method (1979); NaN is none, and stays NaN."""
    order = np.argsort(p)  # NaN comes last
    tests = int((~np.isnan(p)).sum())
    factors = np.maximum(tests - np.arange(len(p)), 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def flip_signs(
    differences: np.ndarray, *, two_sided: bool, seed: int = 0, flips: int = RESAMPLES
) -> np.ndarray:
    """Sign-flip permutation test of mean 0 (Fisher, 1935) in each row.

    p is the share of the sign flips whose mean is as large as observed or larger (two-sided: as far from 0), the
    observed one among them: of all 2^N where these are few, else of ``flips`` random ones. Where none of those is,
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
    exact = 2**images <= flips + 1
    count, made = np.zeros(len(given)), 0
    for signs in _every_sign(images) if exact else _random_signs(images, seed, flips):
        for part in np.array_split(np.arange(len(given)), 1 + len(given) * len(signs) // CELLS):
            count[part] += (measure(signs @ given[part].T) >= reached[part]).sum(axis=0)
        made += len(signs)
    p = count / made if exact else (1 + count) / (1 + made)
    if not exact:
        from scipy.special import ndtr

        with np.errstate(invalid="ignore"):
            tail = (2 if two_sided else 1) * ndtr(-sums / np.sqrt((given**2).sum(axis=1)))
        p = np.where(count == 0, np.clip(tail, LEAST, p), p)
    return np.where(np.isnan(differences).all(axis=1), np.nan, p)


def lowest_p(images: int, *, two_sided: bool) -> float:
    """The lowest p that ``flip_signs`` can give for so many images: that of differences of one sign and size."""
    return max(LEAST, min(1.0, (2 if two_sided else 1) * 0.5**images))


def _every_sign(images: int) -> Iterator[np.ndarray]:
    yield 1.0 - 2 * (np.arange(2**images)[:, None] >> np.arange(images) & 1)


def _random_signs(images: int, seed: int, flips: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for start in range(0, flips, step := max(1, CELLS // images)):
        yield 1.0 - 2 * rng.integers(2, size=(min(step, flips - start), images), dtype=np.int8)

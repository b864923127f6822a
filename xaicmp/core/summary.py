"""From values an image to a mean, its spread over the images, an interval and tests.

The mean of the images at hand is one of many that other images would have given. The bootstrap says how far they
lie apart; a sign-flip permutation test says whether two means over the same images differ. The test flips the
signs of the images' differences, which changes nothing in distribution if the two are exchangeable. It is about
the mean, which is what the tables show (Wilcoxon's is about the pseudo-median, and for skewed differences rejects
equal means), it needs no normality, and the images that agree exactly just take no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_letters

import numpy as np

RESAMPLES = 9_999
"""Resamples of the bootstrap, and flips of the signs."""
SEVERAL = 1_999
"""Resamples where there are many intervals: their ends then move by 3% to 6% of a standard error."""
CELLS = 1_000_000
"""Resampled values in memory at once."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Summary:
    """Mean and spread of one statistic over the images where it is defined.

    Attributes:
        mean: NaN if it is defined nowhere.
        std: population standard deviation (ddof 0), NaN likewise.
        n: images where it is defined.
        undefined: images where it is not.
        tied: images where it is defined and the choice of top pixels had to break a tie; None where that cannot be.
        low, high: ends of the confidence interval of the mean; NaN for fewer than two images.
    """

    mean: float
    std: float
    n: int
    undefined: int
    tied: int | None = None
    low: float = float("nan")
    high: float = float("nan")


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


@dataclass(frozen=True)
class PairTest:
    """Whether two pairs of methods agree equally well.

    Attributes:
        a, b: the pairs.
        difference: the mean over the images of a's value less b's, where both are defined.
        low, high: ends of its confidence interval, which is that of this comparison alone.
        p: two-sided, NaN without such images.
        adjusted: the same after Holm's correction for all comparisons.
        lowest: the lowest adjusted p that so many images can give.
    """

    a: Pair
    b: Pair
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    lowest: float = 0


def summarise(
    values: np.ndarray,
    tied: np.ndarray | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
) -> Summary:
    """Summarise values ``(N,)``, NaN where undefined, and flags ``(N,)`` of ties.

    Args:
        values: float64.
        tied: bool, None where there are no ties.
        level: of the confidence interval, between 0 and 1.
        seed, resamples: of its resampling, see ``interval``.
    """
    defined = values[~np.isnan(values)]
    mean, std = defined_mean(values), float(defined.std()) if len(defined) else float("nan")
    low, high = interval(defined, level, seed, resamples)
    undefined = len(values) - len(defined)
    ties = None if tied is None else int(tied[~np.isnan(values)].sum())
    return Summary(mean, std, len(defined), undefined, ties, low, high)


def defined_mean(values: np.ndarray) -> float:
    """The mean of what is not NaN; NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def interval(
    values: np.ndarray, level: float = 0.95, seed: int = 0, resamples: int | None = None
) -> tuple[float, float]:
    """Confidence interval of the mean of ``values``: bias-corrected and accelerated bootstrap (Efron, 1987).

    Args:
        values: float64 ``(N,)``, all defined.
        level: between 0 and 1.
        seed: of the resampling.
        resamples: how many; by default 9,999, and fewer beyond 200 values, whose standard error is small, but no
            fewer than ``SEVERAL``.

    Returns:
        its ends: NaN for fewer than two values, and the lowest and highest of values that are all the same but
        for rounding.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        return low, high
    from scipy.stats import bootstrap  # here, for it takes most of a second to import

    found = bootstrap(
        ((values - low) / (high - low),),  # its cubes of differences would leave the range of float64
        np.mean,
        n_resamples=resamples or min(RESAMPLES, max(SEVERAL, 2_000_000 // len(values))),
        batch=max(1, CELLS // len(values)),
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    start, end = (float((1 - share) * low + share * high) for share in found)
    return start, end


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


def compare_pairs(values: Mapping[Pair, np.ndarray], *, level: float = 0.95, seed: int = 0) -> list[PairTest]:
    """Test every two pairs of methods against each other over the same images.

    Args:
        values: by pair, one statistic, float64 ``(N,)``, NaN where undefined.
        level: of the confidence intervals.
        seed: of the sign flips and the intervals.
    """
    compared = list(combinations(values, 2))
    if not compared:
        return []
    differences = np.stack([values[a] - values[b] for a, b in compared])
    p = flip_signs(differences, two_sided=True, seed=seed)
    tests = int((~np.isnan(p)).sum())
    return [
        PairTest(
            a,
            b,
            each.mean,
            each.low,
            each.high,
            float(raw),
            float(adjusted),
            min(1.0, tests * lowest_p(each.n, two_sided=True)),
        )
        for (a, b), each, raw, adjusted in zip(
            compared,
            (summarise(row, level=level, seed=seed, resamples=SEVERAL) for row in differences),
            p,
            holm(p),
            strict=True,
        )
    ]


def holm(p: np.ndarray) -> np.ndarray:
    """p-values ``(C,)`` corrected for their number by Holm's method (1979); NaN is none, and stays NaN."""
    order = np.argsort(p)  # NaN comes last
    tests = int((~np.isnan(p)).sum())
    factors = np.maximum(tests - np.arange(len(p)), 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def letters(
    values: Mapping[Pair, np.ndarray], tests: Sequence[PairTest], alpha: float = 0.05
) -> dict[Pair, str]:
    """Compact letter display: two pairs share a letter exactly if the tests do not tell them apart.

    Insert and absorb (Piepho, 2004): one letter for all; each test that tells two apart splits every letter that
    both have; a letter whose bearers are a part of another's goes.

    Args:
        values: as for ``compare_pairs``.
        tests: from ``compare_pairs``.
        alpha: adjusted p-values below it tell apart.

    Returns:
        by pair, its letters, "a" for the highest mean.
    """
    means = {
        pair: np.mean(row[~np.isnan(row)]) if not np.isnan(row).all() else -np.inf
        for pair, row in values.items()
    }
    ranked = sorted(values, key=lambda pair: -means[pair])
    groups = [frozenset(ranked)]
    for test in tests:
        if test.adjusted < alpha:
            both = {test.a, test.b}
            split = {
                part
                for group in groups
                for part in ((group - {test.a}, group - {test.b}) if both <= group else (group,))
            }
            groups = [group for group in split if not any(group < other for other in split)]
    groups.sort(key=lambda group: [ranked.index(pair) for pair in ranked if pair in group])
    names = [
        ascii_letters[index] if index < len(ascii_letters) else f"({index + 1})"
        for index in range(len(groups))
    ]
    return {
        pair: "".join(name for name, group in zip(names, groups, strict=True) if pair in group)
        for pair in values
    }

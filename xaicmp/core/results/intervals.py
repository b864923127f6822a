"""From one value per image to a mean, its spread over the images and an interval.

The mean has Student's interval below ``FEW`` images, where the bootstrap's is too short (at 5 images it holds the mean
85 times of 100, not 95), and the bootstrap's from there on. A share has the exact one of Clopper and Pearson.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

RESAMPLES = 9_999
"""Resamples of the bootstrap, and flips of the signs."""

SEVERAL = 1_999
"""Resamples where there are many intervals: their ends then move by 3% to 6% of a standard error."""

FEW = 30
"""Below so many values, the interval is Student's."""

CELLS = 1_000_000
"""Resampled values in memory at once."""


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

    def within(self, low: float, high: float) -> Summary:
        """The same with the ends of its interval no further out than the values can be: of a few, Student's may be."""
        start, end = np.clip((self.low, self.high), low, high).tolist()
        return replace(self, low=start, high=end)


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


def summarise_share(flags: np.ndarray, *, level: float = 0.95) -> Summary:
    """Summarise flags ``(N,)``, 1 or 0, NaN where undefined; the interval is exact (Clopper and Pearson, 1934).

    It holds the share ``level`` of the times or more often, however few flags there are.
    """
    defined = flags[~np.isnan(flags)]
    yes, no, tail = int(defined.sum()), int((1 - defined).sum()), (1 - level) / 2
    low = high = float("nan")
    if len(defined):
        from scipy.special import betaincinv

        low = float(betaincinv(yes, no + 1, tail)) if yes else 0.0
        high = float(betaincinv(yes + 1, no, 1 - tail)) if no else 1.0
    spread = float(defined.std()) if len(defined) else float("nan")
    return Summary(defined_mean(flags), spread, len(defined), len(flags) - len(defined), None, low, high)


def summarise_ratio(part: np.ndarray, whole: np.ndarray, *, level: float = 0.95) -> Summary:
    """Summarise mean(part) / mean(whole), both ``(N,)`` without NaN; NaN where the mean of ``whole`` is not above 0.

    The interval is Fieller's, see ``ratio_interval``. A ratio of means has no spread over the images.
    """
    mean, none = defined_mean(whole), summarise(np.array([]))
    if not mean > 0:
        return none
    low, high = ratio_interval(part, whole, level)
    return replace(none, mean=defined_mean(part) / mean, low=low, high=high)


def defined_mean(values: np.ndarray) -> float:
    """The mean of what is not NaN; NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def interval(
    values: np.ndarray, level: float = 0.95, seed: int = 0, resamples: int | None = None
) -> tuple[float, float]:
    """Confidence interval of the mean of ``values``.

    Below ``FEW`` values Student's; from there on the bias-corrected and accelerated bootstrap's (Efron, 1987).

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
    scaled = (values - low) / (high - low)  # squares and cubes would leave the range of float64
    few = len(values) < FEW
    found = np.ravel(student(scaled[None], level) if few else _bootstrap(scaled, level, seed, resamples))
    start, end = (float((1 - share) * low + share * high) for share in found)
    return start, end


def student(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of Student's interval of the mean of each row of ``(C, N)``, without its NaN; NaN for fewer than two."""
    from scipy.special import stdtrit

    count, mean, spread = moments(values)
    half = stdtrit(count - 1, (1 + level) / 2) * spread / np.sqrt(count)
    return mean - half, mean + half


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row of ``(C, N)`` without its NaN: how many, mean and standard deviation (ddof 1); NaN for fewer than two."""
    count = (~np.isnan(values)).sum(axis=1)
    count = np.where(count > 1, count, np.nan)
    mean = np.nansum(values, axis=1) / count
    return count, mean, np.sqrt(np.nansum((values - mean[:, None]) ** 2, axis=1) / (count - 1))


def ratio_interval(part: np.ndarray, whole: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Ends of the confidence interval of mean(part) / mean(whole), both ``(N,)`` without NaN (Fieller, 1954).

    It holds each ratio r at which Student's test does not tell the mean of ``part`` - r ``whole`` from 0. NaN where the
    mean of ``whole`` is not told from 0, because any ratio is possible then, and for fewer than two values.
    """
    from scipy.special import stdtrit

    if (n := len(part)) < 2:
        return float("nan"), float("nan")
    allowed = stdtrit(n - 1, (1 + level) / 2) ** 2 * np.cov(whole, part) / n
    means = np.array([whole.mean(), part.mean()])
    (square, product), (_, constant) = np.outer(means, means) - allowed
    root = product**2 - square * constant
    if square <= 0 or root < 0:
        return float("nan"), float("nan")
    return float((product - root**0.5) / square), float((product + root**0.5) / square)


def _bootstrap(values: np.ndarray, level: float, seed: int, resamples: int | None) -> tuple[float, float]:
    from scipy.stats import bootstrap  # here, because it takes most of a second to import

    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples or min(RESAMPLES, max(SEVERAL, 2_000_000 // len(values))),
        batch=max(1, CELLS // len(values)),
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)

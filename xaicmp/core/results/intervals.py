"""From one value per image to a mean, its spread over the images and an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 9_999
"""Resamples of the bootstrap, and flips of the signs."""

SEVERAL = 1_999
"""Resamples where there are many intervals: their ends then move by 3% to 6% of a standard error."""

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

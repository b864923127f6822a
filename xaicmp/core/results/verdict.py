"""What an agreement is worth."""

from __future__ import annotations

import math
from enum import Enum

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.significance import PairedTest


def corrected(observed: float, chance: float) -> float:
    """(observed - chance) / (1 - chance): 0 at chance, 1 for the same maps (Cohen, 1960)."""
    return (observed - chance) / (1 - chance)


class Verdict(Enum):
    """What an agreement is worth: in two or three words, and as a clause."""

    IDENTITY = "identity", "the same map on this model: an identity, not a finding"
    FEW = "too few", "too few images to say"
    BELOW_CHANCE = "below chance", "less than chance"
    CHANCE = "as chance", "no more than chance"
    ABOVE_CHANCE = "above chance", "more than chance"
    NO_CONTROL = "no control", "no control to measure it by"
    MORE = "above other", "agrees about this image"
    LESS = "below other", "less than with another image's map"
    NO_MORE = "as other", "no more than with another image's map"

    def __init__(self, short: str, long: str) -> None:
        self.short, self.long = short, long


def verdict(
    summary: Summary,
    chance: float | None,
    control: float | None,
    above: PairedTest | None,
    higher: bool = True,
) -> Verdict:
    """What an agreement is worth: the first row that holds.

    =========================================================  ============
    its mean or interval undefined                             FEW
    the interval wholly below chance                           BELOW_CHANCE
    the interval not wholly above chance                       CHANCE
    no control, or the test against it undefined               ABOVE_CHANCE, or NO_CONTROL where chance is unknown
    p cannot be below 0.05 for so few images                   FEW
    mean above the control, p < 0.05                           MORE
    mean below the control, interval of the difference not 0   LESS
    else                                                       NO_MORE
    =========================================================  ============

    Args:
        summary: of the observed values.
        chance: the expected value for unrelated maps; None skips the rows about it.
        control: the mean with another image's map; None for none.
        above: the paired test of whether the observed values show more agreement than the control's.
        higher: whether higher values are more agreement; if not, above and below change places.
    """
    sign = 1 if higher else -1
    low, high = sorted((sign * summary.low, sign * summary.high))
    if not (math.isfinite(summary.mean) and math.isfinite(low) and math.isfinite(high)):
        return Verdict.FEW
    if chance is not None and low <= sign * chance:
        return Verdict.BELOW_CHANCE if high < sign * chance else Verdict.CHANCE
    if control is None or above is None or not math.isfinite(above.p):
        return Verdict.NO_CONTROL if chance is None else Verdict.ABOVE_CHANCE
    if above.lowest >= LEVEL:
        return Verdict.FEW
    more = sign * (summary.mean - control) > 0
    if more and above.p < LEVEL:
        return Verdict.MORE
    if not more and (above.low > 0 or above.high < 0):
        return Verdict.LESS
    return Verdict.NO_MORE

"""What an agreement is worth, in plain words."""

from __future__ import annotations

import math

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.significance import PairedTest


def corrected(observed: float, chance: float) -> float:
    """(observed - chance) / (1 - chance): 0 at chance, 1 for the same maps (Cohen, 1960)."""
    return (observed - chance) / (1 - chance)


def verdict(
    summary: Summary,
    chance: float | None,
    floor: float | None,
    above: PairedTest | None,
    higher: bool = True,
) -> str:
    """What an agreement is worth, in plain words: the first row that holds.

    =======================================================  =====================================
    its mean or interval undefined                           too few images to say
    the interval wholly below chance                         less than chance
    the interval not wholly above chance                     no more than chance
    no floor, or the test against it undefined               more than chance, if that is known
    p cannot be below 0.05 for so few images                 too few images to say
    mean above the floor, p < 0.05                           agrees about this image
    mean below the floor, interval of the difference not 0   less than with another image's map
    else                                                     no more than with another image's map
    =======================================================  =====================================

    Args:
        summary: of the observed values.
        chance: the expected value for unrelated maps; None skips the rows about it.
        floor: the mean with another image's map; None for none.
        above: the paired test of whether the observed values show more agreement than the floor's.
        higher: whether higher values are more agreement; if not, above and below change places.
    """
    sign = 1 if higher else -1
    low, high = sorted((sign * summary.low, sign * summary.high))
    if not (math.isfinite(summary.mean) and math.isfinite(low) and math.isfinite(high)):
        return "too few images to say"
    if chance is not None and high < sign * chance:
        return "less than chance"
    if chance is not None and low <= sign * chance:
        return "no more than chance"
    if floor is None or above is None or not math.isfinite(above.p):
        return "no floor to measure it by" if chance is None else "more than chance"
    if above.lowest >= LEVEL:
        return "too few images to say"
    more = sign * (summary.mean - floor) > 0
    if more and above.p < LEVEL:
        return "agrees about this image"
    if not more and (above.low > 0 or above.high < 0):
        return "less than with another image's map"
    return "no more than with another image's map"

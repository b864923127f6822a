"""What an agreement is worth."""

from __future__ import annotations

from enum import Enum

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.results.significance import PairedTest


def corrected(observed: float, chance: float) -> float:
    """(observed - chance) / (1 - chance): 0 at chance, 1 for the same maps (Cohen, 1960)."""
    return (observed - chance) / (1 - chance)


class Verdict(Enum):
    """What an agreement is worth: in two or three words, and as a clause."""

    IDENTITY = "identity", "the same map on this model: an identity, not a finding"
    FEW = "too few", "too few images for a test"
    BELOW_CHANCE = "below chance", "less than chance"
    CHANCE = "maybe chance", "not told apart from chance"
    ABOVE_CHANCE = "above chance", "more than chance"
    NO_CONTROL = "no control", "no control to measure it by"
    MORE = "above other", "more than with another image's map"
    LESS = "below other", "less than with another image's map"
    EQUAL = "about equal", "about equal to that with another image's map"
    UNTOLD = "not told apart", "not told apart from that with another image's map"

    def __init__(self, short: str, long: str) -> None:
        self.short, self.long = short, long


def verdict(chance: PairedTest | None, other: PairedTest | None, higher: bool = True) -> Verdict:
    """What an agreement is worth: the first row that holds.

    p is the adjusted one where more than ten pairs are tested, and "above" is below for a distance.

    ======================================================  ============
    neither test, or chance unknown and no other image      NO_CONTROL
    defined nowhere, or p cannot be below 0.05              FEW
    below chance, p < 0.05                                  BELOW_CHANCE
    p against chance not below 0.05                         CHANCE
    no control, or defined nowhere                          ABOVE_CHANCE
    above the control, p < 0.05                             MORE
    below the control, p < 0.05                             LESS
    within the margin of the control, p < 0.05              EQUAL
    else                                                    UNTOLD
    ======================================================  ============

    Args:
        chance: the test of the observed values against their expected value for unrelated maps; None if that is unknown.
        other: the test against what they are with another image's map; None without that control.
        higher: whether higher values are more agreement.
    """
    sign = 1 if higher else -1
    if chance is not None:
        if not chance.lowest < LEVEL:
            return Verdict.FEW
        if not chance.decides < LEVEL:
            return Verdict.CHANCE
        if sign * chance.difference < 0:
            return Verdict.BELOW_CHANCE
    if other is None or not other.n:
        return Verdict.NO_CONTROL if chance is None else Verdict.ABOVE_CHANCE
    if not other.lowest < LEVEL:
        return Verdict.FEW
    if other.decides < LEVEL:
        return Verdict.MORE if sign * other.difference > 0 else Verdict.LESS
    return Verdict.EQUAL if other.equal < LEVEL else Verdict.UNTOLD

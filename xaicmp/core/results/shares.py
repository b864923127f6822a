"""IoU against the share of top pixels: one share is a choice, and the curve shows what hangs on it."""

from __future__ import annotations

from dataclasses import dataclass

from xaicmp.core.agreement.curve import curve_shares
from xaicmp.core.agreement.registry import IOU
from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.intervals import SEVERAL, Summary, defined_mean, summarise
from xaicmp.core.results.scores import Values
from xaicmp.core.results.settings import Settings


@dataclass(frozen=True)
class Shares:
    """IoU of a pair at each share.

    Attributes:
        shares: of top pixels, K of them, from 0 to 1.
        observed: K summaries.
        other_image: K means with another image's map; empty without that control.
        chance: K expected values for unrelated maps.
    """

    shares: list[float]
    observed: list[Summary]
    other_image: list[float]
    chance: list[float]


def by_share(curves: Values, pair: Pair, pixels: int, settings: Settings) -> Shares:
    """The summaries of ``curve.iou_curves`` for a pair."""
    shares, level, seed = curve_shares(pixels), settings.level, settings.seed
    observed = [
        summarise(each, level=level, seed=seed, resamples=SEVERAL).within(*IOU.limits)
        for each in curves["observed"][pair].T
    ]
    control = (
        [defined_mean(each) for each in curves["other_image"][pair].T] if "other_image" in curves else []
    )
    return Shares(shares, observed, control, [IOU.chance(share, pixels) or 0.0 for share in shares])

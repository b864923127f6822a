"""IoU against the share of top pixels: one share is a choice, and the curve shows what hangs on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xaicmp.core.agreement.curve import curve_shares
from xaicmp.core.agreement.registry import IOU
from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import SEVERAL, Summary, defined_mean, summarise


@dataclass(frozen=True)
class Shares:
    """IoU at each share.

    Attributes:
        shares: of top pixels, K of them, from 0 to 1.
        observed: by pair, K summaries.
        other_image: by pair, K means with another image's map; empty without that control.
        chance: K expected values for unrelated maps.
    """

    shares: list[float]
    observed: dict[Pair, list[Summary]]
    other_image: dict[Pair, list[float]]
    chance: list[float]


def by_share(comparison: Comparison, pairs: Sequence[Pair]) -> Shares:
    """The curves of some pairs of a comparison whose settings asked for them."""
    settings, curves, shares = comparison.settings, comparison.scores.curves, curve_shares(comparison.pixels)
    observed = {
        pair: [
            summarise(each, level=settings.level, seed=settings.seed, resamples=SEVERAL).within(
                IOU.low, IOU.high
            )
            for each in curves["observed"][pair].T
        ]
        for pair in pairs
    }
    values = curves.get("other_image", {})
    control = {pair: [defined_mean(each) for each in values[pair].T] for pair in pairs if pair in values}
    chance = [IOU.chance(share, comparison.pixels) or 0.0 for share in shares]
    return Shares(shares, observed, control, chance)

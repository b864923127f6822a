"""Numbers, pairs and captions as they are shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import FEW, Summary
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import MANY, PairedTest
from xaicmp.core.results.verdict import Verdict

if TYPE_CHECKING:
    from xaicmp.core.studies.checkpoints import Estimate


def name_pair(comparison: Comparison, pair: Pair) -> str:
    """``Grad-CAM vs Saliency``."""
    return " vs ".join(comparison.titles[name] for name in pair)


def spread(summary: Summary) -> str:
    """``0.221 ± 0.192``."""
    return f"{decimals(summary.mean)} ± {decimals(summary.std)}"


def difference(test: PairedTest) -> str:
    """``0.041 *``: the star where it is told apart from 0."""
    return f"{decimals(test.difference)}{' *' * (test.decides < LEVEL)}"


def titles_of(comparison: Comparison) -> list[str]:
    """The titles of the statistics: ``IoU@20%``."""
    return [each.title(comparison.top) for each in comparison.statistics]


def level_title(settings: Settings) -> str:
    """``95% interval``."""
    return f"{100 * settings.level:g}% interval"


def interval(summary: Summary | Estimate) -> str:
    """``0.184 to 0.259``."""
    return f"{decimals(summary.low)} to {decimals(summary.high)}"


def decimals(value: float | None, places: int = 3) -> str:
    """So many decimals, of 0 without a sign, or a dash for what is undefined."""
    return "-" if value is None or math.isnan(value) else f"{round(value, places) + 0.0:.{places}f}"


def shortened(name: str, most: int = 24) -> str:
    """A name in one line of at most so many characters: of a path the end, which says most."""
    name = " ".join(name.splitlines())
    return name if len(name) <= most else f"…{name[1 - most :]}"


def percent(share: float | None) -> str:
    """``84%``, or a dash for what is undefined."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.0f}%"


def caption(comparison: Comparison) -> str:
    """Where the numbers come from and what they would be by chance, in a few sentences."""
    counts, chances, ties, images = [], [], [], set()
    few: dict[str, None] = {}
    for statistic in comparison.statistics:
        results = [comparison.result(statistic, pair) for pair in comparison.pairs]
        title = statistic.title(comparison.top)
        images |= {each.summary.n for each in results}
        few |= {each.said: None for each in results if each.verdict is Verdict.FEW}
        counts.append(f"{title} {sum(each.summary.undefined for each in results)}")
        if statistic.uses_top:
            ties.append(f"{title} {sum(each.summary.tied or 0 for each in results)}")
        if (chance := results[0].chance) is not None:
            chances.append(f"{title} {chance:.3f}")
    many = len(comparison.pairs)
    adjusted = f"Verdicts: Holm-adjusted for {many} pairs. " if many > MANY else ""
    too_few = "".join(f"{each}. " for each in few)
    by_chance = f"Chance: {', '.join(chances)}. " if chances else ""
    tied = f"; tied: {', '.join(ties)}" if ties else ""
    return (
        f"n = {len(comparison.predictions)} images, seed {comparison.settings.seed}. {comparison.source.about} "
        f"{level_title(comparison.settings)}s: {_kind(images)}. {adjusted}{too_few}{by_chance}Undefined: {', '.join(counts)}{tied}."
    )


def _kind(images: set[int]) -> str:
    """What the intervals over so many images are, see ``intervals.interval``."""
    kinds = ["Student's t"] * (min(images) < FEW) + ["BCa bootstrap"] * (max(images) >= FEW)
    return f" below {FEW} images, else ".join(kinds)

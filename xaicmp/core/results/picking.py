"""Which images tell a story: where methods agree, disagree, or do as they usually do."""

from __future__ import annotations

import numpy as np

from xaicmp.core.agreement.statistic import called
from xaicmp.core.choices import Pick
from xaicmp.core.results.comparison import Comparison
from xaicmp.errors import UsageError, arg


def pick(comparison: Comparison, how: Pick, count: int, by: str | None = None) -> np.ndarray:
    """The images to look at, the most telling first.

    Args:
        comparison: of the images to choose from.
        how: ``"agree"`` and ``"disagree"`` most; ``"typical"``, nearest the median; ``"random"``, drawn by its seed.
        count: how many.
        by: a statistic, as ``"iou"``, over the pairs; or of one pair, ``"grad-cam,saliency:iou"``.

    Returns:
        int64 rows. Where the agreement is undefined, an image is chosen at random alone.

    Raises:
        UsageError: ``by`` is of what was not measured, or the agreement is defined nowhere.
    """
    of, _, name = (comparison.statistics[0].name if by is None else by).rpartition(":")
    statistic = next((each for each in comparison.statistics if each.name == name), None)
    pair = next((each for each in comparison.pairs if called(each, of)), None)
    if statistic is None or (of and pair is None):
        names = ", ".join(each.name for each in comparison.statistics)
        raise UsageError(
            f"{arg('pick_by')} {by}: give one of {names}, or of one pair grad-cam,saliency:{names}"
        )
    values = comparison.scores.values[name][pair] if pair else comparison.mean_over_pairs(name)
    known = np.flatnonzero(~np.isnan(values))
    if how == "random":
        return np.random.default_rng(comparison.settings.seed).permutation(len(values))[:count]
    if not len(known):
        raise UsageError(
            f"{arg('pick')} {how}: {name} is defined on none of the images; take another statistic"
        )
    more = values[known] if statistic.higher else -values[known]
    far = {"agree": -more, "disagree": more, "typical": np.abs(more - np.median(more))}[how]
    return known[np.argsort(far, kind="stable")[:count]]

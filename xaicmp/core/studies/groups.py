"""Agreement over a part of the images, or of one method with all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import Summary, summarise
from xaicmp.core.results.predictions import UNKNOWN


@dataclass(frozen=True)
class Group:
    """The agreement over some images.

    Attributes:
        name: of the group.
        n: how many images.
        summaries: by pair and statistic.
    """

    name: str
    n: int
    summaries: dict[Pair, dict[str, Summary]]


def by_images(comparison: Comparison, by: str) -> list[Group]:
    """The agreement by ``"class"``, ``"correct"`` or ``"confidence"`` (in quartiles)."""
    return [
        Group(
            name,
            len(part.predictions),
            {
                pair: {each.name: part.summary(each.name, pair) for each in part.statistics}
                for pair in part.pairs
            },
        )
        for name, part in parts(comparison, by)
    ]


def by_method(comparison: Comparison) -> dict[str, dict[str, Summary]]:
    """By method and statistic: each image's mean over the method's pairs with those that know the model."""
    found: dict[str, dict[str, Summary]] = {}
    settings = comparison.settings
    for name in comparison.titles:
        pairs = comparison.known_pairs(name)
        found[name] = {}
        for statistic in comparison.statistics:
            values = np.array([comparison.scores.values[statistic.name][pair] for pair in pairs])
            summary = summarise(values.mean(axis=0), level=settings.level, seed=settings.seed)
            found[name][statistic.name] = summary.within(*statistic.limits)
    return found


def parts(comparison: Comparison, by: str) -> Iterator[tuple[str, Comparison]]:
    """The comparison over the images of each class, right or wrong ones, or each quartile of confidence.

    Images of which that is not known are a group of their own, the last.

    Args:
        comparison: of all images.
        by: ``"class"``, ``"correct"`` or ``"confidence"``.
    """
    chosen, names = comparison.predictions, np.array(comparison.source.classes)
    if by == "class":
        labels = chosen.labels % len(names)  # unknown labels are -1, the last class
        held = [(name, labels == index) for index, name in enumerate(comparison.source.classes)]
    elif by == "correct":
        known = (names[chosen.labels] != UNKNOWN) & (names[chosen.predicted] != UNKNOWN)
        held = [("right", known & ~chosen.wrong), ("wrong", known & chosen.wrong), (UNKNOWN, ~known)]
    else:
        values, known = chosen.confidence, ~np.isnan(chosen.confidence)
        edges = np.quantile(values[known], [0.25, 0.5, 0.75]) if known.any() else []
        quartile = np.where(known, np.searchsorted(edges, values, side="left"), -1)
        parts = [of for of in (quartile == index for index in range(4)) if of.any()]
        ends = [(values[of].min(), values[of].max()) for of in parts]
        # As many decimals as it takes to tell them apart.
        for places in range(3, 18):
            titles = [f"{low:.{places}f} to {high:.{places}f}" for low, high in ends]
            if len(set(titles)) == len(titles):
                break
        held = list(zip(titles, parts, strict=True)) if parts else []
        held.append((UNKNOWN, ~known))
    for name, of in held:
        if of.any():
            yield name, comparison.rows(of)

"""The tree of the methods, one panel per statistic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xaicmp.views.figures.layout import NARROW
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.text import percent


@figure_kind(
    "clusters", "The tree of the methods by agreement above another image's map, with support", "clusters"
)
def clusters_figure(drawing: Drawing) -> Figure:
    """Methods join where their agreement above another image's map is; beside each branch its support."""
    comparison, trees = drawing.comparison, drawing.studies["clusters"]
    width = drawing.look.width or 4.6 * len(trees)
    narrow = width < NARROW
    down, across = (len(trees), 1) if narrow else (1, len(trees))
    height = down * max(2.4, 1.2 + 0.26 * len(comparison.titles))
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for axes, statistic in zip(panels, comparison.statistics, strict=True):
        _tree(axes, trees[statistic.name], comparison.titles)
        axes.set_title(statistic.title(comparison.top), fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(2 if narrow else 4))
    label = "agreement above another image's map, at which methods join (support)"
    figure.supxlabel(label.replace(", ", ",\n") if narrow else label, fontsize=9)
    return figure


def _tree(axes: Axes, tree: Mapping[str, Any], titles: Mapping[str, str]) -> None:
    """Draw a tree; to the right of where a branch parts, between its leaves, nothing is but its support."""
    methods, branches = tree["methods"], tree["branches"]
    heights = [float(each["agreement"]) for each in branches]
    start = max(heights, default=0.0) + 0.08 * max(float(np.ptp(heights)) if heights else 0.0, 0.05)
    order = _order(tree)
    places = [(start, float(order.index(leaf))) for leaf in range(len(methods))]
    last = [order.index(leaf) for leaf in range(len(methods))]
    for branch, at in zip(branches, heights, strict=True):
        a, b = branch["joins"]
        (x_a, y_a), (x_b, y_b) = places[a], places[b]
        axes.plot([x_a, at, at, x_b], [y_a, y_a, y_b, y_b], color="C0", linewidth=1.3)
        places.append((at, (y_a + y_b) / 2))
        if branch is not branches[-1]:  # which is all methods, always together
            text, between = percent(branch["support"]), (at, last[a] + 0.5)
            axes.annotate(text, between, (2, 0), textcoords="offset points", va="center", fontsize=7)
        last.append(last[b])
    axes.set_yticks(range(len(methods)), [titles[methods[leaf]] for leaf in order], fontsize=8)
    axes.yaxis.tick_right()
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.margins(x=0.12)
    axes.set(xlim=(None, start), ylim=(-0.6, len(methods) - 0.4))


def _order(tree: Mapping[str, Any]) -> list[int]:
    """The leaves so that no branches cross, from the bottom up."""
    found = [[leaf] for leaf in range(len(tree["methods"]))]
    for branch in tree["branches"]:
        a, b = branch["joins"]
        found.append(found[a] + found[b])
    return found[-1]

"""The tree of the methods, one panel per statistic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xaicmp.core.studies.clusters import Tree, clusters
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.text import percent


@figure_kind(
    "clusters", "The tree of the methods by agreement above another image's map, with support", "tree"
)
def clusters_figure(drawing: Drawing) -> Figure:
    """Methods join where their agreement above another image's map is; beside each branch its support."""
    comparison = drawing.comparison
    found, width = clusters(comparison), drawing.look.width
    height = max(2.4, 1.2 + 0.26 * len(comparison.titles))
    figure = Figure(figsize=(width or 4.6 * len(found), height), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(found)))
    for axes, statistic in zip(panels, comparison.statistics, strict=True):
        _tree(axes, found[statistic.name], comparison.titles)
        axes.set_title(statistic.title(comparison.top), fontsize=10)
    figure.supxlabel("agreement above another image's map, at which methods join (support)", fontsize=9)
    return figure


def _tree(axes: Axes, tree: Tree, titles: Mapping[str, str]) -> None:
    count = len(tree.methods)
    order = _order(tree)
    start = tree.agreement.max(initial=0) + 0.08 * max(
        float(np.ptp(tree.agreement)) if count > 1 else 0.0, 0.05
    )
    places = [(start, float(order.index(leaf))) for leaf in range(count)]
    for (a, b), at, support in zip(tree.joins.tolist(), tree.agreement, tree.support, strict=True):
        (x_a, y_a), (x_b, y_b) = places[a], places[b]
        axes.plot([x_a, at, at, x_b], [y_a, y_a, y_b, y_b], color="C0", linewidth=1.3)
        places.append((float(at), (y_a + y_b) / 2))
        if len(places) < 2 * count - 1:  # all methods are always together
            axes.annotate(
                percent(support), places[-1], (-3, 2), textcoords="offset points", ha="right", fontsize=7
            )
    axes.set_yticks(range(count), [titles[tree.methods[leaf]] for leaf in order], fontsize=8)
    axes.yaxis.tick_right()
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.margins(x=0.12)
    axes.set_xlim(right=start)


def _order(tree: Tree) -> list[int]:
    """The leaves so that no branches cross, from the bottom up."""
    branches = [[leaf] for leaf in range(len(tree.methods))]
    for a, b in tree.joins.tolist():
        branches.append(branches[a] + branches[b])
    return branches[-1]

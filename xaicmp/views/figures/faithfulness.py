"""Faithfulness: deletion curves, and faithfulness against agreement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.results.comparison import Comparison
from xaicmp.core.studies.faithfulness import Faithfulness
from xaicmp.views.figures.registry import figure_kind
from xaicmp.views.figures.style import LEGEND, MARKERS


@figure_kind("faithfulness")
def faithfulness_figure(found: Sequence[Faithfulness], comparison: Comparison) -> Figure:
    """What deletion does to the probability, and agreement with the other methods against the gain."""
    figure = Figure(figsize=(9, max(3.4, LEGEND * (4 + len(comparison.titles)))), layout="constrained")
    curves, scatter = figure.subplots(1, 2)
    first = found[0]
    names = list(comparison.titles)
    titles = [*comparison.titles.values(), "random order", "from the centre"]
    if "centre" in names:
        titles.pop()
    deletion = first.curves["probability"][:, 0]
    statistic = comparison.statistics[0]
    for index, title in enumerate(titles):
        known = np.isfinite(deletion[index]).all(axis=1)
        if not known.any():
            continue
        style = (
            {"color": "0.5", "linestyle": ("--", ":")[index - len(names)]}
            if index >= len(names)
            else {"color": f"C{index % 10}", "marker": MARKERS[index % len(MARKERS)]}
        )
        curves.plot(
            100 * first.removed,
            deletion[index][known].mean(axis=0),
            label=title,
            markevery=4,
            markersize=4,
            **style,
        )
        if index >= len(names):
            continue
        pairs = comparison.known_pairs(names[index])
        others = [comparison.summary(statistic.name, pair).mean for pair in pairs]
        gain = first.summaries(index)["probability_gain"]
        scatter.vlines(np.mean(others), gain.low, gain.high, color=style["color"])
        scatter.plot(np.mean(others), gain.mean, **style, markersize=6)
    curves.set(
        xlabel=f"pixels removed, most relevant first (%), {first.baseline} baseline", ylabel="probability"
    )
    scatter.axhline(0, color="0.5", linestyle="--", linewidth=1)
    scatter.set(
        xlabel=f"mean {statistic.title(comparison.top)} with the other methods",
        ylabel="insertion minus deletion",
    )
    for axes in (curves, scatter):
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = curves.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure

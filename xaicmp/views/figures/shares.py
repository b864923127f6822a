"""IoU by the share of top pixels."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.agreement.controls import TITLES
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.studies.shares import by_share
from xaicmp.views.figures.registry import figure_kind
from xaicmp.views.text import level_title, name_pair

PANEL = 2.6
"""Width and height of a pair's curve, in inches."""

ACROSS = 3
"""Pairs' curves in a row."""


@figure_kind("shares")
def curves_figure(comparison: Comparison) -> Figure:
    """IoU by the share of top pixels, one panel per pair: observed, with another image's map, and by chance."""
    found, settings = by_share(comparison), comparison.settings
    percent = 100 * np.array(found.shares)
    tops = [100 * top for top in {each.top or comparison.top for each in comparison.statistics}]
    across = min(ACROSS, len(comparison.pairs))
    down = -(-len(comparison.pairs) // across)
    figure = Figure(figsize=(across * PANEL + 1.8, down * PANEL), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    for axes, pair in zip(panels, comparison.pairs, strict=False):
        low, mean, high = np.transpose([(each.low, each.mean, each.high) for each in found.observed[pair]])
        axes.plot(percent, mean, color="C0", label="the same image")
        axes.fill_between(
            percent, low, high, color="C0", alpha=0.25, linewidth=0, label=level_title(settings)
        )
        if pair in found.other_image:
            label = TITLES["other_image"]
            axes.plot(percent, found.other_image[pair], color="C1", linestyle="--", label=label)
        axes.plot(percent, found.chance, color="0.5", linestyle=":", label="chance")
        axes.vlines(
            tops, 0, 1, color="0.85", linewidth=0.8, transform=axes.get_xaxis_transform(), label="top"
        )
        axes.set_title(name_pair(comparison, pair), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels:
        axes.axis("off")
    first = figure.axes[0]
    first.set(xlim=(0, 51), ylim=(0, None))
    figure.supxlabel("top pixels (%)", fontsize=9)
    figure.supylabel("IoU", fontsize=9)
    figure.legend(*first.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return figure

"""IoU by the share of top pixels."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.agreement.curve import curve_shares
from xaicmp.core.agreement.registry import IOU
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import SEVERAL, defined_mean, summarise
from xaicmp.views.text import CONTROL_TITLES, level_title, name_pair

PANEL = 2.6

"""Width and height of a pair's curve, in inches."""

ACROSS = 3

"""Pairs' curves in a row."""


def curves_figure(comparison: Comparison) -> Figure:
    """IoU by the share of top pixels, a panel a pair: observed, with another image's map, and by chance."""
    shares = curve_shares(comparison.pixels)
    percent = 100 * np.array(shares)
    settings, curves = comparison.settings, comparison.scores.curves
    tops = [100 * top for top in {each.top or comparison.top for each in comparison.statistics}]
    chance = [IOU.chance(share, comparison.pixels) for share in shares]
    across = min(ACROSS, len(comparison.pairs))
    down = -(-len(comparison.pairs) // across)
    figure = Figure(figsize=(across * PANEL + 1.8, down * PANEL), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    for axes, pair in zip(panels, comparison.pairs, strict=False):
        observed = [
            summarise(values, level=settings.level, seed=settings.seed, resamples=SEVERAL)
            for values in curves["observed"][pair].T
        ]
        low, mean, high = np.transpose([(each.low, each.mean, each.high) for each in observed])
        axes.plot(percent, mean, color="C0", label="the same image")
        axes.fill_between(
            percent, low, high, color="C0", alpha=0.25, linewidth=0, label=level_title(settings)
        )
        if "other_image" in curves:
            floor = [defined_mean(each) for each in curves["other_image"][pair].T]
            axes.plot(percent, floor, color="C1", linestyle="--", label=CONTROL_TITLES["other_image"])
        axes.plot(percent, chance, color="0.5", linestyle=":", label="chance")
        axes.vlines(
            tops, 0, 1, color="0.85", linewidth=0.8, transform=axes.get_xaxis_transform(), label="--top"
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

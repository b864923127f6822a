"""IoU by the share of top pixels."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.agreement.controls import KEYS
from xaicmp.views.figures.layout import legend
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.text import level_title, name_pair

PANEL, ACROSS = 2.6, 3
"""Width and height of a pair's curve in inches, and how many stand in a row."""


@figure_kind(
    "shares", "IoU by the share of top pixels, beside another image's map and chance", "curve", per_page=12
)
def shares_figure(drawing: Drawing) -> Figure:
    """IoU by the share of top pixels, one panel per pair: observed, with another image's map, and by chance."""
    comparison, pairs, wide = drawing.comparison, drawing.pairs, drawing.look.width
    tops = [100 * top for top in {each.top or comparison.top for each in comparison.statistics}]
    across = min(len(pairs), ACROSS if wide is None else max(1, int(wide / 1.6)))
    down = -(-len(pairs) // across)
    panel, beside = (PANEL, 1.8) if wide is None else (wide / across, 0)
    figure = Figure(figsize=(across * panel + beside, down * panel), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    for number, (pair, axes) in enumerate(zip(pairs, panels, strict=False)):
        found = comparison.by_share(pair)
        percent = 100 * np.array(found.shares)
        low, mean, high = np.transpose([(each.low, each.mean, each.high) for each in found.observed])
        axes.plot(percent, mean, color="C0", label="the same image")
        label = level_title(comparison.settings)
        axes.fill_between(percent, low, high, color="C0", alpha=0.25, linewidth=0, label=label)
        if found.other_image:
            label = KEYS["other_image"].title
            axes.plot(percent, found.other_image, color="C1", linestyle="--", label=label)
        axes.plot(percent, found.chance, color="0.5", linestyle=":", label="chance")
        look = {"color": "0.5", "alpha": 0.4, "linewidth": 0.8, "label": "top"}
        axes.vlines(tops, 0, 1, transform=axes.get_xaxis_transform(), **look)
        axes.tick_params(labelbottom=number + across >= len(pairs))  # the lowest of its column
        axes.set_title(name_pair(comparison, pair).replace(" vs ", " vs " if wide is None else "\nvs "))
    for axes in panels:
        axes.axis("off")
    first = figure.axes[0]
    first.set(xlim=(0, 51), ylim=(0, None))
    figure.supxlabel("top pixels (%)", fontsize=9)
    figure.supylabel("IoU", fontsize=9)
    legend(figure, first, above=wide is not None)
    return figure

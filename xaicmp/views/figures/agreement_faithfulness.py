"""Agreement with the other methods against faithfulness: is the odd one out the better one?"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.results.intervals import defined_mean
from xaicmp.views.figures.layout import legend, panels_of
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.figures.style import of_method


@figure_kind(
    "agreement-faithfulness",
    "Each method's faithfulness against its agreement with the others",
    "faithfulness",
)
def agreement_faithfulness_figure(drawing: Drawing) -> Figure:
    """Insertion minus deletion and its interval, against the mean agreement with the other methods."""
    comparison, entries = drawing.comparison, drawing.studies["faithfulness"]
    statistic = comparison.statistics[0]
    figure, (axes,) = panels_of(drawing.look.width or 5.5, 1, 3.2)
    entries = [each for each in entries if each["baseline"] == entries[0]["baseline"]]
    own = [each for each in entries if "above_methods" in each]
    for index, each in enumerate(own):
        pairs, gain = comparison.known_pairs(each["method"]), each["probability_gain"]
        at = defined_mean(np.array([comparison.summary(statistic.name, pair).mean for pair in pairs]))
        low, mean, high = np.array([gain["ci"][0], gain["mean"], gain["ci"][1]], dtype=float)
        look = of_method(index)
        axes.vlines(at, low, high, color=look["color"])
        axes.plot(at, mean, label=comparison.titles[each["method"]], linestyle="", markersize=6, **look)
    axes.axhline(0, color="0.5", linestyle="--", linewidth=1)
    axes.set(
        xlabel=f"mean {statistic.title(comparison.top)} with the other methods",
        ylabel=f"insertion minus deletion, {entries[0]['baseline']} baseline",
    )
    legend(figure, axes)
    return figure

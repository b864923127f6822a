"""Faithfulness: what the probability does as pixels are removed."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.studies.faithfulness import CONTROLS, CURVES
from xaicmp.views.figures.layout import legend, panels_of
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.figures.style import of_method
from xaicmp.views.tables.studies import CONTROL_TITLES

FIRST = {"deletion": "most relevant first", "insertion": "least relevant first"}


@figure_kind("faithfulness", "Probability of the explained class as pixels are removed", "faithfulness")
def faithfulness_figure(drawing: Drawing) -> Figure:
    """What the first baseline's deletion does to the probability, beside orders that know nothing of the model."""
    entries = drawing.studies["faithfulness"]
    entries = [each for each in entries if each["baseline"] == entries[0]["baseline"]]
    figure, panels = panels_of(drawing.look.width or 9, len(CURVES))
    for axes, curve in zip(panels, CURVES, strict=True):
        for index, each in enumerate(entries):
            values = np.array(each[f"{curve}_curve"], dtype=float)
            name, own = each["method"], "above_methods" in each
            look = of_method(index)
            if not own:
                look = {"color": "0.5", "linestyle": ("--", ":")[CONTROLS.index(name)]}
            label = (drawing.comparison.titles if own else CONTROL_TITLES)[name]
            axes.plot(100 * np.array(each["removed"]), values, label=label, markevery=4, markersize=4, **look)
        axes.set(xlabel="pixels removed (%)", title=f"{curve}: {FIRST[curve]}")
    figure.supylabel(f"probability, {entries[0]['baseline']} baseline", fontsize=9)
    legend(figure, panels[0])
    return figure

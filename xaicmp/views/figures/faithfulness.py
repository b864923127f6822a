"""Faithfulness: what the probability does as pixels are removed."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.studies.faithfulness import CONTROLS, CURVES
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.figures.style import LEGEND, of_method
from xaicmp.views.tables.studies import CONTROL_TITLES

FIRST = {"deletion": "most relevant first", "insertion": "least relevant first"}


@figure_kind("faithfulness", "Probability of the explained class as pixels are removed", "faithfulness")
def faithfulness_figure(drawing: Drawing) -> Figure:
    """What the first baseline's deletion does to the probability, beside orders that know nothing of the model."""
    entries = drawing.studies["faithfulness"]
    entries = [each for each in entries if each["baseline"] == entries[0]["baseline"]]
    width = drawing.look.width or 9
    figure = Figure(figsize=(width, max(3.2, LEGEND * (4 + len(entries)))), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, curve in zip(panels, CURVES, strict=True):
        for index, each in enumerate(entries):
            values = np.array(each[f"{curve}_curve"], dtype=float)
            name, own = each["method"], "above_methods" in each
            look = of_method(index)
            if not own:
                look = {"color": "0.5", "linestyle": ("--", ":")[CONTROLS.index(name)]}
            label = (drawing.comparison.titles if own else CONTROL_TITLES)[name]
            axes.plot(100 * np.array(each["removed"]), values, label=label, markevery=4, markersize=4, **look)
        axes.set(xlabel=f"pixels removed, {FIRST[curve]} (%)", title=curve)
    panels[0].set_ylabel(f"probability, {entries[0]['baseline']} baseline")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure

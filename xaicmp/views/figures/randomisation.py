"""Agreement with the trained model, by re-initialised stage."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.results.comparison import Comparison
from xaicmp.core.studies.randomisation import Randomisation
from xaicmp.views.figures.registry import figure_kind
from xaicmp.views.figures.style import LEGEND, MARKERS


@figure_kind("randomisation")
def randomisation_figure(found: Randomisation, comparison: Comparison) -> Figure:
    """Agreement with the trained model's map by stage, each method a curve; dashed, with its map of another image."""
    figure = Figure(figsize=(9, max(3.2, LEGEND * (2 + len(comparison.titles)))), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(found.agreement), sharey=True))
    at = np.arange(len(found.stages))
    for axes, statistic in zip(panels, found.agreement, strict=True):
        curves = zip(
            comparison.titles.values(), found.means(statistic), found.controls(statistic), strict=True
        )
        for index, (title, means, controls) in enumerate(curves):
            look = {"color": f"C{index % 10}", "marker": MARKERS[index % len(MARKERS)], "markersize": 4}
            axes.plot(at, means, label=title, **look)
            axes.plot(at, controls, **look | {"marker": "", "linestyle": "--", "linewidth": 0.9})
        stages = [
            f"{stage} (dead)" if dead else stage for stage, dead in zip(found.stages, found.dead, strict=True)
        ]
        axes.set_xticks(at, stages, rotation=60, ha="right", fontsize=8)
        axes.margins(x=0.02)
        axes.set_title(statistic, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("agreement with the trained model's map\n(dashed: of another image)", fontsize=9)
    figure.supxlabel(f"re-initialised stage ({found.kind})", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure

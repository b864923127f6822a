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
    """Agreement with the trained model's map by stage, each method a curve, beside its bar of chance."""
    figure = Figure(figsize=(9, max(3.2, LEGEND * (2 + len(comparison.titles)))), layout="constrained")
    panels = figure.subplots(1, len(found.agreement), sharey=True)
    at = np.arange(len(found.stages))
    beyond = len(at) + np.linspace(-0.25, 0.75, len(comparison.titles) + 2)[1:-1]
    for axes, (statistic, agreement) in zip(np.atleast_1d(panels), found.agreement.items(), strict=True):
        axes.axvspan(len(at) - 0.5, len(at) + 1, color="0.94", linewidth=0)
        axes.vlines(
            beyond, *found.band(statistic).T, colors=[f"C{index % 10}" for index in range(len(beyond))]
        )
        for index, (title, values) in enumerate(zip(comparison.titles.values(), agreement, strict=True)):
            known = np.isfinite(values).any(axis=1)
            axes.plot(
                at[known],
                np.nanmean(values[known], axis=1),
                marker=MARKERS[index % len(MARKERS)],
                markersize=4,
                color=f"C{index % 10}",
                label=title,
            )
        ticks = [*at, len(at) + 0.25]
        axes.set_xticks(ticks, [*found.stages, "chance"], rotation=60, ha="right", fontsize=8)
        axes.margins(x=0.02)
        axes.set_title(statistic, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("agreement with the trained model's map", fontsize=9)
    figure.supxlabel(f"re-initialised stage ({found.kind})", fontsize=9)
    handles, labels = np.atleast_1d(panels)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure

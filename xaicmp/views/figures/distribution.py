"""The agreement on each image, of every pair."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xaicmp.core.agreement.controls import KEYS
from xaicmp.core.results.comparison import OTHER_IMAGE
from xaicmp.views.figures.layout import NARROW, legend, panels_of
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.text import level_title, name_pair

ROW = 0.42
"""Height of a pair, in inches."""


@figure_kind(
    "distribution",
    "Agreement on each image, with the mean and its interval, beside another image's map",
    per_page=24,
)
def distribution_figure(drawing: Drawing) -> Figure:
    """A panel per statistic and a row per pair: a line per image, above it the control's, and both means."""
    comparison, pairs = drawing.comparison, drawing.pairs
    statistics, control = comparison.statistics, comparison.scores.controls.get(OTHER_IMAGE)
    width = drawing.look.width or 3.2 * len(statistics) + 2
    figure, panels = panels_of(width, len(statistics), ROW * len(pairs) + 0.6)
    for axes, statistic in zip(panels, statistics, strict=True):
        for row, pair in enumerate(pairs):
            result = comparison.result(statistic, pair)
            _lines(axes, comparison.scores.values[statistic.name][pair], row + 0.13, "C0", "each image")
            low, mean, high = result.summary.low, result.summary.mean, result.summary.high
            axes.plot([low, high], [row + 0.13] * 2, color="C0", linewidth=2.5, solid_capstyle="butt")
            label = f"mean, {level_title(comparison.settings)}"
            axes.plot(mean, row + 0.13, "D", color="C0", markeredgecolor="white", markersize=5, label=label)
            if control is not None:
                label = KEYS[OTHER_IMAGE].title
                _lines(axes, control[statistic.name][pair], row - 0.2, "C1", label)
                axes.plot(
                    result.controls[OTHER_IMAGE],
                    row - 0.2,
                    "s",
                    color="C1",
                    markeredgecolor="white",
                    markersize=4,
                    label=f"{label}, mean",
                )
            if result.chance is not None:
                axes.axvline(result.chance, color="0.5", linestyle=":", linewidth=1, label="chance")
        axes.set_xlabel(statistic.title(comparison.top))
    names = [name_pair(comparison, pair) for pair in pairs]
    panels[0].set_yticks(
        range(len(pairs)), [each.replace(" vs ", "\nvs ") if width < NARROW else each for each in names]
    )
    panels[0].set_ylim(len(pairs) - 0.5, -0.6)
    legend(figure, panels[0], above=True)
    return figure


def _lines(axes: Axes, values: np.ndarray, at: float, colour: str, label: str) -> None:
    """A short line per value."""
    x = np.stack([values, values, np.full(len(values), np.nan)], axis=1).ravel()  # one path, however many
    y = np.tile([at - 0.1, at + 0.1, np.nan], len(values))
    axes.plot(x, y, color=colour, alpha=0.6, linewidth=0.8, label=label)

"""The agreement of every two methods as a matrix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xaicmp.core.agreement.statistic import Pair, Statistic
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.verdict import Verdict
from xaicmp.views.figures.layout import NARROW, grey
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.figures.style import COLOURS, DIVERGING
from xaicmp.views.text import decimals

CELL, WIDEST = 0.42, 12
"""Width and height of a cell in inches, and of two panels beside one another at most."""
UNSURE = (Verdict.FEW, Verdict.CHANCE, Verdict.UNTOLD, Verdict.EQUAL)


@figure_kind(
    "matrix",
    "Mean agreement of every two methods, in brackets where not told apart from chance or another image's map",
)
def matrix_figure(drawing: Drawing) -> Figure:
    """A panel per statistic, methods down and across; in brackets what its test does not tell apart."""
    comparison = drawing.comparison
    statistics, count = comparison.statistics, len(comparison.titles)
    longest = max(map(len, comparison.titles.values())) * 0.075
    panel = max(2.2, CELL * count + longest) + 0.7
    wide = 2 * panel <= WIDEST if drawing.look.width is None else drawing.look.width >= NARROW
    across = min(len(statistics), 2 if wide else 1)
    down = -(-len(statistics) // across)
    width = drawing.look.width or across * panel
    size = min(8, 72 * (width / across - longest - 0.7) / count / 3.2)
    figure = Figure(figsize=(width, down * (width / across * 0.92)), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for statistic, axes in zip(statistics, panels, strict=False):
        found = {pair: comparison.result(statistic, pair) for pair in comparison.pairs}
        means = of_pairs(comparison, {pair: each.summary.mean for pair, each in found.items()})
        unsure = of_pairs(comparison, {pair: each.verdict in UNSURE for pair, each in found.items()})
        draw_matrix(axes, means, statistic, comparison, unsure=unsure == 1, size=size)
        axes.set_title(statistic.title(comparison.top))
        figure.colorbar(axes.images[0], ax=axes, shrink=0.7, aspect=25)
    for axes in panels:
        axes.axis("off")
    return figure


def of_pairs(comparison: Comparison, values: Mapping[Pair, float]) -> np.ndarray:
    """A value of every two methods as ``(M, M)``, NaN from corner to corner."""
    names = list(comparison.titles)
    found = np.full((len(names), len(names)), np.nan)
    for (a, b), value in values.items():
        i, j = names.index(a), names.index(b)
        found[i, j] = found[j, i] = value
    return found


def draw_matrix(
    axes: Axes,
    values: np.ndarray,
    statistic: Statistic,
    comparison: Comparison,
    *,
    unsure: np.ndarray | None = None,
    size: float = 7,
) -> None:
    """Values ``(M, M)`` of a statistic in colours of its range, with two decimals in each cell."""
    signed = statistic.low < 0
    low, colours = (-1.0, DIVERGING) if signed else (statistic.low, COLOURS)
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=statistic.high)
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = decimals(value, 2).replace("0.", ".")
            text = f"({text})" if unsure is not None and unsure[i, j] else text
            colour = "black" if grey(np.array(image.to_rgba(value))[:3]) > 0.5 else "white"
            axes.text(j, i, text, size=size, ha="center", va="center", color=colour)
    titles = list(comparison.titles.values())
    axes.set_xticks(range(len(titles)), titles, rotation=90, fontsize=min(8, size + 1))
    axes.set_yticks(range(len(titles)), titles, fontsize=min(8, size + 1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)

"""The agreement of every two methods as a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xaicmp.core.agreement.statistic import Statistic
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.verdict import Verdict
from xaicmp.views.figures.layout import NARROW
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.figures.style import COLOURS, DIVERGING
from xaicmp.views.text import decimals

CELL = 0.42
"""Width and height of a cell, in inches."""


UNSURE = (Verdict.FEW, Verdict.CHANCE, Verdict.UNTOLD, Verdict.EQUAL)


@figure_kind(
    "matrix",
    "Mean agreement of every two methods, in brackets where not told apart from chance or another image's map",
)
def matrix_figure(drawing: Drawing) -> Figure:
    """A panel per statistic, methods down and across; in brackets what its test does not tell apart."""
    comparison = drawing.comparison
    statistics, count = comparison.statistics, len(comparison.titles)
    across = min(len(statistics), 1 if (drawing.look.width or NARROW) < NARROW else 2)
    down = -(-len(statistics) // across)
    longest = max(map(len, comparison.titles.values())) * 0.075
    width = drawing.look.width or across * (max(2.2, CELL * count + longest) + 0.7)
    height = down * (width / across * 0.92)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for axes, statistic in zip(panels, statistics, strict=False):
        means = np.full((count, count), np.nan)
        unsure = np.zeros((count, count), dtype=bool)
        names = list(comparison.titles)
        for a, b in comparison.pairs:
            i, j = names.index(a), names.index(b)
            means[i, j] = means[j, i] = comparison.summary(statistic.name, (a, b)).mean
            unsure[i, j] = unsure[j, i] = comparison.verdict(statistic, (a, b)) in UNSURE
        size = min(8, 72 * (width / across - longest - 0.7) / count / 3.2)
        draw_matrix(axes, means, statistic, comparison, unsure=unsure, size=size)
        axes.set_title(statistic.title(comparison.top))
        figure.colorbar(axes.images[0], ax=axes, shrink=0.7, aspect=25)
    for axes in panels:
        axes.axis("off")
    return figure


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
    image = axes.imshow(
        values,
        cmap=DIVERGING if signed else COLOURS,
        vmin=-1 if signed else statistic.low,
        vmax=statistic.high,
    )
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = decimals(value, 2).replace("0.", ".")
            colour = image.cmap(image.norm(value))
            axes.text(
                j,
                i,
                f"({text})" if unsure is not None and unsure[i, j] else text,
                size=size,
                ha="center",
                va="center",
                color="black" if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white",
            )
    titles: Sequence[str] = list(comparison.titles.values())
    at = range(len(titles))
    axes.set_xticks(at, titles, rotation=90, fontsize=min(8, size + 1))
    axes.set_yticks(at, titles, fontsize=min(8, size + 1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)

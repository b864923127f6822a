"""Images with their explanations side by side."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xaicmp.core.results.comparison import Comparison
from xaicmp.views.figures.layout import GAP, LETTER, Extent, Grid, colour_bars, original, ranges
from xaicmp.views.figures.matrix import draw_matrix
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.text import decimals, name_pair

NOTES, LINE = 1.3, 1.35
"""Inches at the right for the agreement, and the height of a line as a share of its size."""
SMALLEST, PAIRS = 5, 8
"""Points of the smallest text, and how many pairs there is room for in it; more are a matrix."""


@figure_kind("maps", "Images beside the maps of each method, with the agreement on each image", "maps")
def maps_figure(drawing: Drawing) -> Figure:
    """One block per image: the original with what it was taken for, each method's map, each pair's agreement."""
    comparison, shown, look = drawing.comparison, drawing.explanations, drawing.look
    assert shown is not None
    pixels = shown.pixels.numpy().transpose(0, 2, 3, 1)
    maps = np.nan_to_num(shown.maps.numpy())
    count, titles = len(pixels), list(comparison.titles.values())
    many, notes = len(drawing.pairs) > PAIRS, [_notes(drawing, row) for row in range(count)]
    grid = Grid(pixels.shape[1:3], count, 1 + len(titles), look.width)
    room = max(NOTES, SMALLEST * LETTER * max(len(line) for lines in notes for line in lines) / 72 + GAP)
    if many:
        room = 2 * grid.lines * grid.line
    grid = Grid(grid.size, count, 1 + len(titles), look.width, room)
    figure, canvas = grid.figure()
    every = ranges(maps, look.scale)
    for row in range(count):
        original(canvas, grid, comparison, row, pixels[row])
        for method, title in enumerate(titles):
            extent, own = grid.extent(row, 1 + method), every[method][row]
            under = pixels[row] if look.style == "overlay" else None
            own.draw(canvas, maps[method, row], extent, under)
            said = f"{title}\n{own}" if look.scale == "method" else title
            if row == 0 or grid.lines > 1:
                grid.title(canvas, extent, said)
        if many and grid.room:
            _matrices(figure, grid, comparison, row)
        elif grid.room:
            _agreement(canvas, notes[row], grid.room, grid.extent(row, grid.panels - 1))
    colour_bars(canvas, grid, every, look.scale)
    return figure


def _notes(drawing: Drawing, row: int) -> list[str]:
    """The agreement of each pair on one image."""
    comparison = drawing.comparison
    lines = [" / ".join(each.title(comparison.top) for each in comparison.statistics), ""]
    for pair in drawing.pairs:
        values = [comparison.scores.values[each.name][pair][row] for each in comparison.statistics]
        lines += [name_pair(comparison, pair), f"  {' / '.join(map(decimals, values))}"]
    return lines


def _agreement(canvas: Axes, lines: list[str], room: float, extent: Extent) -> None:
    _, right, bottom, top = extent
    size = min(
        7, 72 * (top - bottom) / (LINE * len(lines)), 72 * (room - GAP) / (LETTER * max(map(len, lines)))
    )
    canvas.text(
        right + 2 * GAP, (bottom + top) / 2, "\n".join(lines), size=size, va="center", linespacing=LINE
    )


def _matrices(figure: Figure, grid: Grid, comparison: Comparison, row: int) -> None:
    """The agreement of every two methods on one image, a matrix for each of the first two statistics."""
    width, height = grid.inches
    high, names = grid.lines * grid.line, list(comparison.titles)
    left, bottom = width - grid.room, height - (row + 1) * (high + grid.snap(GAP))
    label = LETTER * max(map(len, comparison.titles.values())) * 7 / 72 + GAP
    side = high - label - 0.25
    for number, statistic in enumerate(comparison.statistics[:2]):
        at = (left + number * high + label, bottom + label, side, side)
        axes = figure.add_axes((at[0] / width, at[1] / height, at[2] / width, at[3] / height))
        values = np.full((len(names), len(names)), np.nan)
        for a, b in comparison.pairs:
            i, j = names.index(a), names.index(b)
            values[i, j] = values[j, i] = comparison.scores.values[statistic.name][a, b][row]
        draw_matrix(axes, values, statistic, comparison, size=min(6, 72 * side / len(names) / 2.6))
        axes.set_title(statistic.title(comparison.top), size=7)

"""Images with their explanations side by side."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from xaicmp.core.results.comparison import Comparison
from xaicmp.views.figures.layout import GAP, LETTER, LINE, Grid, colour_bars, draw_map, norms, original
from xaicmp.views.figures.matrix import draw_matrix, of_pairs
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.text import decimals, name_pair

NOTES = 1.3
"""Inches at the right for the agreement."""
SMALLEST, PAIRS = 5, 8
"""Points of the smallest text, and how many pairs there is room for in it; more are a matrix."""


@figure_kind("maps", "Images beside the maps of each method, with the agreement on each image", "maps")
def maps_figure(drawing: Drawing) -> Figure:
    """One block per image: the original with what it was taken for, each method's map, each pair's agreement."""
    comparison, look = drawing.comparison, drawing.look
    pixels, maps = drawing.pixels, np.nan_to_num(drawing.maps.numpy())
    titles, size = list(comparison.titles.values()), pixels.shape[1:3]
    many, notes = len(drawing.pairs) > PAIRS, [_notes(drawing, row) for row in range(len(pixels))]
    room = max(NOTES, SMALLEST * LETTER * max(len(line) for lines in notes for line in lines) / 72 + GAP)
    grid = Grid(size, len(pixels), 1 + len(titles), look.width, room)
    if many:
        grid = Grid(size, len(pixels), 1 + len(titles), look.width, 2 * grid.block / grid.dpi)
    figure, canvas = grid.figure()
    every = norms(maps, look.scale)
    for row, image in enumerate(pixels):
        original(canvas, grid, comparison, row, image)
        for method, title in enumerate(titles):
            extent, norm = grid.extent(row, 1 + method), every[method][row]
            draw_map(canvas, maps[method, row], norm, extent, image if look.style == "overlay" else None)
            if row == 0 or grid.lines > 1:
                said = f"\n{norm.vmin:.2g} to {norm.vmax:.2g}" if look.scale == "method" else ""
                grid.title(canvas, extent, title + said)
        if many and grid.room:
            _matrices(figure, grid, comparison, row)
        elif grid.room:
            _, right, bottom, top = grid.extent(row, len(titles))
            at, room = (right + grid.dots(2 * GAP), (bottom + top) / 2), grid.dots(grid.room - GAP)
            text = "\n".join(notes[row])
            grid.write(canvas, at, text, (room, top - bottom), 7, va="center", linespacing=LINE)
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


def _matrices(figure: Figure, grid: Grid, comparison: Comparison, row: int) -> None:
    """The agreement of every two methods on one image, a matrix for each of the first two statistics."""
    (across, down), high = grid.pixels, grid.lines * grid.line
    left, bottom = across - grid.dots(grid.room), down - (row + 1) * grid.block
    label = grid.dots(LETTER * max(map(len, comparison.titles.values())) * 7 / 72 + GAP)
    side = high - label - grid.dots(0.25)
    for number, statistic in enumerate(comparison.statistics[:2]):
        x, y = left + number * high + label, bottom + label
        axes = figure.add_axes((x / across, y / down, side / across, side / down))
        scores = comparison.scores.values[statistic.name]
        values = of_pairs(comparison, {pair: scores[pair][row] for pair in comparison.pairs})
        draw_matrix(
            axes, values, statistic, comparison, size=min(6, 72 * side / grid.dpi / len(values) / 2.6)
        )
        axes.set_title(statistic.title(comparison.top), size=7)

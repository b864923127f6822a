"""The top pixels of each method as an outline: what IoU counts."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from xaicmp.core.agreement.top_pixels import top_pixels
from xaicmp.views.figures.layout import Extent, Grid, grey, original
from xaicmp.views.figures.registry import Drawing, figure_kind
from xaicmp.views.figures.style import CYCLE
from xaicmp.views.text import decimals

BESIDE = 6
"""So many pairs stand beside an image; of more, those that are asked for."""
SHARED = (0.94, 0.89, 0.26, 0.75)
"""The colour of what two methods have in common, Okabe and Ito's yellow."""
MANY = 3000
"""With more lines than that, the outline is a picture in .svg and .pdf too."""


@figure_kind(
    "top", "Outlines of each method's top pixels, with the pixels that two methods share filled", "maps"
)
def top_figure(drawing: Drawing) -> Figure:
    """One row per image: the original, the outlines of all methods, and of each pair with what both share."""
    comparison, pixels, maps = drawing.comparison, drawing.pixels, drawing.maps
    found = top_pixels(maps, comparison.top)
    inside = found.values[0].numpy().reshape(maps.shape) & ~found.undefined.numpy()[..., None, None]
    names, titles = list(comparison.titles), comparison.titles
    pairs = drawing.pairs if drawing.asked or len(drawing.pairs) <= BESIDE else ()
    grid = Grid(pixels.shape[1:3], len(pixels), 2 + len(pairs), drawing.look.width)
    figure, canvas = grid.figure()
    for row, image in enumerate(pixels):
        original(canvas, grid, comparison, row, image)
        for panel, pair in enumerate((tuple(names), *pairs), start=1):
            extent, chosen = grid.extent(row, panel), [names.index(name) for name in pair]
            pale = 255 - (255 - grey(image)) * 0.6
            canvas.imshow(pale, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
            text = f"top {100 * comparison.top:g}% of each"
            if panel > 1:
                both = inside[chosen, row].all(axis=0)
                canvas.imshow(both[..., None] * np.array(SHARED), extent=extent, aspect="auto")
                text = f"{titles[pair[0]]}, {titles[pair[1]]}"
                if "iou" in comparison.scores.values:
                    text += f"\nIoU {decimals(comparison.scores.values['iou'][pair[0], pair[1]][row])}"
            for index in chosen:
                outline(canvas, inside[index, row], extent, CYCLE[index % len(CYCLE)])
            grid.title(canvas, extent, text)
    for index, title in enumerate(titles.values()):
        canvas.plot([], [], color=CYCLE[index % len(CYCLE)], label=title)
    figure.legend(loc="lower left", ncols=max(1, int(grid.inches[0] / 1.3)), fontsize=7)
    return figure


def outline(canvas: Axes, inside: np.ndarray, extent: Extent, colour: str) -> None:
    """Lines along the edges between pixels inside and outside ``(H, W)``."""
    padded = np.pad(inside, 1)
    left, right, bottom, top = extent
    across, down = (right - left) / inside.shape[1], (top - bottom) / inside.shape[0]
    lines = []
    for axis, back in ((0, (0, 1)), (1, (1, 0))):  # edges above and below, then at the sides
        ends = np.argwhere(np.diff(padded, axis=axis))
        lines.append(np.stack([ends - back, ends], axis=1))
    every = np.concatenate(lines)[..., ::-1] * (across, -down) + (
        left,
        top,
    )  # from rows and columns to x and y
    width = 1.1 if len(every) < 800 else 0.6
    canvas.add_collection(
        LineCollection(list(every), colors=colour, linewidths=width, rasterized=len(every) > MANY)
    )

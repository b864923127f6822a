"""Where pictures stand in a figure, and in which colours maps are drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure

from xaicmp.core.choices import Scale
from xaicmp.core.results.comparison import Comparison
from xaicmp.views.figures.style import COLOURS, CYCLE, DIVERGING, LEGEND
from xaicmp.views.text import shortened

CELL, GAP, TITLE, MARGIN, BAR = 1.45, 0.06, 0.36, 0.22, 0.42
"""In inches: the longer side of a picture, the space beside it and above it, the image's name, the bar of colours."""
SCREEN, PRINT = 150, 300
"""Pixels per inch at least: by default, and of a figure whose width is given."""
LETTER, LINE = 0.635, 1.35
"""The width of a letter and the height of a line, as shares of the size of the text."""
NARROW = 4.5
"""Of figures below this width in inches, panels stand below one another and the legend above them."""

Extent = tuple[int, int, int, int]
"""Left, right, bottom and top, in pixels of the figure."""


class Grid:
    """Pictures of one size in blocks of lines, a block per image.

    Every pixel of an image is a square of whole pixels of the figure, so that nothing is resampled.

    Attributes:
        lines, across: lines of a block, and pictures in a line.
        room: inches for notes at the right.
        dpi: pixels of the figure per inch.
        cell: height and width of a picture in pixels, as are ``line``, ``block`` and ``pixels``.
        line, block: height of a line with what is written above it, and of a block.
        pixels, inches: width and height of the figure.
    """

    def __init__(
        self, size: tuple[int, int], blocks: int, panels: int, width: float | None = None, notes: float = 0.0
    ) -> None:
        """Lay out.

        Args:
            size: height and width of the images, in pixels.
            blocks: how many images.
            panels: pictures of each.
            width: of the figure in inches; None for what it needs.
            notes: inches that are wanted at the right; they go to the pictures where these would become too small.
        """
        self.lines = -(-panels // 7)
        self.across = -(-panels // self.lines)
        if width is None:
            self.room, inches = notes, CELL * min(1, size[1] / size[0])
        else:
            self.room = notes if (width - MARGIN - notes) / self.across >= 0.7 else 0.0
            inches = (width - MARGIN - self.room) / self.across - GAP
        scale = math.ceil((SCREEN if width is None else PRINT) * inches / size[1] - 1e-9)
        self.dpi = scale * size[1] / inches
        self.cell = scale * size[0], scale * size[1]
        self.line = self.cell[0] + self.dots(TITLE)
        self.block = self.lines * self.line + self.dots(GAP)
        step = self.cell[1] + self.dots(GAP)
        across = self.dots(MARGIN) + self.across * step + self.dots(self.room)
        down = blocks * self.block + self.dots(BAR)
        self.pixels = across, down
        self.inches = (across + 1e-3) / self.dpi, (down + 1e-3) / self.dpi  # rounding must not lose a pixel

    def dots(self, inches: float) -> int:
        """The nearest number of pixels."""
        return round(inches * self.dpi)

    def extent(self, block: int, panel: int) -> Extent:
        """Where a picture is."""
        line, column = divmod(panel, self.across)
        height, width = self.cell
        left = self.dots(MARGIN) + column * (width + self.dots(GAP))
        top = self.pixels[1] - block * self.block - line * self.line - self.dots(TITLE)
        return left, left + width, top - height, top

    def figure(self) -> tuple[Figure, Axes]:
        """An empty figure, and one canvas over all of it, measured in pixels: axes of their own take 20 times as long."""
        width, height = self.pixels
        figure = Figure(figsize=self.inches, dpi=self.dpi)
        canvas = figure.add_axes((0, 0, 1, 1))
        canvas.axis("off")
        canvas.set(xlim=(0, width), ylim=(0, height), aspect="auto", autoscale_on=False)
        return figure, canvas

    def write(
        self,
        canvas: Axes,
        at: tuple[float, float],
        text: str,
        room: tuple[float, float],
        size: float,
        **look: Any,
    ) -> None:
        """Write text of a size, or as large as there is ``room`` across and down."""
        lines, points = text.split("\n"), 72 / self.dpi
        across, down = (
            points * room[0] / (LETTER * max(map(len, lines))),
            points * room[1] / (LINE * len(lines)),
        )
        canvas.text(*at, text, size=min(size, across, down), **look)

    def title(self, canvas: Axes, extent: Extent, text: str, **look: Any) -> None:
        """Write above a picture."""
        left, right, _, top = extent
        at, room = ((left + right) / 2, top + self.dots(GAP) / 2), (right - left, self.dots(TITLE))
        self.write(canvas, at, text, room, 8.5, ha="center", va="bottom", linespacing=1.1, **look)


def original(canvas: Axes, grid: Grid, comparison: Comparison, row: int, pixels: np.ndarray) -> None:
    """Draw an image as it is, with its name, what it was taken for and what it is."""
    chosen, classes = comparison.predictions, comparison.source.classes
    left, _, bottom, top = extent = grid.extent(row, 0)
    canvas.imshow(pixels, extent=extent, aspect="auto")
    sure = "" if np.isnan(chosen.confidence[row]) else f" {100 * chosen.confidence[row]:.0f}%"
    wrong = f"\n(is {classes[chosen.labels[row]]})" if chosen.wrong[row] else ""
    look = {"color": CYCLE[1]} if wrong else {}
    grid.title(canvas, extent, f"{classes[chosen.predicted[row]]}{sure}{wrong}", **look)
    name = shortened(comparison.source.name(row)) or f"image {chosen.ids[row]}"
    at = left - grid.dots(GAP) / 2, (bottom + top) / 2
    grid.write(canvas, at, name, (top - bottom, left), 7, ha="right", va="center", rotation="vertical")


def grey(image: np.ndarray) -> np.ndarray:
    """The brightness of an image ``(H, W, 3)``."""
    return image @ np.array([0.299, 0.587, 0.114])


def panels_of(width: float, count: int, height: float | None = None) -> tuple[Figure, list[Axes]]:
    """Panels of one height with one scale upwards, beside one another, or below where ``width`` is narrow."""
    narrow = width < NARROW
    down, across = (count, 1) if narrow else (1, count)
    figure = Figure(figsize=(width, down * (height or (2.1 if narrow else 3.2))), layout="constrained")
    return figure, list(figure.subplots(down, across, sharey=True, squeeze=False).flat)


def legend(figure: Figure, axes: Axes, *, above: bool = False) -> None:
    """Name what ``axes`` shows, each once, at the right, or above it where that is asked or narrow, and make room."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    width, height = figure.get_size_inches()
    if above or width < NARROW:
        columns = max(1, min(len(named), int(width / (8 / 72 * LETTER * max(map(len, named)) + 0.4))))
        figure.set_figheight(height + LEGEND * (1 - (-len(named) // columns)))
        figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=columns)
    else:
        figure.set_figheight(max(height, LEGEND * (2 + len(named))))
        figure.legend(named.values(), named.keys(), loc="outside right center")


def draw_map(
    canvas: Axes, values: np.ndarray, norm: Normalize, extent: Extent, under: np.ndarray | None = None
) -> None:
    """Draw a map, or where it is not zero lay it over the image ``under`` in grey."""
    alpha = None
    if under is not None:
        canvas.imshow(grey(under), cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
        shown = np.asarray(norm(values))
        alpha = 0.85 * (abs(2 * shown - 1) if is_signed(norm) else shown)
    colours = DIVERGING if is_signed(norm) else COLOURS
    canvas.imshow(values, norm=norm, cmap=colours, extent=extent, aspect="auto", alpha=alpha)


def is_signed(norm: Normalize) -> bool:
    """Whether zero is in the middle."""
    return isinstance(norm, CenteredNorm)


def norms(maps: np.ndarray, scale: Scale) -> list[list[Normalize]]:
    """For each method and image of ``(M, N, H, W)`` what has the first and the last colour, up to the 99th percentile.

    A few bright pixels would else leave the rest of a gradient map dark. A method is signed if any of its maps is;
    then zero has the middle colour.
    """
    methods, count = maps.shape[:2]
    signed = [bool((each < 0).any()) for each in maps]

    def of(values: np.ndarray, sign: bool) -> Normalize:
        high = float(np.percentile(np.abs(values) if sign else values, 99))
        if sign:
            return CenteredNorm(halfrange=high or 1.0, clip=True)
        return Normalize(float(values.min()), high, clip=True)

    if scale == "shared":
        return [[of(maps, any(signed))] * count] * methods
    if scale == "method":
        return [[of(each, sign)] * count for each, sign in zip(maps, signed, strict=True)]
    return [[of(each, sign) for each in own] for own, sign in zip(maps, signed, strict=True)]


def colour_bars(canvas: Axes, grid: Grid, every: list[list[Normalize]], scale: Scale) -> None:
    """At the bottom, what the colours mean: a bar for maps from low to high, and one for those around zero."""
    left, width = grid.dots(MARGIN), grid.dots(min(1.4, 0.45 * grid.inches[0]))
    for signed in sorted({is_signed(each) for own in every for each in own}):
        low, middle, high = ("below 0", "0", "above 0") if signed else ("lowest", " ", "99th percentile")
        if scale == "shared":
            low, high = f"{every[0][0].vmin:.2g}", f"{every[0][0].vmax:.2g}"
        bar = np.linspace(0, 1, 256)[None]
        extent = (left, left + width, grid.dots(0.21), grid.dots(0.3))
        canvas.imshow(bar, cmap=DIVERGING if signed else COLOURS, extent=extent, aspect="auto")
        for word, share, side in ((low, 0, "left"), (middle, 0.5, "center"), (high, 1, "right")):
            canvas.text(left + share * width, grid.dots(0.17), word, size=6, ha=side, va="top")
        left += width + grid.dots(0.2)

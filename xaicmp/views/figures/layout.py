"""Where pictures stand in a figure, and in which colours maps are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xaicmp.core.choices import Scale
from xaicmp.core.results.comparison import Comparison
from xaicmp.views.figures.style import COLOURS, DIVERGING, LEGEND
from xaicmp.views.text import shortened

CELL, GAP, TITLE, MARGIN, BAR = 1.45, 0.06, 0.36, 0.22, 0.42
"""In inches: the longer side of a picture, the space beside it and above it, the image's name, the bar of colours."""
SCREEN, PRINT = 150, 300
"""Pixels per inch at least: by default, and of a figure whose width is given."""
LETTER = 0.635
"""The width of a letter, as a share of its size."""
NARROW = 4.5
"""Of figures below this width in inches, panels stand below one another and the legend above them."""

Extent = tuple[float, float, float, float]
"""Left, right, bottom and top, in inches."""


@dataclass(frozen=True)
class Grid:
    """Pictures of one size in blocks of lines, a block per image; every edge lies on a whole pixel of the picture.

    Attributes:
        size: height and width of the images, in pixels.
        blocks, panels: how many images, and pictures of each.
        width: of the figure in inches; None for what it needs.
        notes: the room that is wanted at the right, which goes where pictures would become too small.
        foot: the room that is wanted at the bottom.
    """

    size: tuple[int, int]
    blocks: int
    panels: int
    width: float | None = None
    notes: float = 0.0
    foot: float = BAR

    @property
    def lines(self) -> int:
        """Lines of a block."""
        return -(-self.panels // 7)

    @property
    def across(self) -> int:
        """Pictures in a line."""
        return -(-self.panels // self.lines)

    @property
    def cell(self) -> float:
        """Width of a picture."""
        if self.width is None:
            return CELL * min(1, self.size[1] / self.size[0])
        return (self.width - MARGIN - self.room) / self.across - GAP

    @property
    def room(self) -> float:
        """The room at the right."""
        if self.width is not None and (self.width - MARGIN - self.notes) / self.across < 0.7:
            return 0.0
        return self.notes

    @property
    def dpi(self) -> float:
        """Pixels per inch with which every pixel of an image is drawn as a square of whole ones."""
        least, wide = SCREEN if self.width is None else PRINT, self.size[1]
        return math.ceil(least * self.cell / wide - 1e-9) * wide / self.cell

    def snap(self, inches: float) -> float:
        """The nearest edge of a pixel."""
        return round(inches * self.dpi) / self.dpi

    @property
    def line(self) -> float:
        """Height of a line with what is written above it."""
        return self.snap(self.cell * self.size[0] / self.size[1]) + self.snap(TITLE)

    @property
    def inches(self) -> tuple[float, float]:
        """Width and height of the figure."""
        width = self.snap(MARGIN) + self.across * (self.cell + self.snap(GAP)) + self.snap(self.room)
        block = self.lines * self.line + self.snap(GAP)
        return width, self.blocks * block + self.snap(self.foot)

    def extent(self, block: int, panel: int) -> Extent:
        """Where a picture is."""
        line, column = divmod(panel, self.across)
        left = self.snap(MARGIN) + column * (self.cell + self.snap(GAP))
        top = self.inches[1] - block * (self.lines * self.line + self.snap(GAP)) - line * self.line
        top -= self.snap(TITLE)
        return left, left + self.cell, top - (self.line - self.snap(TITLE)), top

    def figure(self) -> tuple[Figure, Axes]:
        """An empty figure, and one canvas over all of it that is measured in inches: axes of their own take 20 times as long."""
        width, height = self.inches
        figure = Figure(figsize=(width, height), dpi=self.dpi)
        canvas = figure.add_axes((0, 0, 1, 1))
        canvas.axis("off")
        canvas.set(xlim=(0, width), ylim=(0, height), aspect="auto", autoscale_on=False)
        return figure, canvas

    def title(self, canvas: Axes, extent: Extent, text: str, **look: Any) -> None:
        """Write above a picture, as large as there is room."""
        left, right, _, top = extent
        longest = max(map(len, text.split("\n")))
        size = min(8.5, 72 * self.cell / (LETTER * longest), 72 * TITLE / (1.3 * (1 + text.count("\n"))))
        middle = (left + right) / 2
        canvas.text(middle, top + GAP / 2, text, size=size, ha="center", va="bottom", linespacing=1.1, **look)


def original(canvas: Axes, grid: Grid, comparison: Comparison, row: int, pixels: np.ndarray) -> None:
    """Draw an image as it is, with its name, what it was taken for and what it is."""
    chosen, classes, extent = comparison.predictions, comparison.source.classes, grid.extent(row, 0)
    canvas.imshow(pixels, extent=extent, aspect="auto")
    sure = "" if np.isnan(chosen.confidence[row]) else f" {100 * chosen.confidence[row]:.0f}%"
    wrong = f"\n(is {classes[chosen.labels[row]]})" if chosen.wrong[row] else ""
    grid.title(
        canvas,
        extent,
        f"{classes[chosen.predicted[row]]}{sure}{wrong}",
        **{"color": "#D55E00"} if wrong else {},
    )
    name = shortened(comparison.source.name(row)) or f"image {chosen.ids[row]}"
    left, _, bottom, top = extent
    size = min(7, 72 * (top - bottom) / (LETTER * len(name)))
    canvas.text(
        left - GAP / 2, (bottom + top) / 2, name, size=size, ha="right", va="center", rotation="vertical"
    )


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


@dataclass(frozen=True)
class Range:
    """What has the first and the last colour; where it is signed, zero is in the middle."""

    low: float
    high: float
    signed: bool

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """From 0 to 1, or from -1 to 1, zero where the map is lowest or zero."""
        span = self.high if self.signed else self.high - self.low
        shifted = values if self.signed else values - self.low
        return (shifted / span).clip(-1 if self.signed else 0, 1) if span > 0 else np.zeros_like(values)

    def draw(self, canvas: Axes, values: np.ndarray, extent: Extent, under: np.ndarray | None = None) -> None:
        """Draw a map, or where it is not zero lay it over the image ``under`` in grey."""
        shown = self.scaled(values)
        colours, low = (DIVERGING, -1) if self.signed else (COLOURS, 0)
        alpha = None
        if under is not None:
            grey = under @ np.array([0.299, 0.587, 0.114])
            canvas.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
            alpha = 0.85 * np.abs(shown)
        canvas.imshow(shown, extent=extent, aspect="auto", alpha=alpha, cmap=colours, vmin=low, vmax=1)

    def __str__(self) -> str:
        return f"{-self.high if self.signed else self.low:.2g} to {self.high:.2g}"


def ranges(maps: np.ndarray, scale: Scale) -> list[list[Range]]:
    """For each method and image of ``(M, N, H, W)`` the range of what shares its colours, up to the 99th percentile.

    A few bright pixels would else leave the rest of a gradient map dark. A method is signed if any of its maps is.
    """
    methods, count = maps.shape[:2]
    signed = [bool((each < 0).any()) for each in maps]

    def of(values: np.ndarray, sign: bool) -> Range:
        high = np.percentile(np.abs(values) if sign else values, 99)
        return Range(float(values.min()), float(high), sign)

    if scale == "shared":
        return [[of(maps, any(signed))] * count] * methods
    if scale == "method":
        return [[of(each, sign)] * count for each, sign in zip(maps, signed, strict=True)]
    return [[of(each, sign) for each in own] for own, sign in zip(maps, signed, strict=True)]


def colour_bars(canvas: Axes, grid: Grid, every: list[list[Range]], scale: Scale) -> None:
    """At the bottom, what the colours mean: a bar for maps from low to high, and one for those around zero."""
    left = grid.snap(MARGIN)
    for signed in sorted({each.signed for own in every for each in own}):
        words = ("below 0", "0", "above 0") if signed else ("lowest", " ", "99th percentile")
        if scale == "shared":
            only = every[0][0]
            low = -only.high if signed else only.low
            words = (f"{low:.2g}", "0" if signed else " ", f"{only.high:.2g}")
        extent = (left, left + min(1.4, 0.45 * grid.inches[0]), 0.21, 0.3)
        bar = np.linspace(0, 1, 256)[None]
        canvas.imshow(bar, cmap=DIVERGING if signed else COLOURS, extent=extent, aspect="auto")
        places = ((extent[0], "left"), ((extent[0] + extent[1]) / 2, "center"), (extent[1], "right"))
        for word, (at, side) in zip(words, places, strict=True):
            canvas.text(at, 0.17, word, size=6, ha=side, va="top")
        left = extent[1] + 0.2

"""Images with their explanations side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.intervals import defined_mean
from xaicmp.views.figures.registry import figure_kind
from xaicmp.views.figures.style import COLOURS
from xaicmp.views.text import decimals, name_pair, shortened

# In inches: a picture, the space beside it and above it (more where a label takes two lines), the image's
# number on the left, the agreement on the right.
CELL, GAP, TITLE, TITLE_WRONG, MARGIN, NOTES = 1.45, 0.06, 0.25, 0.36, 0.22, 1.3

# Of text, as a share of its size: the height of a line, the width of a letter.
LINE, LETTER = 1.35, 0.635
SMALLEST, PAIRS = 5, 8
"""Points of the smallest text, and how many pairs there is room for in it."""

Extent = tuple[float, float, float, float]
"""Left, right, bottom and top, in inches."""


def images_size(wrong: np.ndarray, methods: int, notes: float = NOTES) -> tuple[float, float]:
    """Width and height, in inches, of the figure that compares so many methods; ``wrong`` has a bool an image."""
    width = MARGIN + (1 + methods) * (CELL + GAP) + notes
    return width, float((_above(wrong) + CELL).sum()) + GAP


def _above(wrong: np.ndarray) -> np.ndarray:
    return np.where(wrong, TITLE_WRONG, TITLE)


@figure_kind("maps")
def images_figure(comparison: Comparison, batches: Sequence[Explanations], style: str) -> Figure:
    """One row per image: the original with what it was taken for, each method's map, each pair's agreement.

    Args:
        comparison: the scores.
        batches: the explanations of the same images, in order.
        style: ``"overlay"`` (the map over the image in grey) or ``"map"``.
    """
    notes = [_notes(comparison, row) for row in range(len(comparison.predictions))]
    longest = max(len(line) for lines in notes for line in lines)
    room = max(NOTES, SMALLEST * LETTER * longest / 72 + GAP)
    width, height = images_size(comparison.predictions.wrong, len(comparison.titles), room)
    figure = Figure(figsize=(width, height))
    figure.suppressComposite = True  # or .pdf and .svg would hold one large picture
    # One canvas, measured in inches: axes of their own take 20 times as long.
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.axis("off")
    pixels = np.concatenate([batch.pixels.numpy() for batch in batches]).transpose(0, 2, 3, 1)
    maps = np.concatenate([batch.maps.numpy() for batch in batches], axis=1)
    bottoms = height - np.cumsum(_above(comparison.predictions.wrong) + CELL)
    for row, bottom in enumerate(bottoms):
        extents = [
            (left, left + CELL, bottom, bottom + CELL)
            for left in MARGIN + (CELL + GAP) * np.arange(1 + len(comparison.titles))
        ]
        canvas.imshow(pixels[row], extent=extents[0])
        for values, extent in zip(maps[:, row], extents[1:], strict=True):
            _draw(canvas, pixels[row], values, style, extent)
        _label(canvas, comparison, row, extents[0])
        _agreement(canvas, notes[row], room, extents[-1])
    for index, title in enumerate(comparison.titles.values(), start=1):
        middle = MARGIN + index * (CELL + GAP) + CELL / 2
        canvas.text(middle, bottoms[0] + CELL + GAP / 2, title, fontsize=9, ha="center", va="bottom")
    canvas.set(xlim=(0, width), ylim=(0, height), aspect="auto")
    return figure


def _draw(canvas: Axes, pixels: np.ndarray, values: np.ndarray, style: str, extent: Extent) -> None:
    # A few bright pixels would leave the rest of a gradient map dark.
    values = np.nan_to_num(values)
    low, high = values.min(), np.percentile(values, 99)
    scaled = ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)
    if style == "map":
        canvas.imshow(scaled, cmap=COLOURS, vmin=0, vmax=1, extent=extent)
        return
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    canvas.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
    canvas.imshow(scaled, cmap=COLOURS, vmin=0, vmax=1, alpha=0.85 * scaled, extent=extent)


def _label(canvas: Axes, comparison: Comparison, row: int, extent: Extent) -> None:
    chosen, classes = comparison.predictions, comparison.source.classes
    left, right, bottom, top = extent
    wrong = chosen.wrong[row]
    says = f"{classes[chosen.predicted[row]]} {100 * chosen.confidence[row]:.0f}%"
    if wrong:
        says += f"\n(is {classes[chosen.labels[row]]})"
    canvas.text(
        (left + right) / 2,
        top + GAP / 2,
        says,
        fontsize=8,
        ha="center",
        va="bottom",
        color="firebrick" if wrong else "black",
    )
    number = shortened(comparison.source.name(row)) or f"image {chosen.ids[row]}"
    canvas.text(
        left - GAP / 2, (bottom + top) / 2, number, fontsize=7, ha="right", va="center", rotation="vertical"
    )


def _notes(comparison: Comparison, row: int) -> list[str]:
    """The agreement on one image: of each pair, or of many the mean."""
    values = [comparison.scores.values[each.name] for each in comparison.statistics]
    groups = {name_pair(comparison, pair): [pair] for pair in comparison.pairs}
    if len(groups) > PAIRS:
        groups = {f"mean of {len(groups)} pairs": list(comparison.pairs)}
    lines = [" / ".join(each.title(comparison.top) for each in comparison.statistics), ""]
    for title, pairs in groups.items():
        means = [decimals(defined_mean(np.array([each[pair][row] for pair in pairs]))) for each in values]
        lines += [title, f"  {' / '.join(means)}"]
    return lines


def _agreement(canvas: Axes, lines: list[str], room: float, extent: Extent) -> None:
    size = min(7, 72 * CELL / (LINE * len(lines)), 72 * (room - GAP) / (LETTER * max(map(len, lines))))
    _, right, bottom, top = extent
    canvas.text(
        right + 2 * GAP, (bottom + top) / 2, "\n".join(lines), fontsize=size, va="center", linespacing=LINE
    )

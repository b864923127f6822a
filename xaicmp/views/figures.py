"""Figures: images with their explanations side by side, and training curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from xaicmp.core.agreement import STATISTICS
from xaicmp.core.attribution import METHODS
from xaicmp.core.errors import UsageError, XaicmpError
from xaicmp.core.pipeline import Comparison, Explanations
from xaicmp.core.storage import replacing
from xaicmp.core.training import Epoch
from xaicmp.views.files import decimals

# Perceptually uniform, and readable with any colour vision.
COLOURS = "viridis"
CELL = 1.55
PIXELS = 2**16 - 1
SUFFIXES = (".png", ".pdf", ".svg")


def check_name(path: Path) -> None:
    """Raise UsageError unless ``path`` ends in a format that can be drawn."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--output {path}: the name must end in {', '.join(SUFFIXES)}")


def images_figure(comparison: Comparison, batches: Sequence[Explanations], style: str) -> Figure:
    """A row an image: the original with what it was taken for, each method's map, each pair's agreement.

    Args:
        comparison: the scores.
        batches: the explanations of the same images, in order.
        style: ``"overlay"`` (the map over the image in grey) or ``"map"``.
    """
    methods = comparison.methods
    rows, columns = len(comparison.chosen), 1 + len(methods)
    text = 1.1
    figure = Figure(
        figsize=(CELL * (columns + text), CELL * 1.06 * rows + 0.45),
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0),
    )
    grid = figure.subplots(rows, columns + 1, squeeze=False, width_ratios=[1] * columns + [text])
    pixels = np.concatenate([batch.pixels.numpy() for batch in batches]).transpose(0, 2, 3, 1)
    maps = np.concatenate([batch.maps.numpy() for batch in batches], axis=1)
    for row in range(rows):
        original, *cells, notes = grid[row]
        original.imshow(pixels[row])
        _label(original, comparison, row)
        for index, axes in enumerate(cells):
            _draw(axes, pixels[row], maps[index, row], style)
            if row == 0:
                axes.set_title(methods[index].title, fontsize=9)
        _agreement(notes, comparison, row)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure


def _draw(axes: Axes, pixels: np.ndarray, values: np.ndarray, style: str) -> None:
    # A few bright pixels would leave the rest of a gradient map dark.
    low, high = np.nanmin(values), np.nanpercentile(values, 99)
    scaled = ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)
    if style == "map":
        axes.imshow(scaled, cmap=COLOURS, vmin=0, vmax=1)
        return
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    axes.imshow(scaled, cmap=COLOURS, vmin=0, vmax=1, alpha=0.25 + 0.6 * scaled)


def _label(axes: Axes, comparison: Comparison, row: int) -> None:
    chosen, classes = comparison.chosen, comparison.images.classes
    wrong = chosen.predicted[row] != chosen.labels[row]
    says = f"{classes[chosen.predicted[row]]} {100 * chosen.confidence[row]:.0f}%"
    if wrong:
        says += f"\n(is {classes[chosen.labels[row]]})"
    axes.set_ylabel(f"image {chosen.ids[row]}", fontsize=7)
    axes.set_title(says, fontsize=8, color="firebrick" if wrong else "black", pad=3)


def _agreement(axes: Axes, comparison: Comparison, row: int) -> None:
    lines = [" / ".join(each.title(comparison.top) for each in STATISTICS) + "\n"]
    for a, b in combinations((method.name for method in comparison.methods), 2):
        values = [decimals(comparison.scores.values[each.name][(a, b)][row]) for each in STATISTICS]
        lines.append(f"{METHODS[a].title} vs {METHODS[b].title}\n  {' / '.join(values)}")
    size = min(7.0, 7.0 * 6 / len(lines))
    axes.text(
        0.02, 0.5, "\n".join(lines), fontsize=size, va="center", transform=axes.transAxes, linespacing=1.35
    )


def history_figure(history: Sequence[Epoch]) -> Figure:
    """Loss and accuracy by epoch, side by side."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    loss.plot(epochs, [epoch.loss for epoch in history], marker="o", color="C0")
    loss.set_ylabel("training loss")
    for name, values, colour in (
        ("training", [epoch.train_accuracy for epoch in history], "C0"),
        ("test", [epoch.test_accuracy for epoch in history], "C1"),
    ):
        accuracy.plot(epochs, [100 * value for value in values], marker="o", color=colour, label=name)
    accuracy.set_ylabel("accuracy (%)")
    accuracy.legend(frameon=False)
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write ``figure`` to ``path``, replacing it only once it is complete.

    Raises:
        UsageError: an unknown suffix.
        XaicmpError: the picture is too large to draw, or the file cannot be written.
    """
    check_name(path)
    if figure.get_figheight() * dpi > PIXELS:
        raise XaicmpError(f"{path} would be too tall to draw; choose fewer images or a lower --dpi")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)

"""Figures: images with their explanations side by side, and training curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xaicmp.core.agreement import IOU
from xaicmp.core.comparison import Comparison, Explanations
from xaicmp.core.curve import curve_shares
from xaicmp.core.errors import XaicmpError
from xaicmp.core.faithfulness import Faithfulness
from xaicmp.core.randomisation import Randomisation
from xaicmp.core.storage import check_suffix, replacing
from xaicmp.core.summary import SEVERAL, defined_mean, summarise
from xaicmp.core.training import Epoch
from xaicmp.views.files import CONTROL_TITLES, decimals, known_pairs, level_title, name_pair

# Perceptually uniform, and readable with any colour vision.
COLOURS = "viridis"
# In inches: a picture, the space beside it and above it (more where a label takes two lines), the image's
# number on the left, the agreement on the right.
CELL, GAP, TITLE, TITLE_WRONG, MARGIN, NOTES = 1.45, 0.06, 0.25, 0.36, 0.22, 1.3
# Of text, as a share of its size: the height of a line, the width of a letter.
LINE, LETTER = 1.35, 0.635
Extent = tuple[float, float, float, float]
"""Left, right, bottom and top, in inches."""
MARKERS = "osD^v<>pXP*"
LEGEND = 0.18
"""Height of a line of a legend, in inches."""
PANEL = 2.6
"""Width and height of a pair's curve, in inches."""
ACROSS = 3
"""Pairs' curves in a row."""
PIXELS = 2**16 - 1
# Formats, and what each calls a description in its metadata.
ABOUT = {".png": "Description", ".pdf": "Subject", ".svg": "Description"}
SUFFIXES = tuple(ABOUT)


def check_name(path: Path, option: str = "--output") -> None:
    """Raise UsageError, naming ``option``, unless ``path`` ends in a format that can be drawn."""
    check_suffix(path, SUFFIXES, option)


def images_size(wrong: np.ndarray, methods: int) -> tuple[float, float]:
    """Width and height, in inches, of the figure that compares so many methods; ``wrong`` has a bool an image."""
    width = MARGIN + (1 + methods) * (CELL + GAP) + NOTES
    return width, float((_above(wrong) + CELL).sum()) + GAP


def _above(wrong: np.ndarray) -> np.ndarray:
    return np.where(wrong, TITLE_WRONG, TITLE)


def check_size(path: Path, inches: tuple[float, float], dpi: int) -> None:
    """Raise XaicmpError if a picture of this size cannot be drawn."""
    if path.suffix.lower() == ".png" and max(inches) * dpi > PIXELS:
        raise XaicmpError(f"{path} would be too large to draw; choose fewer images or a lower --dpi")


def images_figure(comparison: Comparison, batches: Sequence[Explanations], style: str) -> Figure:
    """A row an image: the original with what it was taken for, each method's map, each pair's agreement.

    Args:
        comparison: the scores.
        batches: the explanations of the same images, in order.
        style: ``"overlay"`` (the map over the image in grey) or ``"map"``.
    """
    width, height = images_size(comparison.chosen.wrong, len(comparison.titles))
    figure = Figure(figsize=(width, height))
    figure.suppressComposite = True  # or .pdf and .svg would hold one large picture
    # One canvas, measured in inches: axes of their own take 20 times as long.
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.axis("off")
    pixels = np.concatenate([batch.pixels.numpy() for batch in batches]).transpose(0, 2, 3, 1)
    maps = np.concatenate([batch.maps.numpy() for batch in batches], axis=1)
    bottoms = height - np.cumsum(_above(comparison.chosen.wrong) + CELL)
    for row, bottom in enumerate(bottoms):
        extents = [
            (left, left + CELL, bottom, bottom + CELL)
            for left in MARGIN + (CELL + GAP) * np.arange(1 + len(comparison.titles))
        ]
        canvas.imshow(pixels[row], extent=extents[0])
        for values, extent in zip(maps[:, row], extents[1:], strict=True):
            _draw(canvas, pixels[row], values, style, extent)
        _label(canvas, comparison, row, extents[0])
        _agreement(canvas, comparison, row, extents[-1])
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
    canvas.imshow(scaled, cmap=COLOURS, vmin=0, vmax=1, alpha=0.25 + 0.6 * scaled, extent=extent)


def _label(canvas: Axes, comparison: Comparison, row: int, extent: Extent) -> None:
    chosen, classes = comparison.chosen, comparison.source.classes
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
    number = f"image {chosen.ids[row]}"
    canvas.text(
        left - GAP / 2, (bottom + top) / 2, number, fontsize=7, ha="right", va="center", rotation="vertical"
    )


def _agreement(canvas: Axes, comparison: Comparison, row: int, extent: Extent) -> None:
    lines = [" / ".join(each.title(comparison.top) for each in comparison.statistics), ""]
    for pair in comparison.pairs:
        values = [decimals(comparison.scores.values[each.name][pair][row]) for each in comparison.statistics]
        lines += [name_pair(comparison, pair), f"  {' / '.join(values)}"]
    size = min(7, 72 * CELL / (LINE * len(lines)), 72 * (NOTES - GAP) / (LETTER * max(map(len, lines))))
    _, right, bottom, top = extent
    canvas.text(
        right + 2 * GAP, (bottom + top) / 2, "\n".join(lines), fontsize=size, va="center", linespacing=LINE
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
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def randomisation_figure(found: Randomisation, comparison: Comparison) -> Figure:
    """Agreement with the trained model's map by stage, each method a curve, beside its bar of chance."""
    figure = Figure(figsize=(9, max(3.2, LEGEND * (2 + len(comparison.titles)))), layout="constrained")
    panels = figure.subplots(1, len(found.agreement), sharey=True)
    at = np.arange(len(found.stages))
    beyond = len(at) + np.linspace(-0.25, 0.75, len(comparison.titles) + 2)[1:-1]
    for axes, (statistic, agreement) in zip(np.atleast_1d(panels), found.agreement.items(), strict=True):
        axes.axvspan(len(at) - 0.5, len(at) + 1, color="0.94", linewidth=0)
        axes.vlines(
            beyond, *found.band(statistic).T, colors=[f"C{index % 10}" for index in range(len(beyond))]
        )
        for index, (title, values) in enumerate(zip(comparison.titles.values(), agreement, strict=True)):
            known = np.isfinite(values).any(axis=1)
            axes.plot(
                at[known],
                np.nanmean(values[known], axis=1),
                marker=MARKERS[index % len(MARKERS)],
                markersize=4,
                color=f"C{index % 10}",
                label=title,
            )
        ticks = [*at, len(at) + 0.25]
        axes.set_xticks(ticks, [*found.stages, "chance"], rotation=60, ha="right", fontsize=8)
        axes.margins(x=0.02)
        axes.set_title(statistic, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("agreement with the trained model's map", fontsize=9)
    figure.supxlabel(f"stage drawn anew ({found.kind})", fontsize=9)
    handles, labels = np.atleast_1d(panels)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def faithfulness_figure(found: Sequence[Faithfulness], comparison: Comparison) -> Figure:
    """What deletion does to the probability, and agreement with the other methods against the gain."""
    figure = Figure(figsize=(9, max(3.4, LEGEND * (3 + len(comparison.titles)))), layout="constrained")
    curves, scatter = figure.subplots(1, 2)
    first = found[0]
    titles = [*comparison.titles.values(), "random order"]
    deletion = first.curves["probability"][:, 0]
    gains = first.gain("probability")
    statistic = comparison.statistics[0]
    for index, title in enumerate(titles):
        known = np.isfinite(deletion[index]).all(axis=1)
        if not known.any():
            continue
        style = (
            {"color": "0.5", "linestyle": "--"}
            if index == len(titles) - 1
            else {"color": f"C{index % 10}", "marker": MARKERS[index % len(MARKERS)]}
        )
        curves.plot(
            100 * first.removed,
            deletion[index][known].mean(axis=0),
            label=title,
            markevery=4,
            markersize=4,
            **style,
        )
        if index == len(titles) - 1:
            continue
        name = list(comparison.titles)[index]
        others = [comparison.summary(statistic.name, pair).mean for pair in known_pairs(comparison, name)]
        gain = summarise(gains[index], level=comparison.measures.level, seed=comparison.measures.seed)
        scatter.vlines(np.mean(others), gain.low, gain.high, color=style["color"])
        scatter.plot(np.mean(others), gain.mean, **style, markersize=6)
    curves.set(
        xlabel=f"pixels removed, most relevant first (%), {first.baseline} baseline", ylabel="probability"
    )
    scatter.axhline(0, color="0.5", linestyle="--", linewidth=1)
    scatter.set(
        xlabel=f"mean {statistic.title(comparison.top)} with the other methods",
        ylabel="gain (insertion less deletion)",
    )
    for axes in (curves, scatter):
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = curves.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def curves_figure(comparison: Comparison) -> Figure:
    """IoU by the share of top pixels, a panel a pair: observed, with another image's map, and by chance."""
    shares = curve_shares(comparison.pixels)
    percent = 100 * np.array(shares)
    measures, curves = comparison.measures, comparison.scores.curves
    tops = [100 * top for top in {each.top or comparison.top for each in comparison.statistics}]
    chance = [IOU.chance(share, comparison.pixels) for share in shares]
    across = min(ACROSS, len(comparison.pairs))
    down = -(-len(comparison.pairs) // across)
    figure = Figure(figsize=(across * PANEL + 1.8, down * PANEL), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    for axes, pair in zip(panels, comparison.pairs, strict=False):
        observed = [
            summarise(values, level=measures.level, seed=measures.seed, resamples=SEVERAL)
            for values in curves["observed"][pair].T
        ]
        low, mean, high = np.transpose([(each.low, each.mean, each.high) for each in observed])
        axes.plot(percent, mean, color="C0", label="the same image")
        axes.fill_between(
            percent, low, high, color="C0", alpha=0.25, linewidth=0, label=level_title(measures)
        )
        if "other_image" in curves:
            floor = [defined_mean(each) for each in curves["other_image"][pair].T]
            axes.plot(percent, floor, color="C1", linestyle="--", label=CONTROL_TITLES["other_image"])
        axes.plot(percent, chance, color="0.5", linestyle=":", label="chance")
        axes.vlines(
            tops, 0, 1, color="0.85", linewidth=0.8, transform=axes.get_xaxis_transform(), label="--top"
        )
        axes.set_title(name_pair(comparison, pair), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels:
        axes.axis("off")
    first = figure.axes[0]
    first.set(xlim=(0, 51), ylim=(0, None))
    figure.supxlabel("top pixels (%)", fontsize=9)
    figure.supylabel("IoU", fontsize=9)
    figure.legend(*first.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return figure


def save(figure: Figure, path: Path, dpi: int, about: str = "") -> None:
    """Write ``figure`` to ``path``, replacing it only once it is complete; ``about`` goes into its metadata.

    Raises:
        UsageError: an unknown suffix.
        XaicmpError: the picture is too large to draw, or the file cannot be written.
    """
    check_name(path)
    check_size(path, tuple(figure.get_size_inches()), dpi)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata={ABOUT[path.suffix.lower()]: about or None})

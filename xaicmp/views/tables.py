"""Rich tables of a comparison and of a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from xaicmp.core.comparison import Comparison, Pair
from xaicmp.core.models import Checkpoint
from xaicmp.core.summary import defined_mean
from xaicmp.core.training import Epoch
from xaicmp.views.files import (
    CONTROL_TITLES,
    CORRECTED,
    caption,
    decimals,
    interval,
    level_title,
    name_pair,
    spread,
)

BESIDE = 2
"""Statistics that fit beside the names of two methods at 80 characters; more have rows of their own."""
WIDEST = 3
"""Pairs that fit beside an image's columns at 80 characters; more are listed below one another."""
MOST = 10
"""Pairs that get several lines each; more get one, and an image the mean over them."""
IN_SHORT = {
    "the same map on this model: an identity, not a finding": "identity",
    "agrees about this image": "agrees",
    "more than chance": "above chance",
    "no more than chance": "as chance",
    "less than chance": "below chance",
    "no more than with another image's map": "as another",
    "less than with another image's map": "below another",
    "too few images to say": "too few",
}
"""What ``Comparison.verdict`` says, in two words."""
COLUMNS = {
    "other_image": "Other\nimage",
    "other_image_same_class": "Same\nclass",
    "shifted": "Shifted",
    "pooled": "Coarser\ngrid",
}
IMAGE = ["id", "label", "predicted", "conf."]
WRONG = "✗ marks a wrong prediction."
FLOORS = "floors, blind to the model"


@dataclass(frozen=True)
class Wide:
    """A table of numbers under a first column of text; what is too wide goes on below, the first column repeated."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        columns = list(range(1, len(self.columns)))
        while columns:
            fit = len(columns)
            while fit > 1 and self._width(console, options, columns[:fit]) > options.max_width:
                fit -= 1
            yield self._part(columns[:fit])
            columns = columns[fit:]

    def _width(self, console: Console, options: ConsoleOptions, columns: Sequence[int]) -> int:
        return Measurement.get(console, options.update(max_width=10_000), self._part(columns)).maximum

    def _part(self, columns: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(self.columns[0])
        for index in columns:
            table.add_column(self.columns[index], justify="right")
        for row in self.rows:
            table.add_row(row[0], *(row[index] for index in columns))
        return table


def pairs_table(comparison: Comparison) -> RenderableType:
    """The published table, a pair's mean ± std of each statistic, and under it what that is worth."""
    if len(comparison.pairs) > MOST:
        return _short(comparison)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Pair")
    beside = comparison.statistics[:BESIDE]
    for statistic in beside:
        table.add_column(statistic.title(comparison.top), justify="right", no_wrap=True)
    apart = _first_floor(comparison)
    for pair in comparison.pairs:
        if pair == apart:
            table.add_row(FLOORS, style="dim", end_section=True)
        results = [comparison.result(statistic, pair) for statistic in beside]
        table.add_row(name_pair(comparison, pair), *(spread(result.summary) for result in results))
        lines = {level_title(comparison.measures): [interval(result.summary) for result in results]}
        for name in comparison.scores.controls:
            lines[CONTROL_TITLES[name]] = [decimals(result.controls[name]) for result in results]
        lines["chance"] = [decimals(result.chance) for result in results]
        lines[CORRECTED] = [decimals(result.corrected) for result in results]
        for title, cells in lines.items():
            table.add_row(f"  {title}", *cells, style="dim")
        table.add_row(f"  {comparison.verdict(pair)}", end_section=True)
    rest = [_more(comparison)] if len(comparison.statistics) > BESIDE else []
    return Group(table, *rest, Text(caption(comparison), style="dim"))


def _first_floor(comparison: Comparison) -> Pair | None:
    """Where the pairs with floors begin, if there are others before them."""
    index = next((i for i, pair in enumerate(comparison.pairs) if comparison.floors.intersection(pair)), 0)
    return comparison.pairs[index] if index else None


def _short(comparison: Comparison) -> RenderableType:
    """A line a pair, under the first of its methods."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Pair")
    beside = comparison.statistics[:BESIDE]
    controlled = "other_image" in comparison.scores.controls
    for index, statistic in enumerate(beside):
        table.add_column(statistic.title(comparison.top), justify="right", no_wrap=True)
        if controlled and index == 0:
            table.add_column("Other\nimage", justify="right")
    table.add_column("Verdict", no_wrap=True)
    apart = _first_floor(comparison)
    first = ""
    for pair in comparison.pairs:
        if pair == apart:
            first = ""
            table.add_section()
            table.add_row(FLOORS, style="dim")
        if pair[0] != first:
            first = pair[0]
            table.add_row(comparison.titles[first])
        results = [comparison.result(statistic, pair) for statistic in beside]
        cells = [spread(result.summary) for result in results]
        if controlled:
            cells.insert(1, decimals(results[0].controls["other_image"]))
        table.add_row(f"  vs {comparison.titles[pair[1]]}", *cells, IN_SHORT[comparison.verdict(pair)])
    other = f"Other image: mean {beside[0].title(comparison.top)} with its map. " if controlled else ""
    note = f"{other}Intervals, the other controls and all statistics are in --format json and csv. "
    return Group(table, "", Text(note + caption(comparison), style="dim"))


def _more(comparison: Comparison) -> Table:
    """The statistics that do not fit beside the first, a row each under the pair."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Pair")
    level, controls = level_title(comparison.measures), comparison.scores.controls
    for title in ("Mean ± std", level, *(COLUMNS[name] for name in controls)):
        table.add_column(title, justify="right")
    for pair in comparison.pairs:
        table.add_row(name_pair(comparison, pair))
        for statistic in comparison.statistics[BESIDE:]:
            result = comparison.result(statistic, pair)
            cells = spread(result.summary), interval(result.summary), *map(decimals, result.controls.values())
            table.add_row(f"  {statistic.title(comparison.top)}", *cells)
    return table


def images_table(comparison: Comparison) -> RenderableType:
    """A row an image: what it is, what it was taken for, and how far each pair agrees on it."""
    if len(comparison.pairs) > WIDEST or len(comparison.statistics) > BESIDE:
        return _listed(comparison)
    # Without edges, an automobile taken for an automobile fits in 80 columns.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in IMAGE:
        table.add_column(title, justify="right" if title in ("id", "conf.") else "left")
    for pair in comparison.pairs:
        a, b = (comparison.titles[name] for name in pair)
        table.add_column(f"{a}\nvs {b}", justify="right")
    for row in range(len(comparison.chosen)):
        values = ("/".join(_values(comparison, pair, row)) for pair in comparison.pairs)
        table.add_row(*_image_cells(comparison, row), *values)
    titles = "/".join(statistic.title(comparison.top) for statistic in comparison.statistics)
    note = f"{titles} of each pair. {WRONG} {comparison.source.about}"
    return Group(table, "", Text(note, style="dim"))


def _listed(comparison: Comparison) -> RenderableType:
    """A column a statistic, and the pairs below their image, or its mean over them where they are too many."""
    pairs, note = comparison.pairs, ""
    if many := len(pairs) > MOST:
        pairs = tuple(pair for pair in pairs if not comparison.floors.intersection(pair)) or pairs
        note = f"Mean over {len(pairs)} pairs, where they are defined; --format json has each. "
    lines = [IMAGE, *(list(map(str, _image_cells(comparison, row))) for row in range(len(comparison.chosen)))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    heading, *images = (
        "  ".join([first.rjust(widths[0]), *map(str.ljust, rest, widths[1:])]) for first, *rest in lines
    )
    rows: list[list[str]] = []
    for row, image in enumerate(images):
        if many:
            scores = comparison.scores.values
            means = (
                defined_mean(np.array([scores[each.name][pair][row] for pair in pairs]))
                for each in comparison.statistics
            )
            rows.append([image, *map(decimals, means)])
        else:
            rows.append([image, *[""] * len(comparison.statistics)])
            rows += [[f"  {name_pair(comparison, pair)}", *_values(comparison, pair, row)] for pair in pairs]
    titles = [statistic.title(comparison.top) for statistic in comparison.statistics]
    about = Text(f"{note}{WRONG} {comparison.source.about}", style="dim")
    return Group(Wide([heading, *titles], rows), "", about)


def _image_cells(comparison: Comparison, row: int) -> list[RenderableType]:
    chosen, classes = comparison.chosen, comparison.source.classes
    predicted = classes[chosen.predicted[row]]
    return [
        str(chosen.ids[row]),
        classes[chosen.labels[row]],
        Text(f"{predicted} ✗", style="red") if chosen.wrong[row] else predicted,
        decimals(chosen.confidence[row]),
    ]


def _values(comparison: Comparison, pair: tuple[str, str], row: int) -> list[str]:
    return [
        decimals(comparison.scores.values[statistic.name][pair][row]) for statistic in comparison.statistics
    ]


def checkpoint_table(checkpoint: Checkpoint) -> Table:
    """Everything that a checkpoint records of itself, a row a value."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_row("path", str(checkpoint.path))
    table.add_row("sha256", checkpoint.sha256)
    for name, value in checkpoint.metadata.items():
        if name == "history":
            value = ", ".join(f"{100 * epoch['test_accuracy']:.2f}%" for epoch in value)
            name = "test accuracy by epoch"
        elif isinstance(value, dict):
            value = ", ".join(f"{key} {each}" for key, each in value.items())
        elif isinstance(value, list):
            value = ", ".join(f"{each:.4g}" if isinstance(each, float) else str(each) for each in value)
        table.add_row(name.replace("_", " "), Text(str(value)))
    return table


def epochs_table(epochs: Sequence[Epoch], *, header: bool = True) -> Table:
    """A row an epoch, in columns of fixed width, so that rows printed one by one make one table."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_header=header)
    for title in ("Epoch", "Loss", "Train acc.", "Test acc.", "Seconds", "Images/s"):
        table.add_column(title, justify="right", width=10)
    for epoch in epochs:
        table.add_row(
            str(epoch.epoch),
            f"{epoch.loss:.4f}",
            f"{100 * epoch.train_accuracy:.2f}%",
            f"{100 * epoch.test_accuracy:.2f}%",
            f"{epoch.seconds:.1f}",
            f"{epoch.images_per_second:.0f}",
        )
    return table

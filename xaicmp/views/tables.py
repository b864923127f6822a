"""Rich tables of a comparison and of a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xaicmp.core.comparison import Comparison, Pair
from xaicmp.core.models import Checkpoint
from xaicmp.core.training import Epoch
from xaicmp.views.files import CONTROL_TITLES, caption, decimals, interval, level_title, name_pair, spread

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
FLOORS = "floors, blind to the model"


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
    controlled = "other_image" in comparison.scores.controls
    table.add_column("Pair")
    level = level_title(comparison.measures)
    for title in ("Mean ± std", level, *(["Other image"] if controlled else [])):
        table.add_column(title, justify="right")
    for pair in comparison.pairs:
        table.add_row(name_pair(comparison, pair))
        for statistic in comparison.statistics[BESIDE:]:
            result = comparison.result(statistic, pair)
            cells = [spread(result.summary), interval(result.summary)]
            if controlled:
                cells.append(decimals(result.controls["other_image"]))
            table.add_row(f"  {statistic.title(comparison.top)}", *cells)
    return table


def images_table(comparison: Comparison) -> RenderableType:
    """A row an image: what it is, what it was taken for, and how far each pair agrees on it."""
    # Without edges, an automobile taken for an automobile fits in 80 columns.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("id", justify="right")
    table.add_column("label")
    table.add_column("predicted")
    table.add_column("conf.", justify="right")
    pairs = comparison.pairs
    wide = len(pairs) <= WIDEST
    if len(pairs) > MOST:
        return _means(comparison, table)
    if wide:
        for pair in pairs:
            a, b = (comparison.titles[name] for name in pair)
            table.add_column(f"{a}\nvs {b}", justify="right")
    else:
        table.add_column("pair")
        for statistic in comparison.statistics:
            table.add_column(statistic.title(comparison.top), justify="right")
    for row in range(len(comparison.chosen)):
        image = _image_cells(comparison, row)
        values = {pair: _values(comparison, pair, row) for pair in pairs}
        if wide:
            table.add_row(*image, *("/".join(cells) for cells in values.values()))
        else:
            for index, (pair, cells) in enumerate(values.items()):
                table.add_row(*(image if index == 0 else [""] * 4), name_pair(comparison, pair), *cells)
    titles = "/".join(statistic.title(comparison.top) for statistic in comparison.statistics)
    how = f"{titles} of each pair. " if wide else ""
    return Group(table, "", Text(f"{how}✗ marks a wrong prediction. {comparison.source.about}", style="dim"))


def _means(comparison: Comparison, table: Table) -> RenderableType:
    """``table`` with an image's mean over the pairs, for there are too many to show."""
    pairs = [
        pair for pair in comparison.pairs if not comparison.floors.intersection(pair)
    ] or comparison.pairs
    for statistic in comparison.statistics:
        table.add_column(statistic.title(comparison.top), justify="right")
    values = [
        np.ma.masked_invalid([comparison.scores.values[statistic.name][pair] for pair in pairs])
        .mean(axis=0)
        .filled(np.nan)
        for statistic in comparison.statistics
    ]
    for row in range(len(comparison.chosen)):
        table.add_row(*_image_cells(comparison, row), *(decimals(each[row]) for each in values))
    note = (
        f"Mean over {len(pairs)} pairs, where they are defined; --format json has each. "
        f"✗ marks a wrong prediction. {comparison.source.about}"
    )
    return Group(table, "", Text(note, style="dim"))


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

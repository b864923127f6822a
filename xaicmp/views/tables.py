"""Rich tables of a comparison and of a training."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xaicmp.core.agreement import STATISTICS
from xaicmp.core.attribution import METHODS
from xaicmp.core.models import Checkpoint
from xaicmp.core.pipeline import Comparison
from xaicmp.core.training import Epoch
from xaicmp.views.files import caption, decimals, name_pair, provenance, spread

WIDEST = 3
"""Pairs that fit beside an image's columns at 80 characters; more are listed below one another."""


def pairs_table(comparison: Comparison) -> RenderableType:
    """The published table: a row a pair, mean ± std of each statistic."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Pair")
    for statistic in STATISTICS:
        table.add_column(statistic.title(comparison.top), justify="right", no_wrap=True)
    for pair in comparison.pairs:
        table.add_row(
            name_pair(pair), *(spread(comparison, statistic.name, pair) for statistic in STATISTICS)
        )
    return Group(table, Text(caption(comparison), style="dim"))


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
    if wide:
        for pair in pairs:
            a, b = (METHODS[name].title for name in pair)
            table.add_column(f"{a}\nvs {b}", justify="right")
    else:
        table.add_column("pair")
        for statistic in STATISTICS:
            table.add_column(statistic.title(comparison.top), justify="right")
    for row in range(len(comparison.chosen)):
        image = _image_cells(comparison, row)
        values = {pair: _values(comparison, pair, row) for pair in pairs}
        if wide:
            table.add_row(*image, *("/".join(cells) for cells in values.values()))
        else:
            for index, (pair, cells) in enumerate(values.items()):
                table.add_row(*(image if index == 0 else [""] * 4), name_pair(pair), *cells)
    titles = "/".join(statistic.title(comparison.top) for statistic in STATISTICS)
    how = f"{titles} of each pair. " if wide else ""
    return Group(table, "", Text(f"{how}✗ marks a wrong prediction. {provenance(comparison)}", style="dim"))


def _image_cells(comparison: Comparison, row: int) -> list[RenderableType]:
    chosen, classes = comparison.chosen, comparison.images.classes
    predicted = classes[chosen.predicted[row]]
    return [
        str(chosen.ids[row]),
        classes[chosen.labels[row]],
        Text(f"{predicted} ✗", style="red") if chosen.wrong[row] else predicted,
        decimals(chosen.confidence[row]),
    ]


def _values(comparison: Comparison, pair: tuple[str, str], row: int) -> list[str]:
    return [decimals(comparison.scores.values[statistic.name][pair][row]) for statistic in STATISTICS]


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

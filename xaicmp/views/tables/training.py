"""A training: what a checkpoint records, and its epochs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich import box
from rich.table import Table
from rich.text import Text

from xaicmp.core.models.checkpoint import Checkpoint
from xaicmp.core.training.loop import Epoch
from xaicmp.views.table import csv_table


def history_text(history: Sequence[Epoch], suffix: str) -> str:
    """A training's epochs as JSON (``".json"``) or CSV."""
    rows = [asdict(epoch) for epoch in history]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n" if suffix == ".json" else csv_table(rows)


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

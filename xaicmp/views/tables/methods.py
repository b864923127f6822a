"""The registry of explanation methods, as a table and in the other formats."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.plugins import entry_points
from xaicmp.views.table import csv_table, markdown_table

COLUMNS = ("name", "family", "needs", "cost", "reduction", "paper")

SHOWN = ("name", "needs", "cost", "paper")

"""What fits into 80 columns; the family is a heading."""


def _rows() -> list[dict[str, str]]:
    """A row a method, those of installed plug-ins last."""
    every = {**METHODS, **entry_points()}
    return [{column: getattr(method, column) for column in COLUMNS} for method in every.values()]


def methods_table() -> RenderableType:
    """For a terminal; a section a family."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in SHOWN:
        table.add_column(column.capitalize(), no_wrap=column == "name")
    family = ""
    for row in _rows():
        if row["family"] != family:
            family = row["family"]
            table.add_section()
            table.add_row(f"[bold]{family}[/]")
        shown = row | {"paper": re.sub(r' "[^"]*",', "", row["paper"])}
        table.add_row(*(shown[column] for column in SHOWN))
    note = (
        "Cost: passes through the model an image, forward or backward. "
        "The papers' titles and the reductions are in --format json, csv and markdown."
    )
    return Group(table, "", Text(note, style="dim"))


WRITERS: dict[str, Callable[[], str]] = {
    "json": lambda: json.dumps(_rows(), indent=2) + "\n",
    "csv": lambda: csv_table(_rows()),
    "markdown": lambda: markdown_table(list(COLUMNS), [list(row.values()) for row in _rows()]),
}

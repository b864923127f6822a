"""A table of text and numbers, and the formats it is written in.

To add a format, decorate a function ``Table -> str`` with ``@table_format(name)``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

Cell = str | int | float | None
FORMATS: dict[str, Callable[[Table], str]] = {}


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings.

    Attributes:
        columns: the headings.
        rows: a cell per column. Text from outside is text: no format takes it for markup.
        title, note: what stands above and below.
        left: how many columns, from the first on, are text and are repeated where the others continue below.
        data: the same as plain values, for documents.
        key: its name in documents.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    left: int = 1
    data: Any = None
    key: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """For a terminal: what is too wide continues below, with the first columns repeated; nothing is cut."""
        if self.title:
            yield Text(self.title, style="bold")
        columns = list(range(self.left, len(self.columns)))
        if not columns:
            yield self._part([])
        while columns:
            fit = len(columns)
            while fit > 1 and self._width(console, options, columns[:fit]) > options.max_width:
                fit -= 1
            yield self._part(columns[:fit])
            columns = columns[fit:]
        if self.note:
            yield Text("")
            yield Text(self.note, style="dim")

    def width(self, console: Console, options: ConsoleOptions) -> int:
        """The characters that it takes in one piece."""
        return self._width(console, options, list(range(self.left, len(self.columns))))

    def _width(self, console: Console, options: ConsoleOptions, columns: Sequence[int]) -> int:
        return Measurement.get(console, options.update(max_width=10_000), self._part(columns)).maximum

    def _part(self, columns: Sequence[int]) -> RichTable:
        table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for index in (*range(self.left), *columns):
            table.add_column(
                Text(self.columns[index]),
                justify="left" if index < self.left else "right",
                overflow="fold",
                no_wrap=index == 0,
            )
        for row in self.rows:
            table.add_row(*(Text(shown(row[index])) for index in (*range(self.left), *columns)))
        return table


def table_format(name: str) -> Callable[[Callable[[Table], str]], Callable[[Table], str]]:
    """Enter the decorated function into ``FORMATS``."""

    def register(function: Callable[[Table], str]) -> Callable[[Table], str]:
        FORMATS[name] = function
        return function

    return register


@table_format("table")
def to_text(table: RenderableType, width: int = 80) -> str:
    """As on a terminal of so many characters, without colours."""
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return cast(io.StringIO, console.file).getvalue()


@table_format("markdown")
def to_markdown(table: Table) -> str:
    """A heading, if there is one, the table and its note."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    body = "".join(f"| {' | '.join(map(_markdown_cell, cells))} |\n" for cells in lines)
    title = f"\n### {table.title}\n\n" if table.title else ""
    return title + body + (f"\n{table.note}\n" if table.note else "")


@table_format("csv")
def to_csv(table: Table) -> str:
    """The cells alone. Text that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([map(_csv_cell, row) for row in table.rows])
    return text.getvalue()


def of_records(records: Sequence[dict[str, Any]]) -> Table:
    """A column per key of the first record, a row per record."""
    return Table(list(records[0]), [list(each.values()) for each in records])


def shown(cell: Cell) -> str:
    """A cell as text, nothing for what is undefined."""
    return "" if cell is None else str(cell)


def _markdown_cell(cell: Cell) -> str:
    return re.sub(r"\s*\n\s*", " ", shown(cell)).replace("|", "\\|")


def _csv_cell(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell

"""A table of text and numbers, and the formats it is written in."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


def csv_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows, under the keys of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


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


@dataclass(frozen=True)
class Study:
    """One table.

    Attributes:
        key: its name in documents.
        title, columns, rows, note: as they are shown.
        data: the same as plain values.
        draw: makes its picture, if it has one.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    note: str
    data: Any
    draw: Callable[[], Figure] | None = None

    def table(self) -> RenderableType:
        """For a terminal; the first column is text, the others are numbers."""
        return Group(
            Text(self.title, style="bold"), Wide(self.columns, self.rows), Text(self.note, style="dim"), ""
        )

    def markdown(self) -> str:
        """A heading, the table and its note."""
        rows = [list(row) for row in self.rows]
        return f"\n### {self.title}\n\n{markdown_table(list(self.columns), rows)}\n{self.note}\n"

"""A table of text and numbers, and the formats it is written in.

To add a format, decorate a function ``Table -> str`` with ``@table_format(name)``.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

Cell = str | int | float | None
Renderer = Callable[..., str]
"""``Table -> str``."""
AnyRenderer = TypeVar("AnyRenderer", bound=Renderer)
FORMATS: dict[str, Renderer] = {}
RECORDS: set[str] = set()
"""The formats for programs: they take every value of a comparison, unrounded."""
SUFFIXES: dict[str, str] = {".json": "json"}
"""The formats of files. JSON is the document itself, not a table."""
GAP = "  "
FORMULA = re.compile(r"(?![+-]\d+(\.\d*)?([eE][+-]?\d+)?\Z)[=+\-@\t\r\n]")
"""The beginning of text that a spreadsheet would compute and that is no number."""
LATEX = str.maketrans(
    {each: f"\\{each}" for each in "&%$#_{}"}
    | {each: f"${each}$" for each in "<>|"}
    | {"[": "{[}", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "·": r"$\cdot$", "✗": r"$\times$", "τ": r"$\tau$"}
)


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings.

    Attributes:
        columns: the headings.
        rows: a cell per column. Text from outside is text: no format takes it for markup.
        title, note: what stands above and below.
        left: how many columns, from the first on, are text and are repeated where the others continue below.
        sections: headings of groups of rows, by the number of the first row of each.
        beneath: the columns that stand beneath the one before them where the table is too wide otherwise.
        header: whether a terminal shows the headings.
        data: the same as plain values, for documents.
        key: its name in documents.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    left: int = 1
    sections: Mapping[int, str] = field(default_factory=dict)
    beneath: Collection[int] = ()
    header: bool = True
    data: Any = None
    key: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """For a terminal: what is too wide continues below, with the first columns repeated; nothing is cut."""
        if self.title:
            yield from _lines(self.title, options.max_width, "bold")
        yield from Layout.of(self, options.max_width).lines(options.max_width)
        if self.note:
            yield ""
            yield from _lines(self.note, options.max_width, "dim")

    def stacked(self) -> list[list[int]]:
        """The columns, each with those that stand beneath it."""
        groups: list[list[int]] = []
        for index in range(len(self.columns)):
            if index in self.beneath:
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def sectioned(self) -> Iterator[tuple[str | None, Sequence[Cell]]]:
        """Each row after the heading of the section that begins with it, if one does."""
        return ((self.sections.get(index), row) for index, row in enumerate(self.rows))


def data_of(studies: Iterable[Table]) -> dict[str, Any]:
    """What documents hold of studies, by key."""
    return {each.key: each.data for each in studies}


@dataclass(frozen=True)
class Layout:
    """Where the columns of a table stand on a terminal.

    Attributes:
        table: what is shown.
        groups: the columns, those that stand beneath another with it.
        widths: of the groups.
        blocks: numbers of the groups that stand side by side, below one another.
    """

    table: Table
    groups: Sequence[Sequence[int]]
    widths: Sequence[int]
    blocks: Sequence[Sequence[int]]

    @classmethod
    def of(cls, table: Table, room: int) -> Layout:
        """All columns side by side if there is room; else with some beneath others; else in blocks."""
        every = range(len(table.columns))
        side_by_side = cls._fill(table, [[index] for index in every], room)
        if len(side_by_side.blocks) == 1 or not table.beneath:
            return side_by_side
        return cls._fill(table, table.stacked(), room, wrap=True)

    @classmethod
    def _fill(cls, table: Table, groups: Sequence[Sequence[int]], room: int, wrap: bool = False) -> Layout:
        """As many columns per block as fit; ``wrap``: rows have several lines anyhow, so that names may too."""
        rows = [table.columns, *table.rows] if table.header else table.rows
        texts = [[_cell(row, group) for row in rows] for group in groups]
        widths, words = (
            [max((cell_len(part) for text in column for part in split(text)), default=1) for column in texts]
            for split in (str.splitlines, str.split)
        )
        left, gap = range(table.left), len(GAP)
        rest = range(table.left, len(groups))
        needed = sum(widths[index] + gap for index in rest)
        taken = sum(widths[index] + gap for index in left) - (0 if rest else gap)
        if taken + needed - gap > room:
            one_block = room - needed + gap
            least = taken // 2 + 2 * gap if wrap else taken
            allowed = one_block if least <= one_block else taken if not rest else max(room // 2, 8)
            _shrink(widths, left, words, min(allowed, room) - gap * (len(left) - (0 if rest else 1)))
        taken = sum(widths[index] + gap for index in left)
        blocks: list[list[int]] = []
        used = room + 1
        for index in rest:
            widths[index] = max(1, min(widths[index], room - taken))
            if used + gap + widths[index] > room:
                blocks.append([*left])
                used = taken - gap
            blocks[-1].append(index)
            used += gap + widths[index]
        return cls(table, groups, widths, blocks or [[*left]])

    def lines(self, room: int) -> Iterator[Text]:
        """The whole, line by line; the headings of sections have all the room."""
        for number, block in enumerate(self.blocks):
            if number:
                yield Text("")
            if self.table.header:
                yield from self._row(self.table.columns, block, bottom=True)
                total = sum(self.widths[index] for index in block) + len(GAP) * (len(block) - 1)
                yield Text("─" * total)
            for heading, row in self.table.sectioned():
                if heading is not None:
                    yield from _lines(heading, room, "bold")
                yield from self._row(row, block)

    def _row(self, row: Sequence[Cell], block: Sequence[int], bottom: bool = False) -> Iterator[Text]:
        cells = [_wrapped(_cell(row, self.groups[index]), self.widths[index]) for index in block]
        height = max(map(len, cells))
        for lines in cells:
            missing = [""] * (height - len(lines))
            lines[:] = [*missing, *lines] if bottom else [*lines, *missing]
        for parts in zip(*cells, strict=True):
            line = ""
            for index, part in zip(block, parts, strict=True):
                padding = " " * (self.widths[index] - cell_len(part))
                line += (part + padding if index < self.table.left else padding + part) + GAP
            text = Text(line.rstrip(), no_wrap=True)
            text.highlight_words(["✗"], "red")
            yield text


def table_format(name: str, suffix: str = "", records: bool = False) -> Callable[[AnyRenderer], AnyRenderer]:
    """Enter the decorated function into ``FORMATS``.

    Args:
        name: of the format.
        suffix: of its files, if there are any, as ``".md"``.
        records: whether it is for programs, see ``RECORDS``.
    """

    def register(function: AnyRenderer) -> AnyRenderer:
        FORMATS[name] = function
        if suffix:
            SUFFIXES[suffix] = name
        if records:
            RECORDS.add(name)
        return function

    return register


@table_format("table")
def to_text(table: Table, width: int | None = None) -> str:
    """As on a terminal of ``width`` characters, without colours; by default for this one."""
    console = Console() if width is None else Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@table_format("csv", ".csv", records=True)
def to_csv(table: Table) -> str:
    """The cells alone. Text that a spreadsheet would take for a formula, but no number, begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([map(_csv_cell, row) for row in (table.columns, *table.rows)])
    return text.getvalue()


@table_format("markdown", ".md")
def to_markdown(table: Table) -> str:
    """A heading, if there is one, the table and its note; a section's heading is a row of its own."""
    lines: list[Sequence[Cell]] = [table.columns, ["---"] * len(table.columns)]
    for heading, row in table.sectioned():
        if heading is not None:
            lines.append([heading, *[""] * (len(table.columns) - 1)])
        lines.append(row)
    body = "".join(f"| {' | '.join(map(_markdown_cell, cells))} |\n" for cells in lines)
    title = f"### {printable(table.title)}\n\n" if table.title else ""
    return title + body + (f"\n{printable(table.note)}\n" if table.note else "")


@table_format("html")
def to_html(table: Table) -> str:
    """A ``table`` element and its note, to stand in a page; a section is a body of its own."""
    columns = "".join(f'<th scope="col">{_html(each)}</th>' for each in table.columns)
    caption = f"<caption>{_html(table.title)}</caption>\n" if table.title else ""
    lines = [f"<table>\n{caption}<thead><tr>{columns}</tr></thead>\n<tbody>"]
    for heading, row in table.sectioned():
        if heading is not None:
            span = f'<th colspan="{len(table.columns)}" scope="rowgroup">{_html(heading)}</th>'
            lines.append(f"</tbody>\n<tbody>\n<tr>{span}</tr>")
        cells = [_html(each) for each in row]
        heads = "".join(f'<th scope="row">{each}</th>' for each in cells[: table.left])
        others = "".join(f"<td>{each}</td>" for each in cells[table.left :])
        lines.append(f"<tr>{heads}{others}</tr>")
    note = f"<p>{_html(table.note)}</p>\n" if table.note else ""
    return "\n".join(lines) + f"\n</tbody>\n</table>\n{note}"


def of_records(records: Sequence[Mapping[str, Any]]) -> Table:
    """One column per key of the first record, one row per record."""
    return Table(list(records[0]), [list(each.values()) for each in records])


def printable(text: str) -> str:
    """Without the characters that would steer a terminal."""
    return "".join(
        each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def _shown(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def _cell(row: Sequence[Cell], group: Sequence[int]) -> str:
    """The cells of a group, below one another."""
    return printable("\n".join(_shown(row[index]) for index in group))


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many characters, broken between words where that is possible."""
    found: list[str] = []
    for line in text.split("\n"):
        if cell_len(line) <= width:
            found.append(line)
        else:
            wrapped = Text(line).wrap(Console(width=width), width, overflow="fold")
            found += [each.plain.rstrip() for each in wrapped]
    return found


def _lines(text: str, width: int, style: str) -> Iterator[Text]:
    return (Text(line, style=style) for line in _wrapped(printable(text), width))


def _shrink(widths: list[int], columns: Sequence[int], words: Sequence[int], total: int) -> None:
    """Make the widest of the columns narrower until all fit into ``total``; words are broken last."""
    while sum(widths[index] for index in columns) > max(total, len(columns)):
        whole = [index for index in columns if widths[index] > words[index]] or columns
        widths[max(whole, key=lambda index: widths[index])] -= 1


def _html(cell: Cell) -> str:
    return html.escape(" ".join(printable(_shown(cell)).split()))


def _markdown_cell(cell: Cell) -> str:
    """On one line, without markup; a space at its beginning stays, as beneath a section."""
    text = re.sub(r"\s*\n\s*", " ", printable(_shown(cell)))
    return re.sub(r"([\\|<`]|\[(?=.*\]\())", r"\\\1", text)


def _csv_cell(cell: Cell) -> Cell:
    if isinstance(cell, bool):
        return str(cell).lower()
    if not isinstance(cell, str):
        return cell
    return f"'{printable(cell)}" if FORMULA.match(cell) else printable(cell)


@table_format("latex", ".tex")
def to_latex(table: Table) -> str:
    """A ``table`` of the package booktabs, its title and note the caption; in columns as narrow as on a terminal."""
    groups = table.stacked()
    lines = []
    for heading, row in table.sectioned():
        if heading is not None:
            lines.append(rf"\multicolumn{{{len(groups)}}}{{l}}{{{_latex(heading)}}} \\")
        lines += _latex_rows(row, groups)
    parts = (
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_latex(f'{table.title} {table.note}')}}}",
        rf"\begin{{tabular}}{{{'l' * table.left}{'r' * (len(groups) - table.left)}}}",
        r"\toprule",
        *_latex_rows(table.columns, groups),
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    )
    return "".join(f"{part}\n" for part in parts)


def _latex_rows(row: Sequence[Cell], groups: Sequence[Sequence[int]]) -> Iterator[str]:
    """A row, and below it what stands beneath its cells."""
    for line in zip_longest(*groups):
        yield " & ".join("" if index is None else _latex(_shown(row[index])) for index in line) + r" \\"


def _latex(text: str) -> str:
    """Escaped, in one line; a minus before a digit is one, and a lone dash is as wide."""
    escaped = " ".join(printable(text).split()).translate(LATEX)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", "--" if escaped == "-" else escaped)

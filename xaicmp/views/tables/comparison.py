"""A comparison, one row per pair of methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult

from xaicmp.core.agreement.controls import SHORT_TITLES, TITLES
from xaicmp.core.agreement.statistic import Statistic
from xaicmp.core.results.comparison import Comparison
from xaicmp.views.document import document, flat, source
from xaicmp.views.table import Table, of_records, to_csv, to_markdown
from xaicmp.views.text import (
    CORRECTED,
    caption,
    decimals,
    interval,
    level_title,
    name_pair,
    spread,
)

MATRIX = 7
"""From so many methods on, the pairs are shown as a matrix."""
MODEL_FREE = "Model-free methods:"


@dataclass(frozen=True)
class Pairs:
    """A comparison for a terminal: one row per pair, a matrix of many methods, or with details every control."""

    comparison: Comparison
    details: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        comparison = self.comparison
        if self.details:
            yield details_table(comparison)
        elif len(comparison.titles) >= MATRIX:
            yield matrix_table(comparison)
        else:
            wide = wide_table(comparison)
            fits = wide.width(console, options) <= options.max_width
            yield wide if fits and len(comparison.statistics) <= 2 else narrow_table(comparison)


def wide_table(comparison: Comparison) -> Table:
    """One row per pair, the statistics side by side."""
    columns, rows = ["Pair"], [[name_pair(comparison, pair)] for pair in comparison.pairs]
    for statistic in comparison.statistics:
        columns += [statistic.title(comparison.top), *_headings(comparison)[1:]]
        for row, cells in zip(rows, _cells(comparison, statistic), strict=True):
            row += cells
    for row, pair in zip(rows, comparison.pairs, strict=True):
        row.append(comparison.verdict(pair).short)
    if apart := _apart(comparison):
        rows.insert(apart, [MODEL_FREE, *[""] * len(columns)])
    return Table([*columns, "Verdict"], rows, note=_note(comparison))


def narrow_table(comparison: Comparison) -> Table:
    """One row per pair and statistic."""
    rows: list[list[str]] = []
    by_statistic = [_cells(comparison, each) for each in comparison.statistics]
    for index, pair in enumerate(comparison.pairs):
        if index and index == _apart(comparison):
            rows.append([MODEL_FREE, *[""] * (2 + len(_headings(comparison)))])
        for number, statistic in enumerate(comparison.statistics):
            name, verdict = name_pair(comparison, pair), comparison.verdict(pair).short
            first = [name, verdict] if number == 0 else ["", ""]
            title = statistic.title(comparison.top)
            rows.append([first[0], title, *by_statistic[number][index], first[1]])
    columns = ["Pair", "", *_headings(comparison), "Verdict"]
    return Table(columns, rows, note=_note(comparison), left=2)


def details_table(comparison: Comparison) -> Table:
    """One row per pair and statistic, with every control and chance."""
    controls = list(comparison.scores.controls)
    rows: list[list[str]] = []
    for pair in comparison.pairs:
        empty = [""] * (4 + len(controls))
        rows.append([name_pair(comparison, pair), *empty])
        for statistic in comparison.statistics:
            result = comparison.result(statistic, pair)
            values = [*result.controls.values(), result.chance, result.corrected]
            cells = [spread(result.summary), interval(result.summary), *map(decimals, values)]
            rows.append([f"  {statistic.title(comparison.top)}", *cells])
        rows.append([f"  {comparison.verdict(pair).short}", *empty])
    columns = ["Pair", "Mean ± std", level_title(comparison.settings)]
    columns += [*(SHORT_TITLES[name] for name in controls), "Chance", "Corrected"]
    return Table(columns, rows, note=caption(comparison))


def matrix_table(comparison: Comparison) -> Table:
    """Methods down and across: the mean of the first statistic above the diagonal, of the second below."""
    names = list(comparison.titles)
    above, below = comparison.statistics[0], comparison.statistics[:2][-1]
    rows: list[list[str]] = []
    for i, a in enumerate(names):
        row = [f"{i + 1} {comparison.titles[a]}"]
        for j, b in enumerate(names):
            pair = (a, b) if i < j else (b, a)
            statistic = above if i < j else below
            row.append("·" if i == j else decimals(comparison.summary(statistic.name, pair).mean, 2))
        rows.append(row)
    titles = [each.title(comparison.top) for each in (above, below)]
    which = f"Mean {titles[0]} above the diagonal, {titles[1]} below. " if above is not below else titles[0]
    note = f"{which}Every pair with its interval and controls: --details, or --format json. "
    return Table(
        ["Method", *(str(index + 1) for index in range(len(names)))], rows, note=note + caption(comparison)
    )


def _apart(comparison: Comparison) -> int:
    """Where the pairs with model-free methods begin, 0 if there are none before them."""
    pairs = enumerate(comparison.pairs)
    return next((index for index, pair in pairs if comparison.floors.intersection(pair)), 0)


def _headings(comparison: Comparison) -> list[str]:
    control = ["Other\nimage"] if "other_image" in comparison.scores.controls else []
    return ["Mean ± std", level_title(comparison.settings), *control]


def _cells(comparison: Comparison, statistic: Statistic) -> list[list[str]]:
    """Of each pair: mean ± std, interval, and the mean with another image's map."""
    found = []
    for pair in comparison.pairs:
        result = comparison.result(statistic, pair)
        control = [decimals(result.controls[name]) for name in result.controls if name == "other_image"]
        found.append([spread(result.summary), interval(result.summary), *control])
    return found


def _note(comparison: Comparison) -> str:
    if "other_image" not in comparison.scores.controls:
        return caption(comparison)
    return f"{caption(comparison)} Other image: with the other method's map of another image."


def pairs_csv(comparison: Comparison, studies: Sequence[Table] = ()) -> str:
    """One row per pair; empty where undefined. The studies are left out."""
    records: list[dict[str, Any]] = []
    for pair in document(comparison)["pairs"]:
        row = {"a": pair["a"], "b": pair["b"], "n": len(comparison.predictions)}
        for statistic in comparison.statistics:
            row |= flat(statistic.name, pair[statistic.name])
        row |= {"identity": str(pair["identity"]).lower(), "verdict": pair["verdict"]}
        records.append(row | {"top": comparison.top} | source(comparison))
    return to_csv(of_records(records))


def pairs_markdown(comparison: Comparison, studies: Sequence[Table] = ()) -> str:
    """The published table with what it is worth, its caption, and the studies."""
    header, rows = ["Pair"], [[name_pair(comparison, pair)] for pair in comparison.pairs]
    for statistic in comparison.statistics:
        header += [statistic.title(comparison.top), level_title(comparison.settings)]
        for row, pair in zip(rows, comparison.pairs, strict=True):
            result = comparison.result(statistic, pair)
            row += [spread(result.summary), interval(result.summary)]
            row += map(decimals, (*result.controls.values(), result.chance, result.corrected))
        header += [*(TITLES[name] for name in comparison.scores.controls), "chance", CORRECTED]
    for row, pair in zip(rows, comparison.pairs, strict=True):
        row.append(comparison.verdict(pair).long)
    table = Table([*header, "Verdict"], rows, note=caption(comparison))
    return "".join(map(to_markdown, (table, *studies)))

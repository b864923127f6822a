"""A comparison, one row per pair of methods."""

from __future__ import annotations

from collections import Counter

from xaicmp.core.agreement.controls import SHORT_TITLES
from xaicmp.core.agreement.statistic import Pair, Statistic
from xaicmp.core.results.comparison import Comparison
from xaicmp.views.document import document, flat, source
from xaicmp.views.table import Table, of_records
from xaicmp.views.text import caption, decimals, interval, level_title, name_pair, spread

BESIDE = 2
"""So many statistics stand beside each other; of more, each has a row of its own."""
MATRIX = 7
"""From so many methods on, the pairs are shown as a matrix."""
CONTROL = "other_image"
"""The control that the verdict is about."""


def pairs_table(comparison: Comparison, details: bool = False) -> Table:
    """One row per pair and its verdict; a matrix of many methods; with ``details`` every control."""
    if details or (len(comparison.titles) < MATRIX and len(comparison.statistics) > BESIDE):
        return _by_statistic(comparison, details)
    return _matrix(comparison) if len(comparison.titles) >= MATRIX else _side_by_side(comparison)


def _side_by_side(comparison: Comparison) -> Table:
    columns, beneath = ["Pair"], []
    rows = [[name_pair(comparison, pair)] for pair in comparison.pairs]
    controls = [name for name in comparison.scores.controls if name == CONTROL]
    for statistic in comparison.statistics:
        columns += [statistic.title(comparison.top), level_title(comparison.settings)]
        beneath.append(len(columns) - 1)
        columns += [SHORT_TITLES[name] for name in controls]
        for row, pair in zip(rows, comparison.pairs, strict=True):
            row += _cells(comparison, statistic, pair, controls)
    for row, pair in zip(rows, comparison.pairs, strict=True):
        row.append(comparison.verdict(pair).short)
    columns.append("Verdict")
    index = next((i for i, pair in enumerate(comparison.pairs) if comparison.floors.intersection(pair)), 0)
    sections = {index: "Model-free methods:"} if index else {}
    return Table(columns, rows, note=caption(comparison), sections=sections, beneath=beneath)


def _by_statistic(comparison: Comparison, details: bool) -> Table:
    """One row per pair and statistic, under the pair and its verdict."""
    rows: list[list[str]] = []
    sections = {}
    controls = [name for name in comparison.scores.controls if details or name == CONTROL]
    for pair in comparison.pairs:
        verdict = comparison.verdict(pair)
        sections[len(rows)] = f"{name_pair(comparison, pair)}: {verdict.long if details else verdict.short}"
        for statistic in comparison.statistics:
            cells = _cells(comparison, statistic, pair, controls)
            if details:
                result = comparison.result(statistic, pair)
                cells += map(decimals, (result.chance, result.corrected))
            rows.append([f"  {statistic.title(comparison.top)}", *cells])
    columns = ["Pair", "Mean ± std", level_title(comparison.settings)]
    columns += [*(SHORT_TITLES[name] for name in controls), *(["Chance", "Corrected"] if details else [])]
    return Table(columns, rows, note=caption(comparison), sections=sections, beneath=[2])


def _matrix(comparison: Comparison) -> Table:
    """Methods down and across: the means of one statistic above the diagonal, of another below."""
    names, statistics = list(comparison.titles), comparison.statistics
    rows: list[list[str]] = []
    sections = {}
    for first in range(0, len(statistics), 2):
        above, below = statistics[first], statistics[first : first + 2][-1]
        titles = [each.title(comparison.top) for each in (above, below)]
        same = above is below
        sections[len(rows)] = (
            f"Mean {titles[0]}" if same else "Mean {} above the diagonal, {} below".format(*titles)
        )
        for i, a in enumerate(names):
            row = [f"{i + 1} {comparison.titles[a]}"]
            for j, b in enumerate(names):
                statistic, pair = (above, (a, b)) if i < j else (below, (b, a))
                mean = None if i == j else comparison.summary(statistic.name, pair).mean
                row.append("·" if mean is None else decimals(mean, 2))
            rows.append(row)
    verdicts = Counter(comparison.verdict(pair).short for pair in comparison.pairs)
    counts = ", ".join(f"{count} {short}" for short, count in verdicts.most_common())
    note = f"{len(comparison.pairs)} pairs: {counts}. Each with its interval and controls: --details, or --format json.\n"
    columns = ["Method", *(str(index + 1) for index in range(len(names)))]
    return Table(columns, rows, note=note + caption(comparison), sections=sections)


def _cells(comparison: Comparison, statistic: Statistic, pair: Pair, controls: list[str]) -> list[str]:
    result = comparison.result(statistic, pair)
    shown = [decimals(result.controls[name]) for name in controls]
    return [spread(result.summary), interval(result.summary), *shown]


def pairs_records(comparison: Comparison) -> Table:
    """One row per pair with every value; empty where undefined."""
    records = []
    for pair in document(comparison)["pairs"]:
        row = {"a": pair["a"], "b": pair["b"], "n": len(comparison.predictions)}
        for statistic in comparison.statistics:
            row |= flat(statistic.name, pair[statistic.name])
        row |= {"identity": pair["identity"], "verdict": pair["verdict"]}
        records.append(row | {"top": comparison.top} | source(comparison))
    return of_records(records)

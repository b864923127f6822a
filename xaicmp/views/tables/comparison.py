"""A comparison, one row per pair of methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from xaicmp.core.agreement.controls import KEYS, LEVEL, OTHER_CLASS
from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison, Result
from xaicmp.views.document import document, flat, source
from xaicmp.views.table import Table, of_records
from xaicmp.views.text import caption, decimals, interval, level_title, name_pair, percent, spread

BESIDE = 2
"""So many statistics stand beside each other; of more, each has a row of its own."""
MATRIX = 7
"""From so many methods on, the pairs are shown as a matrix."""
DETAILS = ("Chance", "Corrected", "Explained", "d_z", "Images\nabove", "Pairing\np")
"""Chance; and, about the other image, the share of the mean that it explains, the effect size, the share of images above it,
and the permutation test of the pairing."""
STARS = "*: the agreement about the explained class is told apart from that about the other class (p < 0.05)."


def pairs_table(comparison: Comparison, details: bool = False) -> Table:
    """One row per pair and its verdict; a matrix of many methods; with ``details`` every control."""
    if details or (len(comparison.titles) < MATRIX and len(comparison.statistics) > BESIDE):
        return _by_statistic(comparison, details)
    return _matrix(comparison) if len(comparison.titles) >= MATRIX else _side_by_side(comparison)


def _side_by_side(comparison: Comparison) -> Table:
    columns, beneath = ["Pair"], []
    rows = [[name_pair(comparison, pair)] for pair in comparison.pairs]
    controls = [name for name in comparison.scores.controls if name == OTHER_IMAGE]
    for statistic in comparison.statistics:
        columns += [statistic.title(comparison.top), level_title(comparison.settings)]
        beneath.append(len(columns) - 1)
        columns += [KEYS[name].short.replace("\n", " ") for name in controls]
        columns.append("Verdict")
        beneath += [len(columns) - 1] * len(controls)
        for row, pair in zip(rows, comparison.pairs, strict=True):
            result = comparison.result(statistic, pair)
            row += [*_cells(result, controls), result.verdict.short]
    index = next((i for i, pair in enumerate(comparison.pairs) if comparison.floors.intersection(pair)), 0)
    sections = {index: "Model-free methods:"} if index else {}
    return Table(columns, rows, note=caption(comparison), sections=sections, beneath=beneath)


def _by_statistic(comparison: Comparison, details: bool) -> Table:
    """One row per pair and statistic, under the pair."""
    controls = [name for name in comparison.scores.controls if details or name == OTHER_IMAGE]
    rows: list[list[str]] = []
    sections = {}
    for pair in comparison.pairs:
        name = name_pair(comparison, pair)
        sections[len(rows)] = f"{name}: {comparison.said(pair)}" if details else name
        for statistic in comparison.statistics:
            result = comparison.result(statistic, pair)
            worth = _details(result) if details else [result.verdict.short]
            rows.append([f"  {statistic.title(comparison.top)}", *_cells(result, controls), *worth])
    columns = ["Pair", "Mean ± std", level_title(comparison.settings)]
    columns += [KEYS[name].short for name in controls]
    columns += DETAILS if details else ["Verdict"]
    under = ("Corrected", "d_z", "Pairing\np", KEYS[OTHER_CLASS[1]].short) if details else ()
    beneath = [2, *(columns.index(each) for each in under if each in columns)]
    return Table(columns, rows, note=_note(comparison, controls), sections=sections, beneath=beneath)


def full_table(comparison: Comparison) -> Table:
    """One row per pair and statistic, each with all that is known of it."""
    controls, rows = list(comparison.scores.controls), []
    for pair in comparison.pairs:
        for statistic in comparison.statistics:
            result = comparison.result(statistic, pair)
            cells = [*_cells(result, controls), *_details(result), result.verdict.short]
            rows.append([name_pair(comparison, pair), statistic.title(comparison.top), *cells])
    titles = [KEYS[name].short for name in controls]
    columns = ["Pair", "Statistic", "Mean ± std", level_title(comparison.settings), *titles]
    return Table([*columns, *DETAILS, "Verdict"], rows, note=_note(comparison, controls))


def _note(comparison: Comparison, controls: Sequence[str]) -> str:
    """The caption, after what the stars mean where there may be any."""
    return f"{STARS} " * bool({*OTHER_CLASS}.intersection(controls)) + caption(comparison)


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
    counts = []
    for each in statistics:
        verdicts = Counter(comparison.verdict(each, pair).short for pair in comparison.pairs)
        said = ", ".join(f"{count} {short}" for short, count in verdicts.most_common())
        counts.append(f"{each.title(comparison.top)}: {said}")
    note = f"{len(comparison.pairs)} pairs. {'; '.join(counts)}. Each with its interval and controls: --details, or --format json.\n"
    columns = ["Method", *(str(index + 1) for index in range(len(names)))]
    return Table(columns, rows, note=note + caption(comparison), sections=sections)


def _cells(result: Result, controls: Sequence[str]) -> list[str]:
    """The mean, its interval, and what it is under the controls."""
    apart = [name for name, test in result.above_class.items() if test.decides < LEVEL]
    shown = [decimals(result.controls[name]) + " *" * (name in apart) for name in controls]
    return [spread(result.summary), interval(result.summary), *shown]


def _details(result: Result) -> list[str]:
    """The cells of ``DETAILS``."""
    return [
        decimals(result.chance),
        decimals(result.corrected),
        percent(result.explained.mean),
        decimals(None if result.above is None else result.above.d_z, 2),
        percent(None if result.images_above is None else result.images_above.mean),
        decimals(result.pairing, 4),
    ]


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

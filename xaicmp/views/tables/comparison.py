"""A comparison, one row per pair of methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import Comparison
from xaicmp.views.document import _flat, _source, document
from xaicmp.views.table import csv_table, markdown_table
from xaicmp.views.text import (
    CONTROL_TITLES,
    CORRECTED,
    caption,
    decimals,
    interval,
    level_title,
    name_pair,
    spread,
)

if TYPE_CHECKING:
    from xaicmp.views.table import Study


def pairs_csv(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """A row a pair; empty where undefined. The studies are left out."""
    rows = []
    for pair in document(comparison)["pairs"]:
        row = {"a": pair["a"], "b": pair["b"], "n": len(comparison.predictions)}
        for statistic in comparison.statistics:
            row |= _flat(statistic.name, pair[statistic.name])
        row |= {"identity": str(pair["identity"]).lower(), "verdict": pair["verdict"]}
        rows.append(row | {"top": comparison.top} | _source(comparison))
    return csv_table(rows)


def pairs_markdown(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """The published table with what it is worth, and its caption."""
    header, rows = ["Pair"], [[name_pair(comparison, pair)] for pair in comparison.pairs]
    for statistic in comparison.statistics:
        header += [statistic.title(comparison.top), level_title(comparison.settings)]
        for row, pair in zip(rows, comparison.pairs, strict=True):
            result = comparison.result(statistic, pair)
            row += [spread(result.summary), interval(result.summary)]
            row += map(decimals, (*result.controls.values(), result.chance, result.corrected))
        header += [*(CONTROL_TITLES[name] for name in comparison.scores.controls), "chance", CORRECTED]
    for row, pair in zip(rows, comparison.pairs, strict=True):
        row.append(comparison.verdict(pair))
    table = markdown_table([*header, "Verdict"], rows) + f"\n{caption(comparison)}\n"
    return table + "".join(study.markdown() for study in studies)


BESIDE = 2

"""Statistics that fit beside the names of two methods at 80 characters; more have rows of their own."""

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

COLUMNS = {
    "other_image": "Other\nimage",
    "other_image_same_class": "Same\nclass",
    "shifted": "Shifted",
    "pooled": "Coarser\ngrid",
}

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
        lines = {level_title(comparison.settings): [interval(result.summary) for result in results]}
        for name in comparison.scores.controls:
            lines[CONTROL_TITLES[name]] = [decimals(result.controls[name]) for result in results]
        lines["chance"] = [decimals(result.chance) for result in results]
        lines[CORRECTED] = [decimals(result.corrected) for result in results]
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
    table.add_column("Pair")
    level, controls = level_title(comparison.settings), comparison.scores.controls
    for title in ("Mean ± std", level, *(COLUMNS[name] for name in controls)):
        table.add_column(title, justify="right")
    for pair in comparison.pairs:
        table.add_row(name_pair(comparison, pair))
        for statistic in comparison.statistics[BESIDE:]:
            result = comparison.result(statistic, pair)
            cells = spread(result.summary), interval(result.summary), *map(decimals, result.controls.values())
            table.add_row(f"  {statistic.title(comparison.top)}", *cells)
    return table

"""A comparison, one row per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import defined_mean
from xaicmp.views.document import _source, document
from xaicmp.views.table import Wide, csv_table, markdown_table
from xaicmp.views.tables.comparison import BESIDE, MOST
from xaicmp.views.text import caption, decimals, name_pair

if TYPE_CHECKING:
    from xaicmp.views.table import Study


def images_csv(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """A row an image; empty where undefined."""
    rows = []
    for image in document(comparison)["images"]:
        row = {key: image[key] for key in ("id", "label", "predicted", "confidence")}
        for statistic in comparison.statistics:
            row |= {f"{statistic.name} {pair}": value for pair, value in image[statistic.name].items()}
        rows.append(row | {"top": comparison.top} | _source(comparison))
    return csv_table(rows)


def images_markdown(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """A row an image, each pair's values one after another."""
    header = [
        "id",
        "label",
        "predicted",
        "confidence",
        *(name_pair(comparison, pair) for pair in comparison.pairs),
    ]
    rows = [
        [
            str(image["id"]),
            image["label"],
            image["predicted"],
            decimals(image["confidence"]),
            *(
                " / ".join(
                    decimals(image[statistic.name]["|".join(pair)]) for statistic in comparison.statistics
                )
                for pair in comparison.pairs
            ),
        ]
        for image in document(comparison)["images"]
    ]
    return markdown_table(header, rows) + f"\n{caption(comparison)}\n"


WIDEST = 3

"""Pairs that fit beside an image's columns at 80 characters; more are listed below one another."""

IMAGE = ["id", "label", "predicted", "conf."]

WRONG = "✗ marks a wrong prediction."


def images_table(comparison: Comparison) -> RenderableType:
    """A row an image: what it is, what it was taken for, and how far each pair agrees on it."""
    if len(comparison.pairs) > WIDEST or len(comparison.statistics) > BESIDE:
        return _listed(comparison)
    # Without edges, an automobile taken for an automobile fits in 80 columns.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in IMAGE:
        table.add_column(title, justify="right" if title in ("id", "conf.") else "left")
    for pair in comparison.pairs:
        a, b = (comparison.titles[name] for name in pair)
        table.add_column(f"{a}\nvs {b}", justify="right")
    for row in range(len(comparison.predictions)):
        values = ("/".join(_values(comparison, pair, row)) for pair in comparison.pairs)
        table.add_row(*_image_cells(comparison, row), *values)
    titles = "/".join(statistic.title(comparison.top) for statistic in comparison.statistics)
    note = f"{titles} of each pair. {WRONG} {comparison.source.about}"
    return Group(table, "", Text(note, style="dim"))


def _listed(comparison: Comparison) -> RenderableType:
    """A column a statistic, and the pairs below their image, or its mean over them where they are too many."""
    pairs, note = comparison.pairs, ""
    if many := len(pairs) > MOST:
        pairs = tuple(pair for pair in pairs if not comparison.floors.intersection(pair)) or pairs
        note = f"Mean over {len(pairs)} pairs, where they are defined; --format json has each. "
    lines = [
        IMAGE,
        *(list(map(str, _image_cells(comparison, row))) for row in range(len(comparison.predictions))),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    heading, *images = (
        "  ".join([first.rjust(widths[0]), *map(str.ljust, rest, widths[1:])]) for first, *rest in lines
    )
    rows: list[list[str]] = []
    for row, image in enumerate(images):
        if many:
            scores = comparison.scores.values
            means = (
                defined_mean(np.array([scores[each.name][pair][row] for pair in pairs]))
                for each in comparison.statistics
            )
            rows.append([image, *map(decimals, means)])
        else:
            rows.append([image, *[""] * len(comparison.statistics)])
            rows += [[f"  {name_pair(comparison, pair)}", *_values(comparison, pair, row)] for pair in pairs]
    titles = [statistic.title(comparison.top) for statistic in comparison.statistics]
    about = Text(f"{note}{WRONG} {comparison.source.about}", style="dim")
    return Group(Wide([heading, *titles], rows), "", about)


def _image_cells(comparison: Comparison, row: int) -> list[RenderableType]:
    chosen, classes = comparison.predictions, comparison.source.classes
    predicted = classes[chosen.predicted[row]]
    return [
        str(chosen.ids[row]),
        classes[chosen.labels[row]],
        Text(f"{predicted} ✗", style="red") if chosen.wrong[row] else predicted,
        decimals(chosen.confidence[row]),
    ]


def _values(comparison: Comparison, pair: tuple[str, str], row: int) -> list[str]:
    return [
        decimals(comparison.scores.values[statistic.name][pair][row]) for statistic in comparison.statistics
    ]

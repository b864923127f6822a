"""A comparison, one row per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import defined_mean
from xaicmp.views.document import document, source
from xaicmp.views.table import Table, of_records, to_csv, to_markdown
from xaicmp.views.text import caption, decimals, name_pair

WIDEST = 3
"""Pairs that fit beside an image's columns at 80 characters; more are listed below one another."""
MOST = 10
"""Pairs that are listed below their image; of more, the image gets the mean."""
IMAGE = ("id", "label", "predicted", "conf.")
WRONG = "✗ marks a wrong prediction."


def images_table(comparison: Comparison) -> Table:
    """What each image is, what it was taken for, and how far each pair agrees on it."""
    pairs, statistics = comparison.pairs, comparison.statistics
    titles = [statistic.title(comparison.top) for statistic in statistics]
    about, rows = comparison.source.about, range(len(comparison.predictions))
    if len(pairs) <= WIDEST and len(statistics) <= 2:
        heads = ["{}\nvs {}".format(*(comparison.titles[name] for name in pair)) for pair in pairs]
        cells = [
            [*_image(comparison, row), *("/".join(_values(comparison, pair, row)) for pair in pairs)]
            for row in rows
        ]
        return Table(
            [*IMAGE, *heads], cells, note=f"{'/'.join(titles)} of each pair. {WRONG} {about}", left=4
        )
    if len(pairs) > MOST:
        pairs = tuple(pair for pair in pairs if not comparison.floors.intersection(pair)) or pairs
        cells = [[*_image(comparison, row), *_means(comparison, pairs, row)] for row in rows]
        note = (
            f"Mean over {len(pairs)} pairs, where they are defined; --format json has each. {WRONG} {about}"
        )
        return Table([*IMAGE, *titles], cells, note=note, left=4)
    cells = []
    for row in rows:
        cells.append(["  ".join(_image(comparison, row)), *[""] * len(statistics)])
        cells += [[f"  {name_pair(comparison, pair)}", *_values(comparison, pair, row)] for pair in pairs]
    return Table(["  ".join(IMAGE), *titles], cells, note=f"{WRONG} {about}")


def _image(comparison: Comparison, row: int, mark: str = " ✗") -> list[str]:
    chosen, classes = comparison.predictions, comparison.source.classes
    predicted = classes[chosen.predicted[row]] + (mark if chosen.wrong[row] else "")
    return [
        str(chosen.ids[row]).rjust(len(str(chosen.ids.max()))),
        classes[chosen.labels[row]],
        predicted,
        decimals(chosen.confidence[row]),
    ]


def _values(comparison: Comparison, pair: tuple[str, str], row: int) -> list[str]:
    return [decimals(comparison.scores.values[each.name][pair][row]) for each in comparison.statistics]


def _means(comparison: Comparison, pairs: Sequence[tuple[str, str]], row: int) -> list[str]:
    scores = comparison.scores.values
    return [
        decimals(defined_mean(np.array([scores[each.name][pair][row] for pair in pairs])))
        for each in comparison.statistics
    ]


def images_csv(comparison: Comparison, studies: Sequence[Table] = ()) -> str:
    """One row per image; empty where undefined."""
    records = []
    for image in document(comparison)["images"]:
        row = {key: image[key] for key in ("id", "label", "predicted", "confidence")}
        for statistic in comparison.statistics:
            row |= {f"{statistic.name} {pair}": value for pair, value in image[statistic.name].items()}
        records.append(row | {"top": comparison.top} | source(comparison))
    return to_csv(of_records(records))


def images_markdown(comparison: Comparison, studies: Sequence[Table] = ()) -> str:
    """One row per image, each pair's values one after another."""
    header = ["id", "label", "predicted", "confidence"]
    header += [name_pair(comparison, pair) for pair in comparison.pairs]
    rows = [
        [
            *_image(comparison, row, mark=""),
            *(" / ".join(_values(comparison, pair, row)) for pair in comparison.pairs),
        ]
        for row in range(len(comparison.predictions))
    ]
    return to_markdown(Table(header, rows, note=caption(comparison)))

"""A comparison, one row per image."""

from __future__ import annotations

from xaicmp.core.results.comparison import Comparison
from xaicmp.views.document import document, number, source
from xaicmp.views.table import Table, of_records
from xaicmp.views.tables.comparison import BESIDE
from xaicmp.views.text import decimals, name_pair, shortened

WIDEST = 3
"""Pairs that fit beside an image's columns at 80 characters; more are listed below one another."""
MOST = 10
"""Pairs that are listed below their image; of more, the image gets the mean."""
IMAGE = ("id", "label", "predicted", "conf.")


def images_table(comparison: Comparison) -> Table:
    """What each image is, what it was taken for, and how far each pair agrees on it."""
    pairs, statistics = comparison.pairs, comparison.statistics
    titles = [statistic.title(comparison.top) for statistic in statistics]
    images = [_image(comparison, row) for row in range(len(comparison.predictions))]
    note = f"✗ marks a wrong prediction. {comparison.source.about}"
    if len(pairs) <= WIDEST and len(statistics) <= BESIDE:
        heads = ["{}\nvs {}".format(*(comparison.titles[name] for name in pair)) for pair in pairs]
        for row, image in enumerate(images):
            image += ["/".join(_values(comparison, pair, row)) for pair in pairs]
        return Table(
            [*IMAGE, *heads], images, note=f"{'/'.join(titles)} of each pair. {note}", left=len(IMAGE)
        )
    if len(pairs) > MOST:
        for each in statistics:
            for image, mean in zip(images, comparison.mean_over_pairs(each.name), strict=True):
                image.append(decimals(mean))
        over = (
            f"Mean over {len(comparison.model_pairs)} pairs, where they are defined; --format json has each."
        )
        return Table([*IMAGE, *titles], images, note=f"{over} {note}", left=len(IMAGE))
    rows: list[list[str]] = []
    sections = {}
    widths = [max(map(len, column)) for column in zip(IMAGE, *images, strict=True)]
    heading, *lines = ("  ".join(map(str.ljust, each, widths)).rstrip() for each in (IMAGE, *images))
    for row, line in enumerate(lines):
        sections[len(rows)] = line
        rows += [[f"  {name_pair(comparison, pair)}", *_values(comparison, pair, row)] for pair in pairs]
    return Table([heading, *titles], rows, note=note, sections=sections)


def _image(comparison: Comparison, row: int) -> list[str]:
    chosen, classes = comparison.predictions, comparison.source.classes
    number = str(chosen.ids[row]).rjust(len(str(chosen.ids.max())))
    return [
        f"{number}  {shortened(comparison.source.name(row))}".rstrip(),
        classes[chosen.labels[row]],
        classes[chosen.predicted[row]] + (" ✗" if chosen.wrong[row] else ""),
        decimals(chosen.confidence[row]),
    ]


def _values(comparison: Comparison, pair: tuple[str, str], row: int) -> list[str]:
    return [decimals(comparison.scores.values[each.name][pair][row]) for each in comparison.statistics]


def images_records(comparison: Comparison) -> Table:
    """One row per image with every value; empty where undefined."""
    records = []
    for image in document(comparison)["images"]:
        row = {key: image[key] for key in ("id", "file", "label", "predicted", "confidence") if key in image}
        for statistic in comparison.statistics:
            row |= {f"{statistic.name} {pair}": value for pair, value in image[statistic.name].items()}
        records.append(row | {"top": comparison.top} | source(comparison))
    return of_records(records)


def values_records(comparison: Comparison) -> Table:
    """One row per image, pair and statistic; the value empty where undefined."""
    ids, origin = comparison.predictions.ids, comparison.source
    rows = [
        (int(image), origin.name(row), *pair, each.name, number(values[row]))
        for each in comparison.statistics
        for pair, values in ((pair, comparison.scores.values[each.name][pair]) for pair in comparison.pairs)
        for row, image in enumerate(ids)
    ]
    return Table(("id", "file", "a", "b", "statistic", "value"), rows)

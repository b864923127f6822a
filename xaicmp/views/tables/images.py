"""A comparison, one row per image."""

from __future__ import annotations

import numpy as np

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison
from xaicmp.core.results.place import Place
from xaicmp.views.document import RANKS, document, number, source
from xaicmp.views.table import Table, of_records
from xaicmp.views.tables.comparison import BESIDE
from xaicmp.views.text import decimals, name_pair, shortened

WIDEST = 3
"""Pairs that fit beside an image's columns at 80 characters; more are listed below one another."""
ENOUGH = round(1 / LEVEL)
"""Fewer values cannot show that one is above the others."""
MOST = 10
"""Pairs that are listed below their image; of more, the image gets the mean. Up to so many images are ranked."""


def images_table(comparison: Comparison) -> Table:
    """What each image is, what it was taken for, and how far each pair agrees on it."""
    pairs, statistics = comparison.pairs, comparison.statistics
    titles = [statistic.title(comparison.top) for statistic in statistics]
    image, images = _images(comparison)
    wrong = "✗ marks a wrong prediction. " if "label" in image else ""
    note = f"{wrong}{comparison.source.about}"
    if 0 < (most := most_others(comparison)) < ENOUGH:
        note += f" Too few others to rank the agreement on one image among (smallest p {1 / most:.2g}); --reference gives others."
    if len(pairs) <= WIDEST and len(statistics) <= BESIDE:
        heads = ["{}\nvs {}".format(*(comparison.titles[name] for name in pair)) for pair in pairs]
        for row, cells in enumerate(images):
            cells += ["/".join(_values(comparison, pair, row)) for pair in pairs]
        return Table(
            [*image, *heads], images, note=f"{'/'.join(titles)} of each pair. {note}", left=len(image)
        )
    if len(pairs) > MOST:
        for each in statistics:
            for cells, mean in zip(images, comparison.mean_over_pairs(each.name), strict=True):
                cells.append(decimals(mean))
        over = f"Mean over {len(comparison.distinct_pairs)} pairs, where they are defined; --format json has each."
        return Table([*image, *titles], images, note=f"{over} {note}", left=len(image))
    rows: list[list[str]] = []
    sections = {}
    widths = [max(map(len, column)) for column in zip(image, *images, strict=True)]
    heading, *lines = ("  ".join(map(str.ljust, each, widths)).rstrip() for each in (image, *images))
    for row, line in enumerate(lines):
        sections[len(rows)] = line
        rows += [[f"  {name_pair(comparison, pair)}", *_values(comparison, pair, row)] for pair in pairs]
    return Table([heading, *titles], rows, note=note, sections=sections)


def has_places(comparison: Comparison) -> bool:
    """Whether there are enough others to rank an agreement among, or, for an image that comes alone, enough shifts."""
    alone = len(comparison.predictions) == 1
    return max(most_others(comparison), alone * most_others(comparison, "shifted")) >= ENOUGH


def most_others(comparison: Comparison, control: str = OTHER_IMAGE) -> int:
    """Among how many values an agreement is ranked at most; 0 where more images or pairs are shown than is room for."""
    if max(len(comparison.pairs), len(comparison.predictions)) > MOST:
        return 0
    found = comparison.scores.among.get(control, {}).values()
    return int(max((np.nanmax(each, initial=0) for pairs in found for each in pairs.values()), default=0))


def places_table(comparison: Comparison) -> Table:
    """Where each image's agreement stands among those with other images' maps, and with shifted ones."""
    rows: list[list[str]] = []
    sections = {}
    _, images = _images(comparison)
    for row, image in enumerate(images):
        sections[len(rows)] = "  ".join(image).strip()
        for pair in comparison.pairs:
            for each in comparison.statistics:
                found = (comparison.places(key, each.name, pair) for key in RANKS.values())
                others, shifts = (places[row] if places else None for places in found)
                cells = [cell for at in (others, shifts) for cell in _place(at)]
                said = others.said.partition(" (")[0] if others else "-"
                if others and shifts and np.isnan(others.above):
                    said = {1.0: "above the shifts", 0.0: "not told apart"}.get(shifts.above, said)
                rows.append([f"  {name_pair(comparison, pair)}", each.title(comparison.top), *cells, said])
    columns = ("Pair", "Statistic", "Among\nothers", "p", "Among\nshifts", "p", "Verdict")
    note = (
        "Among others: the rank of the agreement on this image, 1 for the highest, among that of the first method's map "
        "with the second's maps of other images; p: the share that agrees as well or better. Of unrelated maps, "
        "5% are above the others. Among shifts: the same with the second map rolled over the edges; the verdict goes by "
        "these where there are too few others."
    )
    return Table(
        columns, rows, "Does it agree about this image?", note, left=2, sections=sections, beneath=(3, 5)
    )


def _place(at: Place | None) -> list[str]:
    """The rank and its p."""
    if at is None or at.rank is None:
        return ["-", "-"]
    return [f"{at.rank} of {at.among}", decimals(at.p)]


def _images(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """What each image is and was taken for, under which headings: its file's name or else its number, its label if known."""
    chosen, source = comparison.predictions, comparison.source
    known = bool((chosen.labels >= 0).any())
    digits = len(str(chosen.ids.max()))
    images = []
    for row, image in enumerate(chosen.ids):
        label = [source.classes[chosen.labels[row]]] if known else []
        predicted = source.classes[chosen.predicted[row]] + " ✗" * bool(chosen.wrong[row])
        name = shortened(source.name(row)) or str(image).rjust(digits)
        images.append([name, *label, predicted, decimals(chosen.confidence[row])])
    return ["image" if source.names else "id", *["label"] * known, "predicted", "conf."], images


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

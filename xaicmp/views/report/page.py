"""One HTML file that shows a comparison, its studies, figures and images, and holds its JSON document."""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from xaicmp.core.results.comparison import Comparison
from xaicmp.views.document import dumped, with_studies, without_controls
from xaicmp.views.figures.registry import Drawing, Kind, draw, kinds, named
from xaicmp.views.figures.style import colours
from xaicmp.views.formats import write
from xaicmp.views.report.gallery import Gallery
from xaicmp.views.report.inline import inline_svg
from xaicmp.views.table import Table, data_of, printable, to_html
from xaicmp.views.tables.comparison import full_table
from xaicmp.views.text import decimals, name_pair

ROOM, DOCUMENT = 4_600_000, 2_000_000
"""Bytes of a page, and of its document at most; the maps take what the rest leaves."""
LEAST_ROOM = 400_000


def write_report(
    path: Path,
    comparison: Comparison,
    gallery: Gallery | None = None,
    studies: Sequence[Table] = (),
) -> None:
    """Write the page.

    Args:
        path: the file.
        comparison: what was found.
        gallery: the images and maps; without it the page shows none.
        studies: their tables.

    Raises:
        XaicmpError: the file cannot be written.
    """
    drawing = Drawing(comparison, data_of(studies))
    table = full_table(comparison)
    drawn = [kind for kind in kinds().values() if drawing.holds(kind.needs)]
    shown = gallery.rows(_agreement(comparison)) if gallery and gallery.images else np.array([], dtype=int)
    kept, packed = _document(comparison, studies, shown)
    parts: dict[str, Any] = {
        "comparison": comparison,
        "findings": findings(comparison),
        "table": _html(table),
        "caption": table.note,
        "figures": [
            (each.name, _about(each, comparison), inline_svg(draw(each.name, drawing), each.name))
            for each in drawn
        ],
        "studies": [(each.title, _html(each), each.note) for each in studies if each.columns],
        "origin": comparison.source.details,
        "document": packed,
        "kept": kept,
        "cards": [],
    }
    if gallery and gallery.images:
        taken = sum(len(str(parts[key])) for key in ("document", "figures", "table", "studies"))
        parts |= _images(comparison, gallery, shown, ROOM - taken)
    write(path, page(parts))


def page(parts: Mapping[str, Any]) -> str:
    """The template, filled; whatever is no markup of ours is text without control characters."""
    folder = resources.files("xaicmp.views.report")
    files = {name: (folder / f"page.{name}").read_text("utf-8").strip() for name in ("html", "css", "js")}
    sources = {name: _encoded(sha256(files[name].encode()).digest()) for name in ("css", "js")}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    style, script = Markup(files["css"]), Markup(files["js"])
    return environment.from_string(files["html"]).render(parts, style=style, script=script, sources=sources)


def findings(comparison: Comparison) -> list[str]:
    """What was asked, what was found, and what that is worth, in a sentence each."""
    statistic, pairs = comparison.statistics[0], comparison.model_pairs
    title, images = statistic.title(comparison.top), len(comparison.predictions)
    asked = (
        f"Do {named(comparison)} mark the same pixels? Each explained the same {images} image{'s' * (images > 1)}, and every two "
        "maps of an image were compared."
    )
    means = {pair: comparison.summary(statistic.name, pair).mean for pair in pairs}
    known = sorted((pair for pair in pairs if not np.isnan(means[pair])), key=means.__getitem__)
    found = f"{title} is not defined for any pair."
    if known:
        ends = [f"{decimals(means[pair])} ({name_pair(comparison, pair)})" for pair in (known[0], known[-1])]
        span = f"is {ends[0]}" if len(known) == 1 else f"lies between {ends[0]} and {ends[1]}"
        same = statistic.high if statistic.higher else statistic.low
        chance = comparison.result(statistic, known[0]).chance
        by_chance = "" if chance is None else f", for unrelated maps {decimals(chance)}"
        found = f"The mean {title} {span}; for equal maps it is {same:g}{by_chance}."
    counts = Counter(comparison.verdict(statistic, pair).long for pair in pairs)
    said = "; ".join(f"{long} ({count} of {len(pairs)})" for long, count in counts.most_common())
    return [asked, found, f"The verdict on the pairs, by {title}: {said}."]


def _agreement(comparison: Comparison) -> np.ndarray:
    """Of each image, its mean agreement by the first statistic."""
    return np.nan_to_num(comparison.mean_over_pairs(comparison.statistics[0].name))


def _document(comparison: Comparison, studies: Sequence[Table], shown: np.ndarray) -> tuple[int | None, str]:
    """The JSON document, packed, and of how many images it has the statistics where it would be too large otherwise.

    They are those of every image, or of those that are shown; their controls are left out. None: it is whole.
    """
    whole = with_studies(comparison, studies)
    for rows in (None, range(len(comparison.predictions)), shown.tolist()):
        part = whole if rows is None else without_controls(whole, comparison, rows)
        packed = _encoded(gzip.compress(dumped(part).encode(), mtime=0))
        if len(packed) <= DOCUMENT:
            break
    return None if rows is None else len(rows), packed


def _images(comparison: Comparison, gallery: Gallery, rows: np.ndarray, room: int) -> dict[str, Any]:
    """The images that are shown, and what the page's script needs to know of them."""
    room -= sum(len(gallery.images[row]) for row in rows)
    packed = gallery.packed(rows, 3 * max(room, LEAST_ROOM) // 4)
    exact = packed.size == gallery.size
    return {
        "cards": [(row, Markup(gallery.images[row])) for row in rows.tolist()],
        "sizes": (gallery.size, packed.size),
        "maps": _encoded(packed.data),
        "about": {
            "size": packed.size,
            "signed": packed.signed,
            "colours": [_encoded(colours(signed=signed)) for signed in (False, True)],
            "titles": [printable(each) for each in comparison.titles.values()],
            "statistics": [printable(each.title(comparison.top)) for each in comparison.statistics],
            "live": "IoU here" if exact else "IoU at {} x {} pixels".format(*packed.size),
        },
    }


def _about(kind: Kind, comparison: Comparison) -> str:
    """What a figure shows, and of how many pairs if there is not room for all."""
    most, pairs = kind.per_page, len(comparison.pairs)
    return f"{kind.help}: the first {most} of {pairs} pairs" if 0 < most < pairs else kind.help


def _html(table: Table) -> Markup:
    """The table alone; its title and note stand around it."""
    return Markup(to_html(replace(table, title="", note="")))


def _encoded(data: bytes) -> str:
    return b64encode(data).decode()


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

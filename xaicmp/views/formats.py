"""A comparison as text, in the format of a name or of a file's suffix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xaicmp.core.machine.storage import check_suffix, replacing
from xaicmp.core.results.comparison import Comparison
from xaicmp.errors import UsageError
from xaicmp.views.document import to_json
from xaicmp.views.table import FORMATS, RECORDS, SUFFIXES, Table
from xaicmp.views.tables.comparison import pairs_records, pairs_table
from xaicmp.views.tables.images import (
    has_places,
    images_records,
    images_table,
    places_table,
    values_records,
)


def comparison_text(
    comparison: Comparison,
    format: str,
    *,
    by_image: bool = False,
    details: bool = False,
    studies: Sequence[Table] = (),
) -> str:
    """The comparison, one row per pair or per image, and the studies.

    Formats of records leave the studies out, and with ``details`` have one row per image, pair and statistic. A
    study without columns is data alone, for JSON.
    """
    if format == "json":
        return to_json(comparison, studies)
    if format not in FORMATS:
        raise UsageError(f"format {format!r}: choose from {', '.join([*FORMATS, 'json'])}")
    if format in RECORDS:
        records = values_records if details else images_records if by_image else pairs_records
        return FORMATS[format](records(comparison))
    table = images_table(comparison) if by_image else pairs_table(comparison, details)
    places = [places_table(comparison)] if by_image and has_places(comparison) else []
    return "\n".join(FORMATS[format](each) for each in (table, *places, *studies) if each.columns)


def format_of(path: Path) -> str:
    """The format that a file's suffix names.

    Raises:
        UsageError: an unknown suffix.
    """
    check_suffix(path, SUFFIXES)
    return SUFFIXES[path.suffix.lower()]


def write(path: Path, text: str, inside: Path | None = None) -> None:
    """Write ``text``, replacing ``path`` only once it is complete; for ``inside`` see ``replacing``."""
    with replacing(path, inside) as temporary:
        temporary.write_text(text, encoding="utf-8")

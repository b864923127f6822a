"""The registry of explanation methods, as a table and in the other formats."""

from __future__ import annotations

import json
import re

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.plugins import entry_points
from xaicmp.views.table import FORMATS, Table, of_records

COLUMNS = ("name", "family", "needs", "cost", "reduction", "paper")
SHOWN = ("name", "needs", "cost", "paper")
"""What fits into 80 columns; the family is a heading."""


def _rows() -> list[dict[str, str]]:
    """One row per method, those of installed plug-ins last."""
    every = {**METHODS, **entry_points()}
    return [{column: getattr(method, column) for column in COLUMNS} for method in every.values()]


def methods_table() -> Table:
    """For a terminal; a heading per family."""
    rows: list[list[str]] = []
    sections: dict[int, str] = {}
    for row in _rows():
        if [row["family"]] != [*sections.values()][-1:]:
            sections[len(rows)] = row["family"]
        shown = row | {"paper": re.sub(r' "[^"]*",', "", row["paper"])}
        rows.append([shown[column] for column in SHOWN])
    note = (
        "Cost: passes through the model per image, forward or backward. "
        "The papers' titles and the reductions are in --format json, csv and markdown."
    )
    return Table(
        [column.capitalize() for column in SHOWN], rows, note=note, left=len(SHOWN), sections=sections
    )


def methods_text(format: str) -> str:
    """The registry in a format: everything, or for a terminal what fits."""
    if format == "json":
        return json.dumps(_rows(), indent=2) + "\n"
    return FORMATS[format](methods_table() if format == "table" else of_records(_rows()))

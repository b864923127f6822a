"""The registry of explanation methods, as a table and in the other formats."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from xaicmp.core.attribution import METHODS, Method
from xaicmp.core.attribution.plugins import entry_points
from xaicmp.views.table import FORMATS, Table, of_records

COLUMNS = ("name", "family", "needs", "cost", "reduction", "paper")
SHOWN = ("name", "needs", "cost", "paper")
FOR_MODEL = ("name", "cost", "for_this_model")
"""What fits into 80 columns; the family is a heading."""


def every_method() -> list[Method]:
    """Those of the registry, and after them those of installed plug-ins."""
    return [*METHODS.values(), *entry_points().values()]


def _rows(against: Mapping[str, str] | None) -> list[dict[str, str]]:
    """One row per method; with ``against``, also whether it is for the model, and if not, why."""
    rows = [{column: getattr(method, column) for column in COLUMNS} for method in every_method()]
    if against is not None:
        for row in rows:
            row["for_this_model"] = f"no, {against[row['name']]}" if row["name"] in against else "yes"
    return rows


def methods_table(against: Mapping[str, str] | None = None) -> Table:
    """For a terminal; a heading per family. ``against`` has the reasons of methods that are not for the model."""
    columns = SHOWN if against is None else FOR_MODEL
    rows: list[list[str]] = []
    sections: dict[int, str] = {}
    for row in _rows(against):
        if [row["family"]] != [*sections.values()][-1:]:
            sections[len(rows)] = row["family"]
        shown = row | {"paper": re.sub(r' "[^"]*",', "", row["paper"])}
        rows.append([shown[column] for column in columns])
    note = (
        "Cost: passes through the model per image, forward or backward. "
        "The papers' titles and the reductions are in --format json, csv and markdown."
    )
    titles = [column.replace("_", " ").capitalize() for column in columns]
    return Table(titles, rows, note=note, left=len(columns), sections=sections)


def methods_text(format: str, against: Mapping[str, str] | None = None) -> str:
    """The registry in a format: everything, or for a terminal what fits; ``against`` as for ``methods_table``."""
    if format == "json":
        return json.dumps(_rows(against), indent=2) + "\n"
    return FORMATS[format](methods_table(against) if format == "table" else of_records(_rows(against)))

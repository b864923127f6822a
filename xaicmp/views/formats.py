"""The formats of a comparison, by name and by suffix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xaicmp.core.machine.storage import check_suffix, replacing
from xaicmp.core.results.comparison import Comparison
from xaicmp.views.document import to_json
from xaicmp.views.tables.comparison import pairs_csv, pairs_markdown
from xaicmp.views.tables.images import images_csv, images_markdown

if TYPE_CHECKING:
    from xaicmp.views.table import Table


Writer = Callable[[Comparison, "Sequence[Table]"], str]

WRITERS: dict[str, tuple[Writer, Writer]] = {
    "json": (to_json, to_json),
    "csv": (pairs_csv, images_csv),
    "markdown": (pairs_markdown, images_markdown),
}

SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown"}


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

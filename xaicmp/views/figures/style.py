"""What all figures have in common, and how they are saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from xaicmp.core.machine.storage import check_suffix, replacing
from xaicmp.errors import XaicmpError, arg
from xaicmp.views.table import printable

# Perceptually uniform, and readable with any colour vision.
COLOURS = "viridis"
DIVERGING = "RdBu_r"
"""Of signed maps: blue below zero, red above."""
MARKERS = "osD^v<>pXP*"
LEGEND = 0.18
"""Height of a line of a legend, in inches."""

PIXELS = 2**16 - 1

# Formats, and what each calls a description in its metadata.
ABOUT = {".png": "Description", ".pdf": "Subject", ".svg": "Description"}
SUFFIXES = tuple(ABOUT)


@contextmanager
def ours() -> Iterator[None]:
    """Draw alike whatever the user's matplotlibrc says, and take no name for a formula."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False
        yield


def colours(*, signed: bool) -> bytes:
    """256 colours of maps from low to high, three bytes each."""
    chosen = matplotlib.colormaps[DIVERGING if signed else COLOURS]
    return chosen(range(256), bytes=True)[:, :3].tobytes()


def check_name(path: Path, argument: str = "output") -> None:
    """Raise UsageError, naming ``argument``, unless ``path`` ends in a format that can be drawn."""
    check_suffix(path, SUFFIXES, argument)


def check_size(path: Path, inches: tuple[float, float], dpi: int) -> None:
    """Raise XaicmpError if a picture of this size cannot be drawn."""
    if path.suffix.lower() == ".png" and max(inches) * dpi > PIXELS:
        raise XaicmpError(f"{path} would be too large to draw; choose fewer images or a lower {arg('dpi')}")


def plain_text(figure: Figure) -> None:
    """Take control characters out of ``figure``: XML has none."""
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))


def save(figure: Figure, path: Path, dpi: int, about: str = "") -> None:
    """Write ``figure`` to ``path``, replacing it only once it is complete; ``about`` goes into its metadata.

    Raises:
        UsageError: an unknown suffix.
        XaicmpError: the picture is too large to draw, or the file cannot be written.
    """
    check_name(path)
    check_size(path, tuple(figure.get_size_inches()), dpi)
    plain_text(figure)
    with replacing(path) as temporary, ours():
        figure.savefig(temporary, dpi=dpi, metadata={ABOUT[path.suffix.lower()]: printable(about) or None})

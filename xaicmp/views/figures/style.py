"""What all figures have in common, and how they are saved."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from xaicmp.core.arguments import one_of, real_number
from xaicmp.core.choices import Scale, Style, Theme
from xaicmp.core.machine.storage import check_suffix, replacing
from xaicmp.errors import UsageError, XaicmpError, arg
from xaicmp.views.table import printable

COLOURS = "viridis"
DIVERGING = "RdBu_r"
"""Of signed maps and correlations: blue below zero, red above. Both are readable with any colour vision."""
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
"""Of curves and outlines: Okabe and Ito's, without the yellow that paper swallows; markers tell further ones apart."""
MARKERS = "osD^v<>pXP*"
OURS = {
    "axes.prop_cycle": cycler(color=CYCLE),
    "text.parse_math": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "xaicmp",
    "image.interpolation": "none",
    "image.composite_image": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
}
"""What differs from matplotlib's defaults."""
LEGEND = 0.18
"""Height of a line of a legend, in inches."""

NO_ROOM = "constrained_layout not applied"
"""How matplotlib's warning begins where what is beside a plot leaves nothing for it."""
PIXELS = 2**16 - 1
WIDTHS = {"single": 85 / 25.4, "double": 170 / 25.4}
"""Columns of a journal, in inches."""
UNITS = {"mm": 25.4, "cm": 2.54, "in": 1.0}
"""How many of each make an inch."""

# Formats, and what each calls a description in its metadata.
ABOUT = {".png": "Description", ".pdf": "Subject", ".svg": "Description"}
SUFFIXES = tuple(ABOUT)


@dataclass(frozen=True)
class Look:
    """How a figure is drawn, whatever it shows.

    Attributes:
        width: in inches; None for as wide as it needs.
        theme: of ``choices.Theme``.
        style: of maps, of ``choices.Style``.
        scale: of maps, of ``choices.Scale``: what has the same colours for the same values.
    """

    width: float | None = None
    theme: Theme = "light"
    style: Style = "overlay"
    scale: Scale = "image"

    def __post_init__(self) -> None:
        if self.width is not None:
            real_number("width", self.width)
        for name, words in (("theme", Theme), ("style", Style), ("scale", Scale)):
            one_of(name, getattr(self, name), words)


@contextmanager
def ours(theme: Theme = "light") -> Iterator[None]:
    """Draw alike whatever the user's matplotlibrc says, in a theme, and take no name for a formula.

    Text stays text in .svg and TrueType in .pdf, and pictures keep their pixels in both. What the font lacks is a box.
    """
    paper, ink = ("white", "black") if theme == "light" else ("#16181d", "#e8e8ea")
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    papered = ("figure.facecolor", "axes.facecolor")
    changed: dict[Any, Any] = dict.fromkeys(inked, ink) | dict.fromkeys(papered, paper) | OURS
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(changed)
        yield


def of_method(index: int) -> dict[str, Any]:
    """Colour and marker of a method's curve: those of 77 differ."""
    return {"color": f"C{index % len(CYCLE)}", "marker": MARKERS[index % len(MARKERS)]}


def colours(*, signed: bool) -> bytes:
    """256 colours of maps from low to high, three bytes each."""
    chosen = matplotlib.colormaps[DIVERGING if signed else COLOURS]
    return chosen(range(256), bytes=True)[:, :3].tobytes()


def inches(text: str | None) -> float | None:
    """The width that ``"single"``, ``"double"`` or a number with a unit means; None for as wide as it needs.

    Raises:
        UsageError: it is none of these, or too small or large.
    """
    if text is None or text in WIDTHS:
        return WIDTHS.get(text or "")
    number, unit = text[:-2], text[-2:]
    try:
        width = float(number) / UNITS[unit]
    except (ValueError, KeyError):
        width = 0
    if not 1 <= width <= 100:
        raise UsageError(
            f"{arg('width')} {text}: give single, double, or between 1in and 100in as 85mm, 12cm or 5in"
        )
    return width


def check_name(path: Path, argument: str = "output") -> None:
    """Raise UsageError, naming ``argument``, unless ``path`` ends in a format that can be drawn."""
    check_suffix(path, SUFFIXES, argument)


def check_size(path: Path, inches: tuple[float, float], dpi: float) -> None:
    """Raise XaicmpError if a picture of this size cannot be drawn."""
    if path.suffix.lower() == ".png" and max(inches) * dpi > PIXELS:
        raise XaicmpError(f"{path} would be too large to draw; choose fewer images or a lower {arg('dpi')}")


def plain_text(figure: Figure) -> None:
    """Take control characters out of ``figure``: XML has none."""
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
    for axis in (each for axes in figure.axes for each in (axes.xaxis, axes.yaxis)):
        given = axis.get_major_formatter()
        if isinstance(given, FuncFormatter):  # which gives the labels their text again
            axis.set_major_formatter(
                FuncFormatter(lambda at, place, given=given: printable(given(at, place)))
            )


def save(
    figure: Figure | Sequence[Figure],
    path: Path,
    dpi: float | None = None,
    about: str = "",
    transparent: bool = False,
) -> None:
    """Write ``figure`` to ``path``, replacing it only once it is complete.

    Args:
        figure: what is drawn; of several, the pages of a ``.pdf``, and in other formats the first.
        path: its file.
        dpi: pixels per inch; None for those that the figure is laid out for.
        about: goes into its metadata.
        transparent: whether what is behind it shows through.

    Raises:
        UsageError: an unknown suffix, or a width without room for the names beside the panels.
        XaicmpError: the picture is too large to draw, or the file cannot be written.
    """
    check_name(path)
    suffix, every = path.suffix.lower(), [figure] if isinstance(figure, Figure) else list(figure)
    metadata, dots = {ABOUT[suffix]: printable(about) or None}, dpi or every[0].dpi
    check_size(path, tuple(every[0].get_size_inches()), dots)
    with replacing(path) as target, ours():
        warnings.filterwarnings("error", NO_ROOM)
        for each in every:
            plain_text(each)
        try:
            if suffix == ".pdf":
                with PdfPages(target, metadata=metadata) as pages:
                    for each in every:
                        pages.savefig(each, dpi=dots, transparent=transparent)
            else:
                look = {"format": suffix[1:], "metadata": metadata}
                every[0].savefig(target, dpi=dots, transparent=transparent, **look)
        except UserWarning as error:
            if not str(error).startswith(NO_ROOM):
                raise
            raise UsageError(
                f"{arg('width')}: too narrow for the names in the figure; choose a larger one"
            ) from error

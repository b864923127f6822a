"""The kinds of figures. To add one, decorate a function in a file of its own, named like the kind, with ``@figure_kind``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.views.figures import kind_names
from xaicmp.views.figures.layout import NARROW, PRINT, SCREEN
from xaicmp.views.figures.style import Look, ours
from xaicmp.views.tables.comparison import MATRIX
from xaicmp.views.text import level_title

MAKES = {
    "maps": "the maps: `xaicmp explain --output maps.npz` keeps them",
    "comparison": "a comparison: `xaicmp metrics --output result.json` keeps one",
    "curve": "IoU at every share: `xaicmp metrics --plot shares.png --kind shares --output result.json` keeps it",
    "clusters": "a study: `xaicmp metrics --consensus --output result.json` keeps it",
    "randomisation": "a study: `xaicmp metrics --randomise cascading --output result.json` keeps it",
    "faithfulness": "a study: `xaicmp metrics --faithfulness --output result.json` keeps it",
    "training": "a training: `xaicmp train --output history.json` keeps one",
}
"""What a figure may need, by the key of the study where it is one, and what makes it."""

SCALES = {
    "image": "each map has its own colour scale, up to its 99th percentile",
    "method": "the maps of a method have one colour scale, up to their 99th percentile",
    "shared": "all maps have one colour scale, up to their 99th percentile",
}
"""What captions say of ``Look.scale``."""


@dataclass(frozen=True)
class Drawing:
    """What a figure is drawn of.

    Attributes:
        scored: the comparison; None for what is of none.
        studies: their data by key, as in a document; ``training`` is the epochs of a history.
        explanations: the images and maps, where they are at hand.
        look: how it is drawn.
        asked: the pairs that are shown, where not all are.
    """

    scored: Comparison | None = None
    studies: Mapping[str, Any] = field(default_factory=dict)
    explanations: Explanations | None = None
    look: Look = field(default_factory=Look)
    asked: tuple[Pair, ...] = ()

    @property
    def comparison(self) -> Comparison:
        """The comparison, which a kind that needs it has."""
        assert self.scored is not None
        return self.scored

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that are shown."""
        return self.asked or self.comparison.pairs

    @property
    def pixels(self) -> np.ndarray:
        """The images uint8 ``(N, H, W, 3)``, which a kind that needs maps has."""
        assert self.explanations is not None
        return self.explanations.pixels.permute(0, 2, 3, 1).numpy()

    @property
    def maps(self) -> Tensor:
        """The maps float32 ``(M, N, H, W)``, likewise."""
        assert self.explanations is not None
        return self.explanations.maps

    def holds(self, need: str) -> bool:
        """Whether what a kind ``needs`` is there."""
        if need == "training" or self.scored is None:
            return need == "training" and need in self.studies
        if need == "maps":
            return self.explanations is not None
        if need == "curve":
            return bool(self.scored.scores.curves)
        return need == "comparison" or need in self.studies


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        name: as it is asked for.
        help: what it shows, in a phrase that opens its caption.
        needs: what it is drawn of, a key of ``MAKES``.
        draw: draws it.
        per_page: how many pairs have room on a page; 0 where all have.
    """

    name: str
    help: str
    needs: str
    draw: Callable[[Drawing], Figure]
    per_page: int = 0


KINDS: dict[str, Kind] = {}


def figure_kind(
    name: str, help: str, needs: str = "comparison", per_page: int = 0
) -> Callable[[Any], Callable[[Drawing], Figure]]:
    """Enter the decorated function into ``KINDS``, see ``Kind``."""

    def register(function: Callable[[Drawing], Figure]) -> Callable[[Drawing], Figure]:
        KINDS[name] = Kind(name, help, needs, function, per_page)
        return function

    return register


def kinds() -> dict[str, Kind]:
    """Every kind by its name, those that ship included."""
    for name in kind_names():
        import_module(f"xaicmp.views.figures.{name.replace('-', '_')}")
    return KINDS


def kind_of(name: str) -> Kind:
    """The kind called so.

    Raises:
        UsageError: there is none.
    """
    if name not in kinds():
        raise UsageError(f"unknown figure {name!r}; choose from {', '.join(KINDS)}")
    return KINDS[name]


def pages(name: str, drawing: Drawing) -> list[Drawing]:
    """The drawing in parts, each with as many pairs as a page of the kind has room for.

    Raises:
        UsageError: an unknown kind, or what it needs is not there.
    """
    kind = kind_of(name)
    if not drawing.holds(kind.needs):
        raise UsageError(f"figure {name!r} needs {MAKES[kind.needs]}")
    size = kind.per_page // (2 if (drawing.look.width or NARROW) < NARROW else 1)  # panels stand below others
    if not size or len(drawing.pairs) <= size:
        return [drawing]
    starts = range(0, len(drawing.pairs), size)
    return [replace(drawing, asked=drawing.pairs[start : start + size]) for start in starts]


def draw(name: str, drawing: Drawing) -> Figure:
    """A figure of the kind ``name``, of what has several pages the first.

    Raises:
        UsageError: an unknown kind, or what it needs is not there.
        XaicmpError: what a document holds of a study is damaged.
    """
    first, kind = pages(name, drawing)[0], kind_of(name)
    try:
        with ours(first.look.theme):
            matplotlib.rcParams["figure.dpi"] = PRINT if first.look.width else SCREEN
            return kind.draw(first)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if kind.needs not in first.studies:  # of which a document's are not looked at before
            raise
        raise XaicmpError(f"figure {name!r}: what is kept of its study is damaged; run it again") from error


def named(comparison: Comparison) -> str:
    """The methods in a phrase: ``Grad-CAM, Saliency and IG``, or ``12 methods``."""
    titles = list(comparison.titles.values())
    return f"{', '.join(titles[:-1])} and {titles[-1]}" if len(titles) < MATRIX else f"{len(titles)} methods"


def caption_of(name: str, drawing: Drawing) -> str:
    """What a figure shows in one sentence: of how many images, which methods and model, measured how."""
    kind, comparison = kind_of(name), drawing.scored
    if comparison is None:
        return f"{kind.help}, over {len(drawing.studies['training'])} epochs."
    count, about = len(comparison.predictions), comparison.source.about.strip(". ").replace(". ", "; ")
    parts = [f"n = {count} image{'s' * (count > 1)}", named(comparison), about]
    given = comparison.source.details.get("options", {}) if len(comparison.titles) < MATRIX else {}
    for method, options in given.items():
        words = [f"{key} {value}" for key, value in options.items() if key in ("steps", "samples", "reduce")]
        parts.append(f"{comparison.titles[method]} ({', '.join(words)})")
    if name == "maps":
        parts.append(SCALES[drawing.look.scale])
    elif kind.needs != "maps":
        parts.append(f"{level_title(comparison.settings)}s")
    measured = ", ".join(each.title(comparison.top) for each in comparison.statistics)
    return f"{kind.help}: {'; '.join(parts)}; {measured}; seed {comparison.settings.seed}."

"""``xaicmp figure``: a comparison as a picture."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from xaicmp.cli.multivalue import MOST, parse_ids
from xaicmp.cli.options import OUTPUT, Comparing, FormatOption, Kind, option, with_options
from xaicmp.cli.progress import progress_bar
from xaicmp.cli.session import (
    Session,
    check_alone,
    check_output,
    remark,
    settings_of,
    show_comparison,
    signed,
)
from xaicmp.core.choices import Pick, Scale, Style, Theme
from xaicmp.core.machine.storage import contents
from xaicmp.errors import UsageError, XaicmpError

if TYPE_CHECKING:
    import numpy as np

    from xaicmp.core.agreement.statistic import Pair
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.views.figures.registry import Drawing
    from xaicmp.views.figures.style import Look

WIDTHS = {"single": 85 / 25.4, "double": 170 / 25.4}
"""Columns of a journal, in inches."""
UNITS = {"mm": 25.4, "cm": 2.54, "in": 1.0}
SHOWN, MEASURED = 6, 100
"""Images that are shown, and those that are measured where a figure is of numbers, or picks what it shows."""


@dataclass(frozen=True, kw_only=True)
class Drawn(Comparing):
    """The options of ``figure``."""

    maps: Annotated[
        Path | None,
        option(
            OUTPUT,
            "Draw this .npz file of maps, .json of a comparison, or .json history of a training.",
            "FILE",
            "--from",
        ),
    ] = None
    kind: Kind = None
    pick: Annotated[
        Pick | None,
        option(
            OUTPUT,
            "Of the images, show those on which the methods agree or disagree most, are nearest the median, or any. "
            "Looks at --n images, by default 100.",
        ),
    ] = None
    pick_by: Annotated[
        str | None,
        option(
            OUTPUT,
            "What --pick goes by: iou, or of one pair grad-cam,saliency:iou. Default: the first statistic, mean over the pairs.",
            "NAME",
        ),
    ] = None
    show: Annotated[int, option(OUTPUT, "How many images --pick shows.", "N", min=1)] = SHOWN
    pairs: Annotated[
        list[str] | None, option(OUTPUT, "Only these pairs: grad-cam,saliency. Default: all.", "A,B...")
    ] = None
    style: Annotated[Style, option(OUTPUT, "The map over the image, or by itself.")] = "overlay"
    scale: Annotated[
        Scale, option(OUTPUT, "What shares one scale of colours: nothing, the maps of a method, or all maps.")
    ] = "image"
    width: Annotated[
        str | None,
        option(OUTPUT, "Of the picture: single (85mm), double (170mm), or 120mm, 12cm, 5in.", "SIZE"),
    ] = None
    theme: Annotated[Theme, option(OUTPUT, "For white paper, or a dark screen.")] = "light"
    transparent: Annotated[bool, option(OUTPUT, "Leave out the background.", None, "--transparent")] = False
    dpi: Annotated[
        int | None,
        option(
            OUTPUT,
            "Pixels per inch. Default: as many as show every pixel of the images, 150 or more, with --width 300.",
            "N",
            min=20,
            max=1200,
        ),
    ] = None


@with_options(Drawn)
def command(
    options: Drawn,
    format: FormatOption = "table",
    output: Annotated[Path, option(OUTPUT, "The picture: .png, .pdf or .svg.", "FILE")] = Path("figure.png"),
) -> None:
    """Draw images with their explanations, one row per image, or another --kind. Default: --n 6."""
    from xaicmp.views.figures.registry import kind_of
    from xaicmp.views.figures.style import check_name

    check_name(output)
    check_output(options, output=output)
    width_of(options.width)
    need = kind_of(options.kind).needs if options.kind is not None else "maps"
    if need != "maps" and options.pick:
        raise UsageError(f"--pick goes with figures of images; {options.kind} is of none")
    if options.pick_by is not None and not options.pick:
        raise UsageError("--pick-by goes with --pick; give both, or neither")
    if options.pick and options.ids:
        raise UsageError("--pick and --ids exclude each other; give one of them")
    drawing = of_file(options, options.maps) if options.maps else of_model(options, output)
    kind = options.kind or kind_of_methods(len(drawing.comparison.titles), drawing.explanations is not None)
    text = draw_into(output, kind, drawing, options, options.dpi, options.transparent)
    if drawing.scored is not None:
        show_comparison(drawing.scored, format, by_image=kind_of(kind).needs == "maps")
    if format in ("table", "markdown", "latex"):
        sys.stdout.write(f"\n{text}\n")


command.__name__ = "figure"


def of_model(options: Drawn, output: Path) -> Drawing:
    """What is drawn of the model and the images: the comparison, and the study or the maps that the kind needs."""
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.core.results.picking import pick
    from xaicmp.views.figures.layout import Grid
    from xaicmp.views.figures.registry import Drawing, kind_of
    from xaicmp.views.figures.style import check_size

    session, look = Session(options, default=SHOWN), look_of(options)
    kind = options.kind or kind_of_methods(len(session.methods))
    need, names = kind_of(kind).needs, [each.name for each in session.methods]
    asked = pairs_of(options, names)
    if need == "training":
        history = session.checkpoint.metadata["history"] if session.checkpoint else ()
        return Drawing(studies={"training": history} if history else {}, look=look)
    if options.n is None and options.ids is None and (need != "maps" or options.pick):
        session.selection = replace(session.selection, n=MEASURED)
    if need == "curve":
        session.settings = settings_of(options, curve=True)
    count = options.show if options.pick else min(session.selection.count, MOST)
    if need == "maps":
        grid = Grid(session.size(), count, 1 + len(names), look.width)
        check_size(output, grid.inches, options.dpi or grid.dpi)
    batches: list[Explanations] = []
    result = session.compare(batches.append if need == "maps" and not options.pick else None)
    comparison, studies, shown = result.comparison, {}, None
    with progress_bar(options.quiet) as progress:
        if need in ("clusters", "randomisation", "faithfulness"):
            studies[need] = result.study(need, progress)
        if need == "maps" and options.pick:
            rows = pick(comparison, options.pick, options.show, options.pick_by)
            comparison, shown = comparison.rows(rows), result.maps(rows, progress)
        elif need == "maps":
            shown = Explanations.join(batches)
    return Drawing(comparison, studies, shown, look, asked)


def of_file(options: Drawn, path: Path) -> Drawing:
    """What is drawn of a file of maps, of a comparison or of a training."""
    from xaicmp.core.run.maps_file import compare_maps
    from xaicmp.result import Result
    from xaicmp.views.document import from_json
    from xaicmp.views.figures.registry import Drawing, kind_of

    of_drawing = {each.name for each in fields(Drawn)} - {each.name for each in fields(Comparing)}
    check_alone(options, path, {*of_drawing, "n", "ids"})
    need, look = kind_of(options.kind).needs if options.kind else "", look_of(options)
    if need == "training":
        return Drawing(studies={"training": read_history(path)}, look=look)
    batches: list[Explanations] = []
    studies: dict[str, Any] = {}
    if path.suffix.lower() == ".json":
        comparison, studies = from_json(path)
    else:
        keep = batches.append if need in ("", "maps") else None
        settings = settings_of(options, curve=need == "curve")
        comparison = signed(compare_maps(path, settings, partial(remark, options), keep))
    asked = pairs_of(options, list(comparison.titles))
    kind = options.kind or kind_of_methods(len(comparison.titles), bool(batches))
    shown = kind_of(kind).needs == "maps"
    rows = rows_of(options, comparison, SHOWN if shown else None)
    whole, comparison = batches[0].rows(rows) if batches and shown else None, comparison.rows(rows)
    if need == "clusters":
        studies[need] = Result(comparison).study(need)
    return Drawing(comparison, studies, whole, look, asked)


def rows_of(options: Drawn, comparison: Comparison, default: int | None) -> np.ndarray:
    """The images of a file that --ids, --n or --pick names; else the first ``default``, or all."""
    import numpy as np

    from xaicmp.core.results.picking import pick

    ids, names = comparison.predictions.ids, comparison.source.names
    if options.ids is not None:
        if options.n is not None:
            raise UsageError("--n and --ids exclude each other; give one of them")
        named = dict(zip(names, ids.tolist(), strict=False))
        wanted = parse_ids(options.ids, lambda name: named.get(name, -1))
        place = {image: row for row, image in enumerate(ids.tolist())}
        for image in (each for each in wanted if each not in place):
            raise UsageError(f"--ids {image}: {options.maps} holds no such image; it holds {len(ids)}")
        return np.array([place[each] for each in dict.fromkeys(wanted)])
    if options.pick:
        return pick(comparison.rows(slice(options.n)), options.pick, options.show, options.pick_by)
    return np.arange(len(ids))[: options.n or default]


def kind_of_methods(methods: int, maps: bool = True) -> str:
    """What is drawn of so many methods: maps, where there are any, and of many the matrix."""
    from xaicmp.views.tables.comparison import MATRIX

    return "maps" if maps and methods < MATRIX else "matrix"


def look_of(options: Drawn) -> Look:
    """How --width, --theme, --style and --scale say that it is drawn."""
    from xaicmp.views.figures.style import Look

    return Look(width_of(options.width), options.theme, options.style, options.scale)


def width_of(text: str | None) -> float | None:
    """Inches of ``single``, ``double`` or a number with a unit; None for as wide as it needs."""
    if text is None or text in WIDTHS:
        return WIDTHS.get(text or "")
    number, unit = text[:-2], text[-2:]
    try:
        inches = float(number) / UNITS[unit]
    except (ValueError, KeyError):
        inches = 0
    if not 1 <= inches <= 100:
        raise UsageError(
            f"--width {text}: give single, double, or between 1in and 100in as 85mm, 12cm or 5in"
        )
    return inches


def pairs_of(options: Drawn, names: list[str]) -> tuple[Pair, ...]:
    """The pairs that --pairs names, in the order of the methods."""
    known = {frozenset(pair): pair for pair in combinations(names, 2)}
    asked = [frozenset(text.split(",")) for text in options.pairs or []]
    for text, pair in zip(options.pairs or [], asked, strict=True):
        if pair not in known:
            raise UsageError(
                f"--pairs {text} is not compared; write two of {', '.join(names)}, as {','.join(names[:2])}"
            )
    return tuple(known[pair] for pair in dict.fromkeys(asked))


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs that ``train --output`` wrote."""
    keys = ("epoch", "loss", "train_accuracy", "test_accuracy")
    try:
        epochs = json.loads(contents(path))
        return [{key: float(each[key]) for key in keys} for each in epochs]
    except OSError as error:
        raise XaicmpError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise XaicmpError(
            f"{path} holds no training; `xaicmp train --output history.json` writes one"
        ) from error


def draw_into(
    path: Path, kind: str, drawing: Drawing, options: Any, dpi: int | None = None, transparent: bool = False
) -> str:
    """Draw into a file, say where, and give the caption."""
    from xaicmp.views.figures.registry import caption_of, draw, pages
    from xaicmp.views.figures.style import save

    parts = pages(kind, drawing)
    figures = [draw(kind, each) for each in (parts if path.suffix.lower() == ".pdf" else parts[:1])]
    text = caption_of(kind, drawing)
    save(figures, path, dpi, text, transparent)
    remark(options, f"wrote {path}")
    if len(parts) > len(figures):
        remark(options, f"{path}: page 1 of {len(parts)}; .pdf has all, and --pairs of figure draws a few")
    return text

"""``xaicmp figure``: a comparison as a picture."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xaicmp.cli.multivalue import MOST, parse_ids
from xaicmp.cli.options import FORMAT, KIND, Comparing, output_option, with_options
from xaicmp.cli.progress import progress_bar
from xaicmp.cli.session import (
    Session,
    check_alone,
    check_only,
    check_output,
    read_comparison,
    remark,
    settings_of,
    show_comparison,
)
from xaicmp.core.choices import Pick, Scale, Style, Theme
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.views.table import data_of

if TYPE_CHECKING:
    import numpy as np

    from xaicmp.core.agreement.statistic import Pair
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.views.figures.registry import Drawing
    from xaicmp.views.figures.style import Look

SHOWN, MEASURED = 6, 100
"""How many images are shown, and how many are measured for a figure of numbers or for --pick."""
OF_KINDS = {"style": {"maps"}, "scale": {"maps"}, "pairs": {"maps", "top", "shares", "distribution"}}
"""Options that only some kinds look at."""
OF_TRAINING = {"from_", "checkpoint", "kind", "width", "theme", "transparent", "dpi", "output", "quiet"}
"""Options that the figure of a training looks at."""
TEXTS = ("table", "markdown", "latex")
"""Formats that the caption is printed after."""


@dataclass(frozen=True, kw_only=True)
class Drawn(Comparing):
    """The options of ``figure``."""

    from_: Path | None = output_option(
        "Draw what is in this file: .npz of maps, .json of a comparison, or .json history of a training.",
        "FILE",
        "--from",
    )
    kind: str | None = KIND()
    pick: Pick | None = output_option(
        "Show the images on which the methods agree most, disagree most, or are nearest the median, or random images. "
        "Chooses among --n images, by default 100.",
        excludes=("ids",),
    )
    pick_by: str | None = output_option(
        "What --pick looks at: iou, or for one pair grad-cam,saliency:iou. Default: the first statistic, mean over the pairs.",
        "NAME",
        goes_with="pick",
    )
    show: int | None = output_option(
        f"How many images --pick shows. Default: {SHOWN}.", "N", min=1, goes_with="pick"
    )
    pairs: list[str] | None = output_option("Only these pairs: grad-cam,saliency. Default: all.", "A,B...")
    style: Style = output_option("Draw the map over the image, or by itself.", default="overlay")
    scale: Scale = output_option(
        "Which maps share one scale of colours: none, those of a method, or all.", default="image"
    )
    width: str | None = output_option(
        "Width of the picture: single (85mm), double (170mm), or 120mm, 12cm, 5in.", "SIZE"
    )
    theme: Theme = output_option("Colours for white paper, or for a dark screen.", default="light")
    transparent: bool = output_option("Leave out the background.", default=False)
    dpi: int | None = output_option(
        "Pixels per inch. Default: enough for every pixel of the images, 150 or more; with --width 300.",
        "N",
        min=20,
        max=1200,
    )
    format: str = FORMAT()
    output: Path = output_option("The picture: .png, .pdf or .svg.", "FILE", default=Path("figure.png"))


@with_options(Drawn)
def command(options: Drawn) -> None:
    """Draw images with their explanations, one row per image, or another --kind. Default: --n 6."""
    from xaicmp.views.figures.registry import kind_of
    from xaicmp.views.figures.style import Look, check_name, inches

    check_name(options.output)
    check_output(options, "output")
    look = Look(inches(options.width), options.theme, options.style, options.scale)
    if options.kind is not None:
        check_kind(options, options.kind)
    drawing = of_model(options, look) if options.from_ is None else of_file(options, options.from_, look)
    kind = options.kind or kind_of_methods(len(drawing.comparison.titles), drawing.explanations is not None)
    text = draw_into(options.output, kind, drawing, options, options.dpi, options.transparent)
    if drawing.scored is not None:
        show_comparison(drawing.scored, options.format, by_image=kind_of(kind).needs == "maps")
    if options.format in TEXTS:
        sys.stdout.write(f"\n{text}\n")


command.__name__ = "figure"


def check_kind(options: Drawn, kind: str) -> None:
    """Raise UsageError for an option that a kind would ignore."""
    from xaicmp.views.figures.registry import kind_of

    need = kind_of(kind).needs
    known = {each.name for each in fields(options)}
    known -= {option for option, kinds in OF_KINDS.items() if kind not in kinds}
    if need != "maps":
        known.remove("pick")
    if options.from_ is not None and need in ("randomisation", "faithfulness"):
        known -= {"n", "ids"}  # a document has these studies of all its images together
    if need == "training":
        known &= OF_TRAINING
    check_only(options, known, f"changes nothing in the figure {kind}; leave it out, or name another --kind")


def of_model(options: Drawn, look: Look) -> Drawing:
    """Compare images, and run the study or keep the maps that the kind needs."""
    from xaicmp.core.models.checkpoint import load_checkpoint
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.core.results.picking import pick
    from xaicmp.views.figures.layout import Grid
    from xaicmp.views.figures.registry import Drawing, kind_of
    from xaicmp.views.figures.style import check_size

    if options.kind == "training":
        history = load_checkpoint(options.checkpoint).metadata.get("history")
        return Drawing(studies={"training": history} if history else {}, look=look)
    session = Session(options, default=SHOWN)
    names = [each.name for each in session.methods]
    kind = options.kind or kind_of_methods(len(names))
    check_kind(options, kind)
    need, asked = kind_of(kind).needs, pairs_of(options, names)
    if options.n is None and options.ids is None and (need != "maps" or options.pick):
        session.selection = replace(session.selection, n=MEASURED)
    if need == "curve":
        session.settings = settings_of(options, curve=True)
    picked = options.show or SHOWN
    if need == "maps":
        count = picked if options.pick else min(session.selection.count, MOST)
        grid = Grid(session.size(), count, 1 + len(names), look.width)
        check_size(options.output, grid.inches, options.dpi or grid.dpi)
    batches: list[Explanations] = []
    result = session.compare(batches.append if need == "maps" and not options.pick else None)
    comparison, studies, shown = result.comparison, {}, None
    with progress_bar(options.quiet) as progress:
        if need in ("clusters", "randomisation", "faithfulness"):
            studies[need] = result.study(need, progress)
        if need == "maps" and options.pick:
            rows = pick(comparison, options.pick, picked, options.pick_by)
            comparison, shown = comparison.rows(rows), result.maps(rows, progress)
        elif need == "maps":
            shown = Explanations.join(batches)
    return Drawing(comparison, studies, shown, look, asked)


def of_file(options: Drawn, path: Path, look: Look) -> Drawing:
    """Read a file of maps, of a comparison or of a training."""
    from xaicmp.result import Result
    from xaicmp.views.figures.registry import Drawing, kind_of

    of_drawing = {each.name for each in fields(Drawn)} - {each.name for each in fields(Comparing)}
    check_alone(options, path, {*of_drawing, "n", "ids"})
    need = kind_of(options.kind).needs if options.kind else ""
    if need == "training":
        from xaicmp.views.tables.training import read_history

        return Drawing(studies={"training": read_history(path)}, look=look)
    batches: list[Explanations] = []
    settings = settings_of(options, curve=need == "curve")
    wanted = need in ("", "maps")
    comparison, kept = read_comparison(options, path, settings, batches.append, wanted)
    studies = data_of(kept)
    asked = pairs_of(options, list(comparison.titles))
    kind = options.kind or kind_of_methods(len(comparison.titles), wanted and bool(batches))
    check_kind(options, kind)
    shown = kind_of(kind).needs == "maps"
    rows = rows_of(options, comparison, SHOWN if shown else None)
    whole, comparison = None, comparison.rows(rows)
    if batches and shown:
        if not len(batches[0].pixels):
            raise XaicmpError(f"{path} holds no images to draw the maps over; `xaicmp explain` keeps them")
        whole = batches[0].rows(rows)
    if need == "clusters":
        studies[need] = Result(comparison).study(need)
    return Drawing(comparison, studies, whole, look, asked)


def rows_of(options: Drawn, comparison: Comparison, default: int | None) -> np.ndarray:
    """The images of a file that --ids, --n or --pick names; else the first ``default``, or all."""
    import numpy as np

    from xaicmp.core.results.picking import pick

    ids, names = comparison.predictions.ids, comparison.source.names
    if options.ids is not None:
        named = dict(zip(names, ids.tolist(), strict=False))
        wanted = parse_ids(options.ids, lambda name: named.get(name, -1))
        place = {image: row for row, image in enumerate(ids.tolist())}
        for image in (each for each in wanted if each not in place):
            raise UsageError(f"--ids {image}: {options.from_} holds no such image; it holds {len(ids)}")
        return np.array([place[each] for each in dict.fromkeys(wanted)])
    if options.pick:
        return pick(comparison.rows(slice(options.n)), options.pick, options.show or SHOWN, options.pick_by)
    return np.arange(len(ids))[: options.n or default]


def kind_of_methods(methods: int, maps: bool = True) -> str:
    """The default kind: maps where there are any, but for many methods the matrix."""
    from xaicmp.views.tables.comparison import MATRIX

    return "maps" if maps and methods < MATRIX else "matrix"


def pairs_of(options: Drawn, names: list[str]) -> tuple[Pair, ...]:
    """The pairs that --pairs names, in the order of the methods."""
    from xaicmp.core.agreement.statistic import called

    asked = []
    for text in options.pairs or []:
        pair = next((each for each in combinations(names, 2) if called(each, text)), None)
        if pair is None:
            raise UsageError(
                f"--pairs {text} is not compared; write two of {', '.join(names)}, as {','.join(names[:2])}"
            )
        asked.append(pair)
    return tuple(dict.fromkeys(asked))


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

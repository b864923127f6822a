"""``xaicmp metrics``: how far the methods agree, over many images, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import Console

from xaicmp.cli.options import OUTPUT, Comparing, FormatOption, Resume, option, with_options
from xaicmp.cli.session import Session, check_output, remark, settings_of, show_comparison, together
from xaicmp.core.choices import By, Randomise
from xaicmp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xaicmp.cli.studies import Asked
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.core.run.journal import Journal

STUDIES = "Studies"
OF_MAPS = {"maps", "compare_pairs", "by", "statistics", "top", "controls", "ci", "seed", "quiet", "plot"}
"""Options that need no model."""


def check_by(word: str) -> str:
    """One value of --by; Typer knows no list of choices."""
    if word not in get_args(By):
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(get_args(By))}")
    return word


@dataclass(frozen=True, kw_only=True)
class Measuring(Comparing):
    """The options of ``metrics``."""

    maps: Annotated[
        Path | None,
        option(STUDIES, "Compare the maps in this .npz file, without model or images.", "FILE", "--from"),
    ] = None
    compare_pairs: Annotated[
        bool, option(STUDIES, "Also test whether the pairs differ.", None, "--compare-pairs")
    ] = False
    by: Annotated[
        list[str] | None,
        option(STUDIES, f"Also show agreement by {', '.join(get_args(By))}.", "NAME...", parser=check_by),
    ] = None
    rerun: Annotated[
        bool, option(STUDIES, "Also compare each method with itself under another seed.", None, "--rerun")
    ] = False
    against: Annotated[
        Path | None, option(STUDIES, "Also compare each method with itself on this checkpoint.", "PATH")
    ] = None
    randomise: Annotated[
        Randomise | None,
        option(
            STUDIES, "Also compare each method's maps with those of a model whose weights are drawn anew."
        ),
    ] = None
    faithfulness: Annotated[
        bool,
        option(
            STUDIES,
            "Also measure whether the maps point at what the model uses.",
            None,
            "--faithfulness",
        ),
    ] = False
    cost: Annotated[bool, option(STUDIES, "Also show what each method costs.", None, "--cost")] = False
    plot: Annotated[
        Path | None,
        option(
            OUTPUT,
            "Draw --randomise or --faithfulness, else IoU by share of top pixels: .png, .pdf or .svg.",
            "FILE",
        ),
    ] = None

    @property
    def curve(self) -> bool:
        """Whether the picture is of no study."""
        return self.plot is not None and self.randomise is None and not self.faithfulness

    @property
    def of_model(self) -> list[str]:
        """The studies that are asked for and take the model."""
        names = ("rerun", "against", "randomise", "faithfulness", "cost")
        return [name for name in names if getattr(self, name)]

    @property
    def studies(self) -> bool:
        """Whether any is asked for."""
        return bool(self.compare_pairs or self.by or self.of_model)


@with_options(Measuring)
def command(
    options: Measuring,
    format: FormatOption = "table",
    output: Annotated[
        Path | None,
        option(OUTPUT, "Also write the result here: .json, .csv (the pairs alone) or .md.", "FILE"),
    ] = None,
    resume: Resume = False,
    details: Annotated[
        bool,
        option(OUTPUT, "Show every control and chance.", None, "--details"),
    ] = False,
    verbose: Annotated[
        bool, option(OUTPUT, "Also show how the checkpoint was trained.", None, "--verbose", "-v")
    ] = False,
) -> None:
    """Compare the methods over many images: mean ± std of Pearson and IoU for each pair. Default: --n 100."""
    from xaicmp.views.formats import WRITERS, format_of, write

    form = format_of(output) if output else ""
    check_output(output)
    check_plot(options)

    def finish(comparison: Comparison, found: Sequence[Asked], journal: Journal | None = None) -> None:
        if output:
            tables = [each.table for each in found]
            write(output, WRITERS[form][0](comparison, tables), journal.folder if journal else None)
        if options.plot:
            from xaicmp.views.figures.registry import draw
            from xaicmp.views.figures.style import save

            drawn = next((each for each in found if each.kind), None)
            figure = draw(drawn.kind, drawn.found, comparison) if drawn else draw("shares", comparison)
            save(figure, options.plot, 150, comparison.source.about)

    if options.studies:
        # Only then, for they bring what draws pictures and what solves equations.
        from xaicmp.cli.studies import load_other, of_maps, of_model
    if options.maps is not None:
        from xaicmp.core.run.maps_file import compare_maps

        check_alone(options, verbose=verbose, resume=resume)
        comparison = compare_maps(
            options.maps, settings_of(options, curve=options.curve), partial(remark, options)
        )
        found = of_maps(options, comparison) if options.studies else []
        finish(comparison, found)
        show_comparison(
            comparison,
            format,
            by_image=False,
            details=details,
            studies=[each.table for each in found],
        )
        return
    with together(options.device) as group:
        if group.world > 1 and options.of_model:
            raise UsageError(f"--{options.of_model[0]} runs in one process; leave it or torchrun out")
        session, found = Session(options, default=100, curve=options.curve, group=group), []
        other = load_other(options, session) if options.studies else None
        with session.journal(output, resume) as journal:
            batches: list[Explanations] = []
            result = session.compare(batches.append if options.faithfulness else None, journal)
            comparison = result.comparison
            if group.rank > 0:
                return
            if options.studies:
                found = of_maps(options, comparison)
                found += of_model(options, session, result, batches, other)
            finish(comparison, found, journal)
        show_comparison(
            comparison,
            format,
            by_image=False,
            details=details,
            studies=[each.table for each in found],
        )
        if verbose:
            from xaicmp.views.tables.training import checkpoint_table

            # Where stdout is a document, it stays one.
            Console(stderr=format != "table").print(checkpoint_table(session.checkpoint))


def check_alone(options: Measuring, **others: bool) -> None:
    """Raise UsageError if something is asked for that maps in a file cannot answer."""
    untouched = Measuring()
    names = [field.name for field in fields(Measuring) if field.name not in OF_MAPS]
    given = [name for name in names if getattr(options, name) != getattr(untouched, name)]
    given += [name for name, value in others.items() if value]
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} needs the model; leave it or --from out")


def check_plot(options: Measuring) -> None:
    """Fail before the work rather than after it."""
    if options.plot is None:
        return
    from xaicmp.views.figures.style import check_name

    if options.randomise is not None and options.faithfulness:
        raise UsageError("--plot draws --randomise or --faithfulness; give one of them")
    check_name(options.plot, "plot")
    check_output(options.plot)


command.__name__ = "metrics"

"""``xaicmp metrics``: how far the methods agree, over many images, and what that is worth."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from xaicmp.cli.options import OUTPUT, FormatOption, Measuring, Resume, option, with_options
from xaicmp.cli.progress import progress_bar
from xaicmp.cli.session import (
    Session,
    check_alone,
    check_output,
    remark,
    settings_of,
    show_comparison,
    signed,
    together,
)
from xaicmp.core.machine.storage import check_suffix
from xaicmp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xaicmp.cli.studies import Asked
    from xaicmp.core.agreement.statistic import Statistic
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.core.run.journal import Journal
    from xaicmp.views.report.gallery import Gallery

DETAILS = (
    "Show every control, other classes too (each image is explained three times), and chance; in CSV, one row per "
    "image, pair and statistic."
)


@with_options(Measuring)
def command(
    options: Measuring,
    format: FormatOption = "table",
    output: Annotated[
        Path | None,
        option(OUTPUT, "Also write the result here: .json, .csv (the pairs alone) or .md.", "FILE"),
    ] = None,
    resume: Resume = False,
    details: Annotated[bool, option(OUTPUT, DETAILS, None, "--details")] = False,
    verbose: Annotated[
        bool, option(OUTPUT, "Also show how the checkpoint was trained.", None, "--verbose", "-v")
    ] = False,
) -> None:
    """Compare the methods over many images: mean ± std of Pearson and IoU for each pair. Default: --n 100."""
    from xaicmp.views.formats import format_of

    if output:
        format_of(output)
    check_studies(options)
    check_output(options, output=output, plot=options.plot, report=options.report)
    if options.maps is not None:
        check_alone(options, options.maps, verbose=verbose, resume=resume)
        comparison, found = of_file(options, options.maps)
        check_under(options, comparison.statistics, list(comparison.titles))
        run_tests(options, comparison)
        write_files(options, output, comparison, found, details)
        show(comparison, found, format, details)
        fail_under(options, comparison, found)
        return
    if options.checkpoints and options.checkpoint is None:
        first, *others = options.checkpoints
        options = replace(options, checkpoint=first, checkpoints=others)
    options = detailed(options) if details or options.report else options
    with together(options.device) as group:
        if group.world > 1 and options.of_model:
            raise UsageError(f"--{options.of_model[0]} runs in one process; leave it or torchrun out")
        session = Session(options, default=100, group=group)
        if shows_shares(options, len(session.methods)):
            session.settings = settings_of(options, curve=True)
        check_under(options, session.settings.statistics, [each.name for each in session.methods])
        with session.journal(output, resume) as journal:
            comparison, found, gallery = of_images(options, session, journal)
            if group.rank > 0:
                return
            run_tests(options, comparison)
            write_files(options, output, comparison, found, details, journal, gallery)
        show(comparison, found, format, details)
        if verbose:
            from xaicmp.views.tables.training import checkpoint_table, model_table

            table = (
                checkpoint_table(session.checkpoint)
                if session.checkpoint
                else model_table(session.classifier)
            )
            # Where stdout is a document, it stays one.
            Console(stderr=format != "table").print(table)
        fail_under(options, comparison, found)


def detailed(options: Measuring) -> Measuring:
    """With the control that takes maps for other classes, if none is named."""
    from xaicmp.core.agreement.controls import DEFAULT_CONTROLS

    return replace(options, controls=options.controls or [*DEFAULT_CONTROLS, "other-class"])


def of_file(options: Measuring, path: Path) -> tuple[Comparison, list[Asked]]:
    """The comparison in a file, or of the maps in it, and the studies that need no model."""
    batches: list[Explanations] = []
    if path.suffix.lower() == ".json":
        from xaicmp.cli.studies import saved
        from xaicmp.views.document import from_json

        comparison, data = from_json(path)
        found = saved(data)
        if options.consensus:
            remark(options, f"{path} holds no maps, which the consensus needs; the tree is shown alone")
    else:
        from xaicmp.core.run.maps_file import compare_maps

        curve = bool(options.report or (options.plot and options.kind in (None, "shares")))
        found, settings = [], settings_of(options, curve=curve)
        keep, tell = (batches.append if options.consensus else None), partial(remark, options)
        comparison = signed(compare_maps(path, settings, tell, keep, images=False))
    if not options.studies:
        return comparison, found
    from xaicmp.cli.studies import of_maps

    return comparison, found + of_maps(options, comparison, batches)


def of_images(
    options: Measuring, session: Session, journal: Journal | None
) -> tuple[Comparison, list[Asked], Gallery | None]:
    """The comparison of images, the studies, and what a page shows of the images."""
    gallery: Gallery | None = None
    batches: list[Explanations] = []
    first = session.group.rank == 0
    if options.report and first:
        from xaicmp.views.report.gallery import Gallery

        gallery = Gallery()

    def keep(explanations: Explanations) -> None:
        if options.faithfulness or options.masks or options.consensus:
            batches.append(explanations)
        if gallery is not None:
            gallery.add(explanations)

    if not options.studies:
        return session.compare(keep, journal).comparison, [], gallery
    # Only then, because they bring what solves equations.
    from xaicmp.cli.studies import load_other, of_maps, of_model, other_files

    if options.consensus:
        from xaicmp.core.studies.clusters import check_tree

        check_tree([each.name for each in session.methods if not each.model_free], session.settings.controls)
    others = [load_other(options, session, *each) for each in other_files(options)]
    result = session.compare(keep, journal)
    found = of_maps(options, result.comparison, batches) if first else []
    found += of_model(options, session, result, batches, others) if first else []
    return result.comparison, found, gallery


def run_tests(options: Measuring, comparison: Comparison) -> None:
    """Test every pair, which is kept with the comparison."""
    with progress_bar(options.quiet) as show:
        for number, pair in enumerate(comparison.pairs):
            show("testing", number, len(comparison.pairs))
            for each in comparison.statistics:
                comparison.result(each, pair)


def write_files(
    options: Measuring,
    output: Path | None,
    comparison: Comparison,
    found: Sequence[Asked],
    details: bool,
    journal: Journal | None = None,
    gallery: Gallery | None = None,
) -> None:
    """Write what --output, --plot and --report ask for."""
    if output:
        from xaicmp.views.formats import comparison_text, format_of, write

        tables = [each.table for each in found]
        text = comparison_text(comparison, format_of(output), details=details, studies=tables)
        write(output, text, journal.folder if journal else None)
    if options.plot:
        from xaicmp.cli.figure import draw_into
        from xaicmp.result import Result
        from xaicmp.views.figures.registry import Drawing

        studies = {each.table.key: each.table.data for each in found}
        kind = kind_of_plot(options, len(comparison.titles))
        if kind == "clusters" and kind not in studies:
            studies[kind] = Result(comparison).study(kind)
        draw_into(options.plot, kind, Drawing(comparison, studies), options)
    if options.report:
        from xaicmp.result import with_tree
        from xaicmp.views.report.page import write_report

        tables = [each.table for each in found]
        write_report(options.report, comparison, gallery, with_tree(comparison, tables))


def show(comparison: Comparison, found: Sequence[Asked], format: str, details: bool) -> None:
    """Print the comparison and the studies."""
    tables = [each.table for each in found]
    show_comparison(comparison, format, by_image=False, details=details, studies=tables)


def check_under(options: Measuring, statistics: Sequence[Statistic], methods: Sequence[str]) -> None:
    """Raise UsageError before the work if --fail-under is of what is not measured."""
    if options.fail_under is None:
        if options.fail_on != "mean":
            raise UsageError("--fail-on goes with --fail-under; give both, or neither")
        return
    from xaicmp.core.results.gate import read_bounds

    own = [(name,) for name in methods] if options.against else []
    read_bounds(options.fail_under, statistics, [*combinations(methods, 2), *own], [])


def fail_under(options: Measuring, comparison: Comparison, found: Sequence[Asked]) -> None:
    """Raise Below if agreement does not reach --fail-under."""
    if options.fail_under is not None:
        from xaicmp.result import Result

        against = next((each.found for each in found if each.table.key == "retrain"), None)
        Result(comparison).check(*options.fail_under, on=options.fail_on, against=against)


def check_studies(options: Measuring) -> None:
    """Fail before the work rather than after it."""
    if options.draws is not None and options.randomise is None:
        raise UsageError("--draws goes with --randomise; give both, or neither")
    if options.masks is not None and not options.masks.exists():
        raise UsageError(f"--masks {options.masks}: no such folder or file; name masks, or a .csv of boxes")
    if options.report is not None:
        check_suffix(options.report, [".html"], "report")
    if options.checkpoints and options.checkpoint is None and len(options.checkpoints) == 1:
        raise UsageError("--checkpoints: one is no comparison; give two or more, or --checkpoint too")
    if options.plot is None:
        if options.kind is not None:
            raise UsageError("--kind goes with --plot; give both, or neither")
        return
    from xaicmp.views.figures.registry import kind_of
    from xaicmp.views.figures.style import check_name

    check_name(options.plot, "plot")
    if options.kind is None:
        if (options.randomise is not None) + options.faithfulness + options.consensus > 1:
            raise UsageError("--plot draws --randomise, --faithfulness or --consensus; say which with --kind")
        return
    need = kind_of(options.kind).needs
    if need in ("maps", "training"):
        raise UsageError(f"--kind {options.kind}: metrics does not draw it; see `xaicmp figure`")
    option = {"randomisation": "randomise", "faithfulness": "faithfulness"}.get(need)
    if option and options.maps is None and not getattr(options, option):
        raise UsageError(f"--kind {options.kind} goes with --{option}; give both, or neither")


def kind_of_plot(options: Measuring, methods: int) -> str:
    """What --plot draws: the --kind, the study, or IoU at every share, of many methods the matrix."""
    from xaicmp.views.tables.comparison import MATRIX

    study = "randomisation" if options.randomise else "faithfulness" * options.faithfulness
    study = study or "clusters" * options.consensus
    return options.kind or study or ("matrix" if methods >= MATRIX else "shares")


def shows_shares(options: Measuring, methods: int) -> bool:
    """Whether --plot or --report shows IoU at every share; the page of many methods does not."""
    from xaicmp.views.tables.comparison import MATRIX

    plotted = options.plot is not None and kind_of_plot(options, methods) == "shares"
    return plotted or (options.report is not None and methods < MATRIX)


command.__name__ = "metrics"

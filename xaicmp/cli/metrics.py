"""``xaicmp metrics``: how far the methods agree, over many images, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from xaicmp.cli.options import Measuring, flag, with_options
from xaicmp.cli.progress import progress_bar
from xaicmp.cli.session import (
    Keep,
    Session,
    check_alone,
    check_output,
    read_comparison,
    remark,
    settings_of,
    show_comparison,
    together,
)
from xaicmp.core.machine.storage import check_suffix
from xaicmp.errors import UsageError
from xaicmp.views.table import data_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xaicmp.core.agreement.statistic import Statistic
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.core.results.settings import Settings
    from xaicmp.core.run.journal import Journal
    from xaicmp.core.studies.stability import Repetition
    from xaicmp.views.report.gallery import Gallery
    from xaicmp.views.table import Table


@dataclass
class Found:
    """What a run has found.

    Attributes:
        comparison: how far the methods agree.
        gallery: images and maps for the page; None without --report.
        tables: the tables of the studies.
        against: the study of --against, for --fail-under.
    """

    comparison: Comparison
    gallery: Gallery | None = None
    tables: list[Table] = field(default_factory=list)
    against: Repetition | None = None


@with_options(Measuring)
def command(options: Measuring) -> None:
    """Compare the methods over many images: mean ± std of Pearson and IoU for each pair. Default: --n 100."""
    check_options(options)
    if options.from_ is not None:
        found = of_file(options, options.from_)
        check_under(options, found.comparison.statistics, list(found.comparison.titles))
        run_tests(options, found.comparison)
        write_files(options, found)
        show(options, found)
        fail_under(options, found)
        return
    if options.checkpoints and options.checkpoint is None:
        first, *others = options.checkpoints
        options = replace(options, checkpoint=first, checkpoints=others)
    options = detailed(options) if options.details or options.report else options
    with together(options.device) as group:
        if group.world > 1 and options.of_model:
            raise UsageError(f"{flag(options.of_model[0])} runs in one process; leave it or torchrun out")
        if options.studies:
            from xaicmp.cli.studies import check_files

            check_files(options)
        session = Session(options, default=100, group=group)
        if shows_shares(options, len(session.methods)):
            session.settings = settings_of(options, curve=True)
        check_under(options, session.settings.statistics, [each.name for each in session.methods])
        with session.journal(options.output, options.resume) as journal:
            found = of_images(options, session, journal)
            if group.rank > 0:
                return
            run_tests(options, found.comparison)
            write_files(options, found, journal)
        show(options, found)
        if options.verbose:
            show_model(options, session)
        fail_under(options, found)


def detailed(options: Measuring) -> Measuring:
    """The options with the control other-class, unless --controls is given."""
    from xaicmp.core.agreement.controls import DEFAULT_CONTROLS

    return replace(options, controls=options.controls or [*DEFAULT_CONTROLS, "other-class"])


def of_file(options: Measuring, path: Path) -> Found:
    """Read a comparison, or compare the maps in a file, and run the studies that need no model."""

    def settings(methods: Sequence[str]) -> Settings:
        return settings_of(options, curve=shows_shares(options, len(methods)))

    gallery = gallery_of(options)
    batches: list[Explanations] = []
    keep = keeper(options, gallery, batches)
    comparison, kept = read_comparison(options, path, settings, keep, images=gallery is not None)
    if options.margin is not None:
        wider = replace(comparison.settings, margin=options.margin)
        comparison = replace(comparison, settings=wider)
    if options.consensus and not batches:
        remark(options, f"{path} holds no maps, which the consensus needs; the tree is shown alone")
    found = Found(comparison, gallery, kept)
    if options.studies:
        from xaicmp.cli.studies import of_maps

        again = of_maps(options, comparison, batches)
        found.tables = list({each.key: each for each in [*kept, *again]}.values())
    return found


def of_images(options: Measuring, session: Session, journal: Journal | None) -> Found:
    """Compare images and run the studies."""
    first = session.group.rank == 0
    gallery = gallery_of(options) if first else None
    batches: list[Explanations] = []
    keep = keeper(options, gallery, batches)
    if not options.studies:
        return Found(session.compare(keep, journal).comparison, gallery)
    # Only then, because they bring what solves equations.
    from xaicmp.cli.studies import check_studies, of_maps, of_model

    others = check_studies(options, session)
    result = session.compare(keep, journal)
    found = Found(result.comparison, gallery)
    if first:
        found.tables = of_maps(options, result.comparison, batches)
        tables, found.against = of_model(options, session, result, batches, others)
        found.tables += tables
    return found


def gallery_of(options: Measuring) -> Gallery | None:
    """An empty gallery if --report is given."""
    if options.report is None:
        return None
    from xaicmp.views.report.gallery import Gallery

    return Gallery()


def keeper(options: Measuring, gallery: Gallery | None, batches: list[Explanations]) -> Keep:
    """A function that keeps explanations in the gallery, and in ``batches`` if a study takes the maps."""

    def keep(explanations: Explanations) -> None:
        if options.faithfulness or options.masks or options.consensus:
            batches.append(explanations)
        if gallery is not None:
            gallery.add(explanations)

    return keep


def run_tests(options: Measuring, comparison: Comparison) -> None:
    """Test every pair; the comparison keeps the results."""
    with progress_bar(options.quiet) as show:
        for number, pair in enumerate(comparison.pairs):
            show("testing", number, len(comparison.pairs))
            for each in comparison.statistics:
                comparison.result(each, pair)


def write_files(options: Measuring, found: Found, journal: Journal | None = None) -> None:
    """Write what --output, --plot and --report ask for."""
    comparison, tables = found.comparison, found.tables
    if options.output:
        from xaicmp.views.formats import comparison_text, format_of, write

        form = format_of(options.output)
        text = comparison_text(comparison, form, details=options.details, studies=tables)
        write(options.output, text, journal.folder if journal else None)
    if options.plot:
        from xaicmp.cli.figure import draw_into
        from xaicmp.result import Result
        from xaicmp.views.figures.registry import Drawing

        kind = kind_of_plot(options, len(comparison.titles))
        studies = data_of(tables)
        if kind == "clusters" and kind not in studies:
            studies[kind] = Result(comparison).study(kind)
        draw_into(options.plot, kind, Drawing(comparison, studies), options)
    if options.report:
        from xaicmp.result import with_tree
        from xaicmp.views.report.page import write_report

        if found.gallery is None or not found.gallery.images:
            remark(options, f"{options.report} shows no images: {options.from_} holds none")
        write_report(options.report, comparison, found.gallery, with_tree(comparison, tables))


def show(options: Measuring, found: Found) -> None:
    """Print the comparison and the studies."""
    from xaicmp.views.table import RECORDS

    comparison, tables, form = found.comparison, found.tables, options.format
    if form in RECORDS and any(each.columns for each in tables):
        remark(options, f"{form} has no room for the studies; --format json has them")
    show_comparison(comparison, form, by_image=False, details=options.details, studies=tables)


def fail_under(options: Measuring, found: Found) -> None:
    """Raise Below if agreement does not reach --fail-under."""
    if options.fail_under is not None:
        from xaicmp.result import Result

        Result(found.comparison).check(*options.fail_under, on=options.fail_on, against=found.against)


def show_model(options: Measuring, session: Session) -> None:
    """Print how the checkpoint was trained, or what is known of another model."""
    from xaicmp.core.models.checkpoint import load_checkpoint
    from xaicmp.views.tables.training import checkpoint_table, model_table

    if options.model is None:
        table = checkpoint_table(load_checkpoint(options.checkpoint))
    else:
        table = model_table(session.classifier)
    # Where stdout is a document, it stays one.
    Console(stderr=options.format != "table").print(table)


def check_under(options: Measuring, statistics: Sequence[Statistic], methods: Sequence[str]) -> None:
    """Raise UsageError before the work if --fail-under names what is not measured."""
    if options.fail_under is not None:
        from xaicmp.core.results.gate import read_bound

        own = [(name,) for name in methods] if options.against else []
        for each in options.fail_under:
            read_bound(each, statistics, [*combinations(methods, 2), *own], [])


def check_options(options: Measuring) -> None:
    """Fail before the work rather than after it."""
    from xaicmp.views.formats import format_of

    if options.output:
        format_of(options.output)
    if options.report is not None:
        check_suffix(options.report, [".html"], "report")
    if options.checkpoints and options.checkpoint is None and len(options.checkpoints) == 1:
        raise UsageError("--checkpoints: one is no comparison; give two or more, or --checkpoint too")
    if options.plot is not None:
        check_plot(options, options.plot)
    check_output(options, "output", "plot", "report")
    if options.from_ is not None:
        check_alone(options, options.from_, {"margin"})


def check_plot(options: Measuring, plot: Path) -> None:
    """Raise UsageError unless it is clear which figure is meant, and its study is asked for."""
    from xaicmp.views.figures.registry import kind_of
    from xaicmp.views.figures.style import check_name

    check_name(plot, "plot")
    if options.kind is None:
        if (options.randomise is not None) + options.faithfulness + options.consensus > 1:
            raise UsageError("--plot draws --randomise, --faithfulness or --consensus; say which with --kind")
        return
    need = kind_of(options.kind).needs
    if need in ("maps", "training"):
        raise UsageError(f"--kind {options.kind}: metrics does not draw it; see `xaicmp figure`")
    option = {"randomisation": "randomise", "faithfulness": "faithfulness"}.get(need)
    if option and options.from_ is None and not getattr(options, option):
        raise UsageError(f"--kind {options.kind} goes with --{option}; give both, or neither")


def kind_of_plot(options: Measuring, methods: int) -> str:
    """The kind that --plot draws: --kind, else that of the study, else IoU at every share, or for many methods the matrix."""
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

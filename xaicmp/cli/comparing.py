"""What explain, metrics and figure have in common: options in, comparison out, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xaicmp.cli.multivalue import parse_ids
from xaicmp.cli.options import Comparing, Format
from xaicmp.core.errors import UsageError

if TYPE_CHECKING:
    from xaicmp.core.images import ImageSet, Selection
    from xaicmp.core.pipeline import Chosen, Comparison, Engine, Explanations

Keep = Callable[["Explanations"], None]


def selection_of(options: Comparing, default: int) -> Selection:
    """What --n, --ids and --only say; the first ``default`` images if they say nothing."""
    from xaicmp.core.images import Selection

    if options.ids is None:
        only = options.only.value if options.only else "correct"
        return Selection(n=default if options.n is None else options.n, only=only)  # type: ignore[arg-type]
    if options.n is not None:
        raise UsageError("--n and --ids exclude each other; give one of them")
    if options.only is not None:
        raise UsageError("--only goes with --n; --ids takes every image it names")
    return Selection(ids=parse_ids(options.ids), only="all")


def remark(options: Any, message: str) -> None:
    """One line on stderr, unless --quiet."""
    if not options.quiet:
        typer.echo(f"xaicmp: {message}", err=True)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr when that is a terminal, otherwise nothing."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield show


class Session:
    """One command's model, images and methods, ready to be compared.

    Args:
        options: as given.
        default: how many images are compared if the options do not say.
    """

    def __init__(self, options: Comparing, default: int) -> None:
        from xaicmp.core.attribution import PUBLISHED, get_methods
        from xaicmp.core.devices import find_device
        from xaicmp.core.models import load_checkpoint
        from xaicmp.core.pipeline import Engine, check_comparable

        self.options = options
        self.selection = selection_of(options, default)
        names = ",".join(options.methods or PUBLISHED).split(",")
        self.methods = get_methods(names, steps=options.ig_steps, batch_size=options.batch_size)
        check_comparable(self.methods, options.top)
        self.engine: Engine = Engine(
            load_checkpoint(options.checkpoint),
            find_device(options.device),
            options.precision.value,
            options.batch_size,
            options.seed,
        )

    def choose(self) -> tuple[ImageSet, Chosen]:
        """Find the images, and say so if there are fewer than asked for or they are not verified."""
        from xaicmp.core.pipeline import find_images

        with progress_bar(self.options.quiet) as show:
            images, chosen = find_images(self.engine, self.selection, self.options.data, show)
        if not images.verified:
            remark(self.options, f"{images.name}: the files' checksums are not the official ones")
        if self.selection.n is not None and len(chosen) < self.selection.n:
            remark(
                self.options,
                f"there are {len(chosen)} such images, not {self.selection.n}; going on with those",
            )
        return images, chosen

    def compare(self, images: ImageSet, chosen: Chosen, keep: Keep | None = None) -> Comparison:
        """Explain and compare, with progress on stderr."""
        from xaicmp.core.pipeline import compare

        with progress_bar(self.options.quiet) as show:
            return compare(
                self.engine, images, chosen, self.methods, top=self.options.top, keep=keep, progress=show
            )


def show_comparison(comparison: Comparison, form: Format, *, by_image: bool) -> None:
    """Print a comparison on stdout, a row a pair or a row an image."""
    if form is Format.table:
        from xaicmp.views.tables import images_table, pairs_table

        Console().print((images_table if by_image else pairs_table)(comparison))
        return
    from xaicmp.views.files import WRITERS

    typer.echo(WRITERS[form.value][by_image](comparison), nl=False)


def check_output(path: Path | None) -> None:
    """Fail before the work rather than after it."""
    if path is not None:
        from xaicmp.core.storage import check_writable

        check_writable(path)

"""``xaicmp explain``: the maps themselves, and how far they agree on each image."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from xaicmp.cli.options import IMAGES, METHODS, OUTPUT, Comparing, FormatOption, Resume, option, with_options
from xaicmp.cli.progress import progress_bar
from xaicmp.cli.session import (
    Session,
    check_output,
    remark,
    show_comparison,
    together,
)
from xaicmp.core.machine.storage import check_suffix
from xaicmp.errors import UsageError, XaicmpError, arg

if TYPE_CHECKING:
    from xaicmp.core.images.source import ImageSource


@with_options(Comparing)
def command(
    options: Comparing,
    format: FormatOption = "table",
    output: Annotated[Path | None, option(OUTPUT, "Keep the maps here, as arrays: .npz.", "FILE")] = None,
    resume: Resume = False,
    reference: Annotated[
        list[str] | None,
        option(
            IMAGES,
            "Rank each image's agreement among that with maps of these other images, instead of those that are explained.",
            "PATH...",
        ),
    ] = None,
    list_methods: Annotated[
        bool,
        option(
            METHODS,
            "Show every method, what it needs and costs, and with --checkpoint whether it is for that model.",
            None,
            "--list-methods",
        ),
    ] = False,
) -> None:
    """Explain images, and show for each how far the methods agree on it. Default: --n 100."""
    if list_methods:
        show_methods(options, format)
        return
    if output:
        check_suffix(output, [".npz"])
    check_output(options, output=output)
    with together(options.device) as group:
        session = Session(options, default=100, group=group)
        if reference and group.world > 1:
            raise UsageError("--reference runs in one process; leave it or torchrun out")
        others = images_of(reference, session) if reference else None
        with session.journal(output, resume) as journal:
            result = session.compare(journal=journal)
            if others is not None:
                with progress_bar(options.quiet) as show:
                    result = result.among(others, show)
            if output and journal is not None and result.images is not None:
                from xaicmp.core.run.maps_file import write_maps

                write_maps(output, journal, result.images, result.comparison)
        if group.rank == 0:
            show_comparison(result.comparison, format, by_image=True)
            if not output:
                remark(options, "the maps were not kept; add --output maps.npz to keep them")


def images_of(words: list[str], session: Session) -> ImageSource:
    """The images of --reference, seen as those that are explained."""
    from xaicmp.api import load_images

    try:
        return load_images(words, model=session.classifier)
    except XaicmpError as error:
        raise type(error)(error.args[0].replace(arg("images"), arg("reference"))) from error


def show_methods(options: Comparing, format: str) -> None:
    """Print the registry, and if a model is named what of it is for that model."""
    from xaicmp.views.tables.methods import every_method, methods_text

    against = None
    if options.checkpoint is not None or options.model is not None:
        from xaicmp.core.run.applying import reasons_against

        session = Session(replace(options, methods=None), default=1)
        engine = session.running.engine(session.classifier)
        with progress_bar(True):
            against = reasons_against(engine, session.size(), every_method())
    sys.stdout.write(methods_text(format, against))


command.__name__ = "explain"

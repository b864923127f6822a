"""``xaicmp explain``: the maps themselves, and how far they agree on each image."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xaicmp.cli.options import (
    FORMAT,
    RESUME,
    Comparing,
    image_option,
    method_option,
    output_option,
    with_options,
)
from xaicmp.cli.progress import progress_bar
from xaicmp.cli.session import DESCRIBED, Session, check_only, check_output, remark, show_comparison, together
from xaicmp.core.machine.storage import check_suffix
from xaicmp.errors import UsageError, XaicmpError, arg

if TYPE_CHECKING:
    from xaicmp.core.images.source import ImageSource

OF_LIST = {"list_methods", "format", "quiet"}
"""Options that --list-methods looks at."""
OF_MODEL = {"model", "checkpoint", "weights", *DESCRIBED, "images", "data"}
OF_MODEL |= {"layer", "device", "precision", "batch_size", "seed"}
"""Options that it looks at too where a model is named."""


@dataclass(frozen=True, kw_only=True)
class Explaining(Comparing):
    """The options of ``explain``."""

    format: str = FORMAT()
    output: Path | None = output_option("Keep the maps here, as arrays: .npz.", "FILE")
    resume: bool = RESUME()
    reference: list[str] | None = image_option(
        "Other images. Each image's agreement is ranked among the agreement with their maps. Default: the images that are "
        "explained.",
        "PATH...",
    )
    list_methods: bool = method_option(
        "Show every method, what it needs and what it costs; with --checkpoint or --model also whether it is for that model.",
        default=False,
    )


@with_options(Explaining)
def command(options: Explaining) -> None:
    """Explain images, and show for each how far the methods agree on it. Default: --n 100."""
    if options.list_methods:
        named = options.checkpoint is not None or options.model is not None
        known = OF_LIST | OF_MODEL if named else OF_LIST
        check_only(options, known, "changes nothing that --list-methods shows; leave one of them out")
        show_methods(options)
        return
    output = options.output
    if output:
        check_suffix(output, [".npz"])
    check_output(options, "output")
    with together(options.device) as group:
        if options.reference and group.world > 1:
            raise UsageError("--reference runs in one process; leave it or torchrun out")
        others = images_of(options.reference) if options.reference else None  # before the weights
        session = Session(options, default=100, group=group)
        session.frame(others)
        with session.journal(output, options.resume) as journal:
            result = session.compare(journal=journal)
            if others is not None:
                with progress_bar(options.quiet) as show:
                    result = result.among(others, show)
            if output and journal is not None and result.images is not None:
                from xaicmp.core.run.maps_file import write_maps

                write_maps(output, journal, result.images, result.comparison)
        if group.rank == 0:
            show_comparison(result.comparison, options.format, by_image=True)
            if not output:
                remark(options, "the maps were not kept; add --output maps.npz to keep them")


def images_of(words: list[str]) -> ImageSource:
    """The images of --reference, framed for no classifier yet."""
    from xaicmp.api import load_images

    try:
        return load_images(words)
    except XaicmpError as error:
        raise type(error)(error.args[0].replace(arg("images"), arg("reference"))) from error


def show_methods(options: Explaining) -> None:
    """Print all methods; where a model is named, say which of them are for it."""
    from xaicmp.views.tables.methods import every_method, methods_text

    against = None
    if options.checkpoint is not None or options.model is not None:
        from xaicmp.core.run.applying import reasons_against

        session = Session(replace(options, methods=None), default=1)
        engine = session.running.engine(session.classifier)
        with progress_bar(True):
            against = reasons_against(engine, session.size(), every_method())
    sys.stdout.write(methods_text(options.format, against))


command.__name__ = "explain"

"""``xaicmp explain``: the maps themselves, and how far they agree on each image."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from xaicmp.cli.options import METHODS, OUTPUT, Comparing, FormatOption, Resume, option, with_options
from xaicmp.cli.session import Session, check_output, remark, show_comparison, together
from xaicmp.core.machine.storage import check_suffix


@with_options(Comparing)
def command(
    options: Comparing,
    format: FormatOption = "table",
    output: Annotated[Path | None, option(OUTPUT, "Keep the maps here, as arrays: .npz.", "FILE")] = None,
    resume: Resume = False,
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
        with session.journal(output, resume) as journal:
            result = session.compare(journal=journal)
            if output and journal is not None and result.images is not None:
                from xaicmp.core.run.maps_file import write_maps

                write_maps(output, journal, result.images, result.comparison)
        if group.rank == 0:
            show_comparison(result.comparison, format, by_image=True)
            if not output:
                remark(options, "the maps were not kept; add --output maps.npz to keep them")


def show_methods(options: Comparing, format: str) -> None:
    """Print the registry, and if a model is named what of it is for that model."""
    from xaicmp.views.tables.methods import every_method, methods_text

    against = None
    if options.checkpoint is not None or options.model is not None:
        from xaicmp.core.run.applying import reasons_against

        session = Session(replace(options, methods=None), default=1)
        engine = session.running.engine(session.classifier)
        against = reasons_against(engine, session.size(), every_method())
    sys.stdout.write(methods_text(format, against))


command.__name__ = "explain"

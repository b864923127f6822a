"""``xaicmp metrics``: how far the methods agree, over many images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from xaicmp.cli.comparing import Session, check_output, show_comparison
from xaicmp.cli.options import Comparing, Format, FormatOption, with_options


@with_options(Comparing)
def command(
    options: Comparing,
    format: FormatOption = Format.table,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Also write the result here: .json, .csv or .md.",
            metavar="FILE",
            rich_help_panel="Output",
            show_default=False,
        ),
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Also show how the checkpoint was trained.", rich_help_panel="Output"
        ),
    ] = False,
) -> None:
    """Compare the methods over many images: mean ± std of Pearson and IoU for each pair. Default: --n 100."""
    from xaicmp.views.files import WRITERS, format_of, write

    form = format_of(output) if output else None
    check_output(output)
    session = Session(options, default=100)
    comparison = session.compare(*session.choose())
    if output and form:
        write(output, WRITERS[form][0](comparison))
    show_comparison(comparison, format, by_image=False)
    if verbose:
        from xaicmp.views.tables import checkpoint_table

        # Where stdout is a document, it stays one.
        Console(stderr=format is not Format.table).print(checkpoint_table(session.engine.checkpoint))


command.__name__ = "metrics"

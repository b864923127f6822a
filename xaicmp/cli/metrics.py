"""``xaicmp metrics``: how far the methods agree, over many images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.console import Console

from xaicmp.cli.comparing import Session, check_output, show_comparison
from xaicmp.cli.options import OUTPUT, Comparing, Format, FormatOption, option, with_options


@with_options(Comparing)
def command(
    options: Comparing,
    format: FormatOption = Format.table,
    output: Annotated[
        Path | None, option(OUTPUT, "Also write the result here: .json, .csv or .md.", "FILE")
    ] = None,
    verbose: Annotated[
        bool, option(OUTPUT, "Also show how the checkpoint was trained.", None, "--verbose", "-v")
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

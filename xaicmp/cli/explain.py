"""``xaicmp explain``: the maps themselves, and how far they agree on each image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from xaicmp.cli.comparing import Session, check_output, remark, show_comparison
from xaicmp.cli.options import OUTPUT, Comparing, Format, FormatOption, option, with_options
from xaicmp.core.storage import check_suffix


@with_options(Comparing)
def command(
    options: Comparing,
    format: FormatOption = Format.table,
    output: Annotated[Path | None, option(OUTPUT, "Keep the maps here, as arrays: .npz.", "FILE")] = None,
) -> None:
    """Explain images, and show for each how far the methods agree on it. Default: --n 100."""
    from xaicmp.views.files import maps_file

    if output:
        check_suffix(output, [".npz"])
    check_output(output)
    session = Session(options, default=100)
    images, chosen = session.choose()
    if output:
        with maps_file(output, images, chosen, [method.name for method in session.methods]) as keep:
            comparison = session.compare(images, chosen, keep)
    else:
        comparison = session.compare(images, chosen)
    show_comparison(comparison, format, by_image=True)
    if not output:
        remark(options, "the maps were not kept; add --output maps.npz to keep them")


command.__name__ = "explain"

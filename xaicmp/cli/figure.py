"""``xaicmp figure``: images and their explanations side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from xaicmp.cli.multivalue import MOST
from xaicmp.cli.options import OUTPUT, Comparing, FormatOption, option, with_options
from xaicmp.cli.session import Session, check_output, remark, show_comparison

if TYPE_CHECKING:
    from xaicmp.core.results.explanations import Explanations


Style = Literal["overlay", "map"]
"""How a map is drawn."""


@with_options(Comparing)
def command(
    options: Comparing,
    format: FormatOption = "table",
    output: Annotated[Path, option(OUTPUT, "The picture: .png, .pdf or .svg.", "FILE")] = Path("figure.png"),
    style: Annotated[Style, option(OUTPUT, "The map over the image, or by itself.")] = "overlay",
    dpi: Annotated[int, option(OUTPUT, "Pixels per inch.", "N", min=20, max=1200)] = 150,
) -> None:
    """Draw images with their explanations, one row per image. Default: --n 6."""
    import numpy as np

    from xaicmp.views.figures.maps import images_figure, images_size
    from xaicmp.views.figures.style import check_name, check_size, save

    check_name(output)
    check_output(options, output=output)
    session = Session(options, default=6)
    batches: list[Explanations] = []
    rows = np.zeros(min(session.selection.count, MOST), dtype=bool)
    check_size(output, images_size(rows, len(session.methods)), dpi)
    comparison = session.compare(batches.append).comparison
    save(images_figure(comparison, batches, style), output, dpi, comparison.source.about)
    show_comparison(comparison, format, by_image=True)
    remark(options, f"wrote {output}")


command.__name__ = "figure"

"""Each kind of figure beside a small picture of it, without its text, which fonts would move.

``XAICMP_WRITE=1`` writes the pictures again; look at them before they are committed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from PIL import Image
from small import small_classifier

import xaicmp
from xaicmp.core.images.tensors import ImageSet
from xaicmp.result import Result
from xaicmp.views.figures import kind_names
from xaicmp.views.figures.registry import Drawing, draw, kinds
from xaicmp.views.figures.style import save

PICTURES = Path(__file__).parent / "pictures"
TOLERANCE = 6
"""Root mean square of the differences, of 255: above what an edge that moves by a pixel makes."""
METHODS = ("grad-cam", "saliency", "input-x-gradient", "saliency:sum")
HISTORY = [
    {
        "epoch": epoch,
        "loss": 2.0 / epoch,
        "train_accuracy": 1 - 0.7 / epoch,
        "test_accuracy": 0.8 - 0.5 / epoch,
    }
    for epoch in range(1, 7)
]


def compared(sample: ImageSet, first: int) -> Result:
    found = xaicmp.compare(
        small_classifier(),
        sample,
        methods=METHODS,
        select=xaicmp.Selection(ids=tuple(range(first, first + 8)), only="all"),
        settings=xaicmp.Settings(["pearson", "iou"], curve=True),
    )
    # Two kinds show it.
    return replace(found, kept=(found.study_table("faithfulness"),))


@pytest.fixture(scope="module")
def result(sample: ImageSet) -> Result:
    return compared(sample, 0)


@pytest.fixture(scope="module")
def other(sample: ImageSet) -> Result:
    return compared(sample, 40)


def figure_of(result: Result, kind: str, epochs: int) -> Figure:
    if kind == "training":
        return draw(kind, Drawing(studies={kind: HISTORY[:epochs]}))
    if kinds()[kind].needs == "maps":
        first = np.array([0])
        return draw(kind, Drawing(result.comparison.rows(first), {}, result.maps(first)))
    return result.figure(kind)


def write(figure: Figure, path: Path) -> Path:
    """A small picture in few colours, without text."""
    for text in figure.findobj(Text):
        text.set_visible(False)
    for axes in figure.axes:
        axes.tick_params(labelbottom=False, labelleft=False, labelright=False)
    save(figure, path, 40)
    Image.open(path).convert("RGB").quantize(64).convert("RGB").save(path)
    return path


@pytest.mark.skipif(
    matplotlib.__version_info__ < (3, 11),
    reason="the pictures are of matplotlib 3.11; older ones lay out otherwise",
)
@pytest.mark.parametrize("kind", kind_names())
def test_a_figure_looks_as_it_did(kind: str, result: Result, other: Result, tmp_path: Path) -> None:
    expected = PICTURES / f"{kind}.png"
    shown = write(figure_of(result, kind, 6), tmp_path / f"{kind}.png")
    if os.environ.get("XAICMP_WRITE"):
        Image.open(shown).quantize(64).save(expected, optimize=True)
    assert compare_images(str(expected), str(shown), TOLERANCE) is None
    different = write(figure_of(other, kind, 5), tmp_path / "other.png")
    assert compare_images(str(expected), str(different), TOLERANCE) is not None


def test_the_pictures_are_small() -> None:
    sizes = [each.stat().st_size for each in PICTURES.iterdir()]
    assert len(sizes) == len(kind_names())
    assert sum(sizes) < 100_000


def test_the_pictures_of_the_docs_are_below_1_mb_together() -> None:
    docs = Path(__file__).parents[2] / "docs"
    sizes = [each.stat().st_size for each in docs.rglob("*.png")]
    assert len(sizes) > len(kind_names())
    assert sum(sizes) < 1_000_000

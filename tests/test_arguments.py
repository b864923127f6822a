"""Arguments from Python that are something else: each ends in one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xaicmp
from xaicmp import Classifier, Running, Selection, Settings, UsageError

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
torch.manual_seed(0)
MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)).eval()
METHODS = ["saliency", "edge"]


def compared(**given: Any) -> xaicmp.Result:
    return xaicmp.compare(MODEL, IMAGES, **{"methods": METHODS} | given)


@pytest.fixture(scope="module")
def result() -> xaicmp.Result:
    return compared()


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "settings": (lambda: compared(settings="pearson"), "settings: a str is none; give an xaicmp.Settings"),
    "top": (lambda: Settings(top="a fifth"), "top 'a fifth': give a number"),
    "level": (lambda: Settings(level=None), "level None: give a number"),
    "seed below 0": (lambda: Settings(seed=-1), "seed -1: give 0 or more"),
    "no whole seed": (lambda: Settings(seed=1.5), "seed 1.5: give a whole number"),
    "margin": (lambda: Settings(margin=float("nan")), "margin nan is no margin"),
    "running": (lambda: compared(running={}), "running: a dict is none; give an xaicmp.Running"),
    "precision": (lambda: Running(precision="fp16"), "precision 'fp16': choose from float32, bf16"),
    "batch size": (lambda: Running(batch_size=-3), "batch_size -3: give 0 or more"),
    "running's seed": (lambda: Running(seed="one"), "seed 'one': give a whole number"),
    "layer": (lambda: Running(layer=5), "layer 5: give the name of a module"),
    "select": (lambda: compared(select=5), "select: a int is none; give an xaicmp.Selection"),
    "n": (lambda: Selection(n=2.5), "n 2.5: give a whole number"),
    "no image": (lambda: Selection(n=0), "n 0: give 1 or more"),
    "ids of text": (lambda: Selection(ids=["a"]), "ids 'a': give a whole number"),
    "ids of floats": (lambda: Selection(ids=(1.0,)), "ids 1.0: give a whole number"),
    "one id": (lambda: Selection(ids=3), "ids 3: give a list of ids"),
    "only": (lambda: Selection(n=3, only="right"), "only 'right': choose from correct, wrong, all"),
    "methods": (lambda: compared(methods=None), "methods None: give a list"),
    "methods of numbers": (lambda: compared(methods=[1, 2]), r"methods \[1, 2\]: give a list"),
    "mean": (lambda: Classifier(MODEL, mean=("a",), std=(1,)), "mean 'a': give a number"),
    "a pair": (lambda: compared()[0], "0 was not compared"),
    "figure": (lambda: compared().figure("matrix", theme="pink"), "theme 'pink': choose from light, dark"),
    "width": (lambda: compared().figure("matrix", width="wide"), "width 'wide': give a number"),
    "format": (lambda: compared().table("word"), "format 'word': choose from table, "),
    "fail on": (lambda: compared().check("pearson=0", on="max"), "fail_on 'max': choose from mean, ci"),
    "kind": (lambda: compared().randomisation("all"), "randomise 'all': choose from cascading, independent"),
    "draws": (lambda: compared().randomisation(draws=0), "draws 0: give 1 or more"),
    "maps": (lambda: compared().faithfulness(torch.zeros(3)), r"maps \(3,\): give \(2, 8\) of 256 pixels"),
    "reference": (lambda: compared().among("photos"), "reference: a str is none; give an xaicmp.ImageSource"),
    "top pixels": (lambda: xaicmp.top_pixels(IMAGES[:, 0], "many"), "top 'many': give a number"),
    "iou": (lambda: xaicmp.iou(IMAGES[:, 0], IMAGES[:, 0]), "iou compares what top_pixels returns"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_something_else_is_named(case: str) -> None:
    make, said = WRONG[case]
    with pytest.raises(UsageError, match=f"^{said}"):
        make()


@pytest.mark.parametrize(
    "given",
    [
        {"select": Selection(ids=np.array([2, 5]), only="all")},
        {"select": Selection(ids=torch.tensor([2, 5]), only="all")},
        {"select": Selection(ids=[2, 5])},
        {"select": Selection(n=np.int64(2), only="all"), "running": Running(seed=np.int32(0))},
        {"methods": (name for name in METHODS)},
        {"targets": torch.tensor(3)},
        {"targets": np.int64(3)},
        {"settings": Settings(top=np.float32(0.25), seed=np.int64(0))},
    ],
)
def test_what_means_the_same_is_taken(given: dict[str, Any]) -> None:
    assert len(compared(**given)) == (2 if "select" in given else 8)


def test_one_number_of_a_classifier_is_for_all() -> None:
    model = Classifier(MODEL, mean=0.5, std=0.25, input_size=16)
    assert (model.mean, model.std, model.input_size) == ((0.5,), (0.25,), (16, 16))


def brightness(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """How bright each pixel is."""
    return images


def test_a_function_is_a_method(result: xaicmp.Result) -> None:
    found = compared(methods=["saliency", brightness, "edge"])
    assert list(found.comparison.titles) == ["saliency", "brightness", "edge"]
    assert found["saliency", "edge"].pearson.mean == result["saliency", "edge"].pearson.mean
    maps = xaicmp.explain(MODEL, IMAGES, methods=[brightness]).maps
    assert torch.equal(maps[0], IMAGES.sum(dim=1))
    with pytest.raises(UsageError, match="methods: one is given twice"):
        compared(methods=[brightness, brightness])
    with pytest.raises(UsageError, match="method 'saliency' is named twice"):
        compared(methods=["saliency", brightness, "saliency"])
    with pytest.raises(xaicmp.XaicmpError, match=r"plug-in <lambda> returned maps of shape \(8, 3\)"):
        compared(methods=[lambda model, images, targets: images.mean(dim=(2, 3)), "saliency"])

"""``metrics --fail-under``: a status and a line when agreement is below its bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SmallNet, registered
from torch import Tensor, nn

from xaicmp import Below, Settings, compare, load

Xaicmp = Callable[..., Any]


def constant(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return torch.ones_like(images[:, 0])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of methods of which edge knows no model, and constant has no statistic with any other."""
    path = tmp_path_factory.mktemp("gate") / "kept.json"
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    settings = Settings(["pearson", "jensen-shannon"], controls="none")
    with registered("constant", constant):
        names = ["grad-cam", "saliency", "edge", "constant"]
        compare(SmallNet(), images, methods=names, settings=settings).save(path)
    return path


def test_the_status_follows_the_mean_and_the_end_of_the_interval(kept: Path, xaicmp: Xaicmp) -> None:
    pair = next(each for each in json.loads(kept.read_text())["pairs"] if each["b"] == "saliency")
    for statistic in ("pearson", "jensen-shannon"):
        mean, (low, high) = pair[statistic]["mean"], pair[statistic]["ci"]
        sign, worst = (1, low) if statistic == "pearson" else (-1, high)
        for on, value in (("mean", mean), ("ci", worst)):
            for shift, status in ((-1e-9, 0), (0.0, 0), (1e-9, 3)):
                bound = f"saliency,grad-cam:{statistic}={value + sign * shift!r}"
                outcome = xaicmp("metrics", "--from", kept, "--fail-under", bound, "--fail-on", on)
                assert outcome.status == status, (bound, outcome.err)
                assert outcome.out
                assert outcome.err.count("\n") == (status == 3)
        assert f"grad-cam vs saliency: upper end of the interval of {statistic} is" in outcome.err or sign > 0


def test_what_is_undefined_is_below_and_model_free_methods_count_by_name(kept: Path, xaicmp: Xaicmp) -> None:
    outcome = xaicmp("metrics", "--from", kept, "--fail-under", "pearson=-1", "--output", "again.json")
    assert outcome.status == 3
    assert "constant: mean of pearson is undefined" in outcome.err
    assert "edge" not in outcome.err and "grad-cam vs saliency" not in outcome.err
    assert json.loads(Path("again.json").read_text())["pairs"]
    assert xaicmp("metrics", "--from", kept, "--fail-under", "edge,saliency:pearson=1").status == 3
    with pytest.raises(Below, match="edge"):
        load(kept).check("grad-cam,saliency:pearson=-1", "saliency,edge:pearson=1")
    load(kept).check("grad-cam,saliency:pearson=-1", on="ci")


@pytest.mark.parametrize(
    ("bound", "part"),
    [
        ("ssim=0.1", "ssim is not measured"),
        ("grad-cam,lrp:pearson=0.1", "grad-cam,lrp is not compared"),
        ("grad-cam:pearson=0.1", "grad-cam is not compared"),
        ("pearson", "no bound"),
        ("pearson=high", "no bound"),
        ("pearson=nan", "no bound"),
        ("=0.3", "no bound"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    kept: Path, xaicmp: Xaicmp, bound: str, part: str
) -> None:
    outcome = xaicmp("metrics", "--from", kept, "--output", "a.json", "--fail-under", "pearson=0", bound)
    assert (outcome.status, outcome.out) == (2, "") and part in outcome.err
    assert not Path("a.json").exists()


def test_against_asks_each_method_of_itself() -> None:
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    result = compare(SmallNet(0), images, methods=["grad-cam", "saliency"])
    result.check("pearson=0.9999", against=result.against(SmallNet(0)))
    with pytest.raises(Below, match="saliency: mean of pearson is") as raised:
        bounds = "saliency:pearson=0.999", "grad-cam,saliency:pearson=-1"
        result.check(*bounds, against=result.against(SmallNet(1)))
    assert "vs" not in str(raised.value)


def test_a_training_that_moves_the_maps_ends_with_status_3(xaicmp: Xaicmp) -> None:
    for seed in (0, 1):
        model = SmallNet(seed)
        torch.save(model.state_dict(), f"{seed}.pt")
    words = (
        "metrics",
        "--model",
        "small:SmallNet",
        "--checkpoint",
        "0.pt",
        "--against",
        "1.pt",
        "--n",
        6,
        "-q",
    )
    words += ("--methods", "grad-cam", "saliency", "--fail-under", "pearson=0.999")
    outcome = xaicmp(*words, "--output", "drift.json")
    assert outcome.status == 3, outcome.err
    assert "saliency: mean of pearson is" in outcome.err and "vs" not in outcome.err
    assert json.loads(Path("drift.json").read_text())["retrain"]
    assert xaicmp(*words, "--statistics", "iou").status == 2

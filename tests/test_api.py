"""The Python API: any module, any images, and the same numbers as the command line."""

from __future__ import annotations

import doctest
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import SmallNet, small_classifier, state

import xaicmp
from xaicmp.cli import run
from xaicmp.errors import UsageError

METHODS = ["grad-cam", "saliency", "integrated-gradients"]


@pytest.fixture(scope="module")
def result() -> xaicmp.Result:
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    settings = xaicmp.Settings(curve=True)
    return xaicmp.compare(small_classifier(), images, methods=METHODS, settings=settings)


def test_a_module_and_a_tensor_are_enough_and_the_module_is_left_as_it_was() -> None:
    model, images = SmallNet().train(), torch.randn(7, 3, 20, 24)
    before = state(model)
    result = xaicmp.compare(model, images, methods=METHODS)
    after = state(model)
    assert before == after
    assert len(result) == 7
    assert result.comparison.source.classes[-1] == "unknown"
    assert result.comparison.predictions.labels.tolist() == [-1] * 7


def test_what_is_explained_are_the_images_as_they_are_given() -> None:
    model, images = SmallNet().eval(), torch.randn(3, 3, 16, 16)
    targets = [1, 2, 0]
    maps = xaicmp.explain(model, images, targets, ["saliency"]).maps
    inputs = images.clone().requires_grad_()
    model(inputs).gather(1, torch.tensor(targets)[:, None]).sum().backward()
    torch.testing.assert_close(maps[0], inputs.grad.abs().amax(dim=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("targets", "wrong"), [([-1, 2, 0], -1), ([1, 99, -5], 99), (7, 7), ("-1", -1), ("7", 7)]
)
def test_the_target_that_is_no_class_is_named(targets: Any, wrong: int) -> None:
    model, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(27, 5)), torch.randn(3, 3, 3, 3)
    with pytest.raises(UsageError, match=f"^target {wrong}: "):
        xaicmp.explain(model, images, targets, ["saliency"])


@pytest.mark.parametrize("form", ["array", "batches", "labelled"])
def test_images_come_in_several_forms(form: str) -> None:
    images = torch.randn(6, 3, 16, 16)
    expected = xaicmp.explain(SmallNet(), images, methods=["saliency"]).maps
    given: Any = {
        "array": images.numpy(),
        "batches": [images[:4], images[4:]],
        "labelled": [(images[:4], torch.arange(4)), (images[4:], torch.arange(2))],
    }[form]
    torch.testing.assert_close(xaicmp.explain(SmallNet(), given, methods=["saliency"]).maps, expected)


def test_a_pair_is_had_by_name_or_title_in_either_order(result: xaicmp.Result) -> None:
    mean = result["grad-cam", "saliency"].pearson.mean
    assert mean == result["Saliency", "Grad-CAM"].pearson.mean
    assert mean == result.comparison.summary("pearson", ("grad-cam", "saliency")).mean
    assert "pearson" in dir(result["grad-cam", "saliency"])
    with pytest.raises(UsageError, match="lrp vs saliency was not compared"):
        result["lrp", "saliency"]
    with pytest.raises(AttributeError, match="was not measured; there are pearson, iou"):
        _ = result["grad-cam", "saliency"].kendall


def test_reprs_are_of_a_few_lines(result: xaicmp.Result) -> None:
    for each in (result, result.images, result.engine, result["grad-cam", "saliency"], small_classifier()):
        assert len(repr(each)) < 300
    assert set(xaicmp.__all__) <= set(dir(xaicmp))
    for name in xaicmp.__all__:
        assert getattr(xaicmp, name) is not None


def test_it_saves_itself(result: xaicmp.Result, tmp_path: Path) -> None:
    for suffix in (".json", ".csv", ".md"):
        result.save(tmp_path / f"result{suffix}")
        assert (tmp_path / f"result{suffix}").stat().st_size > 100
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["pairs"][0]["pearson"]["mean"] == result["grad-cam", "saliency"].pearson.mean
    assert document["schema"] == 2
    with pytest.raises(UsageError, match=r"\.json, \.csv, \.md"):
        result.save(tmp_path / "result.xml")
    assert "<pre" in result._repr_html_()


def test_the_command_line_gives_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["metrics", "--ids", "3", "7", "12", "--ig-steps", "2", "--format", "json", "-q"]) == 0
    shown = json.loads(capsys.readouterr().out)
    methods = ["grad-cam", "saliency", "integrated-gradients:steps=2"]
    result = xaicmp.compare(methods=methods, select=xaicmp.Selection(ids=(3, 7, 12), only="all"))
    for pair, found in zip(shown["pairs"], result, strict=True):
        assert pair["pearson"]["mean"] == pytest.approx(found.pearson.mean, abs=1e-9)
        assert pair["iou"]["ci"][0] == pytest.approx(found.iou.low, abs=1e-9)


def test_studies_are_asked_of_a_result(result: xaicmp.Result) -> None:
    assert set(result.compare_pairs().letters) == {"pearson", "iou"}
    assert sum(group.n for group in result.by("confidence")) == 12
    rerun = result.rerun()
    assert rerun.same == dict.fromkeys(METHODS, True)
    other = result.against(SmallNet(1).eval())
    assert not any(other.same.values())
    random = result.randomisation(draws=2)
    assert len(random.areas("spearman")) == 3
    assert random.draws == 2
    with pytest.raises(UsageError, match="draws 0: give 1 or more"):
        result.randomisation(draws=0)
    zero, *_ = result.faithfulness()
    assert np.isfinite(zero.summaries(0)["probability_gain"].mean)
    assert [cost.title for cost in result.cost()][-1] == "all together"
    assert result.figure("shares").axes


def test_maps_of_a_file_have_no_model(result: xaicmp.Result) -> None:
    lone = xaicmp.Result(result.comparison)
    for ask in (lone.rerun, lone.randomisation, lone.faithfulness, lone.cost):
        with pytest.raises(UsageError, match="this needs the model"):
            ask()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "a int is none; give a torch.nn.Module"),
        ((None, 3), "a int is none; give a tensor"),
        ((None, torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), "give floats"),
        ((None, torch.zeros(2, 8, 8)), "give floats"),
        ((None, torch.full((2, 3, 8, 8), float("nan"))), "NaN or infinity"),
        ((None, []), "there is no batch of images"),
        ((None, None, "lorry"), "target lorry: no such class"),
        ((None, None, 99), "the model has 10 classes"),
        ((None, None, "predicted", "saliency"), "is one word; give a list"),
        ((None, None, "predicted", ["saliency"]), "two or more"),
        ((None, None, "predicted", ["saliency", "salience"]), "did you mean saliency"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        xaicmp.compare(*arguments, **({} if len(arguments) > 3 else {"methods": ["saliency", "edge"]}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["api", "core.agreement.registry"])
def test_the_examples_in_docstrings_are_true(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"xaicmp.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"targets": "label"}, "target is label and was predicted"),
        ({"targets": [1, 2, 3, 4]}, r"target is \[1, 2, 3, 4\] and was predicted"),
        ({"select": xaicmp.Selection(n=3, only="all")}, "n is 3 and was 4"),
        ({"methods": ["saliency", "centre"]}, "centre is sum {} and was unknown"),
    ],
)
def test_what_is_kept_is_what_is_compared(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    model, images = small_classifier(), torch.randn(4, 3, 32, 32)
    select, methods = xaicmp.Selection(n=4, only="all"), xaicmp.get_methods(["saliency", "edge"])
    running = xaicmp.Running().keeping(tmp_path / "a.json", model, select, methods)
    given = {"methods": methods, "select": select, "running": running}
    assert len(xaicmp.compare(model, images, **given)) == 4
    with pytest.raises(UsageError, match=rf"a.json.part is to keep another run: .*{said}"):
        xaicmp.compare(model, images, **given | changed)
    assert running.journal is not None
    running.journal.close()
    targets = np.array([1, 2, 3, 4])
    with pytest.raises(UsageError, match=r"a\.json\.part is of another run: target is"):
        xaicmp.Running().keeping(tmp_path / "a.json", model, select, methods, targets)


def test_an_option_that_would_be_ignored_is_refused() -> None:
    with pytest.raises(UsageError, match="weights and checkpoint exclude each other"):
        xaicmp.load_model("resnet18", checkpoint="a.pt", weights="none")
    images = xaicmp.load_images()
    for given in (None, images):
        with pytest.raises(UsageError, match="CIFAR-10 is loaded as it is; leave labels out"):
            xaicmp.load_images(given, labels="labels.csv")


def test_pixels_that_were_not_normalised_are_refused() -> None:
    classifier = small_classifier()
    pixels = torch.rand(4, 3, 32, 32)
    with pytest.raises(UsageError, match="lie between 0 and 1, and this model wants them normalised"):
        xaicmp.compare(classifier, pixels, methods=["saliency", "edge"])
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (classifier.mean, classifier.std))
    assert len(xaicmp.compare(classifier, (pixels - mean) / std, methods=["saliency", "edge"])) == 4
    assert len(xaicmp.compare(classifier.module, pixels, methods=["saliency", "edge"])) == 4  # who knows


def test_fast_is_fast_from_python_too(tmp_path: Path) -> None:
    model, select = xaicmp.load_model(), xaicmp.Selection(ids=(3, 7))
    methods = xaicmp.get_methods(["saliency", "integrated-gradients"])
    found = {}
    for fast in (False, True):
        running = xaicmp.Running(fast=fast).keeping(tmp_path / f"{fast}.json", model, select, methods)
        found[fast] = xaicmp.compare(model, methods=methods, select=select, running=running)
    steps = {fast: each.methods[1].options["steps"] for fast, each in found.items()}
    assert steps == {False: 32, True: 8}
    values = [each["saliency", "integrated-gradients"].pearson.mean for each in found.values()]
    assert 0 < abs(values[0] - values[1]) < 0.01


def test_remarks_to_python_name_arguments_as_python_does(tmp_path: Path) -> None:
    said: list[str] = []
    torch.save(xaicmp.resnet18_cifar().state_dict(), tmp_path / "bare.pt")
    xaicmp.load_model("resnet18-cifar", checkpoint=tmp_path / "bare.pt", remark=said.append)
    assert any(line.endswith("Give others with mean, std, input_size, classes") for line in said)
    xaicmp.load_checkpoint(tmp_path / "bare.pt", said.append)
    assert not any("\ue000" in line for line in said)

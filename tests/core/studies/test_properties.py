"""What each method's maps are like by themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from captum.metrics import sensitivity_max
from hypothesis import given, settings
from hypothesis import strategies as st
from small import small_classifier
from torch import Tensor

import xaicmp
from xaicmp.core.agreement.controls import OTHER_CLASS
from xaicmp.core.attribution import METHODS
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.run.explainer import other_classes
from xaicmp.core.run.running import Running
from xaicmp.core.studies.properties import (
    DRAWS,
    PROPERTIES,
    RADIUS,
    Properties,
    concentration,
    max_sensitivity,
    nudged,
)
from xaicmp.views.document import to_json
from xaicmp.views.table import to_text
from xaicmp.views.tables.studies import properties

NAMES = ["grad-cam", "input-x-gradient", "edge", "centre"]
SELECT = xaicmp.Selection(ids=(0, 1, 2, 3, 4))


@pytest.fixture(scope="module")
def result(sample: ImageSet) -> xaicmp.Result:
    return xaicmp.compare(small_classifier(), sample, methods=NAMES, select=SELECT)


@pytest.fixture(scope="module")
def found(result: xaicmp.Result) -> Properties:
    return result.properties()


@pytest.mark.parametrize(
    ("pixels", "gini", "entropy", "area"),
    [
        ([1, 1, 1, 1], 0, 1, 1),
        ([0, -2, 2, 0], 0.5, 0.5, 0.5),
        ([0, 0, 5, 0], 0.75, 0, 0.25),
        ([1, 2, 3, 4], 0.25, 0.9232, 1 / 1.2),  # (-3 - 2 + 3 + 12) / 40; 1.2799 / log 4; p^2 add up to 0.3
        ([0, 0, 0, 0], np.nan, np.nan, np.nan),
        ([0, 0, np.nan, 1], np.nan, np.nan, np.nan),
    ],
)
def test_concentration_by_hand(pixels: list[float], gini: float, entropy: float, area: float) -> None:
    found = concentration(torch.tensor(pixels, dtype=torch.float32).view(1, 1, 2, 2))
    values = [float(found[name]) for name in ("gini", "entropy", "area")]
    np.testing.assert_allclose(values, [gini, entropy, area], atol=1e-4)


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(2, 40), st.floats(1e-6, 1e6))
def test_concentration_as_others_compute_it_and_at_any_scale(seed: int, side: int, scale: float) -> None:
    maps = torch.randn(3, side, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found, scaled = concentration(maps), concentration(scale * maps.flip(1))
    flat = maps.abs().flatten(1).numpy()
    apart = np.abs(flat[:, :, None] - flat[:, None]).mean(axis=(1, 2))
    np.testing.assert_allclose(found["gini"], apart / (2 * flat.mean(axis=1)))
    np.testing.assert_allclose(found["entropy"], scipy.stats.entropy(flat, axis=1) / np.log(2 * side))
    np.testing.assert_allclose(found["area"], flat.mean(axis=1) ** 2 / (flat**2).mean(axis=1))
    for name, values in found.items():
        np.testing.assert_allclose(scaled[name], values)


def test_max_sensitivity_is_captums() -> None:
    """Of the same changes, one at a time."""
    classifier, method = small_classifier(), METHODS["saliency"]
    images, targets = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(3)

    def explain(inputs: Tensor) -> Tensor:
        return method.explain(classifier.module, inputs, targets)

    ids, expected = np.array([4, 9, 2]), []
    for draw in range(DRAWS):
        change = nudged(images, ids, draw, 0)
        expected.append(
            sensitivity_max(
                lambda inputs: (explain(inputs[0]),),
                images,
                lambda inputs, radius, change=change: (change,),
                perturb_radius=RADIUS,
                n_perturb_samples=1,
            )
        )
    nearby = [explain(nudged(images, ids, draw, 0)) for draw in range(DRAWS)]
    found = max_sensitivity(explain(images), nearby)
    np.testing.assert_allclose(found, torch.stack(expected).amax(dim=0), rtol=1e-5)
    zero = max_sensitivity(torch.zeros(1, 2, 2), [torch.ones(1, 2, 2)])
    assert zero.isnan().all()


def test_noise_is_small_and_belongs_to_the_image_the_draw_and_the_seed() -> None:
    images, ids = torch.zeros(3, 3, 20, 20), np.array([4, 9, 2])
    noise = nudged(images, ids, 1, 5)
    assert scipy.stats.kstest(noise.ravel() / RADIUS, scipy.stats.uniform(-1, 2).cdf).pvalue > 0.01
    assert torch.equal(nudged(images[:1], ids[1:2], 1, 5), noise[1:2])
    for other in (nudged(images, ids, 2, 5), nudged(images, ids, 1, 6), nudged(images, ids + 1, 1, 5)):
        assert not torch.isclose(other, noise).all(dim=(1, 2, 3)).any()


def test_the_class_the_centre_and_the_edges_by_hand(result: xaicmp.Result, found: Properties) -> None:
    predictions, classifier = result.comparison.predictions, small_classifier()
    assert result.images is not None
    images = classifier.normalise(result.images.pixels(predictions.ids))
    logits = classifier.module(images).detach()
    others = dict(zip(OTHER_CLASS, other_classes(logits, predictions, 0), strict=True))

    def maps(name: str, targets: np.ndarray = predictions.targets) -> np.ndarray:
        about = {"mean": classifier.mean, "std": classifier.std, "layer": "layer4"}
        method = METHODS[name]
        return method.explain(classifier.module, images, torch.from_numpy(targets), **about).numpy()

    def pearson(a: np.ndarray, b: np.ndarray) -> list[float]:
        return [scipy.stats.pearsonr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]

    name = "input-x-gradient"
    for key, targets in others.items():
        np.testing.assert_allclose(
            found.values[key][name], pearson(maps(name), maps(name, targets)), atol=1e-4
        )
    for key, beside in (("centre", "centre"), ("edges", "edge")):
        expected = np.square(pearson(maps(name), maps(beside)))
        np.testing.assert_allclose(found.values[key][name], expected, atol=1e-4)
        np.testing.assert_allclose(found.values[key][beside], 1)


def test_a_method_that_knows_no_model_does_not_depend_on_the_class(found: Properties) -> None:
    for name in ("edge", "centre"):
        for key in OTHER_CLASS:
            np.testing.assert_allclose(found.values[key][name], 1)
    np.testing.assert_allclose(found.values["max_sensitivity"]["centre"], 0)
    assert (found.values["max_sensitivity"]["edge"] > 0).all()


def test_an_image_has_the_same_alone(sample: ImageSet, found: Properties) -> None:
    running = Running(batch_size=2)
    few = xaicmp.Selection(ids=(3, 1))
    alone = xaicmp.compare(small_classifier(), sample, methods=NAMES, select=few, running=running)
    for key, by_method in alone.properties().values.items():
        for name, values in by_method.items():
            np.testing.assert_allclose(values, found.values[key][name][[3, 1]], rtol=1e-3, atol=1e-4)


def test_the_table_and_the_document_have_every_property_with_its_interval(
    result: xaicmp.Result, found: Properties, tmp_path: Path
) -> None:
    table = properties(found)
    path = tmp_path / "result.json"
    path.write_text(to_json(result.comparison, [table]))
    assert xaicmp.load(path).studies["properties"] == json.loads(path.read_text())["properties"] == table.data
    assert [entry["method"] for entry in table.data] == NAMES
    text = to_text(table)
    for entry in table.data:
        for name in PROPERTIES:
            values = found.values[name][entry["method"]]
            assert entry[name]["mean"] == pytest.approx(np.nanmean(values))
            assert entry[name]["n"] == (~np.isnan(values)).sum()
            low, high = entry[name]["ci"]
            assert f"{round(low, 3) + 0.0:.3f} to {round(high, 3) + 0.0:.3f}" in text

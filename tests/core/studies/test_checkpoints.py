"""The same comparison on several checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import SmallNet, choose, compare_selection, quick, small_engine

from xaicmp import compare
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet, TensorImages
from xaicmp.core.results.crossed import crossed
from xaicmp.core.results.settings import Settings
from xaicmp.core.studies.checkpoints import over_checkpoints
from xaicmp.errors import UsageError, XaicmpError

METHODS = quick(["saliency", "grad-cam"])
PAIR = ("saliency", "grad-cam")


def moved(seed: int) -> SmallNet:
    """The network with other weights, but not so much that it predicts the same for every image."""
    model, generator = SmallNet(0), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.05 * seed * torch.randn(each.shape, generator=generator))
    return model


def test_each_checkpoint_is_compared_on_the_images_that_all_get_right(sample: ImageSet) -> None:
    engines = [small_engine(moved(seed), batch_size=8) for seed in range(3)]
    selection, settings = Selection(n=30, only="correct"), Settings(controls=["other-image"])
    images, first = compare_selection(engines[0], selection, METHODS, settings, data=sample)
    right = [set(choose(each, sample, Selection(n=150, only="correct")).ids.tolist()) for each in engines]
    common = [each for each in first.predictions.ids.tolist() if each in right[1] & right[2]]
    assert 0 < len(common) < len(first.predictions)
    found = over_checkpoints(first, engines, METHODS, images, "correct")
    assert found.ids.tolist() == common
    assert found.left_out == len(first.predictions) - len(common)
    for engine, row in zip(engines, range(3), strict=True):
        selection = Selection(ids=tuple(common))
        alone = compare_selection(engine, selection, METHODS, settings, data=sample)[1].scores
        np.testing.assert_allclose(found.values["iou"][PAIR][row], alone.values["iou"][PAIR], atol=1e-9)
        if row:
            above = alone.values["pearson"][PAIR] - alone.controls["other_image"]["pearson"][PAIR]
            np.testing.assert_allclose(found.above["pearson"][PAIR][row], above, atol=1e-6)
    estimate = found.estimate("pearson", PAIR, above=True)
    assert (estimate.difference, estimate.low, estimate.high, estimate.p) == crossed(
        found.above["pearson"][PAIR]
    )
    two = over_checkpoints(first, engines[:2], METHODS, images).estimate("iou", PAIR)
    assert np.isnan([two.low, two.high, two.p]).all()
    assert two.difference == pytest.approx(np.mean(two.means))


def test_a_checkpoint_counts_once(sample: ImageSet) -> None:
    engines = [small_engine(SmallNet(seed)) for seed in (0, 1, 2, 1)]
    images, first = compare_selection(engines[0], Selection(n=4, only="all"), METHODS, data=sample)
    for some in (engines, [engines[0], small_engine(SmallNet(0))]):
        with pytest.raises(
            UsageError, match=r"^checkpoints: .* has the weights of .*; give each checkpoint once$"
        ):
            over_checkpoints(first, some, METHODS, images)


def test_an_image_that_is_explained_for_two_classes_stays_two(sample: ImageSet) -> None:
    engines = [small_engine(SmallNet(seed)) for seed in range(3)]
    images = TensorImages(torch.randn(2, 3, 32, 32)[[0, 0, 1]])
    first = compare(SmallNet(0).eval(), images, [1, 2, 2], [each.name for each in METHODS]).comparison
    found = over_checkpoints(first, engines, METHODS, images)
    assert (found.ids.tolist(), found.left_out) == ([0, 1, 2], 0)


def test_images_that_no_other_checkpoint_admits_are_said(sample: ImageSet) -> None:
    engines = [small_engine(SmallNet(seed), batch_size=8) for seed in range(2)]
    chosen = choose(engines[1], sample, Selection(n=40, only="all"))
    wrong = tuple(chosen.ids[chosen.wrong][:3].tolist())
    images, first = compare_selection(engines[0], Selection(ids=wrong), METHODS, Settings(), data=sample)
    with pytest.raises(XaicmpError, match="no image is one that every checkpoint admits"):
        over_checkpoints(first, engines, METHODS, images, "correct")

"""The control that takes maps of the same images for other classes: what it compares, and its way through files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from small import SmallNet, small_classifier
from torch import Tensor, nn

import xaicmp
from xaicmp.core.agreement.controls import OTHER_CLASS
from xaicmp.core.attribution import get_methods
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.models.outputs import Adapted
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.explainer import other_classes
from xaicmp.core.run.maps_file import write_maps
from xaicmp.core.run.running import Running
from xaicmp.core.run.scoring import score
from xaicmp.errors import UsageError
from xaicmp.views.document import document

NAMES = ["saliency", "input-x-gradient"]
SETTINGS = Settings(controls=["other-image", "other-class"])
SELECT = xaicmp.Selection(ids=tuple(range(9)))


class OneLogit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = SmallNet()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)[:, :1]


def pearson(a: Tensor, b: Tensor) -> float:
    return float(scipy.stats.pearsonr(a.double().ravel(), b.double().ravel()).statistic)


def compared(sample: ImageSet, model: nn.Module | None = None, **options: object) -> xaicmp.Result:
    classes = {} if model is None else {"classes": ()}
    classifier = small_classifier(model, **classes)
    given = {"settings": SETTINGS, "select": SELECT} | options
    return xaicmp.compare(classifier, sample, methods=get_methods(NAMES, reduce="sum"), **given)


def test_it_is_the_mean_of_both_ways_for_a_drawn_class_and_for_the_runner_up(sample: ImageSet) -> None:
    result = compared(sample, running=Running(seed=3, batch_size=4))
    predictions, classifier = result.comparison.predictions, small_classifier()
    images = classifier.normalise(sample.pixels(predictions.ids))
    logits = classifier.module(images).detach()
    drawn, runner_up = other_classes(logits, predictions, 3)
    assert runner_up.tolist() == logits.argsort(dim=1)[:, -2].tolist()
    by_class = [
        [each.explain(classifier.module, images, torch.from_numpy(targets)) for each in result.methods]
        for targets in (predictions.targets, drawn, runner_up)
    ]
    for key, (a, b) in zip(OTHER_CLASS, by_class[1:], strict=True):
        found = result.comparison.scores.controls[key]["pearson"][tuple(NAMES)]
        own_a, own_b = by_class[0]
        expected = [
            (pearson(own_a[row], b[row]) + pearson(a[row], own_b[row])) / 2 for row in range(len(predictions))
        ]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        test = result[NAMES].outcome("pearson").above_class[key]
        own = [pearson(own_a[row], own_b[row]) for row in range(len(predictions))]
        assert test.difference == pytest.approx(np.mean(own) - np.mean(expected), abs=1e-4)
        assert test.low < test.difference < test.high


def test_the_drawn_class_belongs_to_the_image_and_the_seed_and_is_any_but_the_target() -> None:
    ids = np.arange(2_000)
    targets = ids % 5
    logits = torch.zeros(len(ids), 5)
    chosen = Predictions(ids, targets, targets, np.ones(len(ids)), targets)
    drawn, _ = other_classes(logits, chosen, 0)
    assert (drawn != targets).all()
    counts = np.bincount((drawn - targets) % 5, minlength=5)[1:]
    assert scipy.stats.chisquare(counts).pvalue > 0.01
    some = np.array([1_500, 7])
    assert other_classes(logits[:2], chosen.rows(some), 0)[0].tolist() == drawn[some].tolist()
    assert (other_classes(logits, chosen, 1)[0] != drawn).any()


@pytest.mark.parametrize("kind", ["one logit", "two classes"])
def test_of_two_classes_the_other_class_is_the_other_one(sample: ImageSet, kind: str) -> None:
    model = OneLogit() if kind == "one logit" else nn.Sequential(SmallNet(), nn.Linear(10, 2))
    result = compared(sample, model)
    scores = result.comparison.scores
    drawn, runner_up = (scores.controls[key]["pearson"][tuple(NAMES)] for key in OTHER_CLASS)
    np.testing.assert_array_equal(drawn, runner_up)
    assert np.isfinite(drawn).all()
    if kind == "one logit":  # z/2 and -z/2, whose gradients are each other's negatives
        observed = scores.values["pearson"][tuple(NAMES)]
        np.testing.assert_allclose(drawn, -observed, atol=1e-6)


def test_of_one_class_there_is_no_other(sample: ImageSet) -> None:
    class Score(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1).square().sum(dim=1)

    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scored = Adapted(Score(), score=lambda output: output)
    found = xaicmp.compare(scored, images, methods=NAMES, settings=SETTINGS)
    outcome = found[NAMES].outcome("pearson")
    assert [outcome.above_class[key].n for key in OTHER_CLASS] == [0, 0]
    assert np.isnan(outcome.controls["other_class"])
    assert np.isfinite(outcome.summary.mean)


def test_it_is_undefined_where_one_of_both_ways_is() -> None:
    generator = torch.Generator().manual_seed(1)
    maps, others = torch.rand(2, 3, 6, 6, generator=generator), torch.rand(2, 2, 3, 6, 6, generator=generator)
    others[0, 1, 2] = 0  # B's map of the last image for the drawn class says nothing
    rows = np.arange(3)
    chosen = Predictions(rows, rows, rows, np.ones(3), rows)
    given = Explanations(chosen, torch.empty(0), ("a", "b"), maps, other_maps=others)
    found = score(given, Settings(["pearson", "iou", "jensen-shannon"], controls=["other-class"])).controls
    for name in ("pearson", "iou", "jensen-shannon"):
        assert np.isnan(found["other_class"][name]["a", "b"]).tolist() == [False, False, True]
        assert np.isfinite(found["other_class_runner_up"][name]["a", "b"]).all()


def test_it_goes_through_a_file_of_maps_and_a_document(sample: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    running = Running(batch_size=4).keeping(
        path, small_classifier(), SELECT, get_methods(NAMES, reduce="sum")
    )
    result = compared(sample, running=running)
    assert running.journal is not None
    write_maps(path, running.journal, sample, result.comparison)
    running.journal.close()
    scores = result.comparison.scores.controls
    result.save(tmp_path / "result.json")
    resumed = Running(batch_size=4).keeping(path, small_classifier(), SELECT, result.methods)
    assert resumed.journal is not None
    assert resumed.journal.found == 3
    for again in (
        xaicmp.load(path, SETTINGS),
        xaicmp.load(tmp_path / "result.json"),
        compared(sample, running=resumed),
    ):
        for key in OTHER_CLASS:
            for name, by_pair in scores[key].items():
                found = again.comparison.scores.controls[key][name][tuple(NAMES)]
                np.testing.assert_array_equal(found, by_pair[tuple(NAMES)])
            assert [image[key] for image in document(again.comparison)["images"]] == [
                image[key] for image in document(result.comparison)["images"]
            ]
    resumed.journal.close()
    without = Running(batch_size=4).keeping(path, small_classifier(), SELECT, result.methods)
    with pytest.raises(UsageError, match=r"maps.npz.part was begun with controls other-class; give the same"):
        compared(sample, running=without, settings=Settings())
    assert without.journal is not None
    without.journal.remove()


def test_maps_without_those_of_other_classes_need_the_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", methods=["a", "b"], maps=np.random.default_rng(0).random((2, 4, 5, 5)))
    with pytest.raises(UsageError, match="other-class needs the model"):
        xaicmp.load(tmp_path / "maps.npz", SETTINGS)


def test_a_document_says_which_classes_were_taken_and_what_is_above_each(sample: ImageSet) -> None:
    result = compared(sample)
    predictions, classifier = result.comparison.predictions, small_classifier()
    logits = classifier.module(classifier.normalise(sample.pixels(predictions.ids))).detach()
    whole = document(result.comparison)
    for key, targets in zip(OTHER_CLASS, other_classes(logits, predictions, 0), strict=True):
        assert [image[key] for image in whole["images"]] == [sample.classes[each] for each in targets]
    bare = document(compared(sample, settings=Settings()).comparison)
    assert not {*OTHER_CLASS} & {*bare["images"][0]}
    pair = whole["pairs"][0]["iou"]
    for key in OTHER_CLASS:
        own = result.comparison.scores.values["iou"][tuple(NAMES)]
        control = result.comparison.scores.controls[key]["iou"][tuple(NAMES)]
        assert pair[key] == pytest.approx(control.mean())
        above = pair[f"above_{key}"]
        assert above["difference"] == pytest.approx((own - control).mean())
        assert 0 < above["p"] <= 1
        assert above["n"] == len(own)

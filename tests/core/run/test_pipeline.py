"""The whole way from images to scores. ``XAICMP_TEST_IMAGES=100`` checks the published experiment in full."""

from __future__ import annotations

import dataclasses
import gc
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from architectures import architecture
from small import (
    CPU,
    SmallNet,
    choose,
    compare,
    compare_selection,
    compared,
    explain,
    explain_selection,
    find_images,
    quick,
    registered,
    small_classifier,
    small_engine,
)
from torch import Tensor, nn

import xaicmp
from xaicmp.core.attribution import METHODS, PUBLISHED, get_methods
from xaicmp.core.attribution.context import Context
from xaicmp.core.images.cifar10 import MEAN, STD
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.models.checkpoint import Checkpoint, load_checkpoint, shipped_checkpoint
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.settings import Settings
from xaicmp.core.run import comparing
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.running import FAST, quickened
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.views.document import document

IMAGES = int(os.environ.get("XAICMP_TEST_IMAGES", "4"))
PAIRS = [("grad-cam", "saliency"), ("grad-cam", "integrated-gradients"), ("saliency", "integrated-gradients")]


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return load_checkpoint(shipped_checkpoint())


@pytest.fixture(scope="module")
def published(shipped: Checkpoint) -> tuple[list[Explanations], Comparison]:
    """The published experiment's maps and numbers."""
    batches: list[Explanations] = []
    engine = Engine(shipped.classifier, CPU, batch_size=32)
    _, comparison = compare_selection(
        engine, Selection(n=IMAGES), get_methods(PUBLISHED), keep=batches.append
    )
    return batches, comparison


def features(model: nn.Module, x: Tensor) -> Tensor:
    x = torch.relu(model.bn1(model.conv1(x)))
    return model.layer4(model.layer3(model.layer2(model.layer1(x))))


def gradient(model: nn.Module, x: Tensor, target: int) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x)[0, target], x)[0]


def maps_by_the_formulas(model: nn.Module, x: Tensor, target: int) -> dict[str, np.ndarray]:
    """The three published methods for one image ``(1, 3, H, W)``, in plain autograd."""
    a = features(model, x).detach().requires_grad_()
    score = model.fc(a.mean(dim=(2, 3)))[0, target]
    weights = torch.autograd.grad(score, a)[0].mean(dim=(2, 3), keepdim=True)
    cam = torch.relu((weights * a.detach()).sum(dim=1, keepdim=True))
    cam = nn.functional.interpolate(cam, size=x.shape[2:], mode="bilinear", align_corners=False)
    saliency = gradient(model, x, target).abs().max(dim=1).values
    total = torch.zeros_like(x)
    for k in range(1, 33):
        total += gradient(model, k / 32 * x, target)
    ig = (x * total / 32).sum(dim=1).clamp(min=0)
    return {
        "grad-cam": cam[0, 0].numpy(),
        "saliency": saliency[0].numpy(),
        "integrated-gradients": ig[0].numpy(),
    }


def iou_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    count = int(0.2 * a.size)
    tops = []
    for values in (a.ravel().tolist(), b.ravel().tolist()):
        order = sorted((-value, index) for index, value in enumerate(values))
        tops.append({index for _, index in order[:count]})
    return len(tops[0] & tops[1]) / len(tops[0] | tops[1])


def test_the_published_experiment_image_by_image(
    shipped: Checkpoint, published: tuple[list[Explanations], Comparison], sample: ImageSet
) -> None:
    """Ours, batched and through Captum, against the formulas, one image at a time."""
    comparison = published[1]
    assert len(comparison.predictions) == IMAGES

    model = shipped.classifier.module
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    expected: dict[str, dict[tuple[str, str], list[float]]] = {
        name: {pair: [] for pair in PAIRS} for name in ("pearson", "iou")
    }
    ids = []
    for index in range(len(sample)):
        x = (sample.tensor[index : index + 1] / 255 - mean) / std
        with torch.no_grad():
            probabilities = model(x)[0].softmax(dim=0)
        predicted = int(probabilities.argmax())
        if predicted != sample.labels[index]:
            continue
        row = len(ids)
        ids.append(index)
        assert comparison.predictions.predicted[row] == comparison.predictions.labels[row] == predicted
        assert comparison.predictions.confidence[row] == pytest.approx(
            float(probabilities[predicted]), abs=1e-5
        )
        maps = maps_by_the_formulas(model, x, predicted)
        for a, b in PAIRS:
            if np.ptp(maps[a]) == 0 or np.ptp(maps[b]) == 0:
                r = float("nan")
            else:
                r = scipy.stats.pearsonr(
                    maps[a].ravel().astype(float), maps[b].ravel().astype(float)
                ).statistic
            expected["pearson"][a, b].append(r)
            expected["iou"][a, b].append(iou_by_hand(maps[a], maps[b]))
        if len(ids) == IMAGES:
            break
    assert comparison.predictions.ids.tolist() == ids
    for pair in PAIRS:
        for name, each, of_mean in (("pearson", 1e-3, 1e-3), ("iou", 0.01, 1e-3)):
            values, reference = comparison.scores.values[name][pair], np.array(expected[name][pair])
            np.testing.assert_allclose(values, reference, rtol=0, atol=each)
            summary = comparison.summary(name, pair)
            assert summary.mean == pytest.approx(np.nanmean(reference), abs=of_mean)
            assert summary.std == pytest.approx(np.nanstd(reference), abs=of_mean)


def assert_same(one: Comparison, other: Comparison, row: int | slice = slice(None)) -> None:
    """The same numbers, to 1e-5; ``row`` picks from ``one``."""
    np.testing.assert_allclose(
        one.predictions.confidence[row], other.predictions.confidence, rtol=0, atol=1e-5
    )
    for name, by_pair in one.scores.values.items():
        for pair, values in by_pair.items():
            np.testing.assert_allclose(values[row], other.scores.values[name][pair], rtol=0, atol=1e-5)


def test_the_batch_size_does_not_change_the_numbers(shipped: Checkpoint, sample: ImageSet) -> None:
    outcomes = []
    for batch_size in (64, 2, 1):
        engine = Engine(shipped.classifier, CPU, batch_size=batch_size)
        chosen = choose(engine, sample, Selection(n=3, only="all"))
        methods = quick(PUBLISHED, steps=3)
        batches: list[Explanations] = []
        outcomes.append((compare(engine, sample, chosen, methods, keep=batches.append), batches))
    (first, first_batches), *others = outcomes
    expected = torch.cat([batch.maps for batch in first_batches], dim=1)
    scale = expected.flatten(2).amax(dim=2)[:, :, None, None]
    for other, batches in others:
        assert other.predictions.ids.tolist() == first.predictions.ids.tolist()
        assert other.predictions.predicted.tolist() == first.predictions.predicted.tolist()
        assert_same(other, first)
        maps = torch.cat([batch.maps for batch in batches], dim=1)
        assert ((maps - expected).abs() <= 1e-5 * scale).all()


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_many_images_and_all_batch_sizes_on_a_small_network(batch_size: int, sample: ImageSet) -> None:
    ids = tuple(range(70))
    expected, _ = compared(sample, PUBLISHED, ids, small_engine(batch_size=33))
    assert_same(compared(sample, PUBLISHED, ids, small_engine(batch_size=batch_size))[0], expected)


def test_an_image_alone_is_the_image_among_many(sample: ImageSet) -> None:
    many, many_batches = compared(sample, PUBLISHED, tuple(range(20)))
    alone, alone_batches = compared(sample, PUBLISHED, (7,))
    assert_same(many, alone, row=slice(7, 8))
    torch.testing.assert_close(many_batches[0].maps[:, 7:8], alone_batches[0].maps, rtol=1e-5, atol=1e-6)


def test_the_order_of_ids_is_kept_and_a_repeated_image_counts_once(sample: ImageSet) -> None:
    comparison, batches = compared(sample, PUBLISHED, (12, 3, 12, 7, 3, 3), small_engine(batch_size=3))
    assert comparison.predictions.ids.tolist() == [12, 3, 7]
    assert torch.equal(torch.cat([batch.pixels for batch in batches]), sample.tensor[[12, 3, 7]])
    assert_same(comparison, compared(sample, PUBLISHED, (12, 3, 7), small_engine(batch_size=3))[0])


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("only", ["correct", "wrong", "all"])
def test_n_takes_the_first_in_data_set_order(only: str, batch_size: int, sample: ImageSet) -> None:
    engine, sample = small_engine(batch_size=batch_size), sample.first(150)
    everything = choose(engine, sample, Selection(ids=tuple(range(len(sample))), only="all"))
    right = everything.predicted == everything.labels
    admitted = np.flatnonzero({"correct": right, "wrong": ~right, "all": right >= 0}[only])
    assert len(admitted) > 12
    for n in (1, 7, 12):
        chosen = choose(engine, sample, Selection(n=n, only=only))
        assert chosen.ids.tolist() == admitted[:n].tolist()
        assert chosen.predicted.tolist() == everything.predicted[admitted[:n]].tolist()
    assert len(choose(engine, sample, Selection(n=2000, only=only))) == len(admitted)


def test_confidence_is_the_softmax_of_the_predicted_class(sample: ImageSet) -> None:
    engine = small_engine()
    chosen = choose(engine, sample, Selection(n=5, only="all"))
    with torch.no_grad():
        logits = engine.classifier.module(engine.inputs(sample.tensor[:5])).double().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chosen.confidence, probabilities.max(axis=1), atol=1e-6)
    assert chosen.predicted.tolist() == probabilities.argmax(axis=1).tolist()


def test_the_predicted_class_is_explained_also_where_it_is_wrong(sample: ImageSet) -> None:
    engine, seen = small_engine(), []

    def spy(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        seen.extend(targets.tolist())
        return images[:, 0]

    with registered("spy", spy):
        chosen = choose(engine, sample, Selection(n=5, only="wrong"))
        compare(engine, sample, chosen, get_methods(["spy", "saliency"]))
    assert seen == chosen.predicted.tolist()
    assert (chosen.predicted != chosen.labels).all()


def zero_cam_engine() -> Engine:
    """Every feature speaks against every class, so every Grad-CAM is zero."""
    model = SmallNet()
    with torch.no_grad():
        model.fc.weight.copy_(-model.fc.weight.abs())
    return small_engine(model)


def test_a_map_of_zeros_is_undefined_and_enters_no_mean(sample: ImageSet) -> None:
    comparison, _ = compared(sample, PUBLISHED, (0, 1, 2, 3), zero_cam_engine())
    for pair in PAIRS[:2]:
        assert np.isnan(comparison.scores.values["pearson"][pair]).all()
        assert np.isnan(comparison.summary("pearson", pair).mean)
        assert comparison.summary("pearson", pair).undefined == 4
        assert np.isnan(comparison.summary("iou", pair).mean)
        assert comparison.summary("iou", pair).undefined == 4
        assert comparison.summary("iou", pair).tied == 0
    assert comparison.summary("pearson", PAIRS[2]).undefined == 0


def test_the_mean_is_over_the_images_where_it_is_defined(sample: ImageSet) -> None:
    def flat_for_some(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        maps = images[:, 1].detach().clone()
        maps[maps.mean(dim=(1, 2)) > 0] = 0.5
        return maps

    with registered("flat", flat_for_some):
        comparison, _ = compared(sample, ("saliency", "flat"), tuple(range(20)), small_engine(batch_size=6))
    values = comparison.scores.values["pearson"]["saliency", "flat"]
    summary = comparison.summary("pearson", ("saliency", "flat"))
    undefined = int(np.isnan(values).sum())
    assert 0 < undefined < 20
    assert (summary.undefined, summary.n) == (undefined, 20 - undefined)
    assert summary.mean == pytest.approx(np.mean([each for each in values if each == each]))
    assert comparison.summary("iou", ("saliency", "flat")).undefined == undefined


def live_map_bytes() -> int:
    gc.collect()
    tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor]
    return sum(each.untyped_storage().nbytes() for each in tensors)


def test_memory_does_not_grow_with_the_number_of_images(
    sample: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No block of maps outlives the next, and all live tensors together stay as many."""
    monkeypatch.setattr(comparing, "BLOCK", 8)

    def peak(n: int) -> int:
        engine, sizes, maps = small_engine(batch_size=8), [], []

        def keep(explanations: Explanations) -> None:
            assert sum(each() is not None for each in maps) <= 1
            maps.append(weakref.ref(explanations.maps))
            sizes.append(live_map_bytes())

        chosen = choose(engine, sample, Selection(n=n, only="all"))
        compare(engine, sample, chosen, quick(PUBLISHED, steps=2), keep=keep)
        assert len(maps) == n // 8
        assert not any(each() is not None for each in maps)
        return max(sizes)

    few, many = peak(16), peak(96)
    one_image = 3 * 32 * 32 * 4
    assert many < few + 8 * one_image


def test_progress_is_told_from_nothing_to_all(sample: ImageSet) -> None:
    told: list[tuple[str, int, int]] = []
    engine = small_engine(batch_size=4)
    methods = quick(PUBLISHED, steps=2)
    compare_selection(engine, Selection(n=10), methods, data=sample, progress=lambda *each: told.append(each))
    done = [each[1] for each in told]
    assert done == sorted(done)
    assert done[-1] == 10
    assert {(each[0], each[2]) for each in told} == {("explaining", 10)}


@pytest.mark.parametrize("names", [["saliency"], []])
def test_fewer_than_two_methods_cannot_be_compared(names: list[str], sample: ImageSet) -> None:
    engine = small_engine()
    methods = [method for method in get_methods(PUBLISHED) if method.name in names]
    with pytest.raises(UsageError, match="two or more"):
        compare(engine, sample, choose(engine, sample, Selection(n=1)), methods)


@pytest.mark.parametrize("top", [0, 1.5, 0.0001])
def test_a_wrong_share_is_refused_before_the_work(top: float, sample: ImageSet) -> None:
    with registered("bomb", lambda *_: pytest.fail("it was run")), pytest.raises(UsageError, match="top"):
        xaicmp.compare(small_classifier(), sample, methods=["bomb", "saliency"], settings=Settings(top=top))


def test_no_image_has_no_explanation(sample: ImageSet) -> None:
    engine = small_engine()
    none = choose(engine, sample, Selection(n=1)).rows(slice(0, 0))
    assert list(explain(engine, sample, none, get_methods(PUBLISHED))) == []


def test_an_id_beyond_the_data_set_is_refused(sample: ImageSet) -> None:
    with pytest.raises(UsageError, match=r"ids 1000: CIFAR-10 has 1,000 images, counted from 0"):
        choose(small_engine(), sample, Selection(ids=(3, 1000), only="all"))


@pytest.mark.parametrize(
    "classes",
    [("cat", "dog"), ("dog", "cat", "house"), tuple("0123456789"), tuple(str(i) for i in range(100))],
)
def test_of_other_classes_the_labels_are_known_by_name_or_not_at_all(
    classes: tuple[str, ...], sample: ImageSet
) -> None:
    model = SmallNet()
    model.fc = nn.Linear(16, len(classes))
    engine = Engine(small_classifier(model, classes=classes), CPU)
    methods = get_methods(["saliency", "edge"])
    comparison = compare_selection(engine, Selection(n=9, only="all"), methods, data=sample)[1]
    names = [sample.classes[label] for label in sample.labels[:9].tolist()]
    expected = [name if name in classes else "unknown" for name in names]
    found = [image["label"] for image in document(comparison)["images"]]
    assert found == expected
    assert {image["predicted"] for image in document(comparison)["images"]} <= set(classes)
    unknown = np.array([name not in classes for name in names])
    assert not comparison.predictions.wrong[unknown].any()
    if not set(classes) & set(sample.classes):
        with pytest.raises(UsageError, match="CIFAR-10: which images are right is unknown"):
            choose(engine, sample, Selection(n=3))


def test_the_sample_is_used_while_it_suffices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAICMP_DATA", str(tmp_path / "none"))
    engine = small_engine()
    for selection in (Selection(n=20), Selection(ids=(0, 999), only="all"), Selection(n=1000, only="all")):
        images, chosen = find_images(engine, selection)
        assert images.sample
        assert len(chosen) == (selection.n or 2)
    # Where some are at hand, they will have to do.
    right = choose(engine, images, Selection(n=1000))
    assert 0 < len(right) < 1000
    assert find_images(engine, Selection(n=1000))[1].ids.tolist() == right.ids.tolist()
    for selection in (Selection(n=1001), Selection(ids=(1000,), only="all")):
        with pytest.raises(XaicmpError, match=r"1,000 images at hand: no CIFAR-10 in .*give data: a folder"):
            find_images(engine, selection)


def test_beyond_the_sample_the_data_set_is_read(binary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine(batch_size=500)
    images, chosen = find_images(engine, Selection(ids=(3, 1003), only="all"), binary_folder)
    assert len(images) == 10_000
    assert chosen.predicted[0] == chosen.predicted[1]
    monkeypatch.setenv("XAICMP_DATA", str(binary_folder))
    images, chosen = find_images(engine, Selection(ids=(9_999,), only="all"))
    assert (len(images), images.sample, chosen.ids.tolist()) == (10_000, False, [9_999])


def test_bfloat16_gives_nearly_the_same_numbers(sample: ImageSet) -> None:
    exact, _ = compared(sample, PUBLISHED, tuple(range(30)))
    rough, batches = compared(sample, PUBLISHED, tuple(range(30)), small_engine(precision="bf16"))
    assert batches[0].maps.dtype == torch.float32
    for pair in PAIRS:
        difference = exact.summary("pearson", pair).mean - rough.summary("pearson", pair).mean
        assert 0 < abs(difference) < 0.03


def test_fast_shares_an_exact_pass_and_comes_near_with_a_quarter_of_the_steps(
    shipped: Checkpoint, published: tuple[list[Explanations], Comparison]
) -> None:
    rough: list[Explanations] = []
    engine = Engine(shipped.classifier, CPU, "bf16", batch_size=32, fast=True)
    methods = quickened(get_methods(PUBLISHED), (32, 32))
    few = 2  # without hardware for it, bf16 takes many times as long as float32
    _, fast = compare_selection(engine, Selection(n=few), methods, keep=rough.append)
    (exact, *_), slow = published
    (quickly,) = rough
    assert torch.equal(quickly.maps[:2], exact.maps[:2, :few])
    assert not torch.equal(quickly.maps[2], exact.maps[2, :few])
    np.testing.assert_array_equal(fast.predictions.confidence, slow.predictions.confidence[:few])
    for statistic in ("pearson", "iou"):
        for pair in slow.pairs:
            expected = slow.scores.values[statistic][pair][:few].mean()
            assert abs(fast.summary(statistic, pair).mean - expected) < 0.005


def test_fast_takes_more_steps_on_large_images_and_leaves_those_that_were_asked_for() -> None:
    methods = get_methods(["integrated-gradients", "saliency", "integrated-gradients:steps=64"])
    for size, steps in (((32, 32), 8), ((64, 48), 8), ((64, 65), 24), ((224, 224), 24)):
        fewer = quickened(methods, size)
        assert [each.options.get("steps") for each in fewer] == [steps, None, 64]
        assert quickened(fewer, size) == fewer
        assert fewer[1:] == methods[1:]


def test_an_explanation_of_chosen_images_is_fast_in_the_same_way(sample: ImageSet) -> None:
    engine = small_engine(precision="bf16", fast=True)
    methods = quickened(get_methods(PUBLISHED), (32, 32))
    chosen = choose(small_engine(), sample, Selection(n=3, only="all"))
    (ours,) = explain(engine, sample, chosen, methods)
    ((_, theirs),) = explain_selection(engine, Selection(ids=tuple(chosen.ids), only="all"), methods)
    assert torch.equal(ours.maps, theirs.maps)
    (exact,) = explain(small_engine(), sample, chosen, get_methods(PUBLISHED))
    assert not torch.equal(ours.maps, exact.maps)


@pytest.mark.parametrize("layer", [None, "layer1.0"])
@pytest.mark.parametrize("mode", [{}, {"precision": "bf16"}, {"precision": "bf16", "fast": True}])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_finite_maps_in_every_precision(
    name: str, mode: dict[str, Any], layer: str | None, sample: ImageSet
) -> None:
    options = {"steps": 2, "samples": 2} | (FAST[64] if mode.get("fast") else {})
    methods = quick([name], **options)
    attention = METHODS[name].family == "attention"
    model = architecture("vit") if attention else None
    engine = Engine(small_classifier(model), layer=None if model else layer, **mode)
    ((_, found),) = explain_selection(engine, Selection(ids=(3, 7), only="all"), methods, data=sample)
    assert found.maps.shape == (1, 2, 32, 32)
    assert found.maps.dtype == torch.float32
    assert found.maps.isfinite().all()


@pytest.mark.parametrize("layer", ["layer4", "layer1.0"])
def test_fast_ablation_cam_is_as_exact_as_the_pass_it_is_compared_with(layer: str, sample: ImageSet) -> None:
    ids = tuple(range(8))
    maps = []
    for mode in ({}, {"precision": "bf16", "fast": True}):
        engine = small_engine(layer=layer, **mode)
        chosen = choose(small_engine(), sample, Selection(ids=ids, only="all"))
        (found,) = explain(engine, sample, chosen, get_methods(["ablation-cam"]))
        maps.append(found.maps)
    assert maps[0].amax() > 0
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-5 * float(maps[0].amax()))


def test_the_outcome_cannot_be_changed_by_mistake(sample: ImageSet) -> None:
    comparison, _ = compared(sample, PUBLISHED, (0,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        comparison.top = 0.5  # type: ignore[misc]


def test_what_needs_a_layer_has_its_grid_whatever_its_family(sample: ImageSet) -> None:
    seen: list[str] = []

    def toy(model: nn.Module, images: Tensor, targets: Tensor, *, context: Context) -> Tensor:
        seen.append(context.layer)
        return images[:, 0]

    def plugin(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return images[:, 0]

    with registered("toy", toy, needs_layer=True), registered("other", toy):
        _, (batch,) = compared(sample, ("toy", "other", "grad-cam"), (3, 7))
        assert batch.grids == {"toy": (8, 8), "grad-cam": (8, 8)}
        assert seen == ["layer4"] * 2
        _, (batch,) = compared(sample, ("toy", "saliency"), (3, 7))
        assert batch.grids == {"toy": (8, 8)}
    with registered("edgy", plugin, model_free=True):
        comparison, (batch,) = compared(sample, ("edgy", "saliency"), (3, 7))
        assert batch.grids == {}
        assert comparison.floors == {"edgy"}

"""What the methods share, and the whole run in which the pass that chooses an image also explains it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import (
    SmallNet,
    choose,
    compare_selection,
    explain,
    explain_selection,
    find_images,
    quick,
    registered,
    small_classifier,
    small_engine,
)
from torch import Tensor, nn

from xaicmp import api
from xaicmp.core.attribution import PUBLISHED, get_methods
from xaicmp.core.attribution.context import Context, Forward
from xaicmp.core.images.cifar10 import CLASSES, load_sample
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.comparing import compare_explanations
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explainer import Batch, Explainer
from xaicmp.errors import UsageError, XaicmpError

METHODS = get_methods(["grad-cam", "saliency", "edge"])
EVERY = Settings(controls=("other_image", "other_image_same_class", "shifted", "pooled"))


def inputs_of(images: ImageSet, *ids: int) -> Tensor:
    return small_engine().inputs(images.tensor[list(ids)])


def reference(model: nn.Module, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, gradient, activations and their gradients of SmallNet, in plain autograd."""
    images = images.clone().requires_grad_()
    activations = model.layer4(model.layer1(images))
    logits = model.fc(activations.mean(dim=(2, 3)))
    score = logits.gather(1, target[:, None]).sum()
    gradient, gradients = torch.autograd.grad(score, [images, activations])
    return logits.detach(), gradient, activations.detach(), gradients


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [3], [4, 0], [2, 2]])
def test_a_forward_pass_can_be_followed_back_from_any_of_its_images(
    rows: list[int], sample: ImageSet
) -> None:
    model, images = SmallNet().eval(), inputs_of(sample, 5, 6, 7, 8, 9)
    forward = Forward(model, images, "layer4")
    targets = torch.arange(len(rows)) * 2
    found = forward.backward(torch.tensor(rows), targets)
    expected = reference(model, images[rows], targets)
    torch.testing.assert_close(forward.logits[rows], expected[0])
    gradients = (found.gradient, found.gradients) if rows != [2, 2] else ()
    for one, other in zip(gradients, (expected[1], expected[3]), strict=False):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(found.logits, expected[0])
    torch.testing.assert_close(found.activations, expected[2])
    assert not any(part.requires_grad for part in (forward.logits, found.logits, found.gradient))


def test_a_lone_image_has_the_logits_that_it_has_in_company(sample: ImageSet) -> None:
    model = SmallNet().eval()
    alone = Forward(model, inputs_of(sample, 5), None)
    assert alone.logits.shape == (1, 10)
    found = alone.backward(torch.tensor([0]), torch.tensor([2]))
    assert (found.activations, found.gradients) == (None, None)
    torch.testing.assert_close(found.gradient, reference(model, inputs_of(sample, 5), torch.tensor([2]))[1])


def count_passes(model: nn.Module) -> list[int]:
    passed: list[int] = []
    model.register_forward_hook(lambda module, inputs, output: passed.append(len(output)))
    return passed


def test_everything_is_made_once_and_only_when_it_is_asked_for(sample: ImageSet) -> None:
    model = SmallNet().eval()
    passed = count_passes(model)
    context = Context(model, inputs_of(sample, 1, 2, 3), torch.tensor([1, 2, 3]), layer="layer4")
    assert passed == []
    assert context.at_input is context.at_layer is context.at_layer
    assert context.at_input.activations is not None
    assert passed == [3]
    unnamed = Context(model, inputs_of(sample, 1, 2, 3), torch.tensor([1, 2, 3]))
    assert unnamed.at_input.activations is None
    before = sum(passed)
    assert unnamed.at_layer is unnamed.at_input
    assert sum(passed) == before + 2 + 3  # noise and an image to find the layer, and the pass
    torch.testing.assert_close(unnamed.at_layer.gradient, context.at_layer.gradient)


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0], [1]])
def test_a_pass_that_was_made_is_not_made_again(rows: list[int], sample: ImageSet) -> None:
    model, images, targets = (
        SmallNet().eval(),
        inputs_of(sample, 1, 2, 3),
        torch.tensor([7, 8, 9])[: len(rows)],
    )
    passed = count_passes(model)
    forward = Forward(model, images, "layer4")
    given = Context(model, images[rows], targets, layer="layer4", forward=forward, rows=torch.tensor(rows))
    shared = given.at_layer
    assert passed == [3]
    assert given.forward is None
    own = Context(model, images[rows], targets, layer="layer4").at_layer
    for name in ("logits", "gradient", "activations", "gradients"):
        torch.testing.assert_close(getattr(shared, name), getattr(own, name))
    assert len(shared.logits) == len(given) == max(2, len(rows))


def test_a_pass_that_watched_another_layer_does_not_do(sample: ImageSet) -> None:
    model, images, targets = SmallNet().eval(), inputs_of(sample, 1, 2), torch.tensor([7, 8])
    forward = Forward(model, images, None)
    context = Context(model, images, targets, layer="layer1", forward=forward, rows=torch.arange(2))
    assert context.at_layer.activations is not None
    assert context.at_layer.activations.shape[1] == 12


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_scores_are_the_target_logits_in_passes_of_the_batch_size(batch_size: int, sample: ImageSet) -> None:
    model, images, targets = SmallNet().eval(), inputs_of(sample, *range(5)), torch.tensor([0, 9, 4, 4, 1])
    expected = model(images).detach()[torch.arange(5), targets]
    passed = count_passes(model)
    context = Context(model, images[:2], targets[:2], batch_size=batch_size)
    torch.testing.assert_close(context.scores(images, targets), expected)
    assert passed == [len(each) for each in images.split(batch_size)]


def test_draws_depend_on_seed_id_and_purpose_and_on_nothing_else(sample: ImageSet) -> None:
    def draws(ids: list[int], seed: int = 0, purpose: str = "noise") -> list[float]:
        context = Context(
            SmallNet(), inputs_of(sample, *ids), torch.zeros(len(ids)).long(), ids=ids, seed=seed
        )
        return [torch.rand((), generator=each).item() for each in context.generators(purpose)]

    among = draws([3, 1, 4])
    assert len(set(among)) == 3
    assert draws([4, 3]) == [among[2], among[0]]
    assert draws([1]) == [among[1]] * 2
    assert not set(among) & set(draws([3, 1, 4], seed=1))
    assert not set(among) & set(draws([3, 1, 4], purpose="mask"))


# A whole run.


class Seen(SmallNet):
    """Notes which image passes, whatever it is scaled to: as it is, or as one of the steps of IG."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__()
        pixels = small_engine().inputs(images.tensor).flatten(1).double()
        self.units = pixels / pixels.norm(dim=1, keepdim=True)
        self.passed: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        flat = images.detach().flatten(1).double()
        likeness = (flat / flat.norm(dim=1, keepdim=True)).nan_to_num() @ self.units.T
        self.passed += [int(row.argmax()) for row in likeness if row.max() > 1 - 1e-9]
        return super().forward(images)


def note_batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The ids of each batch that the model judges from now on."""
    batches: list[list[int]] = []
    judge = Explainer._judged

    def judged(self: Explainer, batch: Batch, logits: Tensor) -> object:
        batches.append(batch.ids.tolist())
        return judge(self, batch, logits)

    monkeypatch.setattr(Explainer, "_judged", judged)
    return batches


@pytest.mark.parametrize("batch_size", [3, 8])
@pytest.mark.parametrize("only", ["all", "wrong", "correct"])
def test_a_chosen_image_passes_once_and_once_a_step_and_the_others_once(
    only: str, batch_size: int, sample: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = sample.first(80)
    model, steps, n = Seen(few), 5, 3 if only == "correct" else 7
    engine = small_engine(model, batch_size=batch_size)
    engine.settle(engine.inputs(few.tensor[:2]))
    engine.model(engine.inputs(few.tensor[:2])).passed = passed = []
    judged = note_batches(monkeypatch)
    methods = quick([*PUBLISHED, "layercam", "input-x-gradient"], steps=steps)
    _, comparison = compare_selection(engine, Selection(n=n, only=only), methods, data=few)  # type: ignore[arg-type]
    chosen = comparison.predictions.ids.tolist()
    assert len(chosen) == n
    # A chosen image that is alone in its batch takes IG's steps in its own company.
    expected = {row: 1 for batch in judged for row in batch}
    for batch in judged:
        own = [row for row in batch if row in chosen]
        expected |= {row: 1 + steps * (2 if len(own) == 1 else 1) for row in own}
    assert all(len(batch) <= batch_size for batch in judged)
    assert Counter(passed) == expected


def outcomes(
    engine: Engine, selection: Selection, target: str = "predicted"
) -> tuple[tuple[Comparison, Tensor], tuple[Comparison, Tensor]]:
    """In two steps, and in one."""
    kept: tuple[list[Explanations], list[Explanations]] = ([], [])
    images, chosen = find_images(engine, selection, target=target)
    stream = ((images, each) for each in explain(engine, images, chosen, METHODS))
    _, first = compare_explanations(engine, stream, METHODS, EVERY, keep=kept[0].append)
    also, second = compare_selection(engine, selection, METHODS, EVERY, target=target, keep=kept[1].append)
    assert len(also) == len(images)
    maps = [torch.cat([each.maps for each in every], dim=1) for every in kept]
    return (first, maps[0]), (second, maps[1])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize(
    ("selection", "target"),
    [
        (Selection(n=11, only="all"), "predicted"),
        (Selection(n=5, only="correct"), "predicted"),
        (Selection(n=9, only="wrong"), "label"),
        (Selection(ids=(40, 3, 999, 7), only="all"), "ship"),
        (Selection(ids=(12,), only="all"), "predicted"),
        (Selection(n=1, only="correct"), "label"),
    ],
    ids=["n", "correct", "wrong", "ids", "one id", "one"],
)
def test_choosing_and_comparing_in_one_gives_what_both_give(
    selection: Selection, target: str, batch_size: int
) -> None:
    (first, maps), (second, others) = outcomes(small_engine(batch_size=batch_size), selection, target)
    for name in ("ids", "labels", "predicted", "targets"):
        np.testing.assert_array_equal(getattr(first.predictions, name), getattr(second.predictions, name))
    np.testing.assert_allclose(first.predictions.confidence, second.predictions.confidence, atol=1e-5)
    torch.testing.assert_close(maps, others, rtol=1e-5, atol=1e-5)
    assert first.source == second.source
    assert (first.titles, first.floors, first.pixels) == (second.titles, second.floors, second.pixels)
    for pair in first.pairs:
        for statistic in first.statistics:
            one, other = (each.scores.values[statistic.name][pair] for each in (first, second))
            np.testing.assert_allclose(one, other, atol=1e-5)
            for control in first.settings.controls:
                both = [each.scores.controls[control][statistic.name][pair] for each in (first, second)]
                np.testing.assert_allclose(both[0], both[1], atol=1e-5)


def test_beyond_the_sample_no_image_is_judged_twice(
    binary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data set is the sample ten times over, so the second thousand brings what the first did."""
    monkeypatch.setenv("XAICMP_DATA", str(binary_folder))
    engine = small_engine(batch_size=250)
    correct = len(choose(engine, load_sample(), Selection(n=1000)))
    assert 0 < correct < 900
    batches = note_batches(monkeypatch)
    methods = get_methods(["edge", "centre"])
    images, comparison = compare_selection(engine, Selection(n=correct + 3), methods, Settings(controls=()))
    ids = comparison.predictions.ids
    assert (len(images), images.sample) == (10_000, False)
    assert comparison.source.details["data"]["sample"] is False
    assert len(ids) == correct + 3
    assert ids[correct:].tolist() == (1000 + ids[:3]).tolist()
    judged = [row for batch in batches for row in batch]
    assert judged == list(range(len(judged)))
    assert ids[-1] < len(judged) <= ids[-1] + 250
    found = find_images(engine, Selection(n=correct + 3))[1]
    np.testing.assert_array_equal(found.ids, ids)


def test_the_sample_is_all_that_is_read_while_it_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "load_cifar10", lambda *_, **__: pytest.fail("it was read"))
    for selection in (Selection(n=4, only="wrong"), Selection(ids=(999, 0), only="all")):
        images, comparison = compare_selection(small_engine(), selection, METHODS)
        assert images.sample
        assert len(comparison.predictions) == (selection.n or 2)


def test_what_the_sample_gave_is_explained_before_more_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XAICMP_DATA", str(tmp_path / "none"))
    stream = explain_selection(small_engine(batch_size=500), Selection(n=1000), METHODS[2:])
    found = 0
    for images, explanations in stream:
        assert images.sample
        found += len(explanations.predictions)
    assert 0 < found < 1000


class Known(nn.Module):
    """Knows the sample by heart, or takes every image for what it is not."""

    def __init__(self, images: ImageSet, off: int) -> None:
        super().__init__()
        self.labels = (images.labels + off) % 10
        self.keys = images.tensor.flatten(1).double().sum(dim=1)
        self.scale = nn.Parameter(torch.ones(()))
        engine = small_engine()
        self.mean, self.std = (
            torch.tensor(each).view(1, 3, 1, 1) for each in (engine.classifier.mean, engine.classifier.std)
        )

    def forward(self, images: Tensor) -> Tensor:
        pixels = ((images * self.std + self.mean) * 255).flatten(1).double().sum(dim=1)
        rows = (pixels[:, None] - self.keys).abs().argmin(dim=1)
        one_hot = nn.functional.one_hot(self.labels[rows], 10).float()
        return self.scale * one_hot + 0 * images.flatten(1).sum(dim=1, keepdim=True)


@pytest.mark.parametrize(("off", "only"), [(0, "wrong"), (1, "correct")])
def test_no_such_image_at_all_is_said(
    off: int, only: str, sample: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = sample.first(40)
    few = replace(few, load_whole=lambda: replace(few, sample=False))
    engine = small_engine(Known(few, off))
    assert_refuses(
        engine,
        Selection(n=2, only=only),
        XaicmpError,
        f"CIFAR-10 has no image for only {only}",
        data=few,
    )


def assert_refuses(
    engine: Engine, selection: Selection, kind: type[XaicmpError], message: str, **options: Any
) -> None:
    """In one line, before any method is run."""
    with registered("bomb", lambda *_: pytest.fail("it was run")):
        methods = get_methods(["bomb", "edge"])
        with pytest.raises(kind) as caught:
            compare_selection(engine, selection, methods, **options)
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_found_is_refused(binary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAICMP_DATA", str(binary_folder))
    engine = small_engine()
    unknown = Selection(ids=(3, 10_000), only="all")
    assert_refuses(engine, unknown, UsageError, "ids 10000: CIFAR-10 has 10,000 images, counted from 0")
    wanted = "target boat: no such class; choose predicted, label, airplane"
    for selection in (Selection(n=3), Selection(ids=(1,), only="all"), Selection(ids=(1001,), only="all")):
        assert_refuses(engine, selection, UsageError, wanted, target="boat")
    others = Engine(small_classifier(classes=tuple(f"{each} or so" for each in CLASSES)))
    assert_refuses(others, Selection(n=3), UsageError, "which images are right is unknown")


def test_without_the_data_set_what_needs_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XAICMP_DATA", str(tmp_path / "none"))
    for selection in (Selection(n=1001), Selection(ids=(1000,), only="all")):
        assert_refuses(small_engine(), selection, XaicmpError, "this needs more than the 1,000 images")


@pytest.mark.parametrize("top", [0.0, 1.0, 2.5])
def test_what_cannot_be_compared_is_refused_before_the_work(top: float) -> None:
    with registered("bomb", lambda *_: pytest.fail("it was run")):
        bombs = get_methods(["bomb", "edge"])
        with pytest.raises(UsageError, match="top"):
            api.compare(small_classifier(), None, methods=bombs, settings=Settings(top=top))
        with pytest.raises(UsageError, match="two or more"):
            compare_selection(small_engine(), Selection(n=2), bombs[:1])

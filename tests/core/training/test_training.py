"""Trainings of tiny networks: against a plain loop, to the bit, stopped, broken and resumed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from train_small import SGD, SMALL, interrupt, listing, part, same, trained, weights

from xaicmp.core.images.cifar10 import MEAN, STD
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.models.architectures import ARCHITECTURES, resnet18_cifar
from xaicmp.core.models.checkpoint import load_checkpoint, save_checkpoint
from xaicmp.core.training.accuracy import class_accuracy
from xaicmp.core.training.augmentation import Batches
from xaicmp.core.training.loop import AVERAGING_STRIDE, Training, train
from xaicmp.core.training.optimiser import Optimiser, schedule
from xaicmp.core.training.recipe import RECIPES, Recipe, Run
from xaicmp.errors import XaicmpError

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("small")
PLAIN = dataclasses.replace(SGD, average=0.0, flip="random", crop=4, padding="zero")


def plain_loop(model, batches, epochs, recipe):
    """Training as anybody would write it."""
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    losses = []
    steps = sum(1 for _ in batches.epoch(0))
    for epoch in range(epochs):
        for index, (inputs, labels, _) in enumerate(batches.epoch(epoch)):
            share = (epoch * steps + index + 0.5) / (epochs * steps)
            optimiser.param_groups[0]["lr"] = recipe.lr * schedule(recipe.schedule, share, recipe.warmup)
            loss = cross_entropy(model(inputs), labels, label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return losses


def batches_of(recipe, images, seed=0):
    return Batches(images, Run(recipe, 1, seed), CPU)


@pytest.mark.parametrize("recipe", [PLAIN, dataclasses.replace(PLAIN, schedule="constant", nesterov=True)])
@pytest.mark.parametrize("architecture", SMALL)
def test_sgd_takes_the_steps_of_a_plain_loop(tmp_path, recipe, architecture):
    torch.manual_seed(3)
    model = SMALL[architecture]().train()
    losses = plain_loop(model, batches_of(recipe, part(0, 96), seed=3), 2, recipe)
    steps = []
    trained(tmp_path / "a.pt", recipe, architecture=architecture, seed=3, on_step=steps.append)
    found = weights(tmp_path / "a.pt")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)
    per_epoch = len(losses) // 2
    assert steps[per_epoch - 1].loss == pytest.approx(np.mean(losses[:per_epoch]), abs=1e-5)
    assert steps[-1].loss == pytest.approx(np.mean(losses[per_epoch:]), abs=1e-5)


def test_the_published_recipes_first_steps_on_the_resnet_are_those_of_a_plain_loop(tmp_path):
    recipe = dataclasses.replace(RECIPES["published"], batch_size=8)
    images = part(0, 16)
    torch.manual_seed(0)
    # In the same memory layout, or else the sums are rounded differently, and so high a rate magnifies that.
    model = resnet18_cifar().train().to(memory_format=torch.channels_last)
    losses = plain_loop(model, batches_of(recipe, images), 1, recipe)
    steps = []
    checkpoint = train(Run(recipe, 1), images, part(0, 2), tmp_path / "a.pt", Training(on_step=steps.append))
    running = [step.loss * (index + 1) for index, step in enumerate(steps)]
    assert np.diff([0, *running]) == pytest.approx(losses, abs=1e-5, rel=1e-5)
    found = checkpoint.classifier.module.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_the_published_recipe_is_the_published_one():
    recipe = RECIPES["published"]
    assert (recipe.optimiser, recipe.schedule, recipe.lr, recipe.momentum) == ("sgd", "constant", 0.1, 0.9)
    assert (recipe.weight_decay, recipe.batch_size, recipe.nesterov) == (5e-4, 128, False)
    assert (recipe.crop, recipe.padding, recipe.flip) == (4, "zero", "random")
    assert (recipe.label_smoothing, recipe.whiten, recipe.average) == (0.0, False, 0.0)


@pytest.mark.parametrize("optimiser", ["muon", "sgd"])
def test_the_averaged_weights_are_stored_and_evaluated(tmp_path, optimiser):
    recipe = dataclasses.replace(SGD, optimiser=optimiser, average=0.9, batch_size=8)
    images = part(0, 96)
    torch.manual_seed(0)
    model = SMALL["tiny-normalised"]().train().to(memory_format=torch.channels_last)
    stepper = Optimiser(model, recipe)
    mean = {name: value.clone() for name, value in model.state_dict().items()}
    steps, done = 12, 0
    for epoch in range(2):
        for index, (inputs, labels, _) in enumerate(batches_of(recipe, images).epoch(epoch)):
            loss = cross_entropy(model(inputs), labels, label_smoothing=recipe.label_smoothing)
            model.zero_grad()
            loss.backward()
            stepper.step(schedule("one-cycle", (done + 0.5) / (2 * steps), recipe.warmup))
            if (index + 1) % AVERAGING_STRIDE == 0 or index + 1 == steps:
                update = done // AVERAGING_STRIDE
                decay = min(0.9**AVERAGING_STRIDE, (1 + update) / (10 + update))
                for name, value in model.state_dict().items():
                    if value.is_floating_point():
                        mean[name] = decay * mean[name] + (1 - decay) * value
                    else:
                        mean[name] = value
            done += 1
    checkpoint = trained(tmp_path / "a.pt", recipe)
    for name, value in checkpoint.classifier.module.state_dict().items():
        torch.testing.assert_close(value, mean[name], rtol=1e-4, atol=1e-5)
    assert not all(torch.allclose(value, model.state_dict()[name], atol=1e-3) for name, value in mean.items())
    assert checkpoint.test_accuracy == class_accuracy(checkpoint.classifier, part(500, 550), CPU).overall


def test_whitened_filters_turn_patches_into_uncorrelated_ones_of_variance_one(tmp_path):
    images = part(0, 200)

    def wide(classes):
        return nn.Sequential(
            nn.Conv2d(3, 60, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(60, classes)
        )

    ARCHITECTURES["wide"] = wide
    recipe = dataclasses.replace(SGD, whiten=True, lr=0.0, average=0.0)
    try:
        checkpoint = train(Run(recipe, 1, architecture="wide"), images, part(0, 10), tmp_path / "a.pt")
    finally:
        del ARCHITECTURES["wide"]
    first = checkpoint.classifier.module[0].weight.detach()
    normal = checkpoint.classifier.normalise(images.tensor)
    patches = nn.functional.unfold(normal, 3).permute(0, 2, 1).reshape(-1, 27).double()
    outputs = patches @ first[:27].reshape(27, 27).T.double()
    covariance = outputs.T @ outputs / len(outputs)
    off = covariance - covariance.diag().diag()
    assert off.abs().max() < 0.02
    # The smallest variances are damped, so that noise is not blown up.
    variances = torch.linalg.eigvalsh(patches.T @ patches / len(patches))
    expected = variances / (variances + 5e-4)
    assert covariance.diag().sort().values == pytest.approx(expected.sort().values, abs=0.02)
    assert (covariance.diag() > 0.9).sum() >= 15
    assert torch.equal(first[27:54], -first[:27])
    norms = first.flatten(1).norm(dim=1)
    assert norms[54:] == pytest.approx(norms[:27].square().mean().sqrt().expand(6), rel=1e-4)


@pytest.mark.parametrize("optimiser", ["muon", "sgd"])
def test_the_same_seed_gives_the_same_weights_to_the_bit_and_another_others(tmp_path, optimiser):
    recipe = dataclasses.replace(SGD, optimiser=optimiser, whiten=True)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(random.randrange(1000))
        trained(tmp_path / name, recipe, seed=seed)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_training_leaves_the_callers_signal_handler(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    trained(tmp_path / "a.pt")
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_network_learns(tmp_path):
    history = trained(tmp_path / "a.pt", dataclasses.replace(SGD, crop=0), epochs=12).metadata["history"]
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    assert history[-1]["train_accuracy"] > history[0]["train_accuracy"]


@pytest.mark.parametrize("images", [1, 16, 17, 40])
def test_steps_and_epochs_tell_how_far_it_is(tmp_path, images):
    steps, epochs = [], []
    trained(
        tmp_path / "a.pt", images=images, architecture="tiny", on_step=steps.append, on_epoch=epochs.append
    )
    batches = math.ceil(images / 16)
    assert [(step.epoch, step.batch) for step in steps] == [
        (epoch, batch) for epoch in (1, 2) for batch in range(1, batches + 1)
    ]
    assert {(step.epochs, step.batches) for step in steps} == {(2, batches)}
    assert all(step.images_per_second > 0 and 0 <= step.accuracy <= 1 for step in steps)
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert (epochs[1].loss, epochs[1].train_accuracy) == (steps[-1].loss, steps[-1].accuracy)
    assert epochs[0].images_per_second == pytest.approx(images / epochs[0].seconds)


# What is written


def test_metadata_are_complete_and_plain(tmp_path):
    recipe = dataclasses.replace(SGD, whiten=True)
    checkpoint = trained(tmp_path / "a.pt", recipe, epochs=3, seed=4)
    document = torch.load(tmp_path / "a.pt", weights_only=True)
    metadata = document["metadata"]
    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata == checkpoint.metadata
    assert metadata["recipe"] == dataclasses.asdict(recipe)
    assert (metadata["architecture"], metadata["precision"], metadata["seed"]) == (
        "tiny-normalised",
        "float32",
        4,
    )
    assert (metadata["epochs"], metadata["planned_epochs"], len(metadata["history"])) == (3, 3, 3)
    assert (metadata["mean"], metadata["std"], len(metadata["classes"])) == (list(MEAN), list(STD), 10)
    assert (metadata["stored_as"], metadata["device"], metadata["processes"]) == ("float32", "cpu", 1)
    assert metadata["data"]["name"] == "CIFAR-10"
    assert metadata["data"]["verified"] is True
    assert (metadata["data"]["training_images"], metadata["data"]["test_images"]) == (96, 50)
    assert set(metadata["versions"]) == {"xaicmp", "torch", "torchvision"}
    assert metadata["test_accuracy"] == metadata["history"][-1]["test_accuracy"]
    count = part(500, 550).labels.bincount(minlength=10)
    by_class = torch.tensor(metadata["test_accuracy_by_class"])
    assert float((by_class * count).sum() / 50) == pytest.approx(metadata["test_accuracy"])


def test_a_class_without_test_images_has_no_accuracy(tmp_path):
    checkpoint = trained(tmp_path / "a.pt", test=3)
    seen = set(part(500, 503).labels.tolist())
    by_class = checkpoint.metadata["test_accuracy_by_class"]
    assert {index for index, share in enumerate(by_class) if share is not None} == seen


def test_unverified_data_are_recorded_as_such(tmp_path):
    honest = part(0, 32)
    foreign = ImageSet(honest.name, "train", False, honest.tensor, honest.labels, honest.classes)
    run = Run(SGD, 1, architecture="tiny")
    checkpoint = train(run, foreign, honest, tmp_path / "a.pt")
    assert checkpoint.metadata["data"]["verified"] is False


def test_what_is_resumed_from_is_there_between_epochs_and_gone_at_the_end(tmp_path):
    found = []
    trained(
        tmp_path / "a.pt", epochs=3, on_epoch=lambda epoch: found.append(load_checkpoint(tmp_path / "a.pt"))
    )
    assert [checkpoint.training is None for checkpoint in found] == [False, False, True]
    assert [checkpoint.metadata["epochs"] for checkpoint in found] == [1, 2, 3]


def test_half_precision_is_evaluated_after_the_cast(tmp_path):
    def coarse(classes):
        # A head whose differences are lost in half precision: every image then falls to class 0.
        model = SMALL["tiny"](classes)
        with torch.no_grad():
            model[-1].weight.zero_()
            model[-1].bias.copy_(1000 + torch.arange(classes) * 0.01)
        return model

    ARCHITECTURES["coarse"] = coarse
    recipe = dataclasses.replace(SGD, lr=0.0, average=0.0)
    try:
        run, images = Run(recipe, 1, architecture="coarse"), part(0, 100)
        half = train(dataclasses.replace(run, store="float16"), images, images, tmp_path / "half.pt")
        full = train(run, images, images, tmp_path / "full.pt")
    finally:
        del ARCHITECTURES["coarse"]
    labels = images.labels.bincount(minlength=10) / 100
    assert full.test_accuracy == pytest.approx(float(labels[9]))
    assert half.test_accuracy == pytest.approx(float(labels[0]))
    assert half.test_accuracy == class_accuracy(half.classifier, images, CPU).overall
    assert half.metadata["stored_as"] == "float16"


def test_a_resnet_in_half_precision_takes_22_megabytes(tmp_path):
    save_checkpoint(
        tmp_path / "a.pt", resnet18_cifar(), {"architecture": "resnet18-cifar"}, dtype=torch.float16
    )
    assert 22.2e6 < (tmp_path / "a.pt").stat().st_size < 22.6e6


# Stopping


@pytest.mark.parametrize("epoch, batch, kept", [(1, 3, None), (2, 1, 1), (3, 6, 2)])
def test_ctrl_c_ends_after_the_batch_and_keeps_the_last_checkpoint(tmp_path, epoch, batch, kept):
    steps = []

    def press(step):
        steps.append((step.epoch, step.batch))
        interrupt(epoch, batch - 1 or 1)(step)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "a.pt", epochs=3, on_step=press)
    assert steps[-1] == (epoch, max(batch - 1, 1))
    assert listing(tmp_path) == (["a.pt"] if kept else [])
    if kept:
        assert load_checkpoint(tmp_path / "a.pt").metadata["epochs"] == kept


def test_ctrl_c_while_testing_ends_too(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "a.pt", on_step=interrupt(2, 6))
    assert load_checkpoint(tmp_path / "a.pt").metadata["epochs"] == 1


def test_ctrl_c_as_the_last_checkpoint_is_written_keeps_it(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(
            tmp_path / "a.pt", on_epoch=lambda epoch: epoch.epoch == 2 and os.kill(os.getpid(), signal.SIGINT)
        )
    assert load_checkpoint(tmp_path / "a.pt").metadata["epochs"] == 2


# Breaking


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.parametrize(
    "lr, optimiser", [(1e4, "sgd"), (math.inf, "sgd"), (math.nan, "sgd"), (1e30, "muon")]
)
def test_divergence_is_found_within_the_epoch_and_the_last_checkpoint_stays(
    tmp_path, architecture, lr, optimiser
):
    (tmp_path / "a.pt").write_bytes(b"the last good one")
    recipe = dataclasses.replace(SGD, lr=lr, optimiser=optimiser, schedule="constant")
    steps = []
    with pytest.raises(
        XaicmpError, match=r"diverged \(.*try a lower lr.*last good checkpoint is kept"
    ) as found:
        trained(tmp_path / "a.pt", recipe, architecture=architecture, on_step=steps.append, images=320)
    assert "\n" not in str(found.value)
    assert len(steps) <= 20
    assert listing(tmp_path) == ["a.pt"]
    assert (tmp_path / "a.pt").read_bytes() == b"the last good one"


def test_divergence_in_the_very_last_step_is_not_stored(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"the last good one")
    recipe = dataclasses.replace(SGD, lr=math.inf)
    with pytest.raises(XaicmpError, match="diverged"):
        trained(tmp_path / "a.pt", recipe, epochs=1, images=16)
    assert (tmp_path / "a.pt").read_bytes() == b"the last good one"


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(XaicmpError, match=r"the folder .* does not exist") as found:
        trained(tmp_path / "missing" / "a.pt", epochs=1)
    assert "\n" not in str(found.value)


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(tmp_path, forks):
    recipe = dataclasses.asdict(SGD)
    job = {"epochs": 3, "architecture": "tiny", "recipe": recipe}
    (tmp_path / "small.pt").write_bytes(b"the last good one")
    assert forks.run(tmp_path, training=job | {"largest_file": 4096}) == [1]
    said = (tmp_path / "out-0.txt").read_text()
    assert said.startswith("failed: cannot write")
    assert said.count("\n") == 1
    assert (tmp_path / "err-0.txt").read_text() == ""
    assert (tmp_path / "small.pt").read_bytes() == b"the last good one"
    assert listing(tmp_path) == ["err-0.txt", "out-0.txt", "small.pt"]


def test_recipes_known_by_name_are_recipes():
    assert set(RECIPES) >= {"muon", "sgd", "published"}
    assert all(isinstance(recipe, Recipe) for recipe in RECIPES.values())

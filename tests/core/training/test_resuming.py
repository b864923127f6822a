"""Trainings that go on where they were stopped or killed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import time

import pytest
import torch
from train_small import SGD, interrupt, part, same, trained, weights

from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.models.checkpoint import load_checkpoint
from xaicmp.core.training.loop import Training, train
from xaicmp.core.training.recipe import Run
from xaicmp.errors import UsageError, XaicmpError

pytestmark = pytest.mark.usefixtures("small")


def begun(path, recipe=SGD, epochs=3, **options):
    """A training stopped in its second epoch."""
    with pytest.raises(KeyboardInterrupt):
        trained(path, recipe, epochs, on_step=interrupt(2), **options)
    return load_checkpoint(path)


@pytest.mark.parametrize("optimiser", ["muon", "sgd"])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_resumed_weights_are_those_of_an_uninterrupted_training(tmp_path, optimiser, average):
    recipe = dataclasses.replace(SGD, optimiser=optimiser, average=average)
    whole = trained(tmp_path / "whole.pt", recipe, 3)
    behind = begun(tmp_path / "a.pt", recipe)
    epochs = []
    resumed = trained(tmp_path / "a.pt", recipe, 3, resume=behind, on_epoch=epochs.append)
    assert same(resumed.classifier.module.state_dict(), whole.classifier.module.state_dict())
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    fixed = ("epoch", "loss", "train_accuracy", "test_accuracy")
    for ours, theirs in zip(resumed.metadata["history"], whole.metadata["history"], strict=True):
        assert [ours[key] for key in fixed] == [theirs[key] for key in fixed]


def test_resuming_a_complete_training_changes_nothing(tmp_path):
    whole = trained(tmp_path / "a.pt")
    before, epochs = (tmp_path / "a.pt").read_bytes(), []
    again = trained(tmp_path / "a.pt", resume=whole, on_epoch=epochs.append)
    assert (tmp_path / "a.pt").read_bytes() == before
    assert len(epochs) == 2
    assert again.sha256 == whole.sha256


@pytest.mark.parametrize(
    "changed, named",
    [
        ({"epochs": 5}, ["planned_epochs is 5 and was 3"]),
        ({"seed": 7}, ["seed is 7 and was 0"]),
        ({"precision": "bf16"}, ["precision is bf16 and was float32"]),
        (
            {"recipe": dataclasses.replace(SGD, lr=0.2, crop=1)},
            ["lr is 0.2 and was 0.05", "crop is 1 and was 2"],
        ),
        ({"images": 64}, ["training_images is 64 and was 96"]),
        ({"test": 20}, ["test_images is 20 and was 50"]),
        ({"store": "float16"}, ["stored_as is float16 and was float32"]),
        ({"architecture": "tiny"}, ["architecture is tiny and was tiny-normalised"]),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_resuming_another_training_is_refused_and_the_difference_named(tmp_path, changed, named, complete):
    path = tmp_path / "a.pt"
    behind = trained(path, epochs=3) if complete else begun(path)
    before = path.read_bytes()
    with pytest.raises(UsageError) as refused:
        trained(path, **({"epochs": 3} | changed), resume=behind)
    for difference in named:
        assert difference in str(refused.value)
    assert "leave out resume" in str(refused.value)
    assert path.read_bytes() == before


def test_resuming_on_as_many_other_images_is_refused(tmp_path):
    behind = begun(tmp_path / "a.pt")
    run = Run(SGD, 3, architecture="tiny-normalised")
    with pytest.raises(UsageError, match="sha256 is"):
        train(run, part(1, 97), part(500, 550), tmp_path / "a.pt", Training(resume=behind))


def test_resuming_from_a_kept_epoch_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    begun(path, keep_epochs=True)
    kept = load_checkpoint(tmp_path / "a-epoch1.pt")
    with pytest.raises(UsageError, match="is epoch 1 of 3 without what a training resumes from"):
        trained(path, SGD, 3, resume=kept)
    last = trained(path, SGD, 3, keep_epochs=True) and load_checkpoint(tmp_path / "a-epoch3.pt")
    assert len(trained(path, SGD, 3, resume=last).metadata["history"]) == 3


@pytest.mark.parametrize("damage", [{"history": [{"test_accuracy": 0.5}]}, {"recipe": None}, {"data": 3}])
def test_damaged_metadata_is_one_line(tmp_path, damage):
    behind = begun(tmp_path / "a.pt")
    behind = dataclasses.replace(behind, metadata=behind.metadata | damage)
    with pytest.raises(XaicmpError, match=r"no sound history|is of another training"):
        trained(tmp_path / "a.pt", SGD, 3, resume=behind)


def test_metadata_without_a_part_of_the_plan_is_one_line(tmp_path):
    behind = begun(tmp_path / "a.pt")
    del behind.metadata["recipe"]
    with pytest.raises(UsageError, match=r"is of another training: .*lr is 0.05 and was unknown"):
        trained(tmp_path / "a.pt", SGD, 3, resume=behind)


def test_resuming_from_bare_weights_is_refused(tmp_path):
    torch.save(resnet18_cifar().state_dict(), tmp_path / "a.pt")
    with pytest.raises(UsageError, match="does not say how to resume"):
        trained(tmp_path / "a.pt", resume=load_checkpoint(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    "damage", [lambda state: state.pop("optimiser"), lambda state: state["model"].popitem()]
)
def test_a_damaged_state_is_refused(tmp_path, damage):
    behind = begun(tmp_path / "a.pt")
    damage(behind.training)
    with pytest.raises(XaicmpError, match="damaged"):
        trained(tmp_path / "a.pt", epochs=3, resume=behind)


def test_killed_at_random_moments_and_resumed_the_weights_are_the_same_to_the_bit(tmp_path, forks):
    recipe = dataclasses.asdict(dataclasses.replace(SGD, optimiser="muon", whiten=True))
    job = {"epochs": 6, "architecture": "tiny-normalised", "recipe": recipe, "resume": True, "images": 64}
    for name in ("first", "whole"):
        (tmp_path / name).mkdir()
        started = time.perf_counter()
        assert forks.run(tmp_path / name, training=job) == [0]
        duration = time.perf_counter() - started
    expected = weights(tmp_path / "whole" / "small.pt")
    assert same(weights(tmp_path / "first" / "small.pt"), expected)
    draw, kills, chains, behind = random.Random(0), 0, 0, set()
    while kills < 20:
        folder = tmp_path / str(chains)
        folder.mkdir()
        status = -signal.SIGKILL
        while status != 0:
            (pid,) = forks.start(folder, training=job)
            time.sleep(draw.uniform(0.1, 0.9) * duration)
            with contextlib.suppress(ProcessLookupError):  # it was faster
                os.kill(pid, signal.SIGKILL)
            (status,) = forks.wait()
            kills += status != 0
            assert status in (0, -signal.SIGKILL), (folder / "err-0.txt").read_text()
            if (folder / "small.pt").exists():
                behind.add(load_checkpoint(folder / "small.pt").metadata["epochs"])
        chains += 1
        assert same(weights(folder / "small.pt"), expected)
    assert len(behind) > 2

"""Processes that train together, against one that trains alone."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time

import pytest
import torch
from train_small import SGD

from xaicmp.core.machine.processes import ALONE, processes
from xaicmp.core.models.checkpoint import load_checkpoint
from xaicmp.errors import XaicmpError

pytestmark = pytest.mark.usefixtures("small")


def job(recipe=SGD, **changed):
    """A training for the processes to do."""
    return {"epochs": 2, "architecture": "tiny", "recipe": dataclasses.asdict(recipe)} | changed


def trained(forks, folder, world, **training):
    """The checkpoint of ``world`` processes, and what each of them was told."""
    folder.mkdir()
    assert forks.run(folder, world, training=job(**training)) == [0] * world, said(folder)
    told = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world)]
    return load_checkpoint(folder / "small.pt"), told


def said(folder):
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


@pytest.mark.parametrize("optimiser", ["muon", "sgd"])
@pytest.mark.parametrize("images", [96, 93, 81])
def test_two_processes_take_the_steps_of_one(tmp_path, forks, optimiser, images):
    # With 93 images the last batch is uneven, with 81 it is one image, and the second process has none.
    recipe = dataclasses.replace(SGD, optimiser=optimiser, whiten=True)
    one, (alone,) = trained(forks, tmp_path / "one", 1, recipe=recipe, images=images)
    two, told = trained(forks, tmp_path / "two", 2, recipe=recipe, images=images)
    # Muon rounds its updates to bfloat16, and so what differs in the last bit before may differ by 2^-8 of a step after.
    # Processors without bfloat16 do so in another order, with which more steps differ.
    tolerance = 1e-5 if optimiser == "sgd" else len(alone["steps"]) * recipe.lr * 2**-8
    for name, value in one.classifier.module.state_dict().items():
        torch.testing.assert_close(two.classifier.module.state_dict()[name], value, rtol=0, atol=tolerance)
    assert told[0] == told[1] | {"pid": told[0]["pid"]}
    for (*at, loss, accuracy), (*at_one, loss_one, accuracy_one) in zip(
        told[0]["steps"], alone["steps"], strict=True
    ):
        assert at == at_one
        assert loss == pytest.approx(loss_one, abs=1e-4)
        assert accuracy == pytest.approx(accuracy_one, abs=1e-6 if optimiser == "sgd" else 0.02)
    assert two.metadata["processes"] == 2
    assert two.metadata["data"] == one.metadata["data"]


def test_accuracy_is_that_of_all_processes_and_rank_0_alone_writes(tmp_path, forks):
    one, _ = trained(forks, tmp_path / "one", 1, test=51)
    three, told = trained(forks, tmp_path / "three", 3, test=51)
    assert {rank["accuracy"] for rank in told} == {three.test_accuracy}
    assert three.test_accuracy == one.test_accuracy
    assert three.metadata["test_accuracy_by_class"] == one.metadata["test_accuracy_by_class"]
    assert said(tmp_path / "three") == {
        f"{name}-{rank}.txt": "" for name in ("out", "err") for rank in range(3)
    }
    files = {path.name for path in (tmp_path / "three").iterdir() if path.suffix != ".txt"}
    assert files == {"small.pt", "rank-0.json", "rank-1.json", "rank-2.json"}


def test_statistics_of_batch_normalisation_are_the_mean_over_processes(tmp_path, forks):
    # With a batch an epoch and no momentum of weights, each process sees its half of all images once.
    recipe = dataclasses.replace(SGD, batch_size=96, lr=0.0, average=0.0, crop=0)
    one, _ = trained(forks, tmp_path / "one", 1, recipe=recipe, architecture="tiny-normalised", epochs=1)
    two, _ = trained(forks, tmp_path / "two", 2, recipe=recipe, architecture="tiny-normalised", epochs=1)
    # The mean of the halves' means is the mean of the whole.
    torch.testing.assert_close(
        two.classifier.module[1].running_mean, one.classifier.module[1].running_mean, rtol=1e-4, atol=1e-6
    )
    assert not torch.equal(two.classifier.module[1].running_var, one.classifier.module[1].running_var)
    torch.testing.assert_close(
        two.classifier.module[1].running_var, one.classifier.module[1].running_var, rtol=0.1, atol=0
    )


def test_ctrl_c_stops_all_processes_after_the_same_batch(tmp_path, forks):
    pids = forks.start(tmp_path, 2, training=job(epochs=500, pause=0.005, tell=True))
    deadline = time.monotonic() + 60
    while "epoch 2" not in (tmp_path / "out-0.txt").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(pids[1], signal.SIGINT)
    assert forks.wait() == [130, 130], said(tmp_path)
    lines = [(tmp_path / f"out-{rank}.txt").read_text().splitlines() for rank in range(2)]
    assert lines[0] == lines[1]
    assert "stopped after" in lines[0][-1]
    assert load_checkpoint(tmp_path / "small.pt").metadata["epochs"] >= 1
    assert said(tmp_path)["err-0.txt"] == said(tmp_path)["err-1.txt"] == ""


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"file": "missing/small.pt"}, "cannot write"),
        ({"recipe": dataclasses.asdict(dataclasses.replace(SGD, lr=1e4))}, "diverged"),
        ({"recipe": dataclasses.asdict(dataclasses.replace(SGD, batch_size=1))}, "2 processes to share it"),
    ],
)
def test_what_fails_in_one_process_fails_in_all(tmp_path, forks, changed, message):
    assert forks.run(tmp_path, 2, training=job() | changed) == [1, 1], said(tmp_path)
    lines = [(tmp_path / f"out-{rank}.txt").read_text().splitlines() for rank in range(2)]
    assert lines[0] == lines[1]
    assert message in lines[0][-1]


def test_two_processes_resume(tmp_path, forks):
    whole, _ = trained(forks, tmp_path / "whole", 2, epochs=3)
    folder = tmp_path / "stopped"
    folder.mkdir()
    pids = forks.start(folder, 2, training=job(epochs=3, pause=0.05, tell=True))
    deadline = time.monotonic() + 60
    while "epoch 2" not in (folder / "out-0.txt").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert forks.wait() == [-signal.SIGKILL] * 2
    assert forks.run(folder, 2, training=job(epochs=3, resume=True)) == [0, 0], said(folder)
    resumed = load_checkpoint(folder / "small.pt")
    for name, value in whole.classifier.module.state_dict().items():
        torch.testing.assert_close(resumed.classifier.module.state_dict()[name], value, rtol=0, atol=1e-6)


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with processes(torch.device("cpu")) as group:
        assert group is ALONE
        assert not torch.distributed.is_initialized()
    values = torch.arange(3)
    assert ALONE.sum(values) is values
    assert ALONE.share(lambda: 7) == 7
    assert [ALONE.any(flag, torch.device("cpu")) for flag in (True, False)] == [True, False]
    with pytest.raises(XaicmpError, match="no"):
        ALONE.share(lambda: (_ for _ in ()).throw(XaicmpError("no")))

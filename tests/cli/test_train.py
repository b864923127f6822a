"""``xaicmp train``: its options, its output, its end."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from xaicmp.core.models import checkpoint
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import load_checkpoint
from xaicmp.core.training.recipe import RECIPES

TABLE = re.compile(r"^ *(\d+) +(\d+\.\d{4}) +(\d+\.\d\d)% +(\d+\.\d\d)% +(\d+\.\d) +(\d+) *$", re.MULTILINE)


@pytest.fixture
def small(monkeypatch):
    """A network that trains in no time under the name of the real one."""

    def tiny(classes=10):
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=4, padding=1, bias=False),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(8, classes),
        )

    monkeypatch.setitem(ARCHITECTURES, "resnet18-cifar", tiny)


@pytest.fixture
def train(xaicmp, small, binary_folder):
    """Run ``xaicmp train`` on a few images with a tiny network."""

    def call(*words):
        return xaicmp(
            "train", "--data", binary_folder, "--limit", "48", "--batch-size", "16", "--n", "0", *words
        )

    return call


def listing(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def one_line(outcome, status):
    """What it said instead of doing it."""
    assert outcome.status == status
    assert outcome.err.startswith("xaicmp: ")
    assert outcome.err.count("\n") == 1, outcome.err
    return outcome.err


def test_the_real_network_is_trained_and_compared(xaicmp, binary_folder, alone, monkeypatch):
    # A step of Muon on eleven million weights takes half a minute where there is no arithmetic in bfloat16;
    # tests/core/training/test_optimiser.py has it on all shapes of filters.
    monkeypatch.setitem(RECIPES, "muon", dataclasses.replace(RECIPES["muon"], optimiser="sgd"))
    done = xaicmp(
        "train",
        "--epochs",
        "1",
        "--limit",
        "8",
        "--batch-size",
        "8",
        "--n",
        "2",
        "--data",
        binary_folder,
        "--only",
        "all",
        "--store",
        "float16",
        "--precision",
        "float32",
    )
    assert done.status == 0, done.err
    assert len(TABLE.findall(done.out)) == 1
    assert "Grad-CAM vs Saliency" in done.out
    assert "n = 2 images" in done.out
    assert done.err == "xaicmp: CIFAR-10: the files' checksums are not the official ones\n" * 2
    path = Path("checkpoints") / "resnet18.pt"
    assert listing("checkpoints") == ["resnet18.pt"]
    assert 22.2e6 < path.stat().st_size < 22.6e6
    assert load_checkpoint(path).metadata["data"]["verified"] is False


def test_table_history_and_curve_say_the_same(train, alone):
    for name in ("history.json", "history.csv"):
        done = train("--epochs", "3", "--output", name, "--plot", "curve.png")
        assert done.status == 0, done.err
    rows = TABLE.findall(done.out)
    assert len(rows) == 3
    assert done.out.count("Epoch") == 1
    header = next(line for line in done.out.splitlines() if "Epoch" in line)
    assert re.sub(" {2,}", "|", header.strip()) == "Epoch|Loss|Train acc.|Test acc.|Seconds|Images/s"
    assert all(len(line) <= 80 for line in done.out.splitlines())
    metadata = load_checkpoint(Path("checkpoints/resnet18.pt")).metadata
    written = list(csv.DictReader(io.StringIO(Path("history.csv").read_text())))
    for row, line, epoch in zip(rows, written, metadata["history"], strict=True):
        assert {key: float(value) for key, value in line.items()} == epoch
        assert int(row[0]) == epoch["epoch"]
        assert float(row[1]) == pytest.approx(epoch["loss"], abs=5e-5)
        assert float(row[2]) == pytest.approx(100 * epoch["train_accuracy"], abs=5e-3)
        assert float(row[3]) == pytest.approx(100 * epoch["test_accuracy"], abs=5e-3)
    fixed = ("epoch", "loss", "train_accuracy", "test_accuracy")
    history = json.loads(Path("history.json").read_text())
    for row, epoch in zip(history, metadata["history"], strict=True):
        assert [row[key] for key in fixed] == [epoch[key] for key in fixed]
    assert Image.open("curve.png").size[0] > 900


def test_rows_printed_one_by_one_stand_under_the_header(train):
    shown = train("--epochs", "3").out.splitlines()
    header = next(line for line in shown if "Epoch" in line)
    ends = [match.end() for match in re.finditer(r"\S+(?: \S+)*", header)]
    rows = [line for line in shown if TABLE.match(line)]
    assert [[match.end() for match in re.finditer(r"\S+", line)] for line in rows] == [ends] * 3


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_curve_is_drawn_in_each_format(train, suffix):
    assert train("--epochs", "1", "--plot", f"curve.{suffix}").status == 0
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix]
    assert Path(f"curve.{suffix}").read_bytes().startswith(start)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_arrives_in_the_metadata(train, name):
    assert train("--epochs", "1", "--recipe", name, "--lr", "0.01").status == 0
    recipe = load_checkpoint(Path("checkpoints/resnet18.pt")).metadata["recipe"]
    assert recipe == dataclasses.asdict(dataclasses.replace(RECIPES[name], batch_size=16, lr=0.01))


@pytest.mark.parametrize(
    "option, key, value",
    [
        ("--lr", "lr", 0.03),
        ("--momentum", "momentum", 0.5),
        ("--weight-decay", "weight_decay", 0.001),
        ("--batch-size", "batch_size", 24),
        ("--schedule", "schedule", "constant"),
        ("--schedule", "schedule", "one-cycle"),
        ("--label-smoothing", "label_smoothing", 0.2),
        ("--crop", "crop", 1),
        ("--crop", "crop", 0),
        ("--flip", "flip", "random"),
        ("--flip", "flip", "alternating"),
    ],
)
def test_each_option_of_the_recipe_arrives_in_the_metadata(train, option, key, value):
    assert train("--epochs", "1", "--recipe", "sgd", option, value).status == 0
    recipe = load_checkpoint(Path("checkpoints/resnet18.pt")).metadata["recipe"]
    assert recipe == dataclasses.asdict(RECIPES["sgd"]) | {"batch_size": 16} | {key: value}


def test_the_other_options_arrive_in_the_metadata(train):
    assert (
        train(
            "--epochs",
            "2",
            "--seed",
            "9",
            "--precision",
            "bf16",
            "--store",
            "float16",
            "--checkpoint",
            "m.pt",
        ).status
        == 0
    )
    metadata = load_checkpoint(Path("m.pt")).metadata
    assert (metadata["seed"], metadata["precision"], metadata["stored_as"]) == (9, "bf16", "float16")
    assert (metadata["epochs"], metadata["data"]["training_images"], metadata["data"]["test_images"]) == (
        2,
        48,
        48,
    )
    assert listing(".") == ["m.pt"] or listing(".") == ["checkpoints", "m.pt"]


def test_the_checkpoint_says_which_command_made_it(train, xaicmp):
    assert train("--epochs", "1", "--checkpoint", "m.pt", "--quiet").status == 0
    metadata = load_checkpoint(Path("m.pt")).metadata
    words = shlex.split(metadata["command"])
    assert words[:2] == ["xaicmp", "train"]
    assert metadata["config"] == xaicmp(*words[1:], "--show-config").out
    Path("run.toml").write_text(metadata["config"].replace("m.pt", "again.pt"))
    assert xaicmp("train", "--config", "run.toml").status == 0
    again = load_checkpoint(Path("again.pt")).metadata
    timed = ("history", "command", "config")
    assert {key: each for key, each in again.items() if key not in timed} == {
        key: each for key, each in metadata.items() if key not in timed
    }
    shown = xaicmp(
        "metrics", "--checkpoint", "m.pt", "--n", 1, "--only", "all", "--verbose", "-q", "--ig-steps", 2
    )
    assert "limit = 48; " in " ".join(shown.out.split()), shown.err


@pytest.mark.parametrize("seed", [0, 2**40, 2**63 - 1])
def test_any_seed_will_do(train, seed):
    assert train("--epochs", "1", "--seed", seed).status == 0


@pytest.mark.parametrize(
    "words, named",
    [
        (["--epochs", "0"], "--epochs"),
        (["--lr", "-1"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--lr", "inf"], "--lr"),
        (["--momentum", "1.5"], "--momentum"),
        (["--weight-decay", "-0.1"], "--weight-decay"),
        (["--batch-size", "0"], "--batch-size"),
        (["--label-smoothing", "2"], "--label-smoothing"),
        (["--crop", "-1"], "--crop"),
        (["--crop", "33"], "--crop"),
        (["--flip", "never"], "--flip"),
        (["--schedule", "cosine"], "--schedule"),
        (["--recipe", "adam"], "--recipe"),
        (["--precision", "fp8"], "--precision"),
        (["--store", "int8"], "--store"),
        (["--limit", "1"], "--limit"),
        (["--n", "-1"], "--n"),
        (["--ids", "3"], "--n and --ids"),
        (["--only", "all"], "--n 0"),
        (["--n", "5", "--ids", "3"], "--ids"),
        (["--seed", "-1"], "--seed"),
        (["--ig-steps", "8"], "--ig-steps"),
        (["--output", "history.txt"], "--output"),
        (["--plot", "curve.gif"], "--plot"),
        (["--device", "toaster"], "--device"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_done(train, words, named):
    assert named in one_line(train(*words), 2)
    assert listing(".") in ([], ["checkpoints"])
    assert not Path("checkpoints").exists() or listing("checkpoints") == []


@pytest.mark.parametrize(
    "option, name",
    [("--checkpoint", "missing/a.pt"), ("--output", "missing/a.json"), ("--plot", "missing/a.png")],
)
def test_a_missing_folder_is_found_before_the_training(train, option, name):
    assert "missing" in one_line(train(option, name), 1)


def test_no_data_is_one_line(xaicmp, tmp_path):
    (tmp_path / "empty" / "something").mkdir(parents=True)
    assert "no CIFAR-10" in one_line(xaicmp("train", "--data", tmp_path / "empty", "--n", "0"), 1)


def test_divergence_is_one_line_and_keeps_the_old_checkpoint(train):
    assert train("--epochs", "1").status == 0
    before = Path("checkpoints/resnet18.pt").read_bytes()
    # Unwhitened and unaveraged, so that nothing but the rate is to blame.
    done = train("--recipe", "published", "--lr", "1e20", "--epochs", "3", "--quiet")
    assert "diverged" in one_line(done, 1)
    assert Path("checkpoints/resnet18.pt").read_bytes() == before
    assert listing("checkpoints") == ["resnet18.pt"]


def test_resuming_where_nothing_is_begins_anew(train):
    done = train("--epochs", "1", "--resume")
    assert done.status == 0
    assert "there is no checkpoints/resnet18.pt yet" in done.err


def test_resuming_a_complete_training_shows_it_again(train):
    first = train("--epochs", "2", "--quiet")
    done = train("--epochs", "2", "--resume", "--output", "history.csv")
    assert done.status == 0
    assert "was complete already" in done.err
    assert done.out == first.out
    assert len(Path("history.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "words, difference",
    [
        (["--epochs", "3"], "planned_epochs is 3 and was 2"),
        (["--lr", "0.5"], "lr is 0.5 and was"),
        (["--limit", "40"], "training_images is 40 and was 48"),
        (["--seed", "1"], "seed is 1 and was 0"),
    ],
)
def test_resuming_with_other_options_names_the_difference(train, words, difference):
    assert train("--epochs", "2").status == 0
    done = train("--epochs", "2", "--resume", "--quiet", *words)
    assert difference in one_line(done, 2)
    assert done.out == ""


def test_resuming_from_rubbish_is_one_line(train):
    Path("a.pt").write_bytes(b"rubbish")
    assert "a.pt" in one_line(train("--resume", "--checkpoint", "a.pt"), 1)
    assert Path("a.pt").read_bytes() == b"rubbish"


class Terminal:
    """A terminal of a given width and what was written to it."""

    def __init__(self, columns):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        self.name, self.seen, self.slave = os.ttyname(slave), "", slave

    def read_until(self, pattern, seconds=60):
        """Read until what was written matches."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536).decode()

    def press(self, key):
        os.write(self.master, key)


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_how_far_it_is_until_ctrl_c(forks, binary_folder, tmp_path, columns):
    terminal = Terminal(columns)
    words = ["train", "--recipe", "sgd", "--epochs", "9", "--limit", "6", "--batch-size", "2"]
    words += ["--data", binary_folder]
    forks.start(
        tmp_path,
        terminal=terminal.name,
        command=[
            str(word) for word in [*words, "--checkpoint", "a.pt", "--n", "0", "--precision", "float32"]
        ],
        environment={"COLUMNS": str(columns), "TERM": "xterm"},
    )
    terminal.read_until(r"epoch 2/9")
    terminal.press(b"\x03")
    terminal.read_until(r"--resume")
    assert forks.wait() == [130]
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.seen)
    live = re.findall(r"epoch 1/9  [^\r\n]*", shown)
    assert any(re.match(r"epoch 1/9  loss \d\.\d{3}  acc\. \d+\.\d%  \d+ images/s ", line) for line in live)
    assert re.search(r"^testing .*%", shown, re.MULTILINE)
    assert re.search(r"\d:\d\d:\d\d", live[-1])
    drawn = [line for line in re.split(r"[\r\n]+", shown.replace("^C", "")) if line.startswith("epoch")]
    assert all(len(line) <= columns and "…" not in line for line in drawn)
    said = " ".join(shown[shown.rindex("xaicmp: stopped") :].split())
    assert re.fullmatch(
        r"xaicmp: stopped; a\.pt holds [1-8] of 9 epochs; resume with the same command and --resume", said
    )
    assert "Traceback" not in shown
    kept = load_checkpoint(tmp_path / "a.pt")
    assert kept.metadata["epochs"] == len(TABLE.findall(shown.replace("\r", "")))
    assert listing(tmp_path) == ["a.pt", "here"]


@pytest.mark.slow
def test_torchrun_trains_in_two_processes(binary_folder, tmp_path):
    words = "-m torch.distributed.run --nproc-per-node 2 -m -- xaicmp train --limit 8 --batch-size 8 --epochs 1 --n 2 "
    words += "--recipe sgd"
    done = subprocess.run(
        [sys.executable, *words.split(), "--only", "all", "--data", binary_folder],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert len(TABLE.findall(done.stdout)) == 1
    assert done.stdout.count("Grad-CAM vs Saliency") == 1
    assert done.stderr.count("checksums") == 2, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    metadata = load_checkpoint(tmp_path / "checkpoints" / "resnet18.pt").metadata
    assert (metadata["processes"], metadata["epochs"]) == (2, 1)


def test_the_names_written_in_the_help_are_those_that_work(xaicmp):
    assert checkpoint.DEFAULT.as_posix() == "checkpoints/resnet18.pt"
    assert "checkpoints/resnet18.pt" in " ".join(xaicmp("train", "--help").out.split())


def test_each_epoch_is_kept_under_its_number_and_can_be_loaded(train):
    epochs = ("--epochs", "3", "--seed", "1")
    outcome = train(*epochs, "--checkpoint", "kept.pt", "--keep-epochs")
    assert outcome.status == 0, outcome.err
    assert [name for name in listing(".") if name.startswith("kept")] == [
        "kept-epoch1.pt",
        "kept-epoch2.pt",
        "kept-epoch3.pt",
        "kept.pt",
    ]
    last = load_checkpoint(Path("kept.pt"))
    for number in (1, 2, 3):
        kept = load_checkpoint(Path(f"kept-epoch{number}.pt"))
        assert kept.training is None
        history = kept.metadata["history"]
        assert history == last.metadata["history"][:number]
        assert kept.test_accuracy == history[-1]["test_accuracy"]
    weights = [
        load_checkpoint(Path(f"kept-epoch{number}.pt")).classifier.module.state_dict() for number in (1, 2, 3)
    ]
    assert not torch.equal(weights[0]["0.weight"], weights[1]["0.weight"])
    assert all(
        torch.equal(value, weights[2][key]) for key, value in last.classifier.module.state_dict().items()
    )


def test_epochs_are_not_kept_unless_asked(train):
    assert train("--epochs", "2", "--checkpoint", "plain.pt").status == 0
    assert [name for name in listing(".") if name.startswith("plain")] == ["plain.pt"]

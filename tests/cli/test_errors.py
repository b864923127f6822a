"""Bad input: one line on stderr that names the thing and the way out, and nothing left behind."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SmallNet

from xaicmp import api
from xaicmp.core.images.cifar10 import CLASSES, MEAN, STD
from xaicmp.core.models import checkpoint
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.weights import FORMAT

Xaicmp = Callable[..., Any]
COMMANDS = ("metrics", "explain", "figure")
WRONG, FAILED = 2, 1


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny network in place of the one that ships: no message depends on it."""
    monkeypatch.setitem(ARCHITECTURES, "small", lambda classes: SmallNet())
    monkeypatch.setattr(checkpoint, "DEFAULT", tmp_path / "small.pt")
    metadata = {"architecture": "small", "classes": CLASSES, "mean": MEAN, "std": STD}
    checkpoint.save_checkpoint(checkpoint.DEFAULT, SmallNet(), metadata)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(outcome: Any, status: int, *parts: str) -> None:
    """One line, with these parts in it; nothing on stdout."""
    assert outcome.status == status, outcome.err
    assert outcome.err.startswith("xaicmp: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    for part in parts:
        assert part in outcome.err


WRONG_LINES: dict[str, tuple[str, ...]] = {
    "--n 0": ("--n", "1", "See `xaicmp metrics --help`"),
    "--n -3": ("--n", "1", "See `xaicmp metrics --help`"),
    "--n many": ("--n", "valid"),
    "--n": ("--n", "requires an argument"),
    "--n 3 --ids 1": ("--n and --ids", "one of them"),
    "--ids 1 --only wrong": ("--only and --ids", "one of them"),
    "--only right": ("--only", "correct", "wrong", "all"),
    "--ids -3": ("--ids", "-3", "count from 0"),
    "--ids": ("--ids needs a value",),
    "--ids a": ("--ids 'a'", "3 7 12"),
    "--ids 9-3": ("--ids 9-3", "3-9"),
    "--ids 0-99999999999": ("--ids", "1,000,000"),
    "--top 0": ("--top 0", "between 0 and 1"),
    "--top 1": ("--top 1", "between 0 and 1"),
    "--top 1.5": ("--top 1.5", "between 0 and 1"),
    "--top -0.2": ("--top", "between 0 and 1"),
    "--top nan": ("--top nan", "between 0 and 1"),
    "--top inf": ("--top inf", "between 0 and 1"),
    "--top 0.2 1": ("--top 1", "between 0 and 1"),
    "--top 0.2 0.1 0.20": ("--top", "twice"),
    "--n 1 --top 0.2 0.0001": ("--top 0.0001", "leaves no pixel"),
    "--n 1 --top 0.0001": ("--top 0.0001", "leaves no pixel"),
    "--top much": ("--top", "valid"),
    "--methods magic saliency": ("unknown method 'magic'", "--list-methods"),
    "--methods saliency": ("--methods", "two or more"),
    "--methods saliency saliency": ("saliency", "twice"),
    "--methods saliency,": ("''", "--list-methods"),
    "--methods saliency grad-cam:mean": ("grad-cam", "'mean'", "max-abs"),
    "--methods saliency integrated-gradients:steps=x": ("integrated-gradients: steps x", "a whole number"),
    "--methods edge,integrated-gradients:steps=2,rule=up": ("integrated-gradients: rule up", "right, left"),
    "--methods saliency steps=2": ("unknown method 'steps=2'",),
    "--fast --methods saliency integrated-gradients:steps=2": ("--fast", "leave it or them out"),
    "--methods nowhere:function saliency": ("nowhere:function",),
    "--statistics pearson tau": ("tau", "kendall"),
    "--controls chance": ("unknown control 'chance'", "other-image"),
    "--controls none shift": ("--controls none goes alone",),
    "--target fox": ("--target fox", "dog"),
    "--layer layer9": ("--layer layer9", "layer4"),
    "--fast --ig-steps 8": ("--fast and --ig-steps", "one of them"),
    "--methods": ("--methods needs a value",),
    "--format yaml": ("--format", "yaml", "json"),
    "--device gpu": ("--device gpu", "cpu"),
    "--precision fp4": ("--precision", "float32"),
    "--ig-steps 0": ("--ig-steps", "2"),
    "--ig-steps 1": ("--ig-steps", "2"),
    "--batch-size 0": ("--batch-size", "1"),
    "--seed -1": ("--seed", "0"),
    "--no-such": ("--no-such",),
    "surplus": ("surplus",),
}


@pytest.mark.parametrize("line", WRONG_LINES)
def test_a_wrong_command_line_is_explained(xaicmp: Xaicmp, alone: Path, line: str) -> None:
    refused(xaicmp("metrics", *line.split()), WRONG, *WRONG_LINES[line])
    assert names(alone) == []


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("line", ["--n 0", "--ids -3", "--top 1.5", "--methods saliency", "--ids 3 --n 3"])
def test_every_command_refuses_it(xaicmp: Xaicmp, alone: Path, command: str, line: str) -> None:
    refused(xaicmp(command, *line.split()), WRONG)
    assert names(alone) == []


def test_an_unknown_command_is_explained(xaicmp: Xaicmp) -> None:
    refused(xaicmp("compare"), WRONG, "compare", "xaicmp --help")


SUFFIXES = {
    "metrics": (".json, .csv, .md", "x.xml"),
    "explain": (".npz", "x.npy"),
    "figure": (".png, .pdf, .svg", "x.gif"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_suffix_is_refused_with_the_right_ones(xaicmp: Xaicmp, alone: Path, command: str) -> None:
    right, name = SUFFIXES[command]
    for wrong in (name, "x"):
        refused(xaicmp(command, "--n", 1, "--output", wrong), WRONG, wrong, right)
    assert names(alone) == []


@pytest.mark.parametrize("dpi", ["0", "5000", "many"])
def test_a_resolution_that_cannot_be_drawn_is_refused(xaicmp: Xaicmp, dpi: str) -> None:
    refused(xaicmp("figure", "--dpi", dpi), WRONG, "--dpi")


def test_a_picture_too_large_to_draw_is_refused_before_the_work(
    xaicmp: Xaicmp, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained: list[object] = []
    monkeypatch.setattr(api, "explain_selection", lambda *given, **_: explained.append(given) or iter(()))
    refused(xaicmp("figure", "--ids", "0-99", "--dpi", "600"), FAILED, "too large", "fewer images")
    assert not explained
    assert names(alone) == []


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("folder", "reason"),
    [("missing", "does not exist"), ("file", "does not exist"), ("/proc", "cannot write /proc/x")],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    xaicmp: Xaicmp, alone: Path, command: str, folder: str, reason: str
) -> None:
    Path("file").write_text("x")
    output = Path(folder) / f"x{'.json' if command == 'metrics' else SUFFIXES[command][0].split(',')[0]}"
    refused(xaicmp(command, "--checkpoint", "none.pt", "--output", output), FAILED, str(output), reason)
    assert names(alone) == ["file"]


@pytest.mark.parametrize(
    ("path", "status", "parts"),
    [
        ("missing/a.html", FAILED, ("missing/a.html", "does not exist")),
        ("/proc/a.html", FAILED, ("cannot write /proc/a.html",)),
        ("a.pdf", WRONG, ("--report a.pdf", ".html")),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    path: str, status: int, parts: tuple[str, ...], xaicmp: Xaicmp, alone: Path
) -> None:
    outcome = xaicmp("metrics", "--checkpoint", "none.pt", "--output", "a.json", "--report", path)
    refused(outcome, status, *parts)
    assert names(alone) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_is_a_folder_is_refused(xaicmp: Xaicmp, command: str) -> None:
    output = Path(f"x{SUFFIXES[command][0].split(',')[0]}")
    output.mkdir()
    refused(xaicmp(command, "--output", output), FAILED, f"{output}: it is a folder; name a file")


# ---------------------------------------------------------------- checkpoints


class Malicious:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("mark"), "unpickled")


def truncate(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-700])


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "folder": (lambda path: path.mkdir(), "Is a directory"),
    "empty": (lambda path: path.touch(), "damaged or no checkpoint"),
    "truncated": (truncate, "damaged or no checkpoint"),
    "text": (lambda path: path.write_text("not a checkpoint"), "no checkpoint"),
    "foreign": (
        lambda path: torch.save({"linear.weight": torch.ones(2, 2)}, path),
        "conv1.weight is missing",
    ),
    "list": (lambda path: torch.save([1, 2, 3], path), "holds a list"),
    "malicious": (lambda path: torch.save(Malicious(), path), "more than tensors"),
    "malicious pickle": (lambda path: path.write_bytes(pickle.dumps(Malicious())), "more than tensors"),
    "malicious inside": (
        lambda path: torch.save({"format": FORMAT, "x": Malicious()}, path),
        "more than tensors",
    ),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_bad_checkpoint_is_refused_and_never_executed(xaicmp: Xaicmp, alone: Path, kind: str) -> None:
    make, reason = CHECKPOINTS[kind]
    make(alone / "bad.pt")
    before = names(alone)
    refused(xaicmp("metrics", "--checkpoint", "bad.pt", "--output", "x.json"), FAILED, "bad.pt", reason)
    assert names(alone) == before


# ---------------------------------------------------------------- data


def test_an_id_behind_the_end_is_named_with_the_last_one(xaicmp: Xaicmp, binary_folder: Path) -> None:
    outcome = xaicmp("explain", "--ids", 3, 10_000, "--data", binary_folder, "-q")
    refused(outcome, WRONG, "--ids 10000", "10,000 images")


@pytest.mark.parametrize("line", ["--ids 1000", "--n 1001"])
def test_more_than_the_sample_says_how_to_get_the_rest(xaicmp: Xaicmp, tmp_path: Path, line: str) -> None:
    outcome = xaicmp("metrics", *line.split())
    refused(outcome, FAILED, "1,000 images at hand", str(tmp_path / "cache"), "--data: a folder")
    assert not (tmp_path / "cache").exists()


def short(folder: Path) -> None:
    (folder / "test_batch.bin").write_bytes(bytes(3073))


def hostile(folder: Path) -> None:
    (folder / "cifar-10-batches-py").mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Malicious()))


FOLDERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no data": (lambda folder: (folder / "notes.txt").touch(), ("no CIFAR-10 in", "cifar-10-batches-bin")),
    "short file": (short, ("test_batch.bin has 3,073 bytes", "fetch it again")),
    "only training files": (
        lambda folder: (folder / "data_batch_1.bin").touch(),
        ("test_batch.bin", "No such"),
    ),
    "wrong pickles": (hostile, ("MD5 sums differ", "not opened")),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_bad_data_folder_is_refused(xaicmp: Xaicmp, alone: Path, kind: str) -> None:
    make, parts = FOLDERS[kind]
    Path("data").mkdir()
    make(alone / "data")
    before = names(alone)
    refused(xaicmp("metrics", "--data", "data", "--n", 1), FAILED, "data", *parts)
    assert names(alone) == before


def test_a_file_in_place_of_the_data_folder_is_refused(xaicmp: Xaicmp) -> None:
    Path("data").touch()
    refused(xaicmp("metrics", "--data", "data"), FAILED, "data is not a folder")


def test_without_internet_nothing_is_downloaded_and_nothing_left(
    xaicmp: Xaicmp, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("xaicmp.core.images.download.RETRIES", 0)
    refused(xaicmp("metrics", "--data", "new"), FAILED, "could not download CIFAR-10 into new", "run again")
    assert names(alone) == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become another user"
)
def test_a_folder_that_may_not_be_entered_is_refused(
    xaicmp: Xaicmp, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_can_read = Path("small.pt")
    another_can_read.write_bytes(checkpoint.DEFAULT.read_bytes())
    monkeypatch.setattr(checkpoint, "DEFAULT", another_can_read)
    locked = alone / "locked"
    locked.mkdir(mode=0o700)
    for parent in (alone, *alone.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o005)
    os.seteuid(65534)
    try:
        for option in ("--data", "--checkpoint", "--output"):
            given = "locked/x.json" if option == "--output" else "locked/x"
            refused(xaicmp("metrics", "--n", 1, option, given), FAILED, given, "Permission denied")
    finally:
        os.seteuid(0)


SAME_FILES = {
    "metrics --from a.json --output a.json": ("--output and --from", "a.json"),
    "metrics --from a.json --output ./link.json": ("--output and --from",),
    "metrics --checkpoint a.json --output a.json": ("--output and --checkpoint",),
    "metrics --checkpoint a.svg --plot ../here/a.svg": ("--plot and --checkpoint",),
    "metrics --checkpoint a.html --report a.html": ("--report and --checkpoint",),
    "metrics --against a.json --output link.json": ("--output and --against",),
    "metrics --data a.json --output a.json": ("--output and --data",),
    "explain --checkpoint a.npz --output a.npz": ("--output and --checkpoint",),
    "figure --checkpoint a.svg --output a.svg": ("--output and --checkpoint",),
    "train --checkpoint a.json --output a.json": ("--checkpoint and --output",),
    "train --checkpoint a.svg --plot a.svg": ("--checkpoint and --plot",),
    "train --data a.json --checkpoint a.json": ("--checkpoint and --data",),
}


@pytest.mark.parametrize("line", SAME_FILES)
def test_what_is_written_is_nothing_that_is_read(line: str, xaicmp: Xaicmp, alone: Path) -> None:
    for name in ("a.json", "a.npz", "a.svg", "a.html"):
        (alone / name).write_text("mine")
    (alone / "link.json").symlink_to("a.json")
    refused(xaicmp(*line.split()), WRONG, *SAME_FILES[line], "are the same file", "name another")
    assert all((alone / name).read_text() == "mine" for name in ("a.json", "a.npz", "a.svg", "a.html"))
    assert names(alone) == ["a.html", "a.json", "a.npz", "a.svg", "link.json"]

"""Runs that are killed, stopped or shared among processes, against one that is left in peace."""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

LINES = {
    "metrics": "metrics --model small:SmallNet --only all --n 40 --methods saliency grad-cam edge --batch-size 1 --output out.json -q",
    "explain": "explain --model small:SmallNet --only all --n 40 --methods saliency grad-cam --batch-size 1 --controls none --output out.npz -q",
}
OUTPUTS = {"metrics": "out.json", "explain": "out.npz"}


@pytest.fixture(scope="module")
def whole(forks: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What each command writes when nothing comes between."""
    folder = tmp_path_factory.mktemp("whole")
    for line in LINES.values():
        assert forks.run(folder, command=shlex.split(line)) == [0], said(folder)
    return {command: content(folder / name) for command, name in OUTPUTS.items()}


def content(path: Path) -> bytes:
    """All that the file says; an archive's time stamps are not of that, nor is the command line of a document."""
    if path.suffix == ".json":
        return re.sub(rb'(?m)^  "(command|config)": .*\n', b"", path.read_bytes())
    with np.load(path, allow_pickle=False) as arrays:
        return b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays))


def said(folder: Path, rank: int = 0) -> str:
    """What a process wrote on stderr, without what older versions of torch say there of their connections."""
    lines = (folder / f"err-{rank}.txt").read_text().splitlines(keepends=True)
    return "".join(each for each in lines if not each.startswith("[Gloo] "))


def listing(folder: Path) -> list[str]:
    """What the command left there, beside what the tests themselves put there."""
    return sorted(path.name for path in folder.iterdir() if path.name != "here" and path.suffix != ".txt")


def kept_in(folder: Path) -> int:
    """How many batches are there."""
    return len(list(folder.glob("??????.npz")))


def until_kept(folder: Path, command: str, batches: int = 2) -> Path:
    """Wait for so many batches, or for the result; returns the folder they are in."""
    output = folder / OUTPUTS[command]
    kept = folder / f"{output.name}.part"
    deadline = time.monotonic() + 120
    while kept_in(kept) < batches and not output.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return kept


@pytest.mark.parametrize("command", LINES)
def test_killed_at_random_moments_and_resumed_the_numbers_are_the_same_to_the_bit(
    command: str, forks: Any, whole: dict[str, bytes], tmp_path: Path
) -> None:
    line, rng = shlex.split(f"{LINES[command]} --resume"), random.Random(0)
    output, seen = tmp_path / OUTPUTS[command], [0]
    while not output.exists():
        (process,) = forks.start(tmp_path, command=line)
        # A few batches further than before, or as far: while it is loading, computing or writing.
        until_kept(tmp_path, command, seen[-1] + rng.randrange(8))
        time.sleep(rng.uniform(0, 0.1))
        with suppress(ProcessLookupError):  # it may have come to its end
            os.kill(process, signal.SIGKILL)
        assert forks.wait() in ([-signal.SIGKILL], [0])
        seen.append(kept_in(tmp_path / f"{output.name}.part"))
        assert seen == sorted(seen) or output.exists()
    assert content(output) == whole[command]
    assert max(seen) > 0
    # What a kill between the result and the end left over is taken away by the next run.
    assert forks.run(tmp_path, command=line) == [0]
    assert listing(tmp_path) == [output.name]
    assert content(output) == whole[command]


@pytest.mark.parametrize("command", LINES)
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    command: str, forks: Any, whole: dict[str, bytes], tmp_path: Path
) -> None:
    (process,) = forks.start(tmp_path, command=shlex.split(LINES[command]))
    kept = until_kept(tmp_path, command)
    os.kill(process, signal.SIGINT)
    assert forks.wait() == [130]
    err = said(tmp_path)
    assert err.startswith(f"xaicmp: stopped; {kept.name} keeps ")
    ending = r" of 40 images( and a part of the next batch)?: resume with the same command and --resume\n"
    assert re.search(f"{ending}$", err)
    assert listing(tmp_path) == [kept.name]
    assert forks.run(tmp_path, command=shlex.split(f"{LINES[command]} --resume")) == [0], said(tmp_path)
    assert content(tmp_path / OUTPUTS[command]) == whole[command]
    assert listing(tmp_path) == [OUTPUTS[command]]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("command", LINES)
def test_several_processes_write_what_one_does(
    command: str, world: int, forks: Any, whole: dict[str, bytes], tmp_path: Path
) -> None:
    assert forks.run(tmp_path, world, command=shlex.split(LINES[command])) == [0] * world, said(tmp_path)
    assert content(tmp_path / OUTPUTS[command]) == whole[command]
    assert listing(tmp_path) == [OUTPUTS[command]]
    for rank in range(1, world):
        assert (tmp_path / f"out-{rank}.txt").read_text() == said(tmp_path, rank) == ""
    assert "n = 40" in (tmp_path / "out-0.txt").read_text() or command == "explain"


def test_photographs_are_shared_among_processes_and_give_what_one_process_does(
    forks: Any, tmp_path: Path
) -> None:
    photographs = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    for index, pixels in enumerate(photographs):
        place = tmp_path / "photos" / str(index % 2) / f"{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    line = "metrics --images photos --only all --n 4 --methods saliency edge --batch-size 1 --output out.json"
    written = []
    for world in (1, 2):
        assert forks.run(tmp_path, world, command=shlex.split(line)) == [0] * world, said(tmp_path)
        written.append(content(tmp_path / "out.json"))
        assert "photos: its classes are numbers" in said(tmp_path)
        assert said(tmp_path).count("\n") == 1, said(tmp_path)
    assert said(tmp_path, 1) == (tmp_path / "out-1.txt").read_text() == ""
    assert written[0] == written[1]
    for index in range(4):
        assert f"{index % 2}/{index}.png".encode() in written[0]


def test_files_that_cannot_be_read_are_named_by_many_processes_and_by_those_that_resume(
    forks: Any, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)):
        if index in (1, 2, 6):
            (tmp_path / "photos" / f"{index}.png").write_text("no image")
        else:
            Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    line = shlex.split(
        "explain --images photos --only all --n 8 --methods saliency edge --batch-size 1 --output out.npz"
    )
    lines = []
    for world in (1, 2):
        assert forks.run(tmp_path, world, command=line) == [0] * world, said(tmp_path)
        lines.append(said(tmp_path))
    # What is kept is all that there is, and the result is not written because it has become a folder.
    (tmp_path / "out.npz").unlink()
    (tmp_path / "out.npz").mkdir()
    assert forks.run(tmp_path, command=line) == [1]
    (tmp_path / "out.npz").rmdir()
    assert forks.run(tmp_path, command=[*line, "--resume"]) == [0], said(tmp_path)
    lines.append(said(tmp_path))
    for each in lines:
        assert [f"photos/{index}.png" in each for index in range(8)] == [
            index in (1, 2, 6) for index in range(8)
        ]
        assert "3 files are left out" in each


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_ends_all_and_what_is_done_is_kept(
    how: signal.Signals, forks: Any, whole: dict[str, bytes], tmp_path: Path
) -> None:
    processes = forks.start(tmp_path, 2, command=shlex.split(LINES["metrics"]))
    kept = until_kept(tmp_path, "metrics")
    # torchrun's signal comes to the first process too, when another has died.
    os.kill(processes[how == signal.SIGKILL], how)
    statuses = forks.wait()
    assert statuses[0] == 1
    assert statuses[1] == (-signal.SIGKILL if how == signal.SIGKILL else 1)
    err = said(tmp_path)
    assert err.startswith("xaicmp: another process ended")
    assert f"; {kept.name} keeps " in err
    assert err.count("\n") == 1
    assert forks.run(tmp_path, 3, command=shlex.split(f"{LINES['metrics']} --resume")) == [0] * 3
    assert content(tmp_path / "out.json") == whole["metrics"]


def test_an_error_in_every_process_is_said_once(forks: Any, tmp_path: Path) -> None:
    line = shlex.split(f"{LINES['metrics']} --layer nonsense")
    assert forks.run(tmp_path, 2, command=line) == [2, 2]
    assert said(tmp_path).count("\n") == 1
    assert "nonsense" in said(tmp_path)
    assert said(tmp_path, 1) == ""
    assert listing(tmp_path) == []


def test_studies_of_the_model_want_one_process(forks: Any, tmp_path: Path) -> None:
    line = shlex.split(f"{LINES['metrics']} --faithfulness")
    assert forks.run(tmp_path, 2, command=line) == [2, 2]
    assert said(tmp_path) == "xaicmp: --faithfulness runs in one process; leave it or torchrun out\n"


def test_another_command_is_not_gone_on_with(forks: Any, tmp_path: Path) -> None:
    (process,) = forks.start(tmp_path, command=shlex.split(LINES["metrics"]))
    until_kept(tmp_path, "metrics")
    os.kill(process, signal.SIGKILL)
    forks.wait()
    assert forks.run(tmp_path, command=shlex.split(f"{LINES['metrics']} --resume --seed 3")) == [2]
    assert "seed is 3 and was 0" in said(tmp_path)
    assert listing(tmp_path) == ["out.json.part"]


def test_what_was_wrong_from_the_start_leaves_nothing(forks: Any, tmp_path: Path) -> None:
    assert forks.run(tmp_path, command=shlex.split(f"{LINES['metrics']} --top 0.0005")) == [2]
    assert "--resume" not in said(tmp_path)
    assert listing(tmp_path) == []


def test_other_images_are_not_gone_on_with_and_what_is_kept_stays(forks: Any, tmp_path: Path) -> None:
    (process,) = forks.start(tmp_path, command=shlex.split(LINES["metrics"]))
    kept = until_kept(tmp_path, "metrics")
    os.kill(process, signal.SIGKILL)
    forks.wait()
    with np.load(kept / "000000.npz") as arrays:
        np.savez(kept / "000000.npz", **{**arrays, "candidates": 0})
    assert forks.run(tmp_path, command=shlex.split(f"{LINES['metrics']} --resume")) == [2]
    assert said(tmp_path).endswith("give the same --data, or remove that folder to start anew\n")
    assert listing(tmp_path) == [kept.name]


def test_resume_wants_an_output_and_starts_anew_where_there_is_nothing(forks: Any, tmp_path: Path) -> None:
    assert forks.run(tmp_path, command=shlex.split("metrics --n 2 --resume")) == [2]
    assert said(tmp_path).startswith("xaicmp: --resume goes with --output")
    line = shlex.split("metrics --n 2 --methods saliency edge --resume --output new.json")
    assert forks.run(tmp_path, command=line) == [0]
    assert said(tmp_path) == "xaicmp: there is no new.json.part; starting at the first image\n"

"""What only a process of its own can show: start-up, pipes, signals, terminals, shells."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PYTHON = shlex.quote(sys.executable)
XAICMP = f"{PYTHON} -m xaicmp"
QUICK = "--n 1 --methods saliency grad-cam"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run ``line`` in bash, where a pipe fails when any of its commands does."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; xaicmp() {{ {XAICMP} "$@"; }}; {line}'],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def said(folder: Path) -> str:
    """What a forked command wrote to stderr."""
    return (folder / "err-0.txt").read_text()


def test_json_goes_through_a_pipe_and_stderr_stays_empty() -> None:
    result = shell(f"xaicmp metrics {QUICK} --format json | {PYTHON} -m json.tool")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["n"] == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    result = shell(f"xaicmp metrics {QUICK} --format csv | true")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    result = shell(f"xaicmp metrics {QUICK} >/dev/full")
    assert result.returncode == 1
    assert result.stderr.startswith("xaicmp: cannot write to standard output: No space left on device")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_before_anything_is_done_ends_with_130_one_line_and_nothing_left(alone: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "xaicmp",
            "explain",
            "--ids",
            "0-63",
            "--output",
            "maps.npz",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    # In the first batch, before there is anything to go on from.
    while not (alone / "maps.npz.part" / "plan.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "xaicmp: interrupted"
    assert list(alone.iterdir()) == []


def test_progress_is_shown_on_a_terminal_and_results_stay_pure() -> None:
    screen, stderr = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {
        "TERM": "xterm"
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "xaicmp", "metrics", *QUICK.split(), "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
    )
    os.close(stderr)
    shown = b""
    with suppress(OSError):  # the end of a terminal
        while more := os.read(screen, 1 << 16):  # all the while, lest it fills up
            shown += more
    os.close(screen)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(stage in shown.decode() for stage in ("loading", "explaining", "measuring", "testing"))
    assert json.loads(out)["n"] == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_a_terminal_shows_what_it_can(encoding: str, forks: Any, alone: Path) -> None:
    out = ""
    for line in (
        "metrics --ids 3 7 --methods saliency edge --statistics kendall",
        "explain --ids 58 --methods edge grad-cam",
    ):
        status = forks.run(alone, command=line.split(), encoding=encoding)
        assert status == [0], said(alone)
        assert "Traceback" not in said(alone)
        out += (alone / "out-0.txt").read_bytes().decode(encoding)
    assert ("\u03c4" in out, "tau" in out) == ((True, False) if encoding == "utf-8" else (False, True))
    assert "+-" in out if encoding == "ascii" else "±" in out
    assert ("---" in out) == (encoding != "utf-8")
    assert "?" not in out.replace("Does it agree about this image?", "")


@pytest.mark.parametrize("columns", ["0", "00", "20", "40", "abc", "-5"])
def test_nothing_vanishes_at_any_width(columns: str, forks: Any, alone: Path) -> None:
    line = shlex.split("metrics --ids 3 7 --methods saliency edge")
    status = forks.run(alone, command=line, environment={"COLUMNS": columns})
    assert (status, said(alone)) == ([0], "")
    letters = "".join((alone / "out-0.txt").read_text(encoding="utf-8").split())
    for word in ("Saliency", "vsEdges", "Pearson", "IoU@20%", "Verdict", "Undefined:"):
        assert word in letters


def test_a_user_without_a_home_and_an_entry_is_served() -> None:
    source = """
import os, pwd, sys
del os.environ["HOME"]
pwd.getpwuid = {}.__getitem__  # nobody has an entry
from xaicmp.cli import main
sys.argv = ["xaicmp", "--version"]
try:
    main()
finally:
    import matplotlib, pathlib  # as Captum does
    matplotlib.get_cachedir(), pathlib.Path.home()
"""
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_closed_and_full_streams_are_no_tracebacks() -> None:
    for line, status, said in (
        ("xaicmp metrics --ids 3 >&-", 1, "xaicmp: standard output is closed; open it"),
        ("xaicmp metrics --n 0 2>&-", 2, ""),
        ("xaicmp --version 2>&-", 0, ""),
        ("xaicmp metrics --n 0 2>/dev/full", 2, ""),
        ("xaicmp metrics --n 0 <&-", 2, "xaicmp: "),
    ):
        result = shell(line)
        assert result.returncode == status, line
        assert result.stderr.startswith(said)
        assert result.stderr.count("\n") == bool(said)


LOUD = """
import ctypes, os, subprocess, torch
print("imported")
class Net(torch.nn.Sequential):
    def __init__(self):
        print("built")
        super().__init__(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(12, 10))
    def forward(self, images):
        print("forward")
        return super().forward(images)
def loud(model, images, targets):
    print("python")
    os.write(1, b"descriptor\\n")
    subprocess.run(["echo", "process"])
    ctypes.CDLL(None).puts(b"library")
    return images[:, 0]
def exits(model, images, targets):
    os._exit(0)
def forks(model, images, targets):
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return images[:, 0]
"""


def test_what_a_plugin_prints_is_not_in_the_result_and_it_cannot_end_the_run(forks: Any, alone: Path) -> None:
    (alone / "pl.py").write_text(LOUD)
    line = shlex.split("metrics --ids 3 7 --controls none --format json --model pl:Net --methods edge")
    assert forks.run(alone, command=[*line, "pl:loud", "pl:forks"]) == [0]
    assert json.loads((alone / "out-0.txt").read_text())["methods"] == ["edge", "pl:loud", "pl:forks"]
    for word in ("imported", "built", "forward", "python", "descriptor", "process"):
        assert word in said(alone)
    assert forks.run(alone, command=[*line, "pl:exits"]) == [1]
    assert said(alone).endswith(
        "\nxaicmp: plug-in pl:exits failed: SystemExit: 0; correct it, or leave the method out\n"
    )

"""The benchmarks run as the documentation says, from a shell and without anything on the path."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
BENCHMARKS = sorted(each.name for each in FOLDER.glob("*.py"))


def ran(name: str, *words: str) -> str:
    """What a benchmark says on stdout."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, str(FOLDER / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


START = """
import os, runpy, sys
import torch, torchvision  # once for all
for path in sys.argv[1:]:
    if os.fork() == 0:
        sys.argv, sys.path[0] = [path, "--help"], os.path.dirname(path)
        runpy.run_path(path, run_name="__main__")
        os._exit(1)  # because the help ends it
    if os.waitstatus_to_exitcode(os.wait()[1]):
        sys.exit(path)
"""


def test_every_benchmark_starts_and_says_what_it_takes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START, *(str(FOLDER / name) for name in BENCHMARKS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^usage: (\S+)", done.stdout, re.MULTILINE) == BENCHMARKS


@pytest.mark.parametrize("words", ["", "--model mobilenet_v3_small --size 64"])
def test_the_statistics_are_measured_beside_the_explanations(words: str) -> None:
    table = ran("scoring.py", "--n", "5", "--images", "1", *words.split())
    assert ("3 methods, 3 pairs, 5 images" if words else "pairs, 5 images") in table
    for row in ("statistics and controls of every image", "means, intervals and tests"):
        assert row in table


def test_another_network_and_size_are_measured_side_by_side() -> None:
    words = "--model torchvision:mobilenet_v3_small --size 64 --n 1 --rounds 1 --batch-size 4"
    table = ran("explaining.py", *words.split())
    assert "1 images of 64x64, torchvision:mobilenet_v3_small" in table
    for row in ("Captum, image by image", "Captum, batches of 4", "of that, the maps", "limit of fast"):
        assert row in table

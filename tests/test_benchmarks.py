"""The benchmarks run as the documentation says, from a shell and without anything on the path."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
BENCHMARKS = sorted(each.name for each in FOLDER.glob("*.py"))
START = """
import gc, json, os, runpy, sys
import captum.attr, pytest, pytorch_grad_cam, scipy.stats, torch, torchvision, xaicmp.api  # once for all
gc.freeze()  # lest each looks for garbage in all of that, and so copies it
for name, *words in json.loads(sys.argv[2]):
    if os.fork() == 0:
        sys.path[0] = sys.argv[1]
        sys.argv = [os.path.join(sys.argv[1], name), *words]
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.stdout.flush()
        os._exit(0)
    if os.waitstatus_to_exitcode(os.wait()[1]):
        sys.exit(name)
    print(end="\\f", flush=True)
"""


def ran(folder: Path, *commands: str) -> list[str]:
    """What benchmarks say on stdout, one after the other."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    lines = json.dumps([each.split() for each in commands])
    command = [sys.executable, "-c", START, str(FOLDER), lines]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\f")[:-1]


NETWORK = "--size 32 --n 1 --rounds 1 --batch-size 4 --model torchvision:mobilenet_v3_small"
METHODS = "saliency input-x-gradient grad-cam layercam saliency:sum-abs"
SIDES = ("Captum, image by image", "Captum, batches of 4", "of that, the maps", "limit of fast")
COSTS = ("statistics and controls of every image", "means, intervals and tests")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ran(
        tmp_path_factory.mktemp("benchmarks"),
        *(f"{name} --help" for name in BENCHMARKS),
        f"scoring.py --n 5 --images 1 --methods {METHODS}",
        "scoring.py --n 5 --images 1 --model mobilenet_v3_small --size 64",
        f"explaining.py {NETWORK}",
    )


@pytest.fixture(scope="module")
def tables(said: list[str]) -> list[str]:
    return said[len(BENCHMARKS) :]


def test_every_benchmark_starts_and_says_what_it_takes(said: list[str]) -> None:
    for name, text in zip(BENCHMARKS, said[: len(BENCHMARKS)], strict=True):
        assert re.findall(r"^usage: (\S+)", text, re.MULTILINE) == [name]
        assert not re.search(r"─", text)  # the help ends it


@pytest.mark.parametrize(
    ("place", "title", "rows"),
    [
        (0, "5 methods, 10 pairs, 5 images", COSTS),
        (1, "3 methods, 3 pairs, 5 images", COSTS),
        (2, "1 images of 32x32, torchvision:mobilenet_v3_small", SIDES),
    ],
)
def test_what_is_measured_stands_in_a_table(
    place: int, title: str, rows: tuple[str, ...], tables: list[str]
) -> None:
    assert title in tables[place]
    for row in rows:
        assert row in tables[place]

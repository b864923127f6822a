"""Fixtures for every test: data sets made up from the sample that ships."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests run two at a time

import hypothesis
import numpy as np
import pytest

from xaicmp.core.images.cifar10 import FILES, load_sample
from xaicmp.core.images.tensors import ImageSet


@pytest.fixture(scope="session")
def sample() -> ImageSet:
    """The images in the package."""
    return load_sample()


def pytest_configure(config: pytest.Config) -> None:
    # The same examples at every run: a failure is the last change's.
    hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
    hypothesis.settings.load_profile("repeatable")
    # A suite started in the background ignores Ctrl-C, and so would the processes that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "slow: starts several processes that import torch; seconds each")
    config.addinivalue_line("markers", "long: takes a minute, and so starts first")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One that takes a minute and starts last would leave the other worker idle for as long.
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    # A million objects of imported and collected modules stay to the end: no collection of garbage need look at them.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def binary_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in CIFAR-10's binary layout, full-size: the sample ten times in each file, but for one value of a pixel."""
    folder = tmp_path_factory.mktemp("data") / "cifar-10-batches-bin"
    folder.mkdir()
    sample = load_sample()
    records = np.column_stack(
        [sample.labels.numpy().astype(np.uint8), sample.tensor.numpy().reshape(1000, -1)]
    )
    first, *others = (folder / name for names in FILES.values() for name in names)
    records = np.tile(records, (10, 1))
    records[:, -1] ^= np.arange(10, dtype=np.uint8).repeat(1000)  # so that none is a copy of another
    first.write_bytes(records.tobytes())
    for path in others:
        os.link(first, path)
    return folder


class Forks:
    """Processes that need not import torch first: ``tests/train_small.py`` forks them."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "train_small.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"},
        )

    def start(self, folder: Path, world: int = 1, **job: Any) -> list[int]:
        """Start a job in ``folder``; what it prints goes to ``out-RANK.txt`` and ``err-RANK.txt`` there."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        assert self.server.stdin
        self.server.stdin.write(
            json.dumps(job | {"folder": str(folder), "world": world, "port": port}) + "\n"
        )
        self.server.stdin.flush()
        return self._answer()

    def wait(self) -> list[int]:
        """The statuses of the job that was started last; negative for a signal."""
        return self._answer()

    def run(self, folder: Path, world: int = 1, **job: Any) -> list[int]:
        """Start a job and wait for it."""
        self.start(folder, world, **job)
        return self.wait()

    def _answer(self) -> list[int]:
        assert self.server.stdout
        return json.loads(self.server.stdout.readline())


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """A place to start processes from."""
    place = Forks()
    yield place
    assert place.server.stdin
    place.server.stdin.close()
    place.server.wait(timeout=30)

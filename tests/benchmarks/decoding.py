"""How fast photographs are decoded: one by one, in threads as xaicmp does, and in the worker processes of a DataLoader.

    python tests/benchmarks/decoding.py FOLDER [--n 512] [--rounds 3] [--size 224]

All read the first n photographs of FOLDER, 32 at a time, as a network of ``--size`` sees them. They take turns, after a round
that is not counted. "whole run" is the time from the start to the last image, "first batch" to the first. A worker
process has to be started, and imports torch where it is not forked; forking is not safe beside threads or a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xaicmp.core.images.files import FileImages, find_files, read_image
from xaicmp.core.images.framing import Framing

BATCH = 32


class Photographs(Dataset[Tensor]):
    """The same files for a DataLoader."""

    def __init__(self, images: FileImages) -> None:
        self.paths, self.framing = images.paths, images.framing

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return read_image(self.paths[index], self.framing)


def one_by_one(images: FileImages) -> Iterator[Tensor]:
    source = Photographs(images)
    for begin in range(0, len(source), BATCH):
        yield torch.stack([source[index] for index in range(begin, min(begin + BATCH, len(source)))])


def in_threads(images: FileImages) -> Iterator[Tensor]:
    """As in a run: the next batch is begun before this one is asked for."""
    source = images.part(np.arange(len(images)))
    parts = np.split(np.arange(len(source)), range(BATCH, len(source), BATCH))
    for part, following in zip(parts, [*parts[1:], parts[0][:0]], strict=True):
        source.ahead(part)
        source.ahead(following)
        yield source.pixels(part)


def in_workers(start: str, images: FileImages) -> Iterator[Tensor]:
    workers = torch.get_num_threads()
    yield from DataLoader(Photographs(images), BATCH, num_workers=workers, multiprocessing_context=start)


def timed(way: Callable[[FileImages], Iterator[Tensor]], images: FileImages) -> tuple[float, float, Tensor]:
    """Seconds to the first batch and to the end, and the sum of each image's pixels."""
    begun, first, sums = time.perf_counter(), 0.0, []
    for batch in way(images):
        first = first or time.perf_counter() - begun
        sums.append(batch.sum(dim=(1, 2, 3)))
    return first, time.perf_counter() - begun, torch.cat(sums)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    found = find_files([options.folder], Framing((options.size, options.size), crop_pct=0.875))
    images = found.part(np.arange(min(options.n, len(found))))
    ways: dict[str, Callable[[FileImages], Iterator[Tensor]]] = {
        "one by one": one_by_one,
        "threads, as xaicmp does": in_threads,
        "worker processes, forked": partial(in_workers, "fork"),
        "worker processes, started anew": partial(in_workers, "spawn"),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        sums = []
        for name, way in ways.items():
            first, whole, total = timed(way, images)
            sums.append(total)
            if turn:
                seconds[name].append((first, whole))
        assert all(torch.equal(each, sums[0]) for each in sums), "they read different pixels"
    table = Table("", "first batch", "whole run", "images per second", box=box.SIMPLE_HEAD)
    for name, found_seconds in seconds.items():
        first, whole = (statistics.median(each) for each in zip(*found_seconds, strict=True))
        table.add_row(name, f"{first:.2f} s", f"{whole:.2f} s", f"{len(images) / whole:.0f}")
    Console().print(
        f"{len(images)} photographs at {options.size} x {options.size}, {torch.get_num_threads()} threads or workers, "
        f"medians of {options.rounds}",
        table,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

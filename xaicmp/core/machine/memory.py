"""How many images go through the model at once: as many as memory holds."""

from __future__ import annotations

import ctypes
import gc
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from xaicmp.errors import UsageError, XaicmpError

T = TypeVar("T")

UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}


class Room:
    """How many images are worked on at once: as many as asked for, half as many whenever memory runs out.

    Args:
        most: as many as asked for.
        remark: told once that they are too many.
    """

    def __init__(self, most: int, remark: Callable[[str], None]) -> None:
        self.most, self.remark, self.told = most, remark, False

    def run(self, work: Callable[[slice], T], count: int) -> list[T]:
        """``work`` on ``count`` images, in order, in as few parts as there is room for.

        Raises:
            XaicmpError: there is none for a single image.
        """
        parts: list[T] = []
        start = 0
        while start < count:
            end = min(start + self.most, count)
            try:
                parts.append(work(slice(start, end)))
            except torch.OutOfMemoryError:
                end = start  # try again out of here, where nothing of the attempt is held
            if end == start:
                self._halve()
            start = end
        return parts

    def _halve(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        if self.most == 1:
            raise XaicmpError(
                "the device's memory does not hold a single image's explanation; try --device cpu"
            )
        if not self.told:
            self.remark(f"out of memory with {self.most} images at once; going on with fewer")
        self.told, self.most = True, self.most // 2


def trim() -> None:
    """Hand back to the system what is free: glibc keeps what lies between pieces in use, and more from block to block."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, another system
        ctypes.CDLL(None).malloc_trim(0)


def parse_bytes(text: str) -> int:
    """``500MB``, ``2GB``, ``1.5GiB`` in bytes.

    Raises:
        UsageError: it is nothing of the kind.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([KMGT]?)(i?)B", text.strip(), re.IGNORECASE)
    if not match or (match[3] and not match[2]) or float(match[1]) == 0:
        raise UsageError(f"--memory {text}: no amount of memory; write 500MB, 2GB or 1.5GiB")
    unit = UNITS[match[2].upper()]
    return int(float(match[1]) * (1024 ** list(UNITS.values()).index(unit) if match[3] else unit))


@dataclass(eq=False)
class _Saved:
    """What autograd keeps instead of a tensor, so that one can see when it lets go of it."""

    tensor: Tensor


@contextmanager
def watch_saved(*models: nn.Module) -> Iterator[Callable[[], int]]:
    """Counts the bytes that autograd keeps for the way back, of what the models do not hold anyway.

    Gives the most at once so far.
    """
    own = {each.untyped_storage().data_ptr() for model in models for each in model.state_dict().values()}
    uses: Counter[int] = Counter()
    sizes: dict[int, int] = {}
    held = most = 0

    def release(place: int) -> None:
        nonlocal held
        uses[place] -= 1
        if uses[place] == 0:
            held -= sizes[place]

    def pack(tensor: Tensor) -> _Saved:
        nonlocal held, most
        storage = tensor.untyped_storage()
        place, saved = storage.data_ptr(), _Saved(tensor)
        if uses[place] == 0:
            sizes[place] = 0 if place in own else storage.nbytes()
            held += sizes[place]
            most = max(most, held)
        uses[place] += 1
        weakref.finalize(saved, release, place)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        yield lambda: most

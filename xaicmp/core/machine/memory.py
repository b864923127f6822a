"""How many images go through the model at once: as many as memory holds."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from xaicmp.errors import XaicmpError, arg

T = TypeVar("T")
SHARE = 0.5
"""The share of free memory that a pass may take; the rest is for maps, statistics and other programs."""

MARGIN = 2
"""How many times the bytes that autograd keeps of an image it takes in all, with gradients and copies."""

GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Where versions 2 and 1 of Linux's control groups say how much memory a group may take, and takes."""


class Room:
    """How many images are processed at once: as many as asked for, and half as many whenever memory runs out.

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
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
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
                "memory does not hold a single image's explanation; "
                f"ask methods for fewer {arg('samples')}, or try another {arg('device')}"
            )
        if not self.told:
            self.remark(f"out of memory with {self.most} images at once; with fewer from here on")
        self.told, self.most = True, self.most // 2


def ran_out(error: BaseException) -> bool:
    """Whether it means that memory has run out, of a device or of the machine."""
    says = ("can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(each in str(error) for each in says)
    )


def trim() -> None:
    """Return free memory to the system: glibc keeps what lies between pieces in use."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, another system
        ctypes.CDLL(None).malloc_trim(0)


def fitting_batch(measure: Callable[[int], int], free: int | None, most: int) -> int:
    """How many images may be in one pass: a power of two, at least 1 and at most ``most``.

    Args:
        measure: the bytes that autograd keeps of a pass of so many images, see ``saved_bytes``.
        free: bytes of free memory; None if unknown.
        most: how many are fast, see ``devices.fast_batch``; the result if ``free`` is unknown.
    """
    count = max(1, most)
    if free is not None:
        image = MARGIN * max(1, measure(2)) / 2
        count = max(1, min(count, int(free * SHARE / image)))
    return 1 << (count.bit_length() - 1)


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """The bytes that autograd keeps of one forward pass of ``images``, apart from what the model (in eval mode) holds."""
    own = {None} | {_place(each) for each in chain(model.parameters(), model.buffers())}
    kept: dict[int | None, Tensor] = {}  # the tensors themselves, so that no place in memory is used again

    def pack(tensor: Tensor) -> Tensor:
        if (place := _place(tensor)) not in own:
            kept[place] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.inference_mode(False), torch.enable_grad(), hooks:
        model(images.detach().clone().requires_grad_())
    return sum(each.untyped_storage().nbytes() for each in kept.values())


def _place(tensor: Tensor) -> int | None:
    """Where its values are; None if they are in no one place, as those of sparse tensors."""
    with suppress(NotImplementedError, RuntimeError):
        return tensor.untyped_storage().data_ptr()
    return None


def free_memory(device: torch.device) -> int | None:
    """The bytes that are free where ``device`` computes; None if the system does not say."""
    if device.type == "cuda":
        # What torch's allocator holds and does not use is free to it too.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    if device.type != "cpu":
        return None
    known = left_in_groups()
    with suppress(OSError):  # no Linux
        found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
        known += [1024 * int(found[1])] if found else []
    return min(known, default=None)


def left_in_groups(root: Path = Path("/")) -> list[int]:
    """The bytes that each of Linux's control groups around this process, such as a container, may still take."""
    left: list[int] = []
    with suppress(OSError):  # there are none
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kind, name = line.split(":", 2)
            if kind in GROUPS:
                place, *numbers = GROUPS[kind]
                inside = root / place / name.lstrip("/")
                for folder in (inside, *inside.parents):
                    left += _left_in(folder, *numbers)
    return left


def _left_in(folder: Path, limit: str, used: str) -> list[int]:
    """What one control group may still take; files that are merely cached count as free."""
    try:
        most, taken = (int((folder / name).read_text()) for name in (limit, used))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limit here: no such file, or "max"
        return []
    return [max(0, most - taken + int(stat.get("total_inactive_file", stat.get("inactive_file", 0))))]

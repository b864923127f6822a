"""More than one process: what torchrun started, and what the processes tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Processes:
    """Which process this is, of how many. Rank 0 alone prints and writes."""

    rank: int = 0
    world: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, on each of them."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def average_buffers(self, model: nn.Module) -> None:
        """Give every process the mean of all processes' BatchNorm statistics.

        Each process normalises by the statistics of its own part of the batch, as is usual where the parts
        are not tiny: it costs no communication. The running statistics therefore drift apart, and are
        averaged before anybody evaluates or saves the model.
        """
        for buffer in model.buffers():
            if self.world > 1 and buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.world


ALONE = Processes()


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the other processes if torchrun started this one; otherwise it is the only one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()

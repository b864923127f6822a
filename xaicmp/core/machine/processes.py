"""Several processes, as torchrun starts them, and what they exchange."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from xaicmp.errors import XaicmpError, arg

T = TypeVar("T")


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

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether ``flag`` is set in any process, so that all of them act alike."""
        return flag if self.world == 1 else bool(self.sum(torch.tensor(int(flag), device=device)))

    def gather(self, make: Callable[[], T]) -> list[T]:
        """What ``make`` returns in each process, in order of rank, on every process.

        Raises:
            XaicmpError: ``make`` raised it in some process; then it is raised in every process.
        """
        if self.world == 1:
            return [make()]
        every: list[Any] = [None] * self.world
        with _all_alive():
            distributed.all_gather_object(every, _outcome(make))
        return [_value(*each) for each in every]

    def share(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in rank 0, which alone calls it, on every process.

        Raises:
            XaicmpError: ``make`` raised it; then it is raised in every process.
        """
        if self.world == 1:
            return make()
        outcome: list[Any] = [_outcome(make) if self.rank == 0 else None]
        with _all_alive():
            distributed.broadcast_object_list(outcome)
        return _value(*outcome[0])

    def same(self, what: str, make: Callable[[], str], way: str) -> None:
        """Raise XaicmpError, with ``way`` as the way out, unless ``make`` returns the same in each process."""
        if self.world > 1 and len(set(self.gather(make))) > 1:
            raise XaicmpError(f"{what} differ from process to process; {way}")

    def replicate(self, model: nn.Module) -> nn.Module:
        """``model``, such that backward leaves the mean of all processes' gradients in each of them."""
        if self.world == 1:
            return model
        with warnings.catch_warnings():
            # torch 2.15 has a new name for broadcast_buffers, which the versions before do not know.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(model, broadcast_buffers=False)

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
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that torchrun sets in each process."""
LOST = "another process ended, so all had to end; see its message or torchrun's"


def _outcome(make: Callable[[], Any]) -> tuple[Any, XaicmpError | None]:
    try:
        return make(), None
    except XaicmpError as error:
        return None, error


def _value(value: Any, error: XaicmpError | None) -> Any:
    if error is not None:
        raise error
    return value


@contextmanager
def _all_alive() -> Iterator[None]:
    """Turn a lost connection into an error in one line."""
    try:
        yield
    except RuntimeError as error:
        raise XaicmpError(LOST) from error


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the other processes if torchrun started this one; otherwise it is the only one.

    Each process of a machine takes the GPU of its own number, unless ``device`` names one.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    if missing := [name for name in TORCHRUN if name not in os.environ]:
        raise XaicmpError(
            f"TORCHELASTIC_RUN_ID is set and {missing[0]} is not; start with torchrun, or unset it"
        )
    if device.type == "cuda" and device.index is None:
        _take_gpu(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    before = signal.signal(signal.SIGTERM, _told_to_end)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
        with _all_alive():
            distributed.barrier()  # torchrun ends all when one ends badly: not before the first has said all
    except BaseException:
        before = signal.SIG_IGN  # torchrun's signal must not come between the error and its line on stderr
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        distributed.destroy_process_group()


def _told_to_end(number: int, frame: object) -> None:
    """End as after any other error when torchrun ends all processes because one did."""
    raise XaicmpError(LOST)


def _take_gpu(number: int) -> None:
    if number >= torch.cuda.device_count():
        raise XaicmpError(
            f"there are {torch.cuda.device_count()} GPUs here, too few for process {number + 1}; "
            f"start fewer of them, or give {arg('device')} cpu"
        )
    torch.cuda.set_device(number)

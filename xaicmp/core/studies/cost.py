"""The cost of each method on a batch of images: time, passes through the model, memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.attribution import Method
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.devices import autocast
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explainer import Explainer


@dataclass(frozen=True)
class Cost:
    """What it took to explain some images.

    Attributes:
        title: of the method, or of all together.
        images: how many.
        seconds: for all of them.
        passes: through the model per image, forward and backward passes counting one each.
        memory: the peak in bytes minus what was in use before; None where the system does not say.
    """

    title: str
    images: int
    seconds: float
    passes: float
    memory: int | None


def measure(
    engine: Engine, images: ImageSource, predictions: Predictions, methods: Sequence[Method]
) -> list[Cost]:
    """The cost of each method by itself on one batch, and of all together, which share a pass."""
    Explainer(engine, methods).context(images, predictions.rows(slice(0, 1)))
    part = predictions.rows(slice(0, engine.room.most))
    costs = []
    groups = [(method.title, [method]) for method in methods] + [("all together", list(methods))]
    for title, group in groups:
        # The layer is found once for all batches, so that it is no cost of a method.
        context = Explainer(engine, group).context(images, part)
        with _watching(engine) as peak, _counting(context.model, context.original) as passed:
            started = time.perf_counter()
            for method in group:
                with autocast(engine.device, engine.precision):
                    method.explain_in(context)
            seconds = time.perf_counter() - started
        costs.append(Cost(title, len(part), seconds, sum(passed) / len(context), peak.get("bytes")))
    return costs


@contextmanager
def _counting(*models: nn.Module) -> Iterator[list[int]]:
    """Collects the number of images of every forward and backward pass through any of ``models``, which may be one."""
    passed: list[int] = []

    def forward(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        passed.append(len(output))
        if output.requires_grad:
            output.register_hook(lambda gradient: passed.append(len(gradient)))

    handles = [model.register_forward_hook(forward) for model in dict.fromkeys(models)]
    try:
        yield passed
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watching(engine: Engine) -> Iterator[dict[str, Any]]:
    """Fills in ``bytes``, the most memory in use at once minus that in use before."""
    found: dict[str, Any] = {}
    if engine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(engine.device)
        before = torch.cuda.memory_allocated(engine.device)
        yield found
        found["bytes"] = torch.cuda.max_memory_allocated(engine.device) - before
        return
    gc.collect()  # what is let go later would hide as much of what is taken
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets the peak
        start = _status("VmRSS")
    except OSError:  # another system, or one that forbids it
        start = None
    yield found
    if start is not None and (peak := _status("VmHWM")) is not None:
        found["bytes"] = max(0, peak - start)


def _status(key: str) -> int | None:
    """Bytes that Linux reports of this process, if it does."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key)), None)

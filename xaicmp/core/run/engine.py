"""A model on a device, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from xaicmp.core.attribution import Method
from xaicmp.core.attribution.context import Context, Forward
from xaicmp.core.choices import Precision
from xaicmp.core.machine.devices import fast_batch
from xaicmp.core.machine.memory import Room
from xaicmp.core.models.checkpoint import Checkpoint
from xaicmp.core.models.fusion import fuse
from xaicmp.core.models.layers import find_layer, last_maps
from xaicmp.core.results.predictions import Predictions

FAST = {"steps": 8, "rule": "middle", "end": 1 / 32}

"""Options with which Integrated Gradients comes near its 32 right steps with a quarter of them."""


@dataclass(frozen=True)
class Engine:
    """A checkpoint on a device, and how it is run.

    Attributes:
        checkpoint: the model, moved to ``device``.
        device: where it runs.
        precision: what it computes in.
        batch_size: the most images in one pass through the model; 0 for what is fast on the device.
        seed: of every random draw.
        layer: the name of the layer whose maps the CAMs weigh; None for the last with more than a pixel.
        fast: whether the methods were asked to be quick rather than exact, with ``FAST``; the pass that they share
            is then in float32 all the same, and the caption says that the numbers are approximate.
        remark: told what the user should know.
    """

    checkpoint: Checkpoint
    device: torch.device
    precision: Precision = "float32"
    batch_size: int = 0
    seed: int = 0
    layer: str | None = None
    fast: bool = False
    remark: Callable[[str], None] = lambda message: None

    def __post_init__(self) -> None:
        self.checkpoint.model.to(self.device)
        if not self.batch_size:
            object.__setattr__(self, "batch_size", fast_batch(self.device))

    @cached_property
    def room(self) -> Room:
        """For how many images there is memory at once: ``batch_size`` unless that turns out to be too many."""
        return Room(self.batch_size, self.remark)

    @cached_property
    def model(self) -> nn.Module:
        """The checkpoint's model with its batch normalisations merged: what is run, a tenth faster.

        The CAMs' layer puts out what it does in the checkpoint's model.
        """
        example = self.inputs(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
        layer = self.layer or last_maps(self.checkpoint.model, example)[0]
        return fuse(self.checkpoint.model, example, [] if layer is None else [layer])

    def inputs(self, pixels: Tensor) -> Tensor:
        """uint8 ``(N, 3, H, W)`` to the model's normalised input on its device."""
        normalised = self.checkpoint.normalise(pixels.to(self.device))
        return normalised.contiguous(memory_format=torch.channels_last)


def cam_layer(engine: Engine, inputs: Tensor, methods: Sequence[Method]) -> str | None:
    """The layer whose maps are weighed, if any of the methods needs one."""
    if not any(each.needs_layer for each in methods):
        return None
    return find_layer(engine.checkpoint.model, inputs[:2])


def context_of(
    engine: Engine,
    inputs: Tensor,
    part: Predictions,
    layer: str | None,
    *,
    forward: Forward | None = None,
    rows: Tensor | None = None,
) -> Context:
    """A batch of the chosen images at the model, ready to be explained."""
    checkpoint = engine.checkpoint
    return Context(
        engine.model,
        inputs,
        torch.from_numpy(part.targets).to(engine.device),
        ids=part.ids,
        seed=engine.seed,
        layer=layer,
        batch_size=engine.room.most,
        mean=checkpoint.mean,
        std=checkpoint.std,
        original=checkpoint.model,
        precise=engine.fast,
        forward=forward,
        rows=rows,
    )

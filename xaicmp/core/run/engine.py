"""A classifier on a device, and how it is run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn

from xaicmp.core.attribution import Method
from xaicmp.core.choices import Precision
from xaicmp.core.machine.devices import autocast, fast_batch, find_device, has_bf16
from xaicmp.core.machine.memory import Room, fitting_batch, free_memory, saved_bytes
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.fusion import fuse
from xaicmp.core.models.guard import copied, unchanged
from xaicmp.core.models.layers import find_layer, last_maps
from xaicmp.core.models.outputs import check_module, with_logits

NOT_FINITE = "images left out, because the model's logits on them are not finite: {}"
REPEATED = "images left out, because they are pixel for pixel one that came before: {}"


class Engine:
    """A classifier on a device, and how it is run.

    Args:
        classifier: what is explained. Its module stays where it is; for another device it is copied.
        device: where it runs; by default where its parameters are.
        precision: what it computes in.
        batch_size: the most images in one pass through the model; 0 for what is fast and fits into memory.
        seed: of every random draw.
        layer: the name of the layer whose maps the CAMs weigh; None for the last with more than one pixel.
        fast: whether the methods were asked to be quick rather than exact: they compute in bfloat16 where the hardware
            has it, only the pass that they share is in float32, and the caption says that the numbers are approximate.
        remark: told what the user should know.

    Attributes:
        excluded: ids of the images that the last selection left out because the logits on them are not finite.
        repeated: those that it left out because the same image came before, for the same class.

    Raises:
        UsageError: the module is none whose layers can be observed, or has no values yet; or there is no such device.
    """

    def __init__(
        self,
        classifier: Classifier,
        device: torch.device | str | None = None,
        precision: Precision = "float32",
        batch_size: int = 0,
        seed: int = 0,
        layer: str | None = None,
        fast: bool = False,
        remark: Callable[[str], None] = lambda message: None,
    ) -> None:
        check_module(classifier.module)
        tensors = chain(classifier.module.parameters(), classifier.module.buffers())
        home = next((each.device for each in tensors), torch.device("cpu"))
        self.device = home if device is None else find_device(str(device))
        self.classifier = classifier
        self.precision: Precision = "bf16" if fast and has_bf16(self.device) else precision
        self.seed, self.layer, self.fast, self.remark = seed, layer, fast, remark
        self.batch_size = batch_size
        self.excluded: list[int] = []
        self.repeated: list[int] = []
        self._room: Room | None = None
        self._merged: nn.Module | None = None
        self._adapted = False

    @cached_property
    def module(self) -> nn.Module:
        """The classifier's module where it runs: itself, or a copy on another device."""
        module = self.classifier.module
        if all(each.device == self.device for each in module.parameters()):
            return module
        return copied(module).to(self.device)

    def again(self, *, classifier: Classifier | None = None, seed: int | None = None) -> Engine:
        """The same with another classifier or seed, with room for as many images at once."""
        engine = copy.copy(self)
        engine.excluded, engine.repeated = [], []
        if seed is not None:
            engine.seed = seed
        if classifier is not None:
            engine.classifier, engine._merged, engine._adapted = classifier, None, False
            engine.__dict__.pop("module", None)
        return engine

    def inputs(self, pixels: Tensor, normalised: Tensor | None = None) -> Tensor:
        """The model's input on its device: ``normalised``, or from uint8 ``pixels``; both ``(N, 3, H, W)``."""
        given = self.classifier.normalise(pixels.to(self.device)) if normalised is None else normalised
        return given.to(self.device).contiguous(memory_format=torch.channels_last)

    def model(self, example: Tensor) -> nn.Module:
        """What is run: the module with its batch normalisations merged, a tenth faster.

        The layer of the CAMs puts out what it does in the module itself.

        Args:
            example: some inputs, ``(N, 3, H, W)``; asked for once.
        """
        if self._merged is None:
            example = torch.cat([example, example])[:2] if len(example) < 2 else example[:2]
            layer = self.layer or last_maps(self.module, example)[0]
            self._merged = fuse(self.module, example, [] if layer is None else [layer])
        return self._merged

    def settle(self, example: Tensor) -> int:
        """The batch size for inputs like ``example`` ``(N, 3, H, W)``, from then on ``batch_size``.

        Batches are of this size on every machine. Where they do not fit into half of the free memory, or memory
        runs out, ``room`` takes them in parts, which changes no number.
        """
        if not self._adapted:
            said = self.remark if self._room is None else lambda message: None  # the first model's alone
            self.module, self._adapted = with_logits(self.module, example[:1], said), True
        if self._room is None:
            asked = self.batch_size
            self.batch_size = most = asked or fast_batch(self.device, min(example.shape[2:]))
            if not asked:
                two = example[:1].expand(2, -1, -1, -1)
                with (
                    suppress(torch.OutOfMemoryError),  # not even two: the room will see how many
                    unchanged(self.module) as lent,
                    autocast(self.device, self.precision),
                ):
                    free = free_memory(self.device)
                    most = fitting_batch(lambda count: saved_bytes(lent, two), free, most)
            self._room = Room(most, self.remark)
        return self.batch_size

    @property
    def room(self) -> Room:
        """For how many images there is memory at once; ``settle`` comes first."""
        if self._room is None:
            raise RuntimeError("settle the engine first")
        return self._room

    def cam_layer(self, inputs: Tensor, methods: Sequence[Method]) -> str | None:
        """The layer whose maps are weighed, if any of ``methods`` needs one."""
        if self.layer is None and any(each.needs_layer for each in methods):
            return find_layer(self.module, inputs[:2])
        return self.layer

    def __repr__(self) -> str:
        return f"Engine({self.classifier!r}, {self.device}, {self.precision})"

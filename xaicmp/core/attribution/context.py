"""What the explanation of one batch of images has to work with, and what the methods share."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from xaicmp.core.models.guard import unchanged
from xaicmp.core.models.layers import find_layer, get_layer, to_maps, watch
from xaicmp.errors import XaicmpError

Report = Callable[[float, float], None]
"""Told ``(done, total)`` by methods that take many passes."""


@dataclass(frozen=True)
class Pass:
    """One forward and one backward pass.

    Attributes:
        logits: ``(N, classes)``.
        gradient: of each image's target logit by its input, ``(N, C, H, W)``.
        output: what the layer put out, maps or tokens; None without a layer.
        slopes: of the target logit by it; None without a layer.
    """

    logits: Tensor
    gradient: Tensor
    output: Tensor | None
    slopes: Tensor | None

    @property
    def activations(self) -> Tensor | None:
        """The layer's maps, ``(N, K, h, w)``, a view of ``output``."""
        return None if self.output is None else to_maps(self.output, self.gradient.shape[2:])

    @property
    def gradients(self) -> Tensor | None:
        """Of the target logit by the maps, ``(N, K, h, w)``."""
        return None if self.slopes is None else to_maps(self.slopes, self.gradient.shape[2:])


class Forward:
    """A forward pass that a backward pass can follow once it is known which images and classes matter.

    Args:
        model: ``(N, C, H, W)`` to logits ``(N, classes)``; it is left as it was found.
        images: float ``(N, C, H, W)``, normalised; a single one is passed twice, see ``Context``.
        layer: the name of the layer whose maps are wanted too, or None.
        precise: whether it is computed in the images' own precision, without autocast.

    Attributes:
        logits: ``(N, classes)``, detached.
    """

    def __init__(self, model: nn.Module, images: Tensor, layer: str | None, *, precise: bool = False) -> None:
        count, self.layer, self.precise = len(images), layer, precise
        with (
            _shared_precision(images, precise),
            unchanged(model) as lent,
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            self._images = _in_company(images.detach()).clone().requires_grad_()
            with watch(lent, layer, images.shape[2:]) as self._seen:
                self._logits = lent(self._images)
        self.logits = self._logits.detach()[:count]

    def backward(self, rows: Tensor, targets: Tensor) -> Pass:
        """The pass of the images ``rows`` for the classes ``targets``, both int64 ``(M,)``; can be made once."""
        with _shared_precision(rows, self.precise), torch.inference_mode(False), torch.enable_grad():
            score = self._logits[rows.clone(), targets.clone()].sum()
            wanted = [self._images, *self._seen]
            found = [each[rows] for each in torch.autograd.grad(score, wanted, materialize_grads=True)]
        output, slopes = (self._seen[0].detach()[rows], found[1]) if self._seen else (None, None)
        return Pass(self._logits.detach()[rows], found[0], output, slopes)


def _shared_precision(values: Tensor, precise: bool) -> AbstractContextManager[object]:
    """Without autocast, if a pass is to be precise; a backward pass must be made within it too."""
    return torch.autocast(values.device.type, enabled=False) if precise else nullcontext()


def _in_company(values: Tensor) -> Tensor:
    """``values``, repeated if there is only one."""
    return torch.cat([values, values]) if len(values) == 1 else values


class Context:
    """One batch of images and the model. A pass is made when its result is first asked for, and is then kept.

    A single image is passed twice. A batch of one would take other kernels, whose rounding may switch a ReLU.

    Args:
        model: ``(N, C, H, W)`` to logits ``(N, classes)``.
        images: float ``(N, C, H, W)``, normalised.
        targets: int64 ``(N,)``, the class that is explained.
        ids: ``(N,)``: an image's random draws depend on its id and not on its place in the batch. Without
            them, 0 to N - 1.
        seed: of every random draw.
        layer: the name of the layer whose maps the CAMs weigh; without it, the last with more than one pixel.
        batch_size: the most images in one pass through the model, unless more are explained at once.
        mean, std: what the images were normalised by, one value or one per channel; by default they were not.
        report: see ``Report``.
        original: the model before layers were merged; by default the same model.
        precise: of the pass that the methods share, see ``Forward``.
        forward: a forward pass of these images, and perhaps others, that has been made already.
        rows: int64 ``(N,)``, where in ``forward`` the images are.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        *,
        ids: Sequence[int] | np.ndarray | None = None,
        seed: int = 0,
        layer: str | None = None,
        batch_size: int = 64,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        report: Report = lambda done, total: None,
        original: nn.Module | None = None,
        precise: bool = False,
        forward: Forward | None = None,
        rows: Tensor | None = None,
    ) -> None:
        self.count = len(images)
        self.model = model
        with torch.inference_mode(False):  # because autograd refuses tensors that were made within it
            self.images, self.targets = (_in_company(each.detach().clone()) for each in (images, targets))
        self.ids = np.arange(len(images)) if ids is None else np.asarray(ids)
        if self.count == 1:
            self.ids = self.ids.repeat(2)
        self.forward, self.rows, self.precise = forward, rows, precise
        self.original = model if original is None else original
        self.seed, self.asked_layer, self.batch_size, self.report = seed, layer, batch_size, report
        shape = (1, -1, 1, 1)
        self.mean, self.std = (
            torch.tensor(values, device=images.device, dtype=images.dtype).view(shape)
            for values in (mean, std)
        )

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def layer(self) -> str:
        """The name of the CAMs' layer.

        Raises:
            XaicmpError: the model has no such layer, or none whose maps have more than one pixel.
        """
        if isinstance(self._layer, XaicmpError):
            raise self._layer
        return self._layer

    @cached_property
    def _layer(self) -> str | XaicmpError:
        """``layer``, or the error that it raises, because the search is long and is made once."""
        if self.asked_layer is None:
            try:
                return find_layer(self.original, self.images[:2])  # because merging may hide a layer
            except XaicmpError as error:
                return error
        get_layer(self.model, self.asked_layer)
        return self.asked_layer

    @cached_property
    def at_input(self) -> Pass:
        """One forward and one backward pass; the same as ``at_layer`` where the layer was named."""
        return self._pass(None) if self.asked_layer is None else self.at_layer

    @cached_property
    def at_layer(self) -> Pass:
        """One forward and one backward pass, with the layer's maps and their gradients."""
        both = self._pass(self.layer)
        self.__dict__["at_input"] = both
        return both

    @property
    def black(self) -> Tensor:
        """A black pixel as the model sees it, ``(1, C, 1, 1)``."""
        return -self.mean / self.std

    def scores(self, images: Tensor, targets: Tensor) -> Tensor:
        """The target's logit of each image, ``(N,)`` float32, without gradients, in passes of ``batch_size``."""
        with torch.no_grad(), unchanged(self.model) as model:
            parts = [
                model(part).float().gather(1, wanted[:, None])[:, 0]
                for part, wanted in zip(
                    images.split(self.batch_size), targets.split(self.batch_size), strict=True
                )
            ]
        return torch.cat(parts)

    def shared_precision(self) -> AbstractContextManager[object]:
        """Within it, a pass has the precision of the one that the methods share, so that they can be compared."""
        return _shared_precision(self.images, self.precise)

    def generators(self, purpose: str) -> Iterator[torch.Generator]:
        """A generator (on the CPU) for each image, made from the seed, the image's id and ``purpose``."""
        for each in self.ids:
            entropy = np.random.SeedSequence([self.seed, int(each), zlib.crc32(purpose.encode())])
            yield torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))

    def _pass(self, layer: str | None) -> Pass:
        if self.forward is None or self.rows is None or self.forward.layer != layer:
            rows = torch.arange(len(self), device=self.images.device)
            forward = Forward(self.model, self.images, layer, precise=self.precise)
            return forward.backward(rows, self.targets)
        found = self.forward.backward(self.rows, self.targets[: self.count])
        self.forward = None  # frees what it kept for the backward pass
        parts = (found.logits, found.gradient, found.output, found.slopes)
        return Pass(*(None if part is None else _in_company(part) for part in parts))  # type: ignore[arg-type]

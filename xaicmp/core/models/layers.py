"""Finding a layer of a model by name or by what it puts out, listening to it, speaking in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.models.guard import unchanged
from xaicmp.errors import UsageError, XaicmpError, arg


def get_layer(model: nn.Module, name: str) -> nn.Module:
    """The module called ``name``.

    Raises:
        UsageError: there is none.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        near = get_close_matches(name, modules, n=3) or [child for child, _ in model.named_children()]
        raise UsageError(
            f"{arg('layer')} {name}: the model has no such layer; choose {', '.join(near)} or another of its modules"
        )
    return modules[name]


def find_layer(model: nn.Module, images: Tensor) -> str:
    """The name of the layer whose maps the CAMs weigh unless told otherwise, by a forward pass of noise.

    The last feature map of more than a pixel says how large maps are at the end. Of the layers that put out
    maps of that size, it is the outermost, and of several such the last: a whole stage rather than a part of
    it that a skip connection bypasses. No layer is one that only copies or enlarges what it is given, one
    called more than once, or one whose output no longer is an image of the input.

    Args:
        model: ``(N, C, H, W)`` to logits.
        images: ``(N, C, H, W)``; only their shape, type and device matter.

    Raises:
        XaicmpError: there is none, or what follows it is a sequence of tokens.
    """
    layer, tokens = last_maps(model, images)
    if layer is None:
        raise XaicmpError(
            "the model has no feature map of more than one pixel; use larger images, or leave the CAMs out"
        )
    if tokens:
        raise XaicmpError(
            f"after {layer} the model turns its maps into a sequence of tokens, which CAMs cannot weigh; "
            f"take its maps all the same with {arg('layer')} {layer}, or leave the CAMs out"
        )
    return layer


def last_maps(model: nn.Module, images: Tensor) -> tuple[str | None, bool]:
    """The layer that ``find_layer`` means, None if there is none, and whether a sequence of tokens follows it."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    calls: Counter[str] = Counter()
    sizes: dict[str, torch.Size] = {}
    sequences: list[str] = []  # layers after the last map that put out (N, tokens, features)
    last: tuple[Tensor, int] = noise, -1

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal last
        calls[name] += 1
        if isinstance(output, Tensor) and output.ndim == 3:
            sequences.append(name)
        if not _is_map(output, inputs, noise):
            return
        sequences.clear()
        # Written over in place, it is the same tensor in another version.
        copied = output._version == last[1] if output is last[0] else torch.equal(output, last[0])
        last = output, output._version
        if not copied or name.count(".") < next(reversed(sizes)).count("."):
            sizes[name] = output.shape[2:]

    with unchanged(model) as lent, torch.no_grad():
        for name, module in lent.named_modules():
            if name:
                module.register_forward_hook(partial(note, name))
        lent(noise)
    sizes = {name: size for name, size in sizes.items() if calls[name] == 1}
    if not sizes:
        return None, bool(sequences)
    final = next(reversed(sizes.values()))
    ends = [name for name, size in reversed(sizes.items()) if size == final]
    return min(ends, key=lambda name: name.count(".")), bool(sequences)


@contextmanager
def watch(model: nn.Module, layer: str | None) -> Iterator[list[Tensor]]:
    """Collect what ``layer`` puts out in one forward pass, safe from what later changes it in place.

    Raises:
        XaicmpError: ``layer`` is not called just once, or puts out no feature maps of more than a pixel.
    """
    seen: list[Tensor] = []
    if layer is None:
        yield seen
        return

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        if seen:
            raise XaicmpError(
                f"{arg('layer')} {layer} is called several times in one pass; choose the layer around it"
            )
        if not isinstance(output, Tensor) or output.ndim != 4 or output[0, 0].numel() == 1:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise XaicmpError(
                f"{arg('layer')} {layer} puts out {shape}, which has no spatial extent, so every CAM would be constant; "
                "choose an earlier layer or larger images"
            )
        seen.append(output)
        return output.clone()

    handle = get_layer(model, layer).register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
    if not seen:
        raise XaicmpError(f"{arg('layer')} {layer} takes no part in the model's forward pass; choose another")


@contextmanager
def substitute(model: nn.Module, layer: str, maps: Tensor) -> Iterator[None]:
    """Let ``layer`` put out a copy of ``maps``, whatever it is given."""
    handle = get_layer(model, layer).register_forward_hook(lambda module, inputs, output: maps.clone())
    try:
        yield
    finally:
        handle.remove()


def _is_map(output: Any, inputs: tuple[Any, ...], images: Tensor) -> bool:
    """Whether ``output`` is ``(N, K, h, w)`` with something to see in it that was not there at a smaller size."""
    if not isinstance(output, Tensor) or output.ndim != 4 or output[0, 0].numel() == 1:
        return False
    if output.shape[2] > images.shape[2] or output.shape[3] > images.shape[3]:  # (N, h, w, K)
        return False
    given = next((each for each in inputs if isinstance(each, Tensor) and each.ndim == 4), output)
    return given[0, 0].numel() >= output[0, 0].numel() and bool((output != output[..., :1, :1]).any())

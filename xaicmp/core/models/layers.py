"""Layers of a model: find one by its name or its output, record its output, or replace it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.models.guard import unchanged
from xaicmp.errors import UsageError, XaicmpError, arg

EXTRA = 5
"""The most tokens that may precede the grid: a class token and four registers."""


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


def to_maps(output: Tensor, size: Sequence[int]) -> Tensor | None:
    """A layer's output as maps ``(N, K, h, w)``, a view of it; None if it is no grid of more than one pixel.

    Besides maps it may be a grid with channels last, ``(N, h, w, K)``, or tokens ``(N, T, K)``, row by row after
    at most ``EXTRA`` class and register tokens, which are left out. Such a grid has the image's proportions.

    Args:
        output: of any shape.
        size: height and width of the images.
    """
    height, width = size
    if output.ndim == 3:
        down, across = (each // math.gcd(height, width) for each in (height, width))
        times = math.isqrt(output.shape[1] // (down * across))
        extra = output.shape[1] - times**2 * down * across
        if times == 0 or extra > EXTRA:
            return None
        output = output[:, extra:].unflatten(1, (times * down, times * across)).movedim(3, 1)
    if output.ndim != 4:
        return None

    def proportionate(h: int, w: int) -> bool:
        return abs(h * width - w * height) < max(height, width)

    if proportionate(*output.shape[1:3]) and not proportionate(*output.shape[2:]):
        output = output.movedim(3, 1)
    return None if math.prod(output.shape[2:]) == 1 else output


def find_layer(model: nn.Module, images: Tensor) -> str:
    """The name of the layer whose maps the CAMs weigh unless told otherwise, by a forward pass of noise and
    of an image: a layer may put out nothing for the one or the other.

    The last feature map of more than a pixel says how large maps are at the end. Of the layers that put out
    maps of that size, it is the outermost, and of several such the last: a whole stage rather than a part of
    it that a skip connection bypasses. No layer is one that only copies or enlarges what it is given, one
    called more than once, or one whose output no longer is an image of the input. Of a transformer's tokens, it
    is the last layer through which alone the score depends on the image, or the next that is as wide: where the class
    token is read, the norm of the last block. (Before a norm, which undoes any scale, HiResCAM is zero.)

    Args:
        model: ``(N, C, H, W)`` to logits.
        images: ``(N, C, H, W)``.

    Raises:
        XaicmpError: there is none, what follows it is a sequence of tokens that are no such grid, or no logit depends on
            the images.
    """
    layer, reason = last_maps(model, images)
    if layer is None:
        raise XaicmpError(
            "the model has no feature map of more than one pixel; use larger images, or leave the CAMs out"
        )
    if reason:
        raise XaicmpError(
            f"{reason}; take the maps of {layer} all the same with {arg('layer')} {layer}, or leave the CAMs out"
        )
    return layer


def last_maps(model: nn.Module, images: Tensor) -> tuple[str | None, str]:
    """The layer that ``find_layer`` means, None if there is none, and why CAMs cannot weigh it, if they cannot."""
    noise = torch.randn(images[:1].shape, generator=torch.Generator().manual_seed(0)).to(images)
    probe = torch.cat([noise, images[:1].detach()]).requires_grad_()
    calls: Counter[str] = Counter()
    found: dict[str, tuple[Tensor, torch.Size]] = {}
    counts: set[int] = (
        set()
    )  # of tokens, or one that looks at them: the sides of what attention computes with
    unknown: list[str] = []  # layers after the last map that put out a sequence of something else
    last: tuple[Tensor, int] = probe, -1

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal last
        calls[name] += 1
        maps = _map_of(output, inputs, probe)
        if maps is None or (output.ndim == 4 and counts & set(maps.shape[2:])):
            if isinstance(output, Tensor) and output.ndim == 3:
                unknown.append(name)
            return
        unknown.clear()
        if output.ndim == 3:
            counts.update((output.shape[1], 1))
        # Written over in place, it is the same tensor in another version.
        copied = output._version == last[1] if output is last[0] else torch.equal(output, last[0])
        last = output, output._version
        before = next(reversed(found), name)  # nothing stands before a layer that copies the images
        if not copied or name.count(".") < before.count("."):
            found[name] = output, maps.shape[2:]

    with unchanged(model) as lent, torch.inference_mode(False), torch.enable_grad():
        for name, module in lent.named_modules():
            if name:
                module.register_forward_hook(partial(note, name))
        logits = lent(probe)
    once = {name: each for name, each in found.items() if calls[name] == 1}
    tokens, following = bool(unknown), dict[int, str]()  # by width
    slopes = _slopes(logits, [probe, *(output for output, _ in once.values() if output.ndim == 3)])
    for name, (output, final) in reversed(once.items()):
        if output.ndim == 4:
            ends = [each for each, (at, size) in reversed(once.items()) if at.ndim == 4 and size == final]
            layer = min(ends, key=lambda name: name.count("."))
            return layer, _why_not(layer, slopes.get(probe)) if tokens else ""
        maps = to_maps(slopes[output], images.shape[2:]) if output in slopes else None
        if maps is not None and maps.any():
            if _alone(logits, output, probe):
                return following.get(output.shape[2], name), ""
            following[output.shape[2]] = name
        tokens = True
    return None, ""


@contextmanager
def watch(model: nn.Module, layer: str | None, size: Sequence[int]) -> Iterator[list[Tensor]]:
    """Record the output of ``layer`` in one forward pass of images of ``size``, safe from later changes in place.

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
        if not isinstance(output, Tensor) or to_maps(output, size) is None:
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
    """Make ``layer`` return a copy of ``maps``, whatever its input. They have the form of its own output."""
    handle = get_layer(model, layer).register_forward_hook(lambda module, inputs, output: maps.clone())
    try:
        yield
    finally:
        handle.remove()


def _map_of(output: Any, inputs: tuple[Any, ...], images: Tensor) -> Tensor | None:
    """``output`` as maps, unless they are constant or only enlarge a smaller input."""
    size = images.shape[2:]
    maps = to_maps(output, size) if isinstance(output, Tensor) and len(output) == len(images) else None
    if maps is None or maps.shape[2] > size[0] or maps.shape[3] > size[1]:
        return None
    every = (to_maps(each, size) for each in inputs if isinstance(each, Tensor) and each.ndim > 2)
    given = next((each for each in every if each is not None), maps)
    return maps if given[0, 0].numel() >= maps[0, 0].numel() and (maps != maps[..., :1, :1]).any() else None


def _slopes(logits: Any, outputs: list[Tensor]) -> dict[Tensor, Tensor]:
    """The gradient of the squared logits by each output that they depend on, from one backward pass."""
    own = [each for each in outputs if each.requires_grad]
    if not isinstance(logits, Tensor) or not logits.requires_grad or len(own) < 2:
        return {}
    found = torch.autograd.grad(logits.square().sum(), own, allow_unused=True)
    return {output: slope for output, slope in zip(own, found, strict=True) if slope is not None}


def _why_not(layer: str, by_input: Tensor | None) -> str:
    if by_input is not None and not by_input.any():
        return "the model's logits are the same for every image, as where its last layer is all 0"
    return f"after {layer} the model turns its maps into a sequence of tokens, which CAMs cannot weigh"


def _alone(logits: Tensor, output: Tensor, images: Tensor) -> bool:
    """Whether every path from the images to the logits leads through ``output``."""
    waiting, seen = [logits.grad_fn], {output.grad_fn}
    while waiting:
        node = waiting.pop()
        if getattr(node, "variable", None) is images:
            return False
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [each for each, _ in node.next_functions]
    return True

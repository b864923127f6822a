"""What tests of methods share: images, raw attributions, and what they are compared with."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.context import Context
from xaicmp.core.models.guard import unchanged


def images_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def raw(name: str, model: nn.Module, images: Tensor, targets: Tensor, **settings: Any) -> Any:
    """What the method's function returns, before the reduction: with the gap, if it has one."""
    function = METHODS[name].function
    named = inspect.signature(function).parameters
    options = {key: value for key, value in settings.items() if key in named}
    others = {key: value for key, value in settings.items() if key not in named}
    context = Context(model, images, targets, **others)
    with unchanged(model):
        if "context" in named:
            return function(context, **options)
        return function(model, context.images.clone().requires_grad_(), context.targets, **options)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to a rounding on the values' own scale."""
    assert found.shape == expected.shape
    assert (found.double() - expected.double()).abs().max() <= tolerance * expected.abs().max()


def scores(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images).gather(1, targets[:, None])[:, 0].double()


def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    score = model(images).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(score, images)[0].double()


def draws(context: Context, purpose: str, samples: int) -> list[Tensor]:
    """Standard Gaussian noise of the batch, by sample, drawn by the contract on random numbers."""
    shape = context.images.shape[1:]
    by_image = [
        [torch.randn(shape, generator=generator) for _ in range(samples)]
        for generator in context.generators(purpose)
    ]
    return [torch.stack(each) for each in zip(*by_image, strict=True)]


def ranges(images: Tensor) -> Tensor:
    return torch.stack([each.max() - each.min() for each in images]).view(-1, 1, 1, 1)

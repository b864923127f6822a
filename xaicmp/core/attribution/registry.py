"""The one list of explanation methods: what each is, what it costs, where it comes from.

To add a method, write a function ``(model, images, targets, *, option=default) -> maps`` in the
file of its family and decorate it with ``@method(...)``. It is given images that require gradients.
Choices, headings, documents and tests follow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.attribution.guard import unchanged
from xaicmp.core.errors import UsageError, XaicmpError

METHODS: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """An explanation method.

    Attributes:
        name: as on the command line and in files.
        title: as in tables and figures.
        family: the file that it is in.
        reduction: how channels and sign become one value a pixel.
        cost: in forward passes an image, a backward pass counting as one.
        paper: where it was published.
        function: ``(model, images, targets, **options) -> maps``.
        options: the values bound to the function's keyword arguments.
    """

    name: str
    title: str
    family: str
    reduction: str
    cost: str
    paper: str
    function: Callable[..., Tensor]
    options: dict[str, Any]

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The maps of ``images`` for the classes ``targets``; the model is left as it was found.

        Args:
            model: ``(N, 3, H, W)`` to logits ``(N, classes)``.
            images: float tensor ``(N, 3, H, W)``, normalised.
            targets: int64 tensor ``(N,)``.

        Returns:
            float32 tensor ``(N, H, W)``, detached.

        Raises:
            XaicmpError: the method broke its contract on these images.
        """
        if len(images) == 1:
            # Alone, an image takes other kernels than in company, and rounding may switch a ReLU the other way.
            return self.explain(model, torch.cat([images, images]), torch.cat([targets, targets]))[:1]
        with unchanged(model), torch.inference_mode(False), torch.enable_grad():
            inputs = images.detach().clone().requires_grad_()
            maps = self.function(model, inputs, targets.clone(), **self.options).detach().float()
        expected = (images.shape[0], *images.shape[2:])
        if maps.shape != expected:
            raise XaicmpError(f"{self.name} returned maps of shape {tuple(maps.shape)}, expected {expected}")
        return maps


def method(
    name: str, *, title: str, family: str, reduction: str, cost: str, paper: str
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Enter the decorated function into ``METHODS``; its keyword arguments are its options."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        options = {
            key: parameter.default
            for key, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        METHODS[name] = Method(name, title, family, reduction, cost, paper, function, options)
        return function

    return register


def get_methods(names: Sequence[str], **settings: Any) -> tuple[Method, ...]:
    """The methods called ``names``, in that order, each with those of ``settings`` that it takes.

    Raises:
        UsageError: an unknown name, one named twice, or none.
    """
    if not names:
        raise UsageError(f"--methods names none; choose from {', '.join(METHODS)}")
    chosen: list[Method] = []
    for name in names:
        if name not in METHODS:
            raise UsageError(f"unknown method {name!r}; choose from {', '.join(METHODS)}")
        if any(name == other.name for other in chosen):
            raise UsageError(f"method {name!r} is named twice; name each once")
        known = METHODS[name]
        bound = {key: settings.get(key, default) for key, default in known.options.items()}
        chosen.append(replace(known, options=bound))
    return tuple(chosen)

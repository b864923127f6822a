"""The one list of explanation methods: what each is, what it costs, where it comes from.

To add a method, write a function in the file of its family and decorate it with ``@method(...)``. It is either
``(context, *, option=default) -> attributions``, and shares passes through the model with other methods by its
``Context``; or ``(model, images, targets, *, option=default) -> attributions``, and gets images that require gradients.
It returns attributions ``(N, C, H, W)`` or ``(N, H, W)``, whose channels and sign ``reduction`` turns into a map, or
these and the completeness gap ``(N,)``. Choices, headings, documents and tests follow.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.attribution.context import Context
from xaicmp.core.machine.foreign import foreign
from xaicmp.core.models.guard import unchanged
from xaicmp.errors import UsageError, XaicmpError

METHODS: dict[str, Method] = {}
NO_GRADIENT = ("does not require grad", "to not have been used in the graph")
"""What torch says of a gradient that is not there."""
REDUCTIONS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "max-abs": ("max over channels of the absolute value", lambda values: values.abs().amax(dim=1)),
    "sum": ("sum over channels", lambda values: values.sum(dim=1)),
    "sum-abs": ("sum over channels of the absolute value", lambda values: values.abs().sum(dim=1)),
    "l2": ("Euclidean norm over channels", lambda values: values.norm(dim=1)),
    "positive": ("sum over channels, negative part dropped", lambda values: values.sum(dim=1).clamp_min(0)),
}
"""How attributions ``(N, C, H, W)`` become maps ``(N, H, W)``: in words, and as a function."""


@dataclass(frozen=True)
class Explanation:
    """What a method says of a batch.

    Attributes:
        maps: float32 ``(N, H, W)``, detached.
        completeness: float64 ``(N,)``, the sum of the attributions minus the change of the score that they
            should add up to; None if the method does not promise that they do.
        single: whether the method itself gave one value per pixel, rather than one per channel.
    """

    maps: Tensor
    completeness: Tensor | None
    single: bool


@dataclass(frozen=True, kw_only=True)
class Method:
    """An explanation method.

    Attributes:
        name: as on the command line and in files.
        title: as in tables and figures.
        family: the group that it is listed in.
        reduction: a name in ``REDUCTIONS``: how channels and sign become one value per pixel.
        needs: what the model must have or be given, in a few words; empty for any differentiable model.
        cost: in forward passes per image, where a backward pass counts as one.
        paper: where it was published.
        function: ``(context, **options)`` or ``(model, images, targets, **options)`` to attributions.
        options: the values of the function's keyword arguments.
        needs_layer: whether it weighs the maps of a layer, so that its own map is as coarse as those.
        model_free: whether it knows nothing of the model.
        sees_modules: whether it may look into the model, and so gets it as it was before layers were merged.
    """

    name: str
    title: str
    family: str
    reduction: str
    needs: str = ""
    cost: str = "?"
    paper: str = ""
    function: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    needs_layer: bool = False
    model_free: bool = False
    sees_modules: bool = False

    @property
    def passes(self) -> float:
        """``cost`` as a rough number; a channel counts as 256, and a cost without a number as 2."""
        found = re.search(r"\d+", self.cost)
        passes = float(found[0]) if found else 2.0
        for word, default in (("step", 1), ("sample", 1), ("channel", 256)):
            if re.search(rf"\b(a|and) {word}\b", self.cost):
                passes *= self.options.get(f"{word}s", default)
        return max(passes, 0.1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor, **context: Any) -> Tensor:
        """The maps of ``images`` for the classes ``targets``. The model is left as it was found.

        Args:
            model: ``(N, 3, H, W)`` to logits ``(N, classes)``.
            images: float tensor ``(N, 3, H, W)``, normalised.
            targets: int64 tensor ``(N,)``.
            context: further arguments of ``Context``.

        Returns:
            float32 tensor ``(N, H, W)``, detached.

        Raises:
            XaicmpError: the method cannot explain this model, or broke its contract.
        """
        return self.explain_in(Context(model, images, targets, **context)).maps

    def explain_in(self, context: Context) -> Explanation:
        """The same of a batch that other methods explain too."""
        first, *others = inspect.signature(self.function).parameters
        model = context.original if self.sees_modules else context.model
        with unchanged(model), torch.inference_mode(False), torch.enable_grad():
            given = (model, context.images.clone().requires_grad_(), context.targets.clone())
            shared = {"context": context} if "context" in others else {}
            with _of_a_model(self):
                result = self.function(
                    *((context,) if first == "context" else given), **self.options, **shared
                )
        values, gap = result if isinstance(result, tuple) else (result, None)
        values, single = values.detach(), values.ndim == 3
        if single:
            values = values[:, None]
        expected = (len(context), *context.images.shape[2:])
        if values.ndim != 4 or (len(values), *values.shape[2:]) != expected:
            raise XaicmpError(
                f"{self.name} returned maps of shape {tuple(values.shape)}, expected {expected}; return one map per image"
            )
        maps = REDUCTIONS[self.reduction][1](values).float()[: context.count]
        gap = None if gap is None else gap.detach().cpu().double()[: context.count]
        return Explanation(maps, gap, single)


@contextmanager
def _of_a_model(method: Method) -> Iterator[None]:
    """Run the passes of ``method`` through a model, which is foreign code: whatever it raises becomes one line."""
    with foreign(f"{method.title} is not for this model, because it fails on it", f"leave {method.name} out"):
        try:
            yield
        except RuntimeError as error:
            if not any(each in str(error) for each in NO_GRADIENT):
                raise
            raise XaicmpError(
                f"{method.title} is not for this model, because its logits have no gradient by the images; "
                "explain it with occlusion or rise, which need none"
            ) from error


def check_least(name: str, least: int, **options: float) -> None:
    """Raise UsageError where one of ``options`` of the method ``name`` is below ``least``."""
    for key, value in options.items():
        if not value >= least:
            raise UsageError(f"{name}: {key} {value:g}: needs {least} or more")


def method(name: str, **about: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated function into ``METHODS``; its keyword arguments are its options.

    Args:
        name: as on the command line and in files.
        about: the other attributes of ``Method``; ``title``, ``family`` and ``reduction`` have no default.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        options = {
            key: parameter.default
            for key, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and key != "context"
        }
        METHODS[name] = Method(name=name, function=function, options=options, **about)
        return function

    return register

"""Backward passes by other rules than the gradient's, for any model and without changing it.

A model calls torch's functions: in modules or directly, once or again, in place or not. ``Rules`` answers these calls. A
rule returns the function's value, with the gradient of another expression.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xaicmp.errors import XaicmpError

Function = Callable[..., Tensor]

Rule = Callable[..., Tensor]
"""Called with the function, which must not be in place, and its arguments."""

ELEMENTWISE = [
    "abs",
    "celu",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "elu",
    "erf",
    "exp",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log",
    "logsigmoid",
    "mish",
    "pow",
    "prelu",
    "rdiv",
    "reciprocal",
    "relu",
    "relu6",
    "rsqrt",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "sqrt",
    "square",
    "tanh",
    "tanhshrink",
    "threshold",
]
"""Functions of one activation, value by value."""

POOLS = [f"{kind}max_pool{dimensions}d" for kind in ("", "adaptive_") for dimensions in (1, 2, 3)]
MIXING = [
    "glu",
    "group_norm",
    "instance_norm",
    "local_response_norm",
    "log_softmax",
    "lstm",
    "gru",
    "multi_head_attention_forward",
    "norm",
    "normalize",
    "prod",
    "scaled_dot_product_attention",
    "softmax",
    "softmin",
    "std",
    "var",
]
"""Nonlinear functions of several activations, which no rule here takes apart."""

PRODUCTS = [
    "bilinear",
    "bmm",
    "baddbmm",
    "div",
    "true_divide",
    "einsum",
    "matmul",
    "mm",
    "maximum",
    "minimum",
]
"""Functions that are linear unless more than one of their arguments is an activation."""


class Rules(TorchFunctionMode):
    """Within it, a torch function called with activations is computed by its rule.

    Args:
        rules: by the function's name, which is the same for ``F.relu``, ``torch.relu``, ``Tensor.relu_``.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self.rules = rules

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        rule = self.rules.get(name.strip("_"))
        if rule is None or not torch.is_grad_enabled() or not activations(args, kwargs):
            return func(*args, **kwargs)
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        writes = name.endswith("_") and not name.startswith("_")
        in_place = kwargs.pop("inplace", False) or writes
        # What the rule keeps of its input must outlive a change in place.
        inputs = (args[0].clone(), *args[1:]) if in_place else args
        result = rule(_out_of_place(func) if writes else func, *inputs, **kwargs)
        return args[0].copy_(result) if in_place else result


def activations(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Those arguments that depend on the images."""
    return [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.requires_grad]


def instead(value: Tensor, surrogate: Tensor) -> Tensor:
    """``value``, with the gradient of ``surrogate``."""
    return value.detach() + (surrogate - surrogate.detach()).to(value.dtype)


def slope(function: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The derivative of a function that works value by value."""
    inputs = x.detach().requires_grad_()
    return torch.autograd.grad(function(inputs, *args, **kwargs).sum(), inputs)[0]


def layer_norm(
    multiply: Rule,
    elementwise: Rule,
    function: Function,
    x: Tensor,
    normalized_shape: Collection[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalisation taken apart into products and a root, which have rules."""
    dimensions = tuple(range(-len(normalized_shape), 0))
    centred = x - x.mean(dimensions, keepdim=True)
    variance = multiply(torch.mul, centred, centred).mean(dimensions, keepdim=True)
    scaled = multiply(torch.mul, centred, elementwise(torch.rsqrt, variance + eps))
    return instead(
        function(x, normalized_shape, weight, bias, eps), scaled if weight is None else scaled * weight
    )


def refusals(method: str, *more: str) -> dict[str, Rule]:
    """Rules that say what ``method`` cannot take apart, rather than give what is no explanation."""

    def refuse(name: str, fewest: int) -> Rule:
        def rule(function: Function, *args: Any, **kwargs: Any) -> Tensor:
            if len(activations(args, kwargs)) < fewest:
                return function(*args, **kwargs)
            raise XaicmpError(
                f"{method} is not for this model, because there is no rule for {name}, which it computes; "
                "explain it with integrated-gradients"
            )

        return rule

    return {name: refuse(name, 1) for name in (*MIXING, *more)} | {name: refuse(name, 2) for name in PRODUCTS}


def _out_of_place(function: Function) -> Function:
    return lambda x, *args, **kwargs: function(x.clone(), *args, **kwargs)

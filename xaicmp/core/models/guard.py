"""A model is borrowed: whatever explaining it touches is put back, also when it fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from xaicmp.core.machine.foreign import foreign


@contextmanager
def unchanged(model: nn.Module) -> Iterator[nn.Module]:
    """Lend ``model`` in eval mode with frozen parameters and no gradients; afterwards its mode, ``requires_grad``,
    gradients, hooks, submodules and attributes are what they were. What ``torch.compile`` has compiled runs as it was
    written, because compiled code calls no hooks."""
    modules = [(module, dict(vars(module)), _registries(module)) for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        model.eval()
        model.requires_grad_(False)
        model.zero_grad(set_to_none=True)  # or a backward pass would add to them in place
        with _eager():
            yield model
    finally:
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for module, attributes, registries in modules:
            vars(module).clear()
            vars(module).update(attributes)
            for registry, entries in registries:
                registry.clear()
                registry.update(entries)


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A copy of ``model``; what ``memo`` holds, see ``copy.deepcopy``, is shared.

    Raises:
        XaicmpError: it cannot be copied, as with torch's old ``weight_norm``, whose weights are computed.
    """
    with foreign("the model cannot be copied, which this needs", "give one that copy.deepcopy takes"):
        return deepcopy(model, memo)


def _eager() -> AbstractContextManager[Any]:
    """Within it nothing is compiled. Where nothing has been, the compiler need not be imported."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _registries(module: nn.Module) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    """The dicts in which torch keeps a module's hooks, parameters, buffers and submodules, and their entries."""
    return [(value, dict(value)) for value in vars(module).values() if isinstance(value, dict)]

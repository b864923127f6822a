"""A model is borrowed: whatever explaining it touches is put back, also when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[nn.Module]:
    """Lend ``model`` in eval mode with frozen parameters; afterwards its mode, ``requires_grad``,
    gradients, hooks and attributes are what they were."""
    modules = [
        (module, dict(vars(module)), {name: dict(getattr(module, name)) for name in HOOKS})
        for module in model.modules()
    ]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        model.eval()
        model.requires_grad_(False)
        yield model
    finally:
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for module, attributes, hooks in modules:
            vars(module).clear()
            vars(module).update(attributes)
            for name, entries in hooks.items():
                registered = getattr(module, name)
                registered.clear()
                registered.update(entries)

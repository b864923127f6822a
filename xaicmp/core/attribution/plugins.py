"""Methods of others: plain functions ``(model, images, targets) -> maps``, checked each time they are used.

``images`` are float ``(N, 3, H, W)``, normalised and requiring gradients, ``targets`` int64 ``(N,)``, and the model
is in eval mode with frozen parameters. The maps are a tensor ``(N, H, W)`` or ``(N, C, H, W)``; an attribute
``reduction`` of the function, a name in ``REDUCTIONS``, says what becomes of channels and sign ("sum" if there is
none), an attribute ``needs_layer`` that its maps are as coarse as those of the layer that the CAMs weigh, and
``model_free`` that it knows nothing of the model. The model must come back as it was lent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.attribution.method import REDUCTIONS, Method
from xaicmp.core.machine.foreign import PLACE, foreign, look_in_working_folder
from xaicmp.errors import UsageError, XaicmpError

GROUP = "xaicmp.methods"
"""The entry point group in which an installed package names its methods."""

UNFIT: dict[str, Callable[[Tensor], bool]] = {
    "a nested": lambda maps: maps.is_nested,
    "a quantised": lambda maps: maps.is_quantized,
    "a meta": lambda maps: maps.is_meta,
    "a complex": torch.is_complex,
    "a sparse": lambda maps: maps.layout != torch.strided,
}
"""Tensors that are no maps."""

Function = Callable[[nn.Module, Tensor, Tensor], Tensor]


def find_plugin(spec: str) -> Method:
    """The method that ``spec``, as in ``mypackage.module:function``, names.

    Modules are also looked for in the working directory, after all other places, so that a file there hides
    nothing that is installed.

    Raises:
        UsageError: ``spec`` is not of that form, or there is no such module or function, or it cannot be called.
        XaicmpError: the module cannot be imported, or the function names a reduction that there is not.
    """
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", spec):
        raise UsageError(f"plug-in {spec!r} has another form; write package.module:function")
    look_in_working_folder()
    return _method(metadata.EntryPoint(spec, spec, GROUP), UsageError)


def entry_points(name: str | None = None) -> dict[str, Method]:
    """The methods that installed packages name in the group ``xaicmp.methods``: all, or the one called ``name``.

    What cannot be loaded says so when it is used.
    """
    found = metadata.entry_points(group=GROUP)
    chosen = found if name is None else found.select(name=name)
    return {each.name: _method_or_error(each) for each in chosen}


def _method_or_error(entry: metadata.EntryPoint) -> Method:
    try:
        return _method(entry, XaicmpError)
    except XaicmpError as error:
        reason = error

        def fail(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            raise reason

        return Method(
            name=entry.name,
            title=entry.name,
            family="plug-in",
            reduction="sum",
            function=fail,
            sees_modules=True,
        )


def _method(entry: metadata.EntryPoint, missing: type[XaicmpError]) -> Method:
    """What ``entry`` names, as a method; ``missing`` is raised if there is no such thing."""
    name = entry.name if entry.name == entry.value else f"{entry.name} ({entry.value})"
    with foreign(f"plug-in {name} cannot be imported", PLACE):
        try:
            module = import_module(entry.module)
        except ModuleNotFoundError as error:
            if f"{entry.module}.".startswith(f"{error.name}."):
                raise missing(f"plug-in {name}: {error}; check the spelling") from error
            raise
        try:
            function = attrgetter(entry.attr or "")(module)
        except AttributeError as error:
            raise missing(f"plug-in {name}: {error}; check the spelling") from error
        if not callable(function):
            raise missing(f"plug-in {name} is not a function but {type(function).__name__}")
        return _made(entry.name, entry.attr.rpartition(".")[2], function, name)


def from_function(function: Function) -> Method:
    """The method that is a function, by its own name.

    Raises:
        XaicmpError: it names a reduction that there is not.
    """
    name = getattr(function, "__name__", type(function).__name__)
    return _made(name, name, function, name)


def _made(name: str, title: str, function: Function, called: str) -> Method:
    """The method that is ``function``; errors say how it is ``called``."""
    reduction = getattr(function, "reduction", "sum")
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise XaicmpError(
            f"plug-in {called}: no reduction {reduction!r}; choose from {', '.join(REDUCTIONS)}"
        )
    return Method(
        name=name,
        title=title.replace("_", " "),
        family="plug-in",
        reduction=reduction,
        paper=str(function.__doc__ or "").strip().partition("\n")[0],
        function=checked(called, function),
        needs_layer=bool(getattr(function, "needs_layer", False)),
        model_free=bool(getattr(function, "model_free", False)),
        sees_modules=True,
    )


def checked(name: str, function: Function) -> Function:
    """``function`` with an error that names it wherever it breaks the contract."""

    def explain(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        shape = (len(images), *images.shape[2:])
        with foreign(f"plug-in {name} failed", "correct it, or leave the method out"):
            with _watched(model, name):
                maps = function(model, images, targets)
            if not isinstance(maps, Tensor):
                raise XaicmpError(
                    f"plug-in {name} returned {type(maps).__name__}, not a torch tensor; return one"
                )
            if kinds := [kind for kind, is_so in UNFIT.items() if is_so(maps)]:
                raise XaicmpError(f"plug-in {name} returned {kinds[0]} tensor; return plain numbers")
            if maps.ndim not in (3, 4) or maps.shape[:1] + maps.shape[-2:] != shape or maps.numel() == 0:
                raise XaicmpError(
                    f"plug-in {name} returned maps of shape {tuple(maps.shape)}, expected {shape}; return one map per image"
                )
            maps = maps.detach().as_subclass(Tensor).float()
            if not maps.isfinite().all():
                raise XaicmpError(f"plug-in {name} returned maps with NaN or infinity; return finite numbers")
        return maps

    return explain


@contextmanager
def _watched(model: nn.Module, name: str) -> Iterator[None]:
    """Put the model's values back, and raise an error if it was changed. ``unchanged`` puts back all else."""
    held = [(each, each.data, each.data.clone()) for each in chain(model.parameters(), model.buffers())]
    before = _state(model)
    changed = []
    try:
        yield
        changed = [what for what, state in _state(model).items() if state != before[what]][:1]
    finally:
        for each, data, copy in held:
            # Compared, for a version counter misses what was done to ``.data``.
            if not (each.is_set_to(data) and torch.allclose(data, copy, rtol=0, atol=0, equal_nan=True)):
                each.data = data.copy_(copy)
                changed.append("the values of its parameters or buffers")
    if changed:
        raise XaicmpError(
            f"plug-in {name} changed the model: {', '.join(dict.fromkeys(changed))}; a plug-in must put back what it touches"
        )


def _state(model: nn.Module) -> dict[str, list[Any]]:
    """Everything about a model but its values that a plug-in might leave changed, what entails the rest first."""
    modules, parameters = list(model.named_modules()), list(model.named_parameters())
    hooks = [
        (name, key, list(value))
        for name, module in modules
        for key, value in vars(module).items()
        if "_hooks" in key and isinstance(value, dict)
    ]
    tensors = chain(parameters, model.named_buffers())
    return {
        "its submodules": [(name, id(module)) for name, module in modules],
        "its parameters or buffers": [(name, id(tensor)) for name, tensor in tensors],
        "its mode": [module.training for _, module in modules],
        "its hooks": hooks,
        "its parameters' requires_grad": [parameter.requires_grad for _, parameter in parameters],
        "its gradients": [parameter.grad is None for _, parameter in parameters],
    }

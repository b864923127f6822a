"""Methods of other libraries, named by their classes: ``captum:Saliency``, ``pytorch_grad_cam:GradCAM``.

A class is called as its library documents it. Where it takes a layer, it gets that of the CAMs, and its maps are
upsampled. Its options are those arguments whose default is a number, a word or a switch. Where it may draw at random, it
gets one image at a time, with a seed of the image's own. Its reduction is that of the method here with the same name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from inspect import Parameter, isclass, signature
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.attribution.cam import upsample
from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.method import METHODS, Method
from xaicmp.core.attribution.plugins import checked
from xaicmp.core.machine.foreign import seeded
from xaicmp.core.models.layers import get_layer, to_maps
from xaicmp.errors import UsageError, XaicmpError


@dataclass(frozen=True)
class Library:
    """Where a library has its classes, what they derive from, how they are called, and how the library is installed."""

    module: str
    base: str
    call: str
    package: str


LIBRARIES = {
    "captum": Library("captum.attr", "Attribution", "attribute", "captum"),
    "pytorch_grad_cam": Library("pytorch_grad_cam", "base_cam.BaseCAM", "__call__", "grad-cam"),
}
LAYERS = {"layer", "target_layers"}
GIVEN = {"self", "model", "forward_func", "inputs", "target", "input_tensor", "targets", *LAYERS}
"""Arguments of the classes that are given wherever a class takes them."""


def find_in_library(library: str, kind: str) -> Method:
    """The method that is the class ``kind`` of ``library``, one of ``LIBRARIES``.

    Raises:
        UsageError: the library is not installed or has no such class, or the class needs what cannot be given.
    """
    about, name = LIBRARIES[library], f"{library}:{kind}"
    try:
        module = import_module(about.module)
    except ModuleNotFoundError as error:
        raise UsageError(f"{name}: {error}; install it with `pip install {about.package}`") from error
    base = attrgetter(about.base)(module)
    found = {
        key: each
        for key, each in vars(module).items()
        if isclass(each) and issubclass(each, base) and hasattr(each, about.call)
    }
    if kind not in found:
        near = ", ".join(get_close_matches(kind, found, n=3, cutoff=0.4) or found)
        raise UsageError(f"{name}: {about.module} has no such class of attribution; choose {near}")
    made, called = (signature(each).parameters for each in (found[kind], getattr(found[kind], about.call)))
    arguments = dict(chain(made.items(), called.items()))
    plain = [each for each in arguments.values() if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    if missing := [each.name for each in plain if each.default is each.empty and each.name not in GIVEN]:
        raise UsageError(
            f"{name} needs {', '.join(missing)}, which cannot be given in a name; "
            "call it in a function of your own, package.module:function"
        )
    if "perm_func" in arguments or "Permutation" in kind:
        raise UsageError(
            f"{name} mixes the images of a batch, so that no image has a map of its own; choose another"
        )
    options = {
        each.name: each.default
        for each in plain
        if type(each.default) in (bool, int, float, str) and not each.name.startswith("return_")
    }
    plainly = re.sub("^layer", "", kind.lower())
    twins = (each for each in METHODS.values() if each.name.replace("-", "") == plainly)
    return Method(
        name=name,
        title=name,
        family=library,
        reduction=next((each.reduction for each in twins), "sum"),
        paper=f"{about.package}'s {kind}",
        function=_function(name, found[kind], made, called),
        options=options,
        needs_layer=not LAYERS.isdisjoint(made),
        sees_modules=True,
    )


def _function(name: str, kind: Any, made: Collection[str], called: Collection[str]) -> Callable[..., Tensor]:
    """The method that makes a ``kind`` with the arguments ``made`` and calls it with those ``called``."""

    def explain(
        model: nn.Module, images: Tensor, targets: Tensor, *, context: Context, **options: Any
    ) -> Tensor:
        making, calling = ({key: options[key] for key in names if key in options} for names in (made, called))

        def one(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            layer = [] if LAYERS.isdisjoint(made) else [get_layer(model, context.layer)]
            if "target_layers" not in made:
                given = {"target": targets, "internal_batch_size": max(context.batch_size, len(images))}
                target = {key: value for key, value in given.items() if key in called}
                found = kind(model, *layer, **making).attribute(images, **target, **calling)
                return _as_maps(name, found, images)
            tokens = partial(to_maps, size=images.shape[2:])
            with kind(model=model, target_layers=layer, reshape_transform=tokens, **making) as cam:
                asked = [itemgetter(int(each)) for each in targets]
                return torch.from_numpy(cam(input_tensor=images, targets=asked, **calling)).to(images.device)

        def every(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            if "target_layers" not in made and "n_samples" not in called:
                return one(model, images, targets)
            found = []
            for row, generator in enumerate(context.generators(name)):
                with seeded(generator.initial_seed(), images.device):
                    lone = images[row : row + 1].detach().requires_grad_()
                    found.append(one(model, lone, targets[row : row + 1]).detach())
            return torch.cat(found)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hooks and gradients, which are put back
            return checked(name, every)(model, images, targets)

    return explain


def _as_maps(name: str, found: Any, images: Tensor) -> Tensor:
    """Attributions to the images as they are, those to a layer upsampled."""
    if not isinstance(found, Tensor) or (found.ndim == 4 and found.shape[2:] == images.shape[2:]):
        return found
    maps = to_maps(found, images.shape[2:])
    if maps is None:
        raise XaicmpError(
            f"{name} gives {tuple(found.shape)}, which is no grid of this layer; name another layer"
        )
    maps = upsample(maps, images)
    return maps[:, 0] if maps.shape[1] == 1 else maps

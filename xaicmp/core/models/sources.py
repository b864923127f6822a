"""Sources of networks, by the word before the colon.

To add a source, decorate a function ``(rest, weights, classes) -> Classifier`` with ``@model_source(name)``:
``name:rest`` then calls it. ``weights`` names trained weights, None for none, because they come from a file;
``classes`` is how many classes the network shall have, None for its own number.
"""

from __future__ import annotations

import ast
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xaicmp.core.machine.foreign import PLACE, foreign, look_in_working_folder, silent
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.classifier import Classifier
from xaicmp.errors import UsageError, XaicmpError, arg

Source = Callable[[str, str | None, int | None], Classifier]
MODELS: dict[str, Source] = {}
DEFAULT_WEIGHTS = "DEFAULT"


def model_source(name: str) -> Callable[[Source], Source]:
    """Enter the decorated function into ``MODELS``."""

    def register(function: Source) -> Source:
        MODELS[name] = function
        return function

    return register


def find_source(spec: str) -> tuple[Source, str]:
    """The source that ``spec`` names, and what follows: ``torchvision:resnet50``, ``resnet50``, ``module:factory``.

    Raises:
        UsageError: there is no such network.
    """
    name, colon, rest = spec.partition(":")
    if colon and name in MODELS:
        return MODELS[name], rest
    if not colon and spec in ARCHITECTURES:
        return own, spec
    if colon and all(part.isidentifier() for part in name.split(".")):
        return factory, spec
    from torchvision.models import list_models

    known = [*ARCHITECTURES, *list_models()]
    if spec in known:
        return MODELS["torchvision"], spec
    near = get_close_matches(spec, known, n=3) or ["torchvision:resnet50"]
    raise UsageError(
        f"{arg('model')} {spec}: no such model; choose {', '.join(near)}, timm:NAME or package.module:factory, "
        f"or give a file of weights as {arg('checkpoint')}"
    )


def own(name: str, weights: str | None, classes: int | None) -> Classifier:
    """One of ``ARCHITECTURES``, for images as in CIFAR-10."""
    from xaicmp.core.images.cifar10 import CLASSES, MEAN, STD

    _no_weights(name, weights)
    # Initial weights are drawn, only to be replaced: on the meta device, torch would load its compiler to save that.
    with torch.random.fork_rng(devices=[]):
        module = ARCHITECTURES[name](classes or len(CLASSES))
    names = CLASSES if classes in (None, len(CLASSES)) else ()
    return Classifier(module, names, MEAN, STD, (32, 32), name, {"architecture": name})


def find_object(spec: str, role: str) -> Callable[..., Any]:
    """The object ``package.module:name``, also from the working directory; errors call it ``role``.

    Raises:
        XaicmpError: it cannot be imported, or called.
    """
    name, _, attribute = spec.partition(":")
    look_in_working_folder()
    with foreign(f"{role} {spec} cannot be imported", PLACE):
        found: Any = import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f"{role} {spec}: {type(found).__name__} cannot be called; name a function or a class"
        )
    return found


@model_source("torchvision")
def from_torchvision(name: str, weights: str | None, classes: int | None) -> Classifier:
    """One of torchvision's networks, with its trained weights by name and their own preprocessing and classes."""
    from torchvision.models import get_model, get_model_builder, get_model_weights, list_models

    if name not in list_models():
        near = ", ".join(get_close_matches(name, list_models(), n=3) or ["resnet50"])
        raise UsageError(f"{arg('model')} torchvision:{name}: torchvision has no such model; choose {near}")
    every = get_model_weights(name)
    if weights not in (None, DEFAULT_WEIGHTS, *every.__members__):
        raise UsageError(
            f"{arg('weights')} {weights}: {name} has {', '.join(every.__members__)}; choose one, or give a file"
        )
    chosen = None if weights is None else every[weights] if weights in every.__members__ else every.DEFAULT
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if "weights_backbone" in inspect.signature(get_model_builder(name)).parameters:
        options["weights_backbone"] = None
    if chosen is not None:
        _download(name, chosen)
    module = _built(f"torchvision:{name}", lambda: get_model(name, weights=chosen, progress=False, **options))
    title = f"torchvision:{name}" + (f" ({chosen.name})" if chosen else "")
    about = {"architecture": f"torchvision:{name}", "weights": chosen.name if chosen else None}
    found = described_by(Classifier(module, name=title, provenance=about), chosen or every.DEFAULT)
    return found if classes is None else replace(found, classes=())


@model_source("timm")
def from_timm(name: str, weights: str | None, classes: int | None) -> Classifier:
    """One of timm's networks; which weights is part of its name, as in ``resnet50.a1_in1k``."""
    try:
        timm: Any = import_module("timm")
    except ModuleNotFoundError as error:
        raise XaicmpError(f"{arg('model')} timm:{name} needs timm; get it with `pip install timm`") from error
    if not timm.is_model(name.partition(".")[0]):
        near = ", ".join(get_close_matches(name, timm.list_models(), n=3) or ["resnet50"])
        raise UsageError(f"{arg('model')} timm:{name}: timm has no such model; choose {near}")
    if weights not in (None, DEFAULT_WEIGHTS):
        raise UsageError(
            f"{arg('weights')} {weights}: with timm they are part of the model's name, as in timm:resnet50.a1_in1k; "
            "give DEFAULT or a file"
        )
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    try:
        # The hub tells of each of its attempts, and the error says it all.
        with silent(logging.getLogger("huggingface_hub"), logging.ERROR):
            module = _built(
                f"timm:{name}", lambda: timm.create_model(name, pretrained=bool(weights), **options)
            )
    except XaicmpError as error:
        if not weights:
            raise
        where = timm.get_pretrained_cfg(name)
        hub = where.hf_hub_id if where is not None and where.hf_hub_id else name
        raise XaicmpError(
            f"no weights of timm:{name}: {str(error).rpartition('; ')[0]}; give the file model.safetensors of {hub} as {arg('weights')}"
        ) from error
    data = timm.data.resolve_model_data_config(module)
    subset = timm.data.infer_imagenet_subset(module) if classes is None else None
    names: Any = timm.data.ImageNetInfo(subset).label_descriptions() if subset else ()
    return Classifier(
        module,
        _short(names),
        data["mean"],
        data["std"],
        data["input_size"][1:],
        f"timm:{name}",
        {"architecture": f"timm:{name}", "weights": weights},
        data["crop_pct"],
        data["interpolation"],
    )


def factory(spec: str, weights: str | None, classes: int | None) -> Classifier:
    """What the callable ``package.module:factory`` returns, a module or a ``Classifier``; ``?width=2&deep=True`` are
    its arguments. It is looked for in the working directory too, and run: name only code that you trust."""
    path, _, query = spec.partition("?")
    _no_weights(spec, weights)
    made = find_object(path, arg("model"))
    options = _arguments(spec, query)
    if classes is not None:
        if "num_classes" not in inspect.signature(made).parameters:
            raise XaicmpError(
                f"{arg('model')} {spec} has another number of classes than {classes} and no num_classes; give the function such an argument"
            )
        options["num_classes"] = classes
    found = _built(spec, lambda: made(**options))
    if isinstance(found, Classifier):
        return found
    if not isinstance(found, nn.Module):
        raise UsageError(
            f"{arg('model')} {spec} returned a {type(found).__name__}; it must be a torch.nn.Module"
        )
    return Classifier(found, name=spec, provenance={"architecture": spec})


def described_by(classifier: Classifier, weights: Any) -> Classifier:
    """The classifier with the preprocessing and the classes of torchvision's ``weights``."""
    seen = weights.transforms()
    names = weights.meta.get("categories", ())
    if not hasattr(seen, "crop_size"):  # not of a classifier
        return replace(classifier, classes=names)
    size = (seen.crop_size * 2)[:2]
    return replace(
        classifier,
        classes=names,
        mean=seen.mean,
        std=seen.std,
        input_size=size,
        crop_pct=min(size) / seen.resize_size[0],
        interpolation=seen.interpolation.value,
    )


def _download(name: str, weights: Any) -> None:
    """Fetch torchvision's weights into its own cache, or say which file to put where."""
    file, folder = weights.url.rpartition("/")[2], Path(torch.hub.get_dir()) / "checkpoints"
    if (folder / file).is_file():
        return
    try:
        weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # of the network, of the disk, of a hash that differs
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise XaicmpError(
            f"cannot download the weights {weights.name} of {name} ({reason}); put {file} into {folder}, "
            f"or give the file as {arg('weights')}"
        ) from error


def _built(spec: str, build: Callable[[], Any]) -> Any:
    """The result of foreign code, which changes neither the random generator nor stdout."""
    with (
        torch.random.fork_rng(devices=[]),
        foreign(f"{arg('model')} {spec} cannot be built", "correct its arguments or the function"),
    ):
        return build()


def _arguments(spec: str, query: str) -> dict[str, Any]:
    """``"width=2&name=a"`` to ``{"width": 2, "name": "a"}``."""
    options: dict[str, Any] = {}
    for word in filter(None, query.split("&")):
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{arg('model')} {spec}: {word!r} is no argument; write ?name=value&other=value")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def _no_weights(spec: str, weights: str | None) -> None:
    if weights not in (None, DEFAULT_WEIGHTS):
        raise UsageError(f"{arg('weights')} {weights}: {spec} has no weights of that name; give a file")


def _short(names: Sequence[str]) -> tuple[str, ...]:
    """The first of several synonyms, unless it is the first of another class too."""
    first = [name.partition(",")[0] for name in names]
    return tuple(short if first.count(short) == 1 else name for short, name in zip(first, names, strict=True))

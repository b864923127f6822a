"""A classifier from a network's name and weights in a file."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xaicmp.core.machine.storage import text_of
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.classifier import NOT_NORMALISED, Classifier
from xaicmp.core.models.metadata import described
from xaicmp.core.models.sources import DEFAULT_WEIGHTS, Source, described_by, find_source
from xaicmp.core.models.weights import FORMAT, Fit, WeightsFile, best_fit, fill, read_weights, tensors_in
from xaicmp.errors import UsageError, XaicmpError, arg, told

WEIGHTS = (".pt", ".pt2", ".pth", ".safetensors", ".ckpt", ".tar", ".bin")
"""Suffixes of files of weights."""
UNTRAINED = "none"
CIFAR_CODE_BASE = {"net", "acc", "epoch"}
"""The keys of a checkpoint of a widely used CIFAR code base, and the standard deviation that it normalises by."""
CIFAR_CODE_BASE_STD = (0.2023, 0.1994, 0.2010)

FEWEST = 16
"""Tensors of the smallest network that is named to somebody whose weights do not fit: AlexNet."""

Remark = Callable[[str], None]


def load_network(
    spec: str, weights: str | Path | None, remark: Remark, given: Collection[str] = ()
) -> Classifier:
    """The network that ``spec`` names, with its trained weights.

    Args:
        spec: see ``find_source``.
        weights: the name of trained weights; a file; ``"none"`` for none; None for the source's default.
        remark: called with each assumption that was made.
        given: the attributes of ``Classifier`` that the user gives, about which nothing is assumed.

    Raises:
        UsageError: there is no such network or weights.
        XaicmpError: the weights cannot be had, or do not fit.
    """
    source, rest = find_source(spec)
    if weights is not None and (Path(weights).suffix.lower() in WEIGHTS or Path(weights).is_file()):
        return with_file(source, rest, read_weights(Path(weights)), remark, given)
    named = str(weights or DEFAULT_WEIGHTS)
    found = source(rest, None if named == UNTRAINED else named, None)
    found.module.eval()
    return found if named != UNTRAINED else replace(found, name=f"{found.name} with random weights")


def with_file(
    source: Source, rest: str, file: WeightsFile, remark: Remark, given: Collection[str] = ()
) -> Classifier:
    """The network ``rest`` of ``source`` with the weights in a file, whatever form they have there; see ``load_network``.

    Raises:
        XaicmpError: they do not fit; the message says how far they do, and what would.
    """
    remark = told(remark)
    classifier = source(rest, None, None)
    fit = best_fit(classifier.module, file.document)
    if fit.classes is not None:
        other = source(rest, None, fit.classes)
        if (refit := best_fit(other.module, file.document)).complete:
            classifier, fit = other, refit
    name = classifier.provenance.get("architecture", rest)
    if not fit.complete:
        raise XaicmpError(misfit(file.path, name, fit, relative(rest, file, fit)))
    fill(classifier.module, fit.weights, file.path)
    described, assumed = _described(classifier, file)
    kept = {"path": str(file.path), "sha256": file.sha256, "weights": file.path.name}
    if file.document.get("format") == FORMAT:
        kept["test_accuracy"] = file.document["metadata"].get("test_accuracy")
    title = str(file.path) if rest in ARCHITECTURES else f"{name} with {file.path.name}"
    found = replace(described, name=title, provenance={**classifier.provenance, **kept})
    if fit.others:
        remark(
            f"{file.path}: weights under {fit.place!r} taken; those under {', '.join(map(repr, fit.others))} fit too"
        )
    if fit.renamed:
        where = f" under {fit.place!r}" if fit.place else ""
        remark(f"{file.path}: weights{where} matched to {name}'s names ({fit.renamed})")
    taken = {}
    if assumed and found.mean != NOT_NORMALISED and not {"mean", "std"} <= set(given):
        shape = f"{arg('mean')}, {arg('std')}, {arg('input_size')}"
        taken["how images are normalised"] = found.preprocessing, shape
    if assumed and found.classes and "classes" not in given:
        taken["what its classes are called"] = f"{len(found.classes)} classes", arg("classes")
    if taken:
        values, ways = zip(*taken.values(), strict=True)
        remark(
            f"{file.path} does not say {' and '.join(taken)}; taken as for {name}: {'; '.join(values)}. "
            f"Give others with {', '.join(ways)}"
        )
    found.module.eval()
    return found


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names from a file: one per line, or JSON: a list, or an object of names by index.

    Raises:
        XaicmpError: it cannot be read, or holds something else.
    """
    try:
        text = text_of(path)
        found: Any = json.loads(text) if path.suffix == ".json" else text.splitlines()
        found = found.get("id2label", found) if isinstance(found, dict) else found
        if isinstance(found, dict):
            found = [found[str(index)] for index in range(len(found))]
        names = [each[-1] if isinstance(each, list) else each for each in found]
    except OSError as error:
        raise XaicmpError(
            f"cannot read {path}: {error.strerror}; give another file of class names"
        ) from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise XaicmpError(f"{path} holds no class names; write one per line, or a JSON list") from error
    return checked_classes([name.strip() if isinstance(name, str) else name for name in names], str(path))


def checked_classes(names: Iterable[Any], where: str) -> tuple[str, ...]:
    """The names, if they are: texts, none empty, none twice."""
    names = tuple(names)
    if not names or not all(isinstance(name, str) and name and name.isprintable() for name in names):
        raise UsageError(f"{where}: a class name is empty or no text; give one name for each class")
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise UsageError(f"{where}: {twice!r} names two classes; give each class its own name")
    return names


def misfit(path: Path, name: str, fit: Fit, better: str = "") -> str:
    """How far the weights in a file fit a network, in one line, and which other network would take them."""
    total = len(fit.weights) + len(fit.missing)
    parts = [f"checkpoint {path} does not fit {name}: {len(fit.weights)} of {total} tensors fit"]
    if fit.missing:
        more = f" and {len(fit.missing) - 5} more" if len(fit.missing) > 5 else ""
        parts.append(f"not {'; '.join(fit.missing[:5])}{more}")
    if fit.surplus:
        parts.append(f"it also holds {', '.join(sorted(fit.surplus)[:3])}")
    way = f"try {arg('model')} {better}" if better else "use a checkpoint of this architecture"
    if not better and not fit.missing:
        way = "name the network that has these, or save the weights without them"
    return ", ".join(parts) + f"; {way}"


def relative(name: str, file: WeightsFile, fit: Fit) -> str:
    """A network of our own or torchvision's that takes the weights in a file which fit ``name`` so far; "" for none."""
    from torchvision import models

    if max(len(each) for _, each in tensors_in(file.document)) < FEWEST:
        return ""
    every = (*ARCHITECTURES, *models.list_models(module=models))
    like = [other for other in every if other[:4] == name[:4]]
    most = len(fit.weights) > len(fit.missing)
    for other in like if most else dict.fromkeys((*like, *every)):
        source, rest = find_source(other)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of initial weights that nobody uses
            try:
                found = best_fit(source(rest, None, None).module, file.document)
            except XaicmpError:  # RegNets cannot be made without memory
                continue
        if found.complete or found.classes:
            return other + (f" with {found.classes} classes" if found.classes else "")
    return ""


def _described(classifier: Classifier, file: WeightsFile) -> tuple[Classifier, bool]:
    """What the file says of preprocessing and classes, and whether that had to be assumed."""
    from torchvision.models import get_model_weights

    if file.document.get("format") == FORMAT:
        metadata = file.document["metadata"]
        return described(classifier, metadata), not {"classes", "mean", "std"} <= metadata.keys()
    if set(file.document) == CIFAR_CODE_BASE and classifier.input_size == (32, 32):
        return replace(classifier, std=CIFAR_CODE_BASE_STD), True
    kind, _, name = str(classifier.provenance.get("architecture", "")).partition(":")
    if kind == "torchvision" and classifier.classes:
        for each in get_model_weights(name):
            if each.url.endswith(f"/{file.path.name}"):
                # What torchvision's trained Inceptions and GoogLeNets expect.
                if hasattr(classifier.module, "transform_input"):
                    vars(classifier.module)["transform_input"] = True
                return described_by(classifier, each), False
    return classifier, True

"""Weights in a file, in all common forms, and how far they fit a network.

They are read as tensors and plain values only: nothing in a file is run.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xaicmp.core.machine.storage import contents
from xaicmp.core.models.metadata import check_metadata
from xaicmp.errors import XaicmpError, arg

FORMAT = "xaicmp checkpoint 1"
"""The format that our own files name."""
NESTS = ("state_dict", "model_state_dict", "model", "net", "module", "ema", "model_ema", "state_dict_ema")
"""Under which keys training programs keep the weights, before all other keys; the first that fits best is taken."""
RENAMED = ((r"\bshortcut\b", "downsample"), (r"^linear\b", "fc"))
"""Names in a widely used CIFAR code base, and torchvision's names for the same layers."""
COMPILED = (b"/constants.pkl", b"serialized_exported_program", b"/archive_format")
"""Names in every file of TorchScript, and of ``torch.export`` of older and newer versions."""
COUNTERS = ("num_batches_tracked", "total_ops", "total_params")
"""Buffers that no evaluation uses, also those of a counter of operations; a file may have them or not."""
NUMPY: Any = (np.ones(1).__reduce__()[0], np.float64(1).__reduce__()[0])
"""What arrays and numbers of NumPy are read by; its versions call the module otherwise."""
HARMLESS: list[Any] = [
    argparse.Namespace,
    SimpleNamespace,
    *((lambda *factory: {}, "collections.defaultdict"), list, dict, int, float),
    *(frozenset, slice),
    *(datetime.datetime, datetime.date, datetime.timedelta, datetime.timezone),
    *(
        (PurePath, f"pathlib{private}.{kind}Path")
        for private in ("", "._local")
        for kind in ("Posix", "Windows")
    ),
    *((each, f"numpy.{core}.multiarray.{each.__name__}") for core in ("core", "_core") for each in NUMPY),
    np.dtype,
    np.ndarray,
    *{type(np.dtype(each)) for each in "?bBhHiIlLqQefd"},
]
"""Plain values that training programs write beside the weights; read as data, like what torch itself allows."""


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds.

    Attributes:
        path: the file.
        sha256: of its bytes.
        document: its content: tensors and plain values.
    """

    path: Path
    sha256: str
    document: dict[str, Any]


@dataclass(frozen=True)
class Fit:
    """How far some weights fit a network.

    Attributes:
        weights: by the network's names, those that fit.
        missing: what does not fit, as a sentence each.
        place: the key of the file under which the weights are, and what stands before all their names.
        surplus: what is there besides.
        classes: if nothing but the number of classes differs, that of the file.
        renamed: how names were changed, if they were.
        others: other places in the file whose weights fit too.
    """

    weights: dict[str, Tensor]
    missing: tuple[str, ...]
    place: str = ""
    surplus: tuple[str, ...] = ()
    classes: int | None = None
    renamed: str = ""
    others: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the network can take them."""
        return not self.missing and not self.surplus


def read_weights(path: Path) -> WeightsFile:
    """Read a ``.pt``, ``.pth`` or ``.safetensors`` file.

    Raises:
        XaicmpError: missing, unreadable, damaged, or more than tensors and plain values; one of our own that is
            incomplete, of a newer version, or whose weights or metadata are not sound.
    """
    try:
        content = contents(path)
    except OSError as error:
        raise XaicmpError(
            f"cannot read checkpoint {path}: {error.strerror}; train one with `xaicmp train`, "
            f"or leave out {arg('checkpoint')} to use the one that ships"
        ) from error
    safe = path.suffix.lower() == ".safetensors" or content[8:9] == b"{"  # where its head begins
    document = (_read_safetensors if safe else _read_torch)(path, content)
    if not isinstance(document, dict):
        raise XaicmpError(f"checkpoint {path} holds a {type(document).__name__}, not weights; use another")
    _check_ours(path, document)
    return WeightsFile(path, hashlib.sha256(content).hexdigest(), document)


def best_fit(module: nn.Module, document: Mapping[str, Any]) -> Fit:
    """The weights in ``document``, nested, prefixed or named as they may be, that fit ``module`` best."""
    expected = module.state_dict()
    if document.get("format") == FORMAT:  # what a training resumes from holds weights too
        return _fit(expected, _tensors(document["state_dict"]))
    nested = list(tensors_in(document))
    fits = [
        _fit(expected, weights, ".".join(filter(None, (nest, prefix))), renamed)
        for nest, found in nested
        for prefix, stripped in _stripped(expected, found)
        for renamed, weights in _renamed(stripped)
    ] or [_fit(expected, found, nest) for nest, found in nested]
    best = max(fits, key=lambda fit: (fit.complete, len(fit.weights), -len(fit.surplus)))
    if not best.complete and not best.classes:
        return _in_order(expected, nested) or best
    return replace(best, others=tuple(each.place for each in fits if each.complete and each is not best))


def tensors_in(
    document: Mapping[Any, Any], nest: str = "", depth: int = 3
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors in ``document`` and in the mappings in it, and under which keys they are."""
    if (tensors := _tensors(document)) or not nest:
        yield nest, tensors
    for key in dict.fromkeys([*NESTS, *document]) if depth else ():
        if isinstance(inner := document.get(key), Mapping):
            yield from tensors_in(inner, f"{nest}.{key}" if nest else str(key), depth - 1)


def fill(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Give ``module`` copies of ``weights``, channels last, whatever number type they have.

    Raises:
        XaicmpError: they are not finite, or no plain numbers.
    """
    own = module.state_dict()
    copies = {}
    for name, got in weights.items():
        if got.layout != torch.strided or got.is_complex() or got.is_quantized or got.is_meta:
            raise XaicmpError(f"checkpoint {path} has {name} in a form other than plain numbers; use another")
        # Finding the extremes takes a tenth of the time of checking each value.
        if got.numel() and not torch.stack(got.float().aminmax()).isfinite().all():
            raise XaicmpError(f"checkpoint {path} has values in {name} that are not finite; train it again")
        layout = torch.channels_last if own[name].ndim == 4 else torch.contiguous_format
        copies[name] = got.detach().to(own[name].dtype, copy=True, memory_format=layout)
    module.load_state_dict(copies, strict=False, assign=True)
    if not any(bool(each.any()) for each in module.parameters()):
        raise XaicmpError(f"checkpoint {path} has weights that are all 0; use a trained one")


def sha256_of(weights: Mapping[str, Any]) -> str:
    """The sum of the names, types, shapes and values of a ``state_dict``."""
    digest = hashlib.sha256()
    for name, value in weights.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            # Sparse or quantised values, and whatever else a module stores, which it may not let be written.
            with suppress(Exception):
                torch.save(value, stored := io.BytesIO())
                digest.update(f"{name}\n".encode() + stored.getvalue())
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_ours(path: Path, document: Mapping[str, Any]) -> None:
    if document.get("format") != FORMAT:
        if str(document.get("format")).startswith("xaicmp checkpoint"):
            raise XaicmpError(f"checkpoint {path} was written by a newer xaicmp; upgrade to read it")
        return
    weights, metadata = document.get("state_dict"), document.get("metadata")
    if not isinstance(weights, Mapping) or not isinstance(metadata, dict):
        raise XaicmpError(f"checkpoint {path} lacks its weights or metadata; use another")
    if (written := document.get("sha256")) and written != sha256_of(_tensors(weights)):
        raise XaicmpError(
            f"refused checkpoint {path}: its weights are not those that were written; use another"
        )
    check_metadata(metadata, path)


def _read_safetensors(path: Path, content: bytes) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise XaicmpError(
            f"refused checkpoint {path}: it is damaged or no safetensors file; use another"
        ) from error


def _read_torch(path: Path, content: bytes) -> Any:
    try:
        _check_archive(content)
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # one line says it all
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a hostile or damaged file makes it raise
        text = str(error)
        way = "use one that `xaicmp train` or torch.save(state_dict) wrote"
        if any(name in content for name in COMPILED):
            reason = "it is a compiled program, whose layers cannot be observed"
            way = "give the network's own code as the model, and its state_dict as the checkpoint"
        elif found := re.search(r"Unsupported (?:global|class)[^\n]*?GLOBAL ([\w.]+)", text):
            reason = f"it holds more than tensors and plain values: {found[1]}, which could run code when it is opened"
            way = "save the weights alone, torch.save(model.state_dict(), FILE), and name the network as the model"
        elif "weights_only" in text or "Weights only" in text:
            reason = "it holds more than tensors and plain values, or is no checkpoint at all"
        else:
            reason = "it is damaged or no checkpoint"
        raise XaicmpError(f"refused checkpoint {path}: {reason}; {way}") from error


def _check_archive(content: bytes) -> None:
    """Raise ValueError or BadZipFile if a zip archive's entries are packed or do not have their checksums.

    torch writes them as they are, and reads them from memory without looking at the sums.
    """
    if content[:4] != b"PK\x03\x04":  # the format before torch 1.6, which has no sums
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if sum(each.file_size for each in entries) > len(content):
            raise ValueError("entries larger than the file")
        if damaged := archive.testzip():
            raise ValueError(f"wrong checksum of {damaged}")


def _tensors(found: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _without_counters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.endswith(COUNTERS)}


def _stripped(
    expected: Mapping[str, Tensor], weights: dict[str, Tensor]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """What wrappers such as DataParallel or Lightning put before the expected names, and the weights without it."""
    counts: Counter[str] = Counter()
    for name in weights:
        parts = name.split(".")
        heads = (cut for cut in range(len(parts)) if ".".join(parts[cut:]) in expected)
        counts.update("".join(f"{part}." for part in parts[:cut]) for cut in heads)
    for prefix, _ in counts.most_common(4):
        inner = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
        yield prefix.rstrip("."), inner


def _renamed(weights: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    yield "", weights
    other = dict(weights)
    for pattern, name in RENAMED:
        other = {re.sub(pattern, name, key): value for key, value in other.items()}
    if other.keys() != weights.keys():
        yield "shortcut to downsample, linear to fc", other


def _fit(
    expected: Mapping[str, Tensor], weights: dict[str, Tensor], place: str = "", renamed: str = ""
) -> Fit:
    fitting, missing, counts = {}, [], set()
    for name, value in expected.items():
        got = weights.get(name)
        if got is not None and got.shape == value.shape:
            fitting[name] = got
        elif not name.endswith(COUNTERS):
            has = "is missing" if got is None else f"has shape {tuple(got.shape)}"
            missing.append(f"{name} {has}, expected {tuple(value.shape)}")
            head = got is not None and got.ndim == value.ndim > 0 and got.shape[1:] == value.shape[1:]
            counts.add(len(got) if got is not None and head else None)
    surplus = tuple(name for name in _without_counters(weights) if name not in expected)
    classes = counts.pop() if len(counts) == 1 and not surplus else None
    return Fit(fitting, tuple(missing), place, surplus, classes, renamed)


def _in_order(expected: Mapping[str, Tensor], nested: list[tuple[str, dict[str, Tensor]]]) -> Fit | None:
    """The weights of the same network under other names: as many, of the same kinds and shapes in the same order."""
    own = _without_counters(expected)
    kinds = [(name.rpartition(".")[2], value.shape) for name, value in own.items()]
    for nest, found in nested:
        weights = _without_counters(found)
        if [(name.rpartition(".")[2], value.shape) for name, value in weights.items()] == kinds:
            matched = dict(zip(own, weights.values(), strict=True))
            how = "by their order, because names differ and all shapes fit"
            return Fit(matched, (), nest, renamed=how)
    return None

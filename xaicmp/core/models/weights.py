"""Weights in a file, in whatever form people keep them, and the network that takes them.

They are read as tensors and plain values only: nothing in a file is run.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xaicmp.core.machine.storage import contents
from xaicmp.errors import XaicmpError, arg

FORMAT = "xaicmp checkpoint 1"
"""What our own files say they are."""
NESTS = ("state_dict", "model_state_dict", "model", "net", "module", "ema", "model_ema", "state_dict_ema")
"""Under which keys training programs keep the weights; the first that fits best is taken."""
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.", "net.")
"""What wrappers put before every name: DataParallel, torch.compile, Lightning and others."""
RENAMED = ((r"\bshortcut\b", "downsample"), (r"^linear\b", "fc"))
"""How a widely used CIFAR code base calls what torchvision's ResNets call otherwise."""
EXPORTED = (b"serialized_exported_program", b"/archive_format")
"""What is in every file of ``torch.export``, of older and newer versions."""
COUNTER = "num_batches_tracked"
"""What takes no part in an evaluation, so that a file may lack it."""
HARMLESS: list[Any] = [argparse.Namespace, np.dtype, np.ndarray, *(type(np.dtype(each)) for each in "fdlqi")]
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
        nest: under which key of the file the weights were.
        surplus: what the file holds besides.
        classes: if nothing but the number of classes differs, that of the file.
        renamed: how names were changed, if they were.
    """

    weights: dict[str, Tensor]
    missing: tuple[str, ...]
    nest: str
    surplus: tuple[str, ...]
    classes: int | None = None
    renamed: str = ""

    @property
    def complete(self) -> bool:
        """Whether the network can take them."""
        return not self.missing and not self.surplus


def read_weights(path: Path) -> WeightsFile:
    """Read a ``.pt``, ``.pth`` or ``.safetensors`` file.

    Raises:
        XaicmpError: missing, unreadable, damaged, or more than tensors and plain values; one of our own that is
            incomplete, of a newer version, or whose weights do not have their sum.
    """
    try:
        content = contents(path)
    except OSError as error:
        raise XaicmpError(
            f"cannot read checkpoint {path}: {error.strerror}; train one with `xaicmp train`, "
            f"or leave out {arg('checkpoint')} to use the one that ships"
        ) from error
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    document = read(path, content)
    if not isinstance(document, dict):
        raise XaicmpError(f"checkpoint {path} holds a {type(document).__name__}, not weights; use another")
    _check_ours(path, document)
    return WeightsFile(path, hashlib.sha256(content).hexdigest(), document)


def best_fit(module: nn.Module, document: Mapping[str, Any]) -> Fit:
    """The weights in ``document``, nested, prefixed or named as they may be, that fit ``module`` best."""
    expected = module.state_dict()
    fits = [
        _fit(expected, weights, nest, renamed)
        for nest, found in _nested(document)
        for stripped in _stripped(found)
        for renamed, weights in _renamed(stripped)
    ]
    if not fits:
        return Fit({}, tuple(f"{name} is missing" for name in expected), "", ())
    best = max(fits, key=lambda fit: (fit.complete, len(fit.weights), -len(fit.surplus)))
    return best if best.complete or best.classes else _in_order(expected, document) or best


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
        # Their extremes are, and are found in a tenth of the time that looking at each takes.
        if got.numel() and not torch.stack(got.float().aminmax()).isfinite().all():
            raise XaicmpError(f"checkpoint {path} has values in {name} that are not finite; train it again")
        layout = torch.channels_last if own[name].ndim == 4 else torch.contiguous_format
        copies[name] = got.detach().to(own[name].dtype, copy=True, memory_format=layout)
    module.load_state_dict(copies, strict=False, assign=True)
    if not any(bool(each.any()) for each in module.parameters()):
        raise XaicmpError(f"checkpoint {path} has weights that are all 0; use a trained one")


def sha256_of(weights: Mapping[str, Tensor]) -> str:
    """Of the names, types, shapes and values of a ``state_dict``."""
    digest = hashlib.sha256()
    for name, value in weights.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_ours(path: Path, document: Mapping[str, Any]) -> None:
    if document.get("format") != FORMAT:
        if str(document.get("format")).startswith("xaicmp checkpoint"):
            raise XaicmpError(f"checkpoint {path} was written by a newer xaicmp; upgrade to read it")
        return
    weights = document.get("state_dict")
    if not isinstance(weights, Mapping) or not isinstance(document.get("metadata"), dict):
        raise XaicmpError(f"checkpoint {path} lacks its weights or metadata; use another")
    if (written := document.get("sha256")) and written != sha256_of(_tensors(weights)):
        raise XaicmpError(
            f"refused checkpoint {path}: its weights are not those that were written; use another"
        )


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
        if "TorchScript" in text or any(name in content for name in EXPORTED):
            reason = "it is a compiled program, whose layers cannot be observed"
            way = "give the network's own code as the model, and its state_dict as the checkpoint"
        elif found := re.search(r"Unsupported (?:global|class)[^\n]*?GLOBAL ([\w.]+)", text):
            reason = f"it holds more than tensors and plain values: {found[1]}, which would run code when it is opened"
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
    return {name: value for name, value in weights.items() if not name.endswith(COUNTER)}


def _nested(
    document: Mapping[Any, Any], nest: str = "", depth: int = 3
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The mappings in ``document`` that hold tensors, and under which keys they are."""
    if tensors := _tensors(document):
        yield nest, tensors
    for key in NESTS if depth else ():
        if isinstance(inner := document.get(key), Mapping):
            yield from _nested(inner, f"{nest}.{key}" if nest else key, depth - 1)


def _stripped(weights: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The weights, and those of them under each prefix, without it."""
    yield weights
    for each in PREFIXES:
        if inner := {name[len(each) :]: value for name, value in weights.items() if name.startswith(each)}:
            yield from _stripped(inner)


def _renamed(weights: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    yield "", weights
    other = dict(weights)
    for pattern, name in RENAMED:
        other = {re.sub(pattern, name, key): value for key, value in other.items()}
    if other.keys() != weights.keys():
        yield "shortcut to downsample, linear to fc", other


def _fit(expected: Mapping[str, Tensor], weights: dict[str, Tensor], nest: str, renamed: str) -> Fit:
    fitting, missing, counts = {}, [], set()
    for name, value in expected.items():
        got = weights.get(name)
        if got is not None and got.shape == value.shape:
            fitting[name] = got
        if name in fitting or name.endswith(COUNTER):
            continue
        has = "is missing" if got is None else f"has shape {tuple(got.shape)}"
        missing.append(f"{name} {has}, expected {tuple(value.shape)}")
        heads = got is not None and got.ndim and value.ndim and got.shape[1:] == value.shape[1:]
        counts.add(int(got.shape[0]) if got is not None and heads else None)
    surplus = tuple(name for name in _without_counters(weights) if name not in expected)
    classes = counts.pop() if len(counts) == 1 and len(missing) <= 2 and not surplus else None
    return Fit(fitting, tuple(missing), nest, surplus, classes, renamed)


def _in_order(expected: Mapping[str, Tensor], document: Mapping[str, Any]) -> Fit | None:
    """The weights of the same network under other names: as many, of the same kinds and shapes in the same order."""
    expected = _without_counters(expected)
    for nest, found in _nested(document):
        weights = _without_counters(found)
        pairs = list(zip(expected.items(), weights.items(), strict=False))
        if len(expected) == len(weights) and all(
            own.rpartition(".")[2] == name.rpartition(".")[2] and value.shape == got.shape
            for (own, value), (name, got) in pairs
        ):
            matched = {own: got for (own, _), (_, got) in pairs}
            return Fit(
                matched, (), nest, (), renamed="by their order, because names differ and all shapes fit"
            )
    return None

"""Checkpoints that say what they are.

A checkpoint is a dict of tensors and plain values, read with ``torch.load(weights_only=True)``:
``format``, ``state_dict``, ``metadata`` and, between the epochs of a training, ``training``.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.images.cifar10 import CLASSES, MEAN, STD
from xaicmp.core.machine.storage import contents, replacing
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.classifier import Classifier
from xaicmp.errors import XaicmpError, arg

FORMAT = "xaicmp checkpoint 1"
DEFAULT = Path("checkpoints") / "resnet18.pt"
SHIPPED = "resnet18-cifar10.pt"
SHIPPED_SHA256 = "417d3f0e10fc18247ffbc468b72586234b85c06f37ea1422787db1b8f8c70bfc"


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """What a file holds: a trained classifier, and what is known about it.

    Attributes:
        path: the file.
        sha256: of the file's bytes.
        classifier: its module is in eval mode, float32, channels last.
        metadata: everything that the file records: recipe, epochs, seed, data, versions, history.
        training: what a training resumes from; None once it is complete.
    """

    path: Path
    sha256: str
    classifier: Classifier
    metadata: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] | None = None

    @property
    def test_accuracy(self) -> float | None:
        """Share of the test set that it classifies correctly, if the file says so."""
        return self.metadata.get("test_accuracy")

    def __repr__(self) -> str:
        return f"Checkpoint({self.path}, {self.classifier!r})"


def shipped_checkpoint() -> Path:
    """The checkpoint that comes with xaicmp: inside an installed package, beside it in a checkout."""
    package = Path(str(files("xaicmp")))
    inside = package / "checkpoints" / SHIPPED
    return inside if inside.is_file() else package.parent / "checkpoints" / SHIPPED


def default_checkpoint() -> Path:
    """``checkpoints/resnet18.pt`` in the working folder if you have trained one, else the shipped one."""
    return DEFAULT if DEFAULT.is_file() else shipped_checkpoint()


def load_checkpoint(path: Path | None = None) -> Checkpoint:
    """Read a checkpoint of ours, or a bare ``state_dict`` of the CIFAR ResNet-18.

    Args:
        path: the file; without it ``default_checkpoint()``.

    Raises:
        XaicmpError: missing, unreadable, damaged, foreign, or more than tensors and plain values.
    """
    path = default_checkpoint() if path is None else path
    try:
        content = contents(path)
    except OSError as error:
        raise XaicmpError(
            f"cannot read checkpoint {path}: {error.strerror}; train one with `xaicmp train`, "
            f"or leave out {arg('checkpoint')} to use the one that ships"
        ) from error
    document = _read(path, content)
    if document.get("format") == FORMAT:
        weights, metadata = document.get("state_dict"), document.get("metadata")
        if not isinstance(weights, Mapping) or not isinstance(metadata, dict):
            raise XaicmpError(f"checkpoint {path} lacks its weights or metadata; use another")
    elif str(document.get("format")).startswith("xaicmp checkpoint"):
        raise XaicmpError(f"checkpoint {path} was written by a newer xaicmp; upgrade to read it")
    else:
        weights, metadata = document, {}
    _check_metadata(metadata, path)
    architecture = metadata.get("architecture", "resnet18-cifar")
    classes = tuple(metadata.get("classes", CLASSES))
    # Initial weights are drawn, only to be replaced: on the meta device, torch would load its compiler to save that.
    with torch.random.fork_rng(devices=[]):
        model = ARCHITECTURES[architecture](len(classes))
    _fill(model, weights, path, architecture)
    if not any(bool(each.any()) for each in model.parameters()):
        raise XaicmpError(f"checkpoint {path} has weights that are all 0; use a trained one")
    sha256 = hashlib.sha256(content).hexdigest()
    _check_sums(path, sha256, document, weights)
    classifier = Classifier(
        model.eval(),
        classes,
        tuple(metadata.get("mean", MEAN)),
        tuple(metadata.get("std", STD)),
        name=f"{path.name}, shipped with xaicmp" if path == shipped_checkpoint() else str(path),
        provenance={
            "path": str(path),
            "sha256": sha256,
            "architecture": architecture,
            "test_accuracy": metadata.get("test_accuracy"),
        },
    )
    training = document.get("training") if metadata else None
    return Checkpoint(path, sha256, classifier, metadata, training)


def save_checkpoint(
    path: Path,
    model: nn.Module,
    metadata: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint, replacing ``path`` only once it is complete.

    Args:
        path: the file.
        model: whose ``state_dict`` is stored, floating-point tensors in ``dtype``.
        metadata: plain values only; ``architecture`` must be a name in ``ARCHITECTURES``.
        dtype: of the stored weights.
        training: state to resume from, if the training is to go on.

    Raises:
        XaicmpError: the file cannot be written.
    """
    weights = stored_weights(model, dtype)
    document = {
        "format": FORMAT,
        "state_dict": weights,
        "sha256": sha256_of(weights),
        "metadata": dict(metadata),
    }
    if training is not None:
        document["training"] = dict(training)
    # Through memory, so that a full disk is an OSError like any other.
    buffer = io.BytesIO()
    torch.save(document, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def stored_weights(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The model's ``state_dict`` as a file holds it: on the CPU, contiguous, floats in ``dtype``."""
    return {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for name, value in model.state_dict().items()
    }


def sha256_of(weights: Mapping[str, Tensor]) -> str:
    """Of the names, types, shapes and values of a ``state_dict``."""
    digest = hashlib.sha256()
    for name, value in weights.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_sums(path: Path, sha256: str, document: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Raise XaicmpError if the file that ships, or weights that carry their sum, are not what was written."""
    if path == shipped_checkpoint() and sha256 != SHIPPED_SHA256:
        raise XaicmpError(f"checkpoint {path} is not the one that ships: it is damaged; install xaicmp again")
    if document.get("format") == FORMAT and document.get("sha256", sum_ := sha256_of(weights)) != sum_:
        raise XaicmpError(
            f"refused checkpoint {path}: its weights are not those that were written; use another"
        )


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


def _read(path: Path, content: bytes) -> dict[str, Any]:
    try:
        _check_archive(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one line says it all
            document = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a hostile or damaged file makes it raise
        if "weights_only" in str(error) or "Weights only" in str(error):
            reason = "it holds more than tensors and plain values, or is no checkpoint at all"
        else:
            reason = "it is damaged or no checkpoint"
        raise XaicmpError(
            f"refused checkpoint {path}: {reason}; use one that `xaicmp train` or torch.save(state_dict) wrote"
        ) from error
    if not isinstance(document, dict):
        raise XaicmpError(f"checkpoint {path} holds a {type(document).__name__}, not weights; use another")
    return document


def _check_metadata(metadata: Mapping[str, Any], path: Path) -> None:
    """Raise XaicmpError unless what a reader relies on is of the right kind, where it is given."""
    architecture = metadata.get("architecture", "resnet18-cifar")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise XaicmpError(
            f"checkpoint {path} is of the unknown architecture {architecture!r}; "
            f"this version knows {', '.join(ARCHITECTURES)}"
        )

    def numbers(values: Any) -> bool:
        return is_list(values) and len(values) == 3 and all(math.isfinite(value) for value in values)

    def is_list(values: Any) -> bool:
        return isinstance(values, list | tuple)

    sound: dict[str, Callable[[Any], bool]] = {
        "classes": lambda names: (
            is_list(names) and len(names) > 1 and all(isinstance(name, str) for name in names)
        ),
        "mean": numbers,
        "std": lambda values: numbers(values) and min(values) > 0,
        "test_accuracy": lambda share: share is None or 0 <= share <= 1,
        "history": lambda epochs: is_list(epochs) and all(0 <= each["test_accuracy"] <= 1 for each in epochs),
    }
    for name, value in metadata.items():
        try:
            right = is_plain(value) and sound.get(name, is_plain)(value)
        except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
            right = False
        if not right:
            what = f"{value!r:.40}" if is_plain(value, 0) else f"a {type(value).__name__}"
            raise XaicmpError(
                f"checkpoint {path} has no sound {name!s:.40} in its metadata: {what}; use another"
            )


def is_plain(value: Any, deep: int = 8) -> bool:
    """Whether it is text, a number that is not huge, None, or lists and mappings of these."""
    if isinstance(value, list | tuple | dict):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return deep > 0 and all(is_plain(each, deep - 1) for each in inner)
    return value is None or isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**64)


def _fill(model: nn.Module, weights: Mapping[str, Any], path: Path, architecture: str) -> None:
    """Give ``model`` copies of ``weights``, channels last, whatever number type and ``module.`` prefix they have."""
    found = {str(name).removeprefix("module."): value for name, value in weights.items()}
    expected = model.state_dict()
    for name, value in expected.items():
        got = found.get(name)
        if not isinstance(got, Tensor) or got.shape != value.shape:
            has = f"has shape {tuple(got.shape)}" if isinstance(got, Tensor) else "is missing"
            raise XaicmpError(
                f"checkpoint {path} does not fit {architecture}: {name} {has}, expected {tuple(value.shape)}; "
                "use a checkpoint of this architecture"
            )
        if got.layout != torch.strided or got.is_complex() or got.is_quantized or got.is_meta:
            raise XaicmpError(f"checkpoint {path} has {name} in a form other than plain numbers; use another")
        # Their extremes are, and are found in a tenth of the time that looking at each takes.
        if not torch.stack(got.float().aminmax()).isfinite().all():
            raise XaicmpError(f"checkpoint {path} has values in {name} that are not finite; train it again")
    if surplus := found.keys() - expected.keys():
        raise XaicmpError(
            f"checkpoint {path} does not fit {architecture}: it also holds {min(surplus)}; "
            "use a checkpoint of this architecture"
        )
    copies = {
        name: found[name]
        .detach()
        .to(
            value.dtype,
            copy=True,
            memory_format=torch.channels_last if value.ndim == 4 else torch.contiguous_format,
        )
        for name, value in expected.items()
    }
    model.load_state_dict(copies, assign=True)

"""Checkpoints that say what they are.

A checkpoint is a dict of tensors and plain values, read with ``torch.load(weights_only=True)``:
``format``, ``state_dict``, ``metadata`` and, between the epochs of a training, ``training``.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.images.cifar10 import CLASSES, MEAN, STD
from xaicmp.core.machine.storage import replacing
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.classifier import Classifier
from xaicmp.errors import XaicmpError, arg

FORMAT = "xaicmp checkpoint 1"
DEFAULT = Path("checkpoints") / "resnet18.pt"
SHIPPED = "resnet18-cifar10.pt"


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
        content = path.read_bytes()
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
    sha256 = hashlib.sha256(content).hexdigest()
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
    document = {
        "format": FORMAT,
        "state_dict": stored_weights(model, dtype),
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


def _read(path: Path, content: bytes) -> dict[str, Any]:
    try:
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
        return len(values) == 3 and all(math.isfinite(value) for value in values)

    sound: dict[str, Callable[[Any], bool]] = {
        "classes": lambda names: len(names) > 1 and all(isinstance(name, str) for name in names),
        "mean": numbers,
        "std": lambda values: numbers(values) and min(values) > 0,
        "test_accuracy": lambda share: share is None or 0 <= share <= 1,
    }
    for name, is_sound in sound.items():
        try:
            right = name not in metadata or is_sound(metadata[name])
        except (TypeError, ValueError, RuntimeError):
            right = False
        if not right:
            raise XaicmpError(
                f"checkpoint {path} has no sound {name} in its metadata: {metadata[name]!r:.40}; use another"
            )


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
        name: found[name].to(
            value.dtype,
            copy=True,
            memory_format=torch.channels_last if value.ndim == 4 else torch.contiguous_format,
        )
        for name, value in expected.items()
    }
    model.load_state_dict(copies, assign=True)

"""Checkpoints that say what they are.

A checkpoint is a dict of tensors and plain values, read with ``torch.load(weights_only=True)``:
``format``, ``state_dict``, ``metadata`` and, between the epochs of a training, ``training``.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.images.cifar10 import CLASSES
from xaicmp.core.machine.storage import replacing
from xaicmp.core.models.architectures import BARE
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.loading import Remark, with_file
from xaicmp.core.models.metadata import check_architecture
from xaicmp.core.models.sources import find_source, own
from xaicmp.core.models.weights import FORMAT, read_weights, sha256_of
from xaicmp.errors import XaicmpError

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


def load_checkpoint(
    path: Path | None = None,
    remark: Remark = lambda message: None,
    *,
    architecture: str | None = None,
    given: Collection[str] = (),
) -> Checkpoint:
    """Read a checkpoint of ours, or weights of the CIFAR ResNet-18 in any form that ``best_fit`` knows.

    Args:
        path: the file; without it ``default_checkpoint()``.
        remark: told what was assumed, where the file does not say.
        architecture: the network, which may then also be code of your own; by default the one that the file names.
        given: see ``load_network``.

    Raises:
        XaicmpError: missing, unreadable, damaged, foreign, or more than tensors and plain values.
    """
    file = read_weights(default_checkpoint() if path is None else path)
    path, document = file.path, file.document
    if path == shipped_checkpoint() and file.sha256 != SHIPPED_SHA256:
        raise XaicmpError(f"checkpoint {path} is not the one that ships: it is damaged; install xaicmp again")
    if document.get("format") != FORMAT:
        return Checkpoint(path, file.sha256, with_file(own, BARE, file, remark, given))
    metadata = document["metadata"]
    named = architecture or metadata.get("architecture", BARE)
    if architecture is None:
        check_architecture(named, path)
    source, rest = find_source(named)
    classifier = replace(
        with_file(source, rest, file, remark, given),
        classes=tuple(metadata.get("classes", CLASSES)),
        name=f"{path.name}, shipped with xaicmp" if path == shipped_checkpoint() else str(path),
        provenance={
            "path": str(path),
            "sha256": file.sha256,
            "architecture": named,
            "test_accuracy": metadata.get("test_accuracy"),
        },
    )
    return Checkpoint(path, file.sha256, classifier, metadata, document.get("training"))


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
        metadata: plain values only; ``architecture`` names the network, see ``find_source``.
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

"""Where the numbers of a comparison come from: for captions, documents and journals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from platform import python_version
from typing import Any

import numpy as np
from torch import Tensor

from xaicmp.core.attribution import Method
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSource
from xaicmp.core.models.architectures import BARE
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.weights import sha256_of
from xaicmp.core.results.comparison import Source
from xaicmp.core.results.predictions import UNKNOWN, Predictions
from xaicmp.core.run.engine import NOT_FINITE, REPEATED, Engine

CHECKPOINT = ("path", "sha256", "architecture", "weights", "test_accuracy")


def source_of(
    engine: Engine, images: ImageSource, predictions: Predictions, methods: Sequence[Method]
) -> Source:
    """Which model, how accurate, on which images, explained how."""
    wrong = int(predictions.wrong.sum())
    marked = f", {wrong} of them classified wrongly" if wrong else ""
    fast = " Approximate: fast." if engine.fast else ""
    reasons = {NOT_FINITE: engine.excluded, REPEATED: engine.repeated}
    left = "".join(f" {why.format(len(ids)).capitalize()}." for why, ids in reasons.items() if ids)
    provenance = engine.classifier.provenance
    names = images.names(predictions.ids)
    return Source(
        f"{_about(engine.classifier)}; {images.about}{marked}.{left}{fast}",
        {
            "checkpoint": {key: provenance.get(key) for key in CHECKPOINT},
            "data": images.provenance,
            "excluded": list(engine.excluded),
            "repeated": list(engine.repeated),
            "options": {method.name: {"reduce": method.reduction} | method.options for method in methods},
            "layer": engine.layer,
            "seed": engine.seed,
            "device": str(engine.device),
            "precision": engine.precision,
            "fast": engine.fast,
            "batch_size": engine.batch_size,
            "versions": versions(),
        },
        classes_of(engine.classifier, images, predictions),
        tuple(names) if any(names) else (),
    )


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {"python": python_version()} | {name: version(name) for name in ("torch", "captum", "xaicmp")}


def classes_of(classifier: Classifier, images: ImageSource, predictions: Predictions) -> tuple[str, ...]:
    """The names of the classes: the model's, else those of the images if they are enough, else numbers."""
    highest = max(
        int(each.max()) for each in (predictions.predicted, predictions.targets, predictions.labels)
    )
    own = images.classes if len(images.classes) > highest else ()
    classes = classifier.classes or own or tuple(map(str, range(1 + highest)))
    # Unknown labels are -1: the last.
    return (*classes, UNKNOWN) if (predictions.labels < 0).any() else classes


def _about(classifier: Classifier) -> str:
    provenance = classifier.provenance
    accuracy = provenance.get("test_accuracy")
    if "path" not in provenance or (accuracy is None and provenance.get("architecture") != BARE):
        return f"Model {classifier.name}"
    known = "unknown test accuracy" if accuracy is None else f"test accuracy {100 * accuracy:.2f}%"
    return f"Checkpoint {classifier.name} ({known})"


def plan_of(
    engine: Engine, selection: Selection, methods: Sequence[Method], target: Any = "predicted"
) -> dict[str, Any]:
    """What determines the explanations of a selection, as plain values; the images themselves aside."""
    return {
        "xaicmp": version("xaicmp"),
        "checkpoint": engine.classifier.provenance.get("sha256")
        or sha256_of(engine.classifier.module.state_dict()),
        "preprocessing": engine.classifier.preprocessing,
        **asdict(selection),
        "methods": {each.name: f"{each.reduction} {each.options}" for each in methods},
        "target": target.tolist() if isinstance(target, np.ndarray | Tensor) else target,
        "layer": engine.layer,
        "seed": engine.seed,
        "device": engine.device.type,
        "precision": engine.precision,
        "fast": engine.fast,
        "batch_size": engine.batch_size,
    }

"""Where the numbers of a comparison come from: for captions, documents and journals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from xaicmp.core.attribution import Method
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSet
from xaicmp.core.results.comparison import Source
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.run.engine import Engine


def _source(engine: Engine, images: ImageSet, chosen: Predictions, methods: Sequence[Method]) -> Source:
    """Which checkpoint, how accurate, on which images, explained how."""
    checkpoint = engine.checkpoint
    accuracy = checkpoint.test_accuracy
    known = "unknown test accuracy" if accuracy is None else f"test accuracy {100 * accuracy:.2f}%"
    where = "sample in the package" if images.sample else f"{images.split} set"
    verified = "" if images.verified else ", checksums not the official ones"
    wrong = int(chosen.wrong.sum())
    marked = f", {wrong} of them classified wrongly" if wrong else ""
    name = f"{checkpoint.path.name}, shipped with xaicmp" if checkpoint.shipped else checkpoint.path
    fast = " Approximate: --fast." if engine.fast else ""
    return Source(
        f"Checkpoint {name} ({known}); {images.name} {where}{verified}{marked}.{fast}",
        {
            "checkpoint": {
                "path": str(checkpoint.path),
                "sha256": checkpoint.sha256,
                "architecture": checkpoint.architecture,
                "test_accuracy": accuracy,
            },
            "data": {
                "name": images.name,
                "split": images.split,
                "verified": images.verified,
                "sample": images.sample,
            },
            "options": {method.name: {"reduce": method.reduction} | method.options for method in methods},
            "layer": engine.layer,
            "seed": engine.seed,
            "device": str(engine.device),
            "precision": engine.precision,
            "fast": engine.fast,
            "batch_size": engine.batch_size,
        },
        images.classes,
    )


def plan_of(
    engine: Engine, selection: Selection, methods: Sequence[Method], target: str = "predicted"
) -> dict[str, Any]:
    """What determines the explanations of a selection, as plain values; the images themselves aside."""
    return {
        "xaicmp": version("xaicmp"),
        "checkpoint": engine.checkpoint.sha256,
        **asdict(selection),
        "methods": {each.name: f"{each.reduction} {each.options}" for each in methods},
        "target": target,
        "layer": engine.layer,
        "seed": engine.seed,
        "device": engine.device.type,
        "precision": engine.precision,
        "batch_size": engine.batch_size,
    }

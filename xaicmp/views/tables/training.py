"""A training: what a checkpoint records, and its epochs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xaicmp.core.machine.storage import contents
from xaicmp.core.models.checkpoint import Checkpoint
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.training.loop import Epoch
from xaicmp.errors import XaicmpError
from xaicmp.views.table import Table, of_records, to_csv


def history_text(history: Sequence[Epoch], suffix: str) -> str:
    """A training's epochs as JSON (``".json"``) or CSV."""
    rows = [asdict(epoch) for epoch in history]
    return (
        json.dumps(rows, indent=2, allow_nan=False) + "\n" if suffix == ".json" else to_csv(of_records(rows))
    )


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs in a file that ``history_text`` has written as JSON.

    Raises:
        XaicmpError: the file cannot be read, or holds something else.
    """
    keys = ("epoch", "loss", "train_accuracy", "test_accuracy")
    try:
        epochs = json.loads(contents(path))
        return [{key: float(each[key]) for key in keys} for each in epochs]
    except OSError as error:
        raise XaicmpError(f"cannot read {path}: {error.strerror or error}; give another file") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise XaicmpError(
            f"{path} holds no training; `xaicmp train --output history.json` writes one"
        ) from error


def checkpoint_table(checkpoint: Checkpoint) -> Table:
    """Everything that a checkpoint records of itself, one row per value."""
    rows: list[list[str]] = [["path", str(checkpoint.path)], ["sha256", checkpoint.sha256]]
    for name, value in checkpoint.metadata.items():
        if name == "history":
            accuracies = ", ".join(f"{100 * epoch['test_accuracy']:.2f}%" for epoch in value)
            rows.append(["test accuracy by epoch", accuracies])
        elif name == "test_files":
            rows.append(["test files", f"{len(value):,}: {value[0]}, ..."])
        else:
            rows.append([name.replace("_", " "), _plain(value)])
    rows.append(["preprocessing", checkpoint.classifier.preprocessing])
    return Table(["Checkpoint", ""], rows, left=2)


def model_table(classifier: Classifier) -> Table:
    """What is known of a model that no checkpoint of ours describes, one row per value."""
    rows = [[name, str(value)] for name, value in classifier.provenance.items() if value is not None]
    classes = ", ".join(classifier.classes[:10]) + ", ..." * (len(classifier.classes) > 10)
    rows += [["classes", f"{len(classifier.classes)}: {classes}" if classes else "unnamed"]]
    rows += [["preprocessing", classifier.preprocessing]]
    return Table([classifier.name, ""], rows, left=2)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(f"{each:.4g}" if isinstance(each, float) else str(each) for each in value)
    return "; ".join(str(value).splitlines())


def epochs_table(epochs: Sequence[Epoch], *, header: bool = True) -> Table:
    """One row per epoch, in columns of fixed width, so that rows printed one by one make one table."""
    rows = [
        [
            str(epoch.epoch),
            f"{epoch.loss:.4f}",
            f"{100 * epoch.train_accuracy:.2f}%",
            f"{100 * epoch.test_accuracy:.2f}%",
            f"{epoch.seconds:.1f}",
            f"{epoch.images_per_second:.0f}",
        ]
        for epoch in epochs
    ]
    titles = ("Epoch", "Loss", "Train acc.", "Test acc.", "Seconds", "Images/s")
    fixed = [[cell.rjust(10) for cell in row] for row in (titles, *rows)]
    return Table(fixed[0], fixed[1:], header=header)

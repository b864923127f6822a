"""What a checkpoint of ours records about its network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xaicmp.core.choices import INTERPOLATIONS
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.classifier import MOST_SIDE, Classifier
from xaicmp.errors import XaicmpError, arg

NAMED = ("torchvision", "timm")
"""The sources that a file may name: they run no code of the file's author."""
DESCRIBED = ("classes", "mean", "std", "input_size", "crop_pct", "interpolation", "test_files")


def described(classifier: Classifier, metadata: Mapping[str, Any]) -> Classifier:
    """The classifier with the classes and the preprocessing that sound metadata give."""
    return replace(classifier, **{name: metadata[name] for name in DESCRIBED if name in metadata})


def check_architecture(architecture: Any, path: Path) -> None:
    """Raise XaicmpError unless a file may name this network."""
    known = isinstance(architecture, str) and (
        architecture in ARCHITECTURES or architecture.partition(":")[0] in NAMED
    )
    if not known:  # a module of somebody's own is only run where the user names it
        raise XaicmpError(
            f"checkpoint {path} is of the unknown architecture {architecture!r:.80}; "
            f"this version knows {', '.join(ARCHITECTURES)}; another, or code that you trust, is named as {arg('model')}"
        )


def check_metadata(metadata: Mapping[str, Any], path: Path) -> None:
    """Raise XaicmpError unless every value that is given is of the right kind."""

    def numbers(values: Any) -> bool:
        return is_list(values) and len(values) == 3 and all(math.isfinite(value) for value in values)

    def is_list(values: Any) -> bool:
        return isinstance(values, list | tuple)

    def texts(values: Any) -> bool:
        return is_list(values) and all(isinstance(each, str) for each in values)

    sound: dict[str, Callable[[Any], bool]] = {
        "classes": lambda names: texts(names) and len(names) > 1,
        "mean": numbers,
        "std": lambda values: numbers(values) and min(values) > 0,
        "input_size": lambda size: (
            len(size) == 2 and all(isinstance(side, int) and 0 < side < MOST_SIDE for side in size)
        ),
        "crop_pct": lambda share: 0 < share <= 1,
        "interpolation": lambda name: name in INTERPOLATIONS,
        "test_files": texts,
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

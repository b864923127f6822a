"""Where classifiers come from, by the word before the colon of what is asked for.

To add a source, decorate a function ``str -> Classifier`` with ``@model_source(name)``: ``name:rest`` then calls it
with ``rest``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xaicmp.core.models.checkpoint import load_checkpoint
from xaicmp.core.models.classifier import Classifier

MODELS: dict[str, Callable[[str], Classifier]] = {}


def model_source(name: str) -> Callable[[Callable[[str], Classifier]], Callable[[str], Classifier]]:
    """Enter the decorated function into ``MODELS``."""

    def register(function: Callable[[str], Classifier]) -> Callable[[str], Classifier]:
        MODELS[name] = function
        return function

    return register


@model_source("checkpoint")
def from_checkpoint(path: str) -> Classifier:
    """A checkpoint file, see ``load_checkpoint``."""
    return load_checkpoint(Path(path)).classifier


def find_model(spec: str) -> Classifier:
    """What ``spec`` names: ``source:rest``, or else the path of a checkpoint."""
    name, colon, rest = spec.partition(":")
    return MODELS[name](rest) if colon and name in MODELS else from_checkpoint(spec)

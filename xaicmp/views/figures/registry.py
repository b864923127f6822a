"""The kinds of figures. To add one, decorate a function in a file of its own with ``@figure_kind(name)``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from matplotlib.figure import Figure

from xaicmp.errors import UsageError
from xaicmp.views.figures.style import ours

KINDS: dict[str, Callable[..., Figure]] = {}
FILES = ("maps", "shares", "randomisation", "faithfulness", "training", "clusters")


def figure_kind(name: str) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Enter the decorated function into ``KINDS``."""

    def register(function: Callable[..., Figure]) -> Callable[..., Figure]:
        KINDS[name] = ours()(function)
        return KINDS[name]

    return register


def draw(kind: str, *data: Any) -> Figure:
    """A figure of ``kind``, of what its function takes.

    Raises:
        UsageError: an unknown kind.
    """
    if kind not in kinds():
        raise UsageError(f"unknown figure {kind!r}; choose from {', '.join(KINDS)}")
    return KINDS[kind](*data)


def kinds() -> dict[str, Callable[..., Figure]]:
    """Every kind by its name, those that ship included."""
    for file in FILES:
        import_module(f"xaicmp.views.figures.{file}")
    return KINDS

"""Progress of long work, for those who show it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is; 0 of 0 if unknown."""


def no_progress(stage: str, done: float, total: float) -> None:
    """Show nothing."""

"""Progress: bars on a terminal, lines elsewhere, and a line that says how long a long stage will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

ENOUGH, LONG = 5.0, 60.0
"""Seconds after which the length of a stage is estimated, and seconds from which a stage is long."""
OFTEN, SELDOM, TENTH = 10.0, 30.0, 0.1
"""Without a terminal, a line is printed after ``TENTH`` of the work and ``OFTEN`` seconds, or after ``SELDOM`` seconds."""


@dataclass
class _Stage:
    """A stage: when it began, and which share of its work was and is done."""

    began: float
    first: float
    bar: Any
    share: float
    said_at: float
    said: float
    foretold: bool = False

    def left(self, now: float) -> float | None:
        """The seconds that are left; None if unknown."""
        done = self.share - self.first
        return (now - self.began) * (1 - self.share) / done if done > 0 else None


class Stages:
    """Shows each stage that it is told of with its share, the time that has passed and the time that is left.

    It is called with ``(stage, done, total)``. A stage begins with the first call, and again after it was complete.
    """

    def __init__(self, quiet: bool) -> None:
        self.console = Console(file=sys.stderr)
        self.quiet = quiet
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[share]:>4}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        hidden = quiet or not self.console.is_terminal
        self.bars = Progress(*columns, console=self.console, transient=True, disable=hidden)
        self.stages: dict[str, _Stage] = {}

    def __call__(self, stage: str, done: float, total: float, about: str = "") -> None:
        """Show a stage; ``about`` replaces its name beside the bar."""
        if self.quiet:
            return
        now, share = time.monotonic(), done / total if total else 0.0
        found = self.stages.get(stage)
        if found is None or found.share >= 1 > share:
            if found:
                self.bars.remove_task(found.bar)
            bar = self.bars.add_task(about or stage, total=1 if total else None, share="", left="")
            self.stages[stage] = found = _Stage(now, share, bar, share, now, share)
        found.share = max(found.share, min(share, 1.0))
        left = found.left(now)
        self.bars.update(
            found.bar,
            completed=found.share,
            description=about or stage,
            share=f"{found.share:.0%}" if total else "",
            left=f"{duration(left)} left" if left else "",
        )
        if left is None or found.share >= 1:
            return
        if not found.foretold and now - found.began >= ENOUGH:
            found.foretold = True
            if now - found.began + left >= LONG:
                self._say(f"{stage} takes about {duration(now - found.began + left)} here")
        passed = now - found.said_at
        if not self.console.is_terminal and (
            passed >= SELDOM or (passed >= OFTEN and found.share - found.said >= TENTH)
        ):
            found.said_at, found.said = now, found.share
            gone = duration(now - found.began)
            self._say(f"{stage} {found.share:.0%}, {gone} gone, about {duration(left)} left")

    def _say(self, text: str) -> None:
        self.console.print(f"xaicmp: {text}", markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds in one or two units: ``50 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Stages]:
    """Stages on stderr: bars when that is a terminal, otherwise a line now and then; nothing if ``quiet``.

    Whatever a model prints meanwhile goes to stderr too, because stdout is for results.
    """
    stages = Stages(quiet)
    with stages.bars, redirect_stdout(sys.stderr):
        yield stages

"""Completion of values in the shell. It imports nothing heavy: it reads the names of methods from their source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import xaicmp

REGISTERED = re.compile(r'^@(\w+)\(\s*"([^"]+)"', re.MULTILINE)
"""Matches the decorator that enters a method into the registry: its family and its name."""


def offered(words: Callable[[], Iterable[str]] | Any, end: str = "") -> Callable[[str], list[str]]:
    """A function that completes a value, or the last of several with commas; ``words`` is a Literal or makes a list."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        every = get_args(words) or words()
        return [f"{before}{comma}{word}{end}" for word in every if word.startswith(last)]

    return complete


def method_names() -> list[str]:
    """The names of the groups and of the methods."""
    folder = Path(xaicmp.__file__).parent / "core" / "attribution"
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))]
    found = [pair for text in texts for pair in REGISTERED.findall(text)]
    groups = dict.fromkeys(family.replace("_", "-") for family, _ in found)
    return ["published", *groups, "all", *(name for _, name in found)]

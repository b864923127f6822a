"""docs/python.md is what the public names say of themselves.

``XAICMP_WRITE=1 pytest tests/test_python_reference.py`` writes it again.
"""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import xaicmp

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def documented(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def members(thing: type) -> list[tuple[str, str]]:
    """The public methods and properties that a class itself defines, and their docstrings."""
    found = []
    for name, value in vars(thing).items():
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isfunction(value) and value.__doc__:
            found.append((name, documented(value)))
    return found


def reference() -> str:
    lines = ["# Python reference", "", "Made from the docstrings.", ""]
    for name in xaicmp.__all__:
        thing = getattr(xaicmp, name)
        if not callable(thing):
            lines += [f"## `{name}`", "", f"By name: {', '.join(f'`{each}`' for each in thing)}.", ""]
            continue
        lines += [f"## `{name}`", "", "```text", documented(thing), "```", ""]
        if inspect.isclass(thing):
            for member, about in members(thing):
                lines += [f"### `{name}.{member}`", "", "```text", about, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def test_the_page_is_what_the_names_say() -> None:
    if os.environ.get("XAICMP_WRITE"):
        PAGE.write_text(reference(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_public_function_says_what_it_takes_and_raises() -> None:
    for name in xaicmp.__all__:
        thing = getattr(xaicmp, name)
        if inspect.isfunction(thing):
            about = documented(thing)
            assert len(about.splitlines()[0]) > 10, name
            assert not inspect.signature(thing).parameters or re.search(r"\b(Args|Raises|``)", about), name

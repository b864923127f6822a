"""docs/reference.md is what the commands say of themselves, every option and no other.

``XAICMP_WRITE=1 pytest tests/cli/test_reference.py`` writes it again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from xaicmp.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"


def reference() -> str:
    """Each subcommand's options, by panel."""
    group: Any = typer.main.get_command(app)
    lines = ["# Every option", "", "Made from the commands; `xaicmp SUBCOMMAND --help` shows the same.", ""]
    for name, command in group.commands.items():
        about = (command.help or "").strip().splitlines()[0]
        lines += [f"## `xaicmp {name}`", "", about, ""]
        panels: dict[str, list[Any]] = {}
        for option in command.params:
            if option.name != "help":
                panels.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(option)
        for panel, options in panels.items():
            lines += [f"### {panel}", "", "| option | default | meaning |", "|---|---|---|"]
            for option in options:
                names = ", ".join(f"`{each}`" for each in option.opts)
                plain = option.default is None or option.default is False or callable(option.default)
                default = "" if plain else f"`{option.default}`"
                lines.append(f"| {names} | {default} | {(option.help or '').replace('|', chr(92) + '|')} |")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def test_the_page_is_what_the_commands_say() -> None:
    if os.environ.get("XAICMP_WRITE"):
        PAGE.write_text(reference(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_option_says_what_it_does() -> None:
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        for option in command.params:
            assert option.name == "help" or (option.help or "").strip(), option.name

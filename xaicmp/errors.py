"""The errors this package raises on purpose.

They speak of arguments by ``arg``; the command line alone turns an argument's name into its option.
"""

from __future__ import annotations

import re

START, END = "\ue000", "\ue001"
"""What an argument's name stands between in a message, from Unicode's private use area."""


def arg(name: str) -> str:
    """The name of an argument in a message: ``top`` from Python, ``--top`` on the command line."""
    return f"{START}{name}{END}"


class XaicmpError(Exception):
    """It could not be done. The message is one line: the thing, the reason, the way out."""

    def __str__(self) -> str:
        return re.sub(f"{START}(.*?){END}", r"\1", super().__str__())

    def on_the_command_line(self) -> str:
        """The message with arguments named as the options that they come from."""

        def option(match: re.Match[str]) -> str:
            return f"--{match[1].replace('_', '-')}"

        return re.sub(f"{START}(.*?){END}", option, super().__str__())


class UsageError(XaicmpError):
    """What was asked for cannot be meant: a wrong value rather than a failed attempt."""


class Below(XaicmpError):
    """It was done, and agreement is below what was asked for."""


class Interrupted(XaicmpError):
    """The user stopped it. The message says what is kept and how to resume."""

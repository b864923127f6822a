"""The errors this package raises on purpose.

They speak of arguments by ``arg``; the command line alone turns an argument's name into its option.
"""

from __future__ import annotations

import re

START, END = "\ue000", "\ue001"
"""Marks before and after an argument's name in a message, from Unicode's private use area."""


def arg(name: str) -> str:
    """The name of an argument in a message: ``top`` from Python, ``--top`` on the command line."""
    return f"{START}{name}{END}"


class XaicmpError(Exception):
    """Something could not be done. The message is one line: the thing, the reason, the way out.

    ``exit_code`` is the exit status of a command that ends with the error.
    """

    exit_code = 1

    def __str__(self) -> str:
        return re.sub(f"{START}(.*?){END}", r"\1", super().__str__())

    def on_the_command_line(self) -> str:
        """The message with each argument named as its option."""

        def option(match: re.Match[str]) -> str:
            return f"--{match[1].replace('_', '-')}"

        return re.sub(f"{START}(.*?){END}", option, super().__str__())


class UsageError(XaicmpError):
    """A value is wrong, or values do not go together."""

    exit_code = 2


class Below(XaicmpError):
    """The comparison was done, and agreement is below its bound."""

    exit_code = 3


class Interrupted(XaicmpError):
    """The user stopped it. The message says what is kept and how to resume."""

    exit_code = 130

"""The errors this package raises on purpose, and its remarks.

They speak of arguments by ``arg``; the command line alone turns an argument's name into its option.
"""

from __future__ import annotations

import re
from collections.abc import Callable

START, END = "\ue000", "\ue001"
"""Marks before and after an argument's name in a message, from Unicode's private use area."""


def arg(name: str) -> str:
    """The name of an argument in a message: ``top`` from Python, ``--top`` on the command line."""
    return f"{START}{name}{END}"


def plain(message: str) -> str:
    """The message with each argument by its name."""
    return re.sub(f"{START}(.*?){END}", r"\1", message)


def by_option(message: str) -> str:
    """The message with each argument named as its option."""
    return re.sub(f"{START}(.*?){END}", lambda match: f"--{match[1].replace('_', '-')}", message)


class Line(str):
    """What the user should know, in one line; ``message`` marks the arguments in it."""

    message: str

    def __new__(cls, message: str) -> Line:
        marked = message.message if isinstance(message, Line) else message
        line = super().__new__(cls, plain(marked))
        line.message = marked
        return line


def told(remark: Callable[[str], None]) -> Callable[[str], None]:
    """``remark``, which is told each message as a ``Line``."""
    return lambda message: remark(Line(message))


class XaicmpError(Exception):
    """Something could not be done. The message is one line: the thing, the reason, the way out.

    ``exit_code`` is the exit status of a command that ends with the error.
    """

    exit_code = 1

    def __str__(self) -> str:
        return plain(super().__str__())

    def on_the_command_line(self) -> str:
        """The message with each argument named as its option."""
        return by_option(super().__str__())


class UsageError(XaicmpError):
    """A value is wrong, or values do not go together."""

    exit_code = 2


class Below(XaicmpError):
    """The comparison was done, and agreement is below its bound."""

    exit_code = 3


class Interrupted(XaicmpError):
    """The user stopped it. The message says what is kept and how to resume."""

    exit_code = 130

"""The errors this package raises on purpose."""

from __future__ import annotations


class XaicmpError(Exception):
    """It could not be done. The message is one line: the thing, the reason, the way out."""


class UsageError(XaicmpError):
    """What was asked for cannot be meant: a wrong value rather than a failed attempt."""


class Interrupted(XaicmpError):
    """The user stopped it. The message says what is kept and how to go on."""

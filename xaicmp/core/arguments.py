"""Arguments from Python, where no command line has looked at them: each is what it should be, or is named."""

from __future__ import annotations

import operator
from typing import Any, TypeVar, get_args

from xaicmp.errors import UsageError, arg

T = TypeVar("T")


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """``value`` of any integer type.

    Raises:
        UsageError: it is no whole number, or below ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise UsageError(f"{arg(name)} {value!r:.80}: give a whole number") from error
    if number < least:
        raise UsageError(f"{arg(name)} {number}: give {least} or more")
    return number


def real_number(name: str, value: Any) -> float:
    """``value`` of any type of real numbers; NaN is left to the range that it must lie in.

    Raises:
        UsageError: it is no number.
    """
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError, RuntimeError):  # the last of tensors of several values
        pass
    raise UsageError(f"{arg(name)} {value!r:.80}: give a number")


def one_of(name: str, value: T, words: Any) -> T:
    """``value``, if the Literal ``words`` has it.

    Raises:
        UsageError: it has not.
    """
    if value not in get_args(words):
        raise UsageError(f"{arg(name)} {value!r:.80}: choose from {', '.join(get_args(words))}")
    return value


def instance(name: str, value: Any, kind: Any) -> Any:
    """``value``, if it is a ``kind`` of the public names.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, kind):
        raise UsageError(f"{name}: a {type(value).__name__} is none; give an xaicmp.{kind.__name__}")
    return value

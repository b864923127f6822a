"""Running code of others: plug-ins, factories and models."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from xaicmp.core.machine.memory import ran_out
from xaicmp.errors import XaicmpError


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Run code of others, such as ``what`` names: "plug-in a:b failed".

    What it prints goes to stderr, because stdout is for results. An attempt to end the process is an error like any
    other.

    Raises:
        XaicmpError: whatever it raises, in one line; but for Ctrl-C, memory that runs out, and errors of ours.
    """
    leave, own = os._exit, os.getpid()

    def stay(status: int) -> None:
        if os.getpid() != own:  # a process that it started may end
            leave(status)
        raise SystemExit(status)

    os._exit = stay  # type: ignore[assignment]
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, GeneratorExit, XaicmpError):
        raise
    except BaseException as error:
        if ran_out(error):  # the caller makes batches smaller
            raise
        raise XaicmpError(f"{what}: {_line(error)}") from error
    finally:
        os._exit = leave


def look_in_working_folder() -> None:
    """Let modules also be found in the working folder, after all other places, so that none there hides an installed one."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))


def _line(error: BaseException) -> str:
    """The error in one line, also where it cannot be printed."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error that cannot be printed"
    return f"{type(error).__name__}: {text}".rstrip(": ")

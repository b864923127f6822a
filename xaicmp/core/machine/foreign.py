"""Running code of others: plug-ins, factories and models."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch

from xaicmp.core.machine.memory import ran_out
from xaicmp.errors import XaicmpError

PLACE = "name what a module has that is installed or in the working folder"
"""The way out where an object is not found."""


@contextmanager
def foreign(what: str, way: str) -> Iterator[None]:
    """Run code of others, such as ``what`` names: "plug-in a:b failed"; ``way`` is the way out, "leave it out".

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
        raise XaicmpError(f"{what}: {_line(error)}; {way}") from error
    finally:
        os._exit = leave


def look_in_working_folder() -> None:
    """Let modules also be found in the working folder, after all other places, so that none there hides an installed one."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within it, torch and numpy draw by ``seed``, on the CPU and ``device``; afterwards as if nothing had been drawn."""
    state = np.random.get_state()
    with torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)


@contextmanager
def silent(logger: logging.Logger, level: int) -> Iterator[None]:
    """Within it, ``logger`` says nothing below ``level``."""
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def _line(error: BaseException) -> str:
    """The error in one line, also where it cannot be printed."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error that cannot be printed"
    return f"{type(error).__name__}: {text[:300]}".rstrip(": ")

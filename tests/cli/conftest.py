"""Every command line is run in an empty folder of its own, with no data set in reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import typer.main

from xaicmp.cli import run

commands_of = cache(typer.main.get_command)


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: empty, and with it the cache; 80 columns; no colour asked for."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XAICMP_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def xaicmp(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line in this process."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            # Typer makes its commands anew for each line, which takes longer than most lines; the help changes them.
            if words and not {"-h", "--help"} & set(words):
                patch.setattr(typer.main, "get_command", commands_of)
            status = run([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(int(status), captured.out, captured.err)

    return call

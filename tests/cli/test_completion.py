"""The shell completes values: what each of the three is told, and that nothing heavy is imported for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xaicmp.cli.completion import method_names
from xaicmp.core.attribution.selection import groups
from xaicmp.core.choices import Statistic

GR = ["gradient", "grad-cam", "grad-cam++", "gradient-shap"]
PROGRAM = """
import sys
from xaicmp.__main__ import main
try:
    main()
finally:
    assert not {"torch", "numpy", "captum", "matplotlib"} & set(sys.modules)
"""


@pytest.fixture
def told(xaicmp: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What the program answers when a shell asks it how a line goes on."""

    def ask(shell: str, line: str, **variables: str) -> Any:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        asked = words if shell == "bash" else {"_TYPER_COMPLETE_ARGS": line}
        for name, value in (asked | {"_XAICMP_COMPLETE": f"complete_{shell}"} | variables).items():
            monkeypatch.setenv(name, value)
        done = xaicmp()
        assert done.err == ""
        return done

    return ask


def test_the_names_of_methods_are_those_of_the_registry() -> None:
    every = groups()
    assert set(method_names()) == {*every, *every["all"]}
    assert len(method_names()) == len(set(method_names()))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xaicmp metrics --methods gr", GR),
        ("xaicmp explain --n 3 --methods saliency gr", GR),
        ("xaicmp explain --methods lrp,gr", [f"lrp,{each}" for each in GR]),
        ("xaicmp metrics --methods = gr", GR),
        ("xaicmp metrics --fail-under pea", ["pearson="]),
        ("xaicmp metrics --statistics ", list(Statistic.__args__)),
        ("xaicmp metrics --only w", ["wrong"]),
        ("xaicmp metrics --methods lrp --sta", ["--statistics"]),
        ("xaicmp metrics --n 3 gr", []),
        ("xaicmp metrics --checkpoint ", []),
    ],
)
def test_bash(line: str, offered: list[str], told: Callable[..., Any]) -> None:
    done = told("bash", line)
    assert (done.out.split(), done.status) == (offered, 0)


def test_nothing_heavy_is_imported_for_it() -> None:
    words = {"COMP_WORDS": "xaicmp metrics --methods gr", "COMP_CWORD": "3"}
    env = os.environ | words | {"_XAICMP_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert (done.stdout.split(), done.stderr, done.returncode) == (GR, "", 0)


def test_zsh_and_fish(told: Callable[..., Any]) -> None:
    assert told("zsh", "xaicmp metrics --methods gr").out.split("((")[1].split("))")[0].split() == [
        f'"{each}"' for each in GR
    ]
    assert told("zsh", "xaicmp metrics --checkpoint ").out.strip() == "_files"
    line = "xaicmp metrics --methods saliency gr"
    assert told("fish", line, _TYPER_COMPLETE_FISH_ACTION="get-args").out.split() == GR
    assert told("fish", line, _TYPER_COMPLETE_FISH_ACTION="is-args").status == 0
    line = "xaicmp metrics --checkpoint "  # then fish offers files
    assert told("fish", line, _TYPER_COMPLETE_FISH_ACTION="is-args").status == 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_in_a_real_bash(tmp_path: Path) -> None:
    program = tmp_path / "xaicmp"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xaicmp "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(xaicmp --show-completion bash)"
        COMP_WORDS=(xaicmp metrics --methods saliency gr) COMP_CWORD=4
        _xaicmp_completion xaicmp
        echo "${COMPREPLY[@]}"
    """
    env = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env, timeout=60)
    assert (done.stdout.split(), done.stderr) == (GR, "")

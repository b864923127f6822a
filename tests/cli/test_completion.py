"""The shell completes values: what each of the three is told, and that nothing heavy is imported for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

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


def told(shell: str, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What the program answers when ``shell`` asks it how ``line`` goes on."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    asked = words if shell == "bash" else {"_TYPER_COMPLETE_ARGS": line}
    env = os.environ | asked | {"_XAICMP_COMPLETE": f"complete_{shell}"} | variables
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, timeout=60
    )
    assert done.stderr == ""
    return done


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
def test_bash(line: str, offered: list[str]) -> None:
    done = told("bash", line)
    assert (done.stdout.split(), done.returncode) == (offered, 0)


def test_zsh_and_fish() -> None:
    assert told("zsh", "xaicmp metrics --methods gr").stdout.split("((")[1].split("))")[0].split() == [
        f'"{each}"' for each in GR
    ]
    assert told("zsh", "xaicmp metrics --checkpoint ").stdout.strip() == "_files"
    line = "xaicmp metrics --methods saliency gr"
    assert told("fish", line, _TYPER_COMPLETE_FISH_ACTION="get-args").stdout.split() == GR
    assert told("fish", line, _TYPER_COMPLETE_FISH_ACTION="is-args").returncode == 0
    line = "xaicmp metrics --checkpoint "  # then fish offers files
    assert told("fish", line, _TYPER_COMPLETE_FISH_ACTION="is-args").returncode == 1


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

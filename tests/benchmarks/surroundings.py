"""The same numbers whatever surrounds a run: threads, hash seeds, locales, widths, users, a place of its own.

    python tests/benchmarks/surroundings.py

Locales that are missing are named and left out (`localedef -i tr_TR -f UTF-8 tr_TR.UTF-8` makes one), as are other
users without root. They must be able to read Python, its packages and the checkout. Exits with 1 if a number is another by more than 1e-5, or a run fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
METRICS = "metrics --n 12 --methods saliency grad-cam ig --ig-steps 8 --batch-size 4 -q --output out.json"
SETPRIV = ["env", "-i", "setpriv", "--clear-groups"]
CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    **{f"{count} threads": ({"OMP_NUM_THREADS": str(count)}, []) for count in (1, 2, 4)},
    **{f"PYTHONHASHSEED={seed}": ({"PYTHONHASHSEED": str(seed)}, []) for seed in (0, 1, 2**32 - 1)},
    **{f"LC_ALL={name}": ({"LC_ALL": name}, []) for name in ("C", "de_DE.utf8", "tr_TR.utf8")},
    "no HOME and no such user": ({}, [*SETPRIV, "--reuid=12345", "--regid=12345"]),
    "nobody, HOME is missing": (
        {},
        [*SETPRIV, "--reuid=nobody", "--regid=nogroup", "env", "HOME=/nonexistent"],
    ),
    "nobody, HOME is read-only": ({}, [*SETPRIV, "--reuid=nobody", "--regid=nogroup", "env", "HOME=/usr"]),
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    locales = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=True).stdout.split()
    first, wrong = None, 0
    for name, (variables, before) in CASES.items():
        if variables.get("LC_ALL", "C") not in locales or (before and os.geteuid() != 0):
            sys.stdout.write(f"{name:28}left out\n")
            continue
        found = run(variables, before)
        first = found if first is None else first
        apart = np.abs(found - first).max()
        wrong += not apart <= 1e-5
        sys.stdout.write(f"{name:28}{len(found)} numbers, at most {apart:.1g} from the first\n")
        sys.stdout.flush()
    sys.exit(wrong > 0)


def run(variables: dict[str, str], before: list[str]) -> np.ndarray:
    """The numbers of a run in a folder of its own that everybody may write to."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        seen = {
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, sys.path[1:])]),
        } | variables
        line = [
            *before,
            "env",
            *(f"{name}={value}" for name, value in seen.items()),
            sys.executable,
            "-m",
            "xaicmp",
        ]
        ended = subprocess.run(
            [*line, *METRICS.split()], cwd=place, capture_output=True, text=True, check=False
        )
        if ended.returncode or ended.stderr:
            sys.exit(f"{shlex.join(line)}: status {ended.returncode}\n{ended.stdout}{ended.stderr}")
        document = json.loads((Path(place) / "out.json").read_text("utf-8"))
    return np.array([*numbers(document["pairs"]), *numbers(document["images"])])


def numbers(value: object) -> Iterator[float]:
    """All numbers in a document, in order."""
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, int | float):
        yield float(value)


if __name__ == "__main__":
    main()

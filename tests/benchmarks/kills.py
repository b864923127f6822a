"""Kills each command at random moments, looks at what it left, resumes it, and compares with a run left in peace.

    python tests/benchmarks/kills.py --kills 100

Photographs and a network of one's own are among the cases. Exits with 1 if anything half-written is found, or another number.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conftest import Forks

from xaicmp.core.images.cifar10 import FILES, load_sample

OWN = "--images ../photographs --model net:build --input-size 32 --batch-size 2 --only all"
COMMANDS = {
    "metrics": (
        "out.json",
        "metrics --n 16 --methods saliency grad-cam edge --batch-size 4 --output out.json --resume",
    ),
    "metrics, folder and model": (
        "out.json",
        f"metrics {OWN} --methods saliency edge --output out.json --resume",
    ),
    "explain": (
        "out.npz",
        "explain --n 16 --methods saliency grad-cam --controls none --batch-size 4 --output out.npz --resume",
    ),
    "explain, folder and model": (
        "out.npz",
        f"explain {OWN} --methods saliency edge --output out.npz --resume",
    ),
    "figure": ("out.png", "figure --ids 3 7 12 --methods saliency edge --output out.png"),
    "train": (
        "out.pt",
        "train --data ../data --limit 16 --batch-size 8 --epochs 3 --n 0 --checkpoint out.pt --resume",
    ),
}
NET = """
import torch
def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(392, 10))
"""


def prepare(root: Path) -> None:
    """CIFAR-10 made up from the sample, photographs made of it, and a network."""
    sample = load_sample()
    records = np.column_stack(
        [sample.labels.numpy().astype(np.uint8), sample.tensor.numpy().reshape(1000, -1)]
    )
    (root / "data").mkdir()
    first, *others = (root / "data" / name for names in FILES.values() for name in names)
    first.write_bytes(np.tile(records, (10, 1)).tobytes())
    for path in others:
        path.hardlink_to(first)
    (root / "photographs").mkdir()
    for index in range(12):
        pixels = sample.tensor[index].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).resize((96, 80)).save(root / "photographs" / f"{index}.png")


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    return folder


def numbers(path: Path) -> object:
    """What a file says, without its clock, time stamps and command line; an error if it is not whole."""
    if path.suffix == ".json":
        return re.sub(rb'(?m)^  "(command|config)": .*\n', b"", path.read_bytes())
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name].tobytes() for name in arrays}
    if path.suffix == ".png":
        return np.asarray(Image.open(path)).tobytes()
    document = torch.load(path, weights_only=True)
    epochs = [
        [epoch[key] for key in ("epoch", "loss", "train_accuracy", "test_accuracy")]
        for epoch in document["metadata"]["history"]
    ]
    return json.dumps([epochs, document["sha256"]])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        prepare(root)
        forks = Forks()
        for number, name in enumerate(options.commands):
            output, line = COMMANDS[name]
            wanted = (options.kills + number) // len(options.commands)
            wrong += kill_often(forks, root, name, output, shlex.split(f"{line} -q"), wanted, rng)
        forks.server.stdin.close()
        forks.server.wait()
    sys.exit(wrong > 0)


def kill_often(
    forks: Forks, root: Path, name: str, output: str, line: list[str], wanted: int, rng: random.Random
) -> int:
    """Kill a command ``wanted`` times; how often something was wrong."""
    folder = empty(root / "whole")
    started = time.monotonic()
    if forks.run(folder, command=line) != [0]:
        sys.exit((folder / "err-0.txt").read_text())
    seconds, whole = time.monotonic() - started, numbers(folder / output)
    folder, kills, rounds, strays, wrong, longest = empty(root / "killed"), 0, 0, 0, 0, seconds
    while kills < wanted or (folder / f"{output}.part").exists():
        (process,) = forks.start(folder, command=line)
        if kills < wanted:
            time.sleep(rng.uniform(0, longest))
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        (status,) = forks.wait()
        kills += status == -signal.SIGKILL
        wrong += status not in (0, -signal.SIGKILL)
        longest *= 0.7 if status == 0 else 1.1  # near what a run takes now, however busy the machine is
        strays = max(strays, sum(each.name.startswith(f".{Path(output).stem}-") for each in folder.iterdir()))
        if not (folder / output).exists():
            continue
        found = numbers(folder / output)  # half of one is an error here
        if status == 0:
            wrong += found != whole
            left = {each.name for each in folder.iterdir() if each.suffix != ".txt" and each.name[0] != "."}
            wrong += left - {"net.py", "__pycache__"} != {output}
            rounds, folder = rounds + 1, empty(root / "killed")
    sys.stdout.write(
        f"{name:28}{kills:4} kills, {rounds:3} resumed to the end, {strays} temporary files left at most, {wrong} wrong\n"
    )
    sys.stdout.flush()
    return wrong


if __name__ == "__main__":
    main()

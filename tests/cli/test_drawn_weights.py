"""Networks whose weights are drawn: by the seed, and the same in each of several processes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

NETWORKS = """
import torch
from torch import nn

def drawn():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))

def wild():
    torch.seed()
    return drawn()
"""
LINE = (
    "metrics --model drawn_networks:{} --images photos --only all --methods saliency grad-cam --batch-size 1"
)
SHOWN = "--input-size 32 --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5 --seed {} --controls none"


@pytest.fixture
def photographs(alone: Path) -> Path:
    """A folder of five photographs, of which two are copies."""
    (alone / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for name, index in zip("abcde", (0, 0, 1, 2, 1), strict=True):
        Image.fromarray(pixels[index]).save(alone / "photos" / f"{name}.png")
    (alone / "drawn_networks.py").write_text(NETWORKS)
    return alone


def said(folder: Path) -> str:
    return (folder / "err-0.txt").read_text()


def test_they_are_drawn_by_the_seed(xaicmp: Any, photographs: Path) -> None:
    found = []
    for before, seed in ((1, 3), (2, 3), (2, 4)):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        done = xaicmp(*shlex.split(f"{LINE.format('drawn')} {SHOWN.format(seed)} --format csv"))
        assert done.status == 0, done.err
        assert torch.equal(torch.get_rng_state(), state)
        found.append(done.out)
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_processes_share_images_of_which_some_are_the_same(forks: Any, photographs: Path) -> None:
    written = []
    for world in (1, 2, 3):
        line = f"{LINE.format('drawn')} {SHOWN.format(0)} --format csv"
        assert forks.run(photographs, world, command=shlex.split(line)) == [0] * world, said(photographs)
        written.append((photographs / "out-0.txt").read_text())
        assert "images left out, because they are pixel for pixel one that came before: 2 (ids 1, 4)" in said(
            photographs
        )
    assert written == written[:1] * 3
    assert ",3," in written[0]


def test_processes_that_drew_different_networks_are_refused(forks: Any, photographs: Path) -> None:
    line = f"{LINE.format('wild')} {SHOWN.format(0)}"
    assert forks.run(photographs, 2, command=shlex.split(line)) == [1, 1]
    assert said(photographs).splitlines()[-1] == (
        "xaicmp: the weights of drawn_networks:wild differ from process to process; seed what draws them, or give a file"
    )

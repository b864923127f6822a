"""What is read from outside, damaged in every way: refused in one line, or harmless.

``XAICMP_FUZZ=600 pytest -n0 tests/test_damage.py -k fuzz`` fuzzes each reader for ten minutes; by default each has some
dozens of fixed examples.
"""

from __future__ import annotations

import io
import os
import pickle
import random
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from xaicmp.api import load
from xaicmp.cli.config import _read as read_config
from xaicmp.core.images import cifar10
from xaicmp.core.images.files import FileImages, read_rows
from xaicmp.core.images.framing import Framing
from xaicmp.core.images.source import Unreadable
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from xaicmp.core.models.loading import read_classes
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.maps_file import compare_maps
from xaicmp.errors import XaicmpError
from xaicmp.result import Result

FUZZ = float(os.environ.get("XAICMP_FUZZ", "0"))
METADATA = {
    "architecture": "toy",
    "classes": tuple("abcdefghij"),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.2, 0.2, 0.2),
    "epochs": 1,
    "history": [{"epoch": 1, "test_accuracy": 0.5}],
}


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of ours of a few kilobytes."""
    monkeypatch.setitem(ARCHITECTURES, "toy", lambda classes: nn.Sequential(nn.Conv2d(3, classes, 5)))
    torch.manual_seed(0)
    path = tmp_path / "toy.pt"
    save_checkpoint(path, ARCHITECTURES["toy"](10), METADATA)
    return path


def refused(read: Callable[[], Any]) -> Any:
    """What was read, None if it was refused in one line; anything else is an error here."""
    try:
        return read()
    except XaicmpError as error:
        assert str(error)
        assert "\n" not in str(error)
        return None


def alike(one: Checkpoint, other: Checkpoint, metadata: bool = True) -> bool:
    """Whether two checkpoints have the same weights, and say the same."""
    weights, others = (each.classifier.module.state_dict() for each in (one, other))
    same = weights.keys() == others.keys() and all(
        torch.equal(weights[name], others[name]) for name in weights
    )
    return same and (one.metadata == other.metadata or not metadata)


# ---------------------------------------------------------------- checkpoints


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(entries: dict[str, bytes]) -> bytes:
    """With right checksums, so that only what is inside is wrong."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry)
    return buffer.getvalue()


def flips(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def zeroed(content: bytes, draw: random.Random) -> bytes:
    size = draw.choice((1, 16, 64, 512, 4096))
    start = draw.randrange(len(content))
    return content[:start] + bytes(min(size, len(content) - start)) + content[start + size :]


def swapped(content: bytes, draw: random.Random) -> bytes:
    entries = members(content)
    one, other = draw.sample(sorted(entries), 2)
    entries[one], entries[other] = entries[other], entries[one]
    return packed(entries)


def changed_member(content: bytes, draw: random.Random) -> bytes:
    """Damage that the archive's checksums do not show; the sum in the file is of the weights alone."""
    entries = members(content)
    name = draw.choice(sorted(entries))
    entries[name] = draw.choice((flips, cut, zeroed))(entries[name] or b"x", draw)
    return packed(entries)


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *values: Any) -> None:
        self.reduced = function, values

    def __reduce__(self) -> Any:
        return self.reduced


def hostile(content: bytes, draw: random.Random) -> bytes:
    """A pickle that would write a file, in each place that one can be."""
    mark = Path("mark")
    call = draw.choice(
        (
            Calls(os.system, "touch mark"),
            Calls(Path.touch, mark),
            Calls(eval, "open('mark', 'w')"),
            Calls(exec, "open('mark', 'w')"),
            Calls(subprocess.call, ["touch", "mark"]),
            Calls(getattr, mark, "touch"),
            Calls(np.load, "mark"),
            Calls(torch.load, "mark"),
            Calls(bytearray, 10**11),
        )
    )
    place = draw.randrange(5)
    if place == 0:
        return pickle.dumps(call, protocol=draw.choice((0, 2, 4)))
    if place == 1:
        entries = members(content)
        name = next(each for each in entries if each.endswith("data.pkl"))
        return packed(entries | {name: pickle.dumps(call, protocol=2)})
    buffer = io.BytesIO()
    document = torch.load(io.BytesIO(content), weights_only=True)
    key = draw.choice(("metadata", "state_dict", "training", "format"))
    if place == 2:
        document[key] = call
    elif place == 3:
        document["metadata"][draw.choice(("classes", "history", "seed"))] = [call]
    else:
        document["state_dict"][call] = torch.zeros(1)
    torch.save(document, buffer)
    return buffer.getvalue()


DAMAGE = {flips: 70, cut: 40, zeroed: 40, swapped: 20, changed_member: 40, hostile: 60}


@pytest.mark.parametrize("harm", DAMAGE, ids=lambda harm: harm.__name__)
def test_a_damaged_checkpoint_is_refused_or_says_what_it_said(
    harm: Callable[..., bytes], toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy.parent)
    whole, content, draw = load_checkpoint(toy), toy.read_bytes(), random.Random(1)
    harmless = 0
    for _ in range(DAMAGE[harm]):
        toy.write_bytes(harm(content, draw))
        found = refused(lambda: load_checkpoint(toy))
        assert found is None or alike(found, whole, metadata=harm is not changed_member)
        harmless += found is not None
        assert not Path("mark").exists()
    assert harmless < DAMAGE[harm] / 2 if harm is not hostile else not harmless
    assert sum(DAMAGE.values()) >= 250


# ---------------------------------------------------------------- fuzzing


def harmed(content: bytes, edits: list[tuple[str, float, int]]) -> bytes:
    for kind, where, value in edits:
        at = int(where * len(content))
        if kind == "set":
            content = content[:at] + bytes([value]) + content[at + 1 :]
        elif kind == "insert":
            content = content[:at] + bytes([value]) * (1 + value) + content[at:]
        elif kind == "drop":
            content = content[:at] + content[at + 1 + value :]
        elif kind == "repeat":
            content = content[:at] + content[at : at + value] * 3 + content[at + value :]
        else:
            content = content[:at]
    return content


EDITS = st.lists(
    st.tuples(
        st.sampled_from(("set", "set", "set", "insert", "drop", "repeat", "cut")),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def fuzz(contents: list[bytes], read: Callable[[bytes], Any], examples: int = 60) -> None:
    """Hand damaged contents, and mere bytes, to a reader: as many as said, or as long as ``XAICMP_FUZZ`` says."""
    damaged = st.builds(harmed, st.sampled_from(contents), EDITS) | st.binary(max_size=300)
    until, turn = time.monotonic() + FUZZ, 0
    while not turn or time.monotonic() < until:
        every = settings(
            max_examples=1_000 if FUZZ else examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        every(seed(turn)(given(damaged)(read)))()
        turn += 1


def test_fuzz_checkpoints(toy: Path) -> None:
    whole, path = load_checkpoint(toy), toy.with_name("a.pt")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = refused(lambda: load_checkpoint(path))
        assert found is None or alike(found, whole)

    fuzz([toy.read_bytes()], read)


def test_fuzz_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "RECORDS", 3)
    whole = b"".join(bytes([label]) + bytes([label]) * 3072 for label in range(3))
    path = tmp_path / "test_batch.bin"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = refused(lambda: cifar10.load_cifar10("test", tmp_path, download=False))
        if found is not None:
            assert not found.verified
            assert (found.tensor.shape, found.labels.min() >= 0, found.labels.max() < 10) == (
                (3, 3, 32, 32),
                True,
                True,
            )

    read(whole)
    fuzz([whole], read)


def archives() -> Iterator[bytes]:
    maps = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, methods=["a", "b"], maps=maps, ids=np.arange(3), grids=np.full((2, 2), 2))
        yield buffer.getvalue()


def test_fuzz_maps(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        refused(lambda: compare_maps(path, Settings(controls=())))

    fuzz(list(archives()), read)


def test_fuzz_documents(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(next(archives()))
    document = Result(compare_maps(path, Settings())).table("json").encode()
    path = tmp_path / "a.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        if (found := refused(lambda: load(path))) is not None:
            found.table("markdown")

    fuzz([document], read)


SUFFIXES = ("png", "jpeg", "gif", "bmp", "tiff", "webp")


def test_fuzz_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    contents = []
    for suffix in SUFFIXES:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, suffix)
        contents.append(buffer.getvalue())
    path = tmp_path / "a.png"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            found = FileImages([path], Framing((8, 8), 1.0)).pixels(np.array([0]))
        except Unreadable as error:
            assert all("\n" not in reason for reason in error.reasons.values())
        else:
            assert found.shape == (1, 3, 8, 8)

    fuzz(contents, read, 100)


TEXTS = [
    b"path,label\na.png,cat\n",
    b'{"a": "b"}',
    b"cat\ndog\n",
    b'["cat", "dog"]',
    b'n = 3\nonly = "all"\n',
    b'"',
]


@pytest.mark.parametrize("suffix", ["csv", "json", "txt", "toml"])
def test_fuzz_texts(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        refused(lambda: read_rows(path))
        refused(lambda: read_classes(path))
        refused(lambda: read_config(path, {"n": int, "only": str}))

    fuzz(TEXTS, read)

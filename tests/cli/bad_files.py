"""Files that are not what a command takes: each is made by one entry of ``FILES``, by its name."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
MAPS = np.random.default_rng(0).random((2, 5, 12, 12), dtype=np.float32)


class Hostile:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("mark"), "unpickled")


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "png")
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def huge_npz() -> bytes:
    """Declares 4 TB."""
    header, names, archive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (2, 10**6, 1000, 500)}
    np.lib.format.write_array_header_1_0(header, about)
    np.save(names, np.array(["a", "b"]))
    with zipfile.ZipFile(archive, "w") as entries:
        entries.writestr("maps.npy", header.getvalue())
        entries.writestr("methods.npy", names.getvalue())
    return archive.getvalue()


def huge_png() -> bytes:
    """Declares 100,000 by 100,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


FILES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "zeros": lambda: bytes(1000),
    "text": lambda: b"no such thing\n",
    "latin": lambda: "caf\u00e9,m\u00fcsli\n".encode("latin-1"),
    "half.png": lambda: png()[:60],
    "good.png": png,
    "huge.png": huge_png,
    "good.npz": lambda: npz(methods=["a", "b"], maps=MAPS),
    "half.npz": lambda: npz(methods=["a", "b"], maps=MAPS)[:900],
    "huge.npz": huge_npz,
    "hostile.npz": lambda: npz(methods=["a", "b"], maps=np.array([Hostile()], dtype=object)),
    "lone.npz": lambda: npz(methods=["a"], maps=MAPS[:1]),
    "twins.npz": lambda: npz(methods=["a", "a"], maps=MAPS),
    "flat.npz": lambda: npz(methods=["a", "b"], maps=MAPS[:, :, 0]),
    "words.npz": lambda: npz(methods=["a", "b"], maps=np.array([["a"], ["b"]])),
    "none.npz": lambda: npz(methods=["a", "b"], maps=MAPS[:, :0]),
    "nameless.npz": lambda: npz(maps=MAPS),
    "list.pt": lambda: saved([1, 2]),
    "foreign.pt": lambda: saved({"linear.weight": torch.ones(2, 2)}),
    "half.pt": lambda: saved({"conv1.weight": torch.zeros(1000)})[:-700],
    "hostile.pt": lambda: saved(Hostile()),
    "pickle.pt": lambda: pickle.dumps(Hostile()),
    "newer.pt": lambda: saved({"format": "xaicmp checkpoint 9"}),
    "bare.pt": lambda: saved({"format": "xaicmp checkpoint 1"}),
    "half.json": lambda: b'{"schema": 1, "pairs": [',
    "list.json": lambda: b"[]",
    "number.json": lambda: b"1e999",
    "deep.json": lambda: b"[" * 100_000,
    "other.json": lambda: json.dumps({"schema": 1}).encode(),
    "twice.json": lambda: b'["a", "a"]',
    "numbers.json": lambda: b"[1, 2]",
    "pairs.json": lambda: b'{"a": "b"}',
    "twice.txt": lambda: b"a\na\n",
    "three.txt": lambda: b"a\nb\nc\n",
    "gone.txt": lambda: b"gone.png\n",
    "one.csv": lambda: b"good.png\n",
    "gone.csv": lambda: b"path,label\ngone.png,cat\n",
    "half.csv": lambda: b'path,label\n"good.png,cat\n',
    "good.csv": lambda: b"path,label\ngood.png,cat\n",
    "hostile.safetensors": lambda: b"\xff" * 7 + b"\x00{}",
    "deep.toml": lambda: b"x = " + b"[" * 100_000,
    "digits.toml": lambda: b"n = " + b"9" * 5_000,
    "half.toml": lambda: b"[metrics\n",
    "surplus.toml": lambda: b"no-such = 1\n",
    "type.toml": lambda: b"seed = 1.5\n",
    "nest.toml": lambda: b"[nest]\nx = 1\n",
}


def make_all(folder: Path) -> Path:
    """All of them, a folder called ``folder``, and one of photographs of which none can be read."""
    for name, content in FILES.items():
        (folder / name).write_bytes(content())
    (folder / "folder").mkdir()
    (folder / "photographs").mkdir()
    for name in ("a.png", "b.jpg"):
        (folder / "photographs" / name).write_bytes(b"no picture")
    for name in ("short", "piped", "masks"):
        (folder / name).mkdir()
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (folder / "short" / name).write_bytes(bytes(3073))
        os.mkfifo(folder / "piped" / name)
    os.mkfifo(folder / "masks" / "0.png")
    for suffix in ("", ".json", ".npz", ".png", ".svg", ".html"):
        os.mkfifo(folder / f"pipe{suffix}")
    for suffix in (".json", ".npz", ".png", ".svg", ".html"):
        (folder / f"folder{suffix}").mkdir()
    return folder

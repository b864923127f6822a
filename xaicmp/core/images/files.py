"""Photographs in files and folders. Nothing is decoded before it is asked for."""

from __future__ import annotations

import csv
import glob
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from xaicmp.core.images.framing import Framing
from xaicmp.core.images.source import ImageSource, Unreadable
from xaicmp.core.machine.storage import regular, text_of
from xaicmp.errors import UsageError, XaicmpError, arg

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
LISTS = (".txt", ".lst")
"""Suffixes of files that name images, one per line."""
STDIN = "-"
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
"""An image that says to have more is a decompression bomb."""
PATHS, NAMES = ("path", "file", "filename", "image"), ("label", "class", "class_name", "index", "target")
"""What the columns of a file of labels are called."""


class FileImages(ImageSource):
    """Photographs in files: EXIF rotation applied, alpha on white, the first frame of several, 8 bits per channel.

    Args:
        paths: of the files, one or more.
        framing: how they are resized and cropped.
        labels: one per file, an index into ``classes``, or into the model's classes if there are none; -1 for unknown.
        classes: the names of the classes.
        root: the folder that names are relative to.
        strict: whether a file that cannot be read ends the run instead of being skipped.
        name: as captions have it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        framing: Framing,
        *,
        labels: Sequence[int] | np.ndarray | None = None,
        classes: Sequence[str] = (),
        root: Path | None = None,
        strict: bool = False,
        name: str = "",
    ) -> None:
        self.paths, self.framing, self.strict = list(paths), framing, strict
        self.root = Path(os.path.commonpath([path.parent for path in paths])) if root is None else root
        self.classes, self.name = tuple(classes), name or self.root.name or "images"
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self._pool: ThreadPoolExecutor | None = None
        self._started: dict[int, Future[Tensor]] = {}
        self._next: set[int] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, ids: np.ndarray) -> Tensor:
        """See ``ImageSource``. What was decoded last is kept, because it is often asked for again.

        Raises:
            Unreadable: some cannot be decoded.
        """
        self._start(ids)
        found, broken = [], {}
        for each in ids.tolist():
            try:
                found.append(self._started[each].result())
            except (
                OSError,
                ValueError,
                SyntaxError,
                MemoryError,
                EOFError,
                Image.DecompressionBombError,
            ) as error:
                broken[each] = f"{self.paths[each]}: {reason_of(error)}"
        kept = self._next | set(ids.tolist())
        self._started = {each: future for each, future in self._started.items() if each in kept}
        if broken and self.strict:
            raise XaicmpError(
                f"cannot read {next(iter(broken.values()))}; leave it out, or do without {arg('strict')}"
            )
        if broken:
            raise Unreadable(broken)
        return torch.stack(found) if found else torch.empty(0, 3, *self.size(), dtype=torch.uint8)

    def size(self) -> tuple[int, int]:
        return self.framing.size

    def ahead(self, ids: np.ndarray) -> None:
        """Decode them beside the model, in threads: decoding and resizing do not hold Python's lock."""
        self._next = set(ids.tolist())
        self._start(ids)

    def _start(self, ids: np.ndarray) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        for each in ids.tolist():
            if each not in self._started:
                self._started[each] = self._pool.submit(read_image, self.paths[each], self.framing)

    def names(self, ids: np.ndarray) -> list[str]:
        return [os.path.relpath(self.paths[each], self.root) for each in ids.tolist()]

    def find(self, name: str) -> int:
        """The id of the file called so: its path, the end of that, or its name without a suffix.

        Raises:
            UsageError: there is none, or there are several.
        """
        wanted = Path(name)
        ways: tuple[Callable[[Path], bool], ...] = (
            lambda path: path == wanted or os.path.relpath(path, self.root) == name,
            lambda path: path.parts[-len(wanted.parts) :] == wanted.parts,
            lambda path: path.stem == name,
        )
        for same in ways:
            found = [index for index, path in enumerate(self.paths) if same(path)]
            if len(found) == 1:
                return found[0]
            if found:
                shown = ", ".join(self.names(np.array(found[:3])))
                raise UsageError(
                    f"{arg('ids')} {name}: {len(found)} files have this name ({shown}); give more of the path"
                )
        raise UsageError(f"{arg('ids')} {name}: no such file among the {len(self):,} of {self.name}")

    def part(self, ids: np.ndarray) -> FileImages:
        """The images ``ids``, in that order."""
        paths, labels = [self.paths[each] for each in ids.tolist()], self.labels
        return FileImages(
            paths,
            self.framing,
            labels=None if labels is None else labels[ids],
            classes=self.classes,
            root=self.root,
            strict=self.strict,
            name=self.name,
        )

    @property
    def about(self) -> str:
        return f"{self.name}, {len(self):,} file{'s' * (len(self) != 1)}"

    @property
    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, "split": "", "verified": None, "sample": None, "folder": str(self.root)}

    def __repr__(self) -> str:
        return f"FileImages({self.about}, seen at {self.framing.size[0]} x {self.framing.size[1]})"


def read_image(path: Path, framing: Framing) -> Tensor:
    """The image in a file as a network sees it: uint8 ``(3, H, W)``."""
    with Image.open(regular(path)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise Image.DecompressionBombError(
                f"{image.width} x {image.height} pixels are more than can be meant"
            )
        return framing(to_rgb(ImageOps.exif_transpose(image)))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as 8-bit RGB: 16 bits scaled down, what is transparent shown on white."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        values = values / 257 if values.max(initial=0) > 255 or image.mode.startswith("I;16") else values
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of an unknown range")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def reason_of(error: BaseException) -> str:
    """Why a file cannot be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "no image in a format that is known"
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())


def find_files(
    words: Sequence[str | Path],
    framing: Framing,
    *,
    labels: Path | None = None,
    label_map: Path | None = None,
    strict: bool = False,
) -> FileImages:
    """Images from files, folders, patterns with ``*``, lists of paths (``.txt``), and ``-`` for a list on stdin.

    A folder of folders gives labels: each inner folder is a class.

    Args:
        words: one or more of these.
        framing: how the images are resized and cropped.
        labels: a CSV file with a path and a label per line, which then says what the images are.
        label_map: a CSV or JSON file with the model's class for each label.
        strict: see ``FileImages``.

    Raises:
        XaicmpError: a path does not exist, a list cannot be read, or there is no image.
    """
    paths: list[Path] = []
    for word in words:
        paths += _files(str(word))
    paths = list(dict.fromkeys(paths))
    root = Path(words[0]) if len(words) == 1 and Path(words[0]).is_dir() else None
    if not paths:
        raise XaicmpError(
            f"{', '.join(map(str, words))}: no image there ({', '.join(SUFFIXES)}); name others"
        )
    named = read_labels(labels) if labels is not None else _by_folder(paths, root)
    if labels is not None and named is not None:
        paths, named = _labelled(paths, named, labels)
    if label_map is not None and named is None:
        raise UsageError(
            f"{arg('label_map')} goes with labels, and these images have none; give {arg('labels')} too"
        )
    if label_map is not None and named:
        renamed = dict(read_rows(label_map))
        named = {path: renamed.get(name, name) for path, name in named.items()}
    indices, classes = _indices(paths, named)
    title = root.resolve().name if root is not None else ""
    return FileImages(paths, framing, labels=indices, classes=classes, root=root, strict=strict, name=title)


def _files(word: str) -> list[Path]:
    """The files that one word names, in order of name."""
    path = Path(word)
    if word == STDIN or (path.suffix in LISTS and path.is_file()):
        try:
            lines = sys.stdin.readlines() if word == STDIN else text_of(path).splitlines()
        except (OSError, ValueError) as error:
            raise XaicmpError(
                f"cannot read the list {word}: {reason_of(error)}; write one path per line"
            ) from error
        beside = Path() if word == STDIN else path.parent
        named = [Path(line.strip()) for line in lines if line.strip()]
        return [each if each.exists() or each.is_absolute() else beside / each for each in named]
    if word and path.is_dir():
        return sorted(
            Path(folder) / name
            for folder, _, names in os.walk(path, followlinks=True)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        )
    if word and path.exists():
        return [path]
    found = sorted(Path(each) for each in glob.glob(word, recursive=True))  # noqa: PTH207  (a pattern may begin with a root)
    if not found:
        raise XaicmpError(
            f"{arg('images')} {word}: no such file or folder; name photographs, or a folder of them"
        )
    return [file for each in found for file in (_files(str(each)) if each.is_dir() else [each])]


def _by_folder(paths: Iterable[Path], root: Path | None) -> dict[Path, str] | None:
    """The class of each file, if all are in folders inside of ``root``: the name of the outermost."""
    if root is None:
        return None
    parts = {path: path.relative_to(root).parts for path in paths}
    return (
        {path: each[0] for path, each in parts.items()}
        if all(len(each) > 1 for each in parts.values())
        else None
    )


def read_labels(path: Path) -> dict[Path, str]:
    """Labels by path from a CSV file with the columns path and label, or without a head in that order."""
    return {path.parent / name: label for name, label in read_rows(path)}


def read_rows(path: Path) -> list[tuple[str, str]]:
    """The pairs in a CSV file, or in a JSON object.

    Raises:
        XaicmpError: it cannot be read, or has a row of fewer than two values.
    """
    try:
        text = text_of(path)
        if path.suffix == ".json":
            return [(str(key), str(value)) for key, value in json.loads(text).items()]
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except OSError as error:
        raise XaicmpError(f"cannot read {path}: {error.strerror}; give another file") from error
    except (ValueError, csv.Error, AttributeError, RecursionError) as error:
        raise XaicmpError(f"{path} is no table of two columns; write a path and a label per line") from error
    head = [each.strip().lower() for each in rows[0]] if rows else []
    first = next((head.index(name) for name in PATHS if name in head), None)
    second = next((head.index(name) for name in NAMES if name in head), None)
    at, to = (0, -1) if first is None or second is None else (first, second)
    if any(len(row) <= max(1, at, to) for row in rows):
        raise XaicmpError(f"{path}: a line has fewer than two columns; write a path and a label per line")
    return [(row[at].strip(), row[to].strip()) for row in (rows if (at, to) == (0, -1) else rows[1:])]


def _labelled(paths: list[Path], named: Mapping[Path, str], file: Path) -> tuple[list[Path], dict[Path, str]]:
    """The images that a file of labels names, in its order, and the label of each."""
    places = {path.resolve(): path for path in paths}
    alone = {name for name, count in Counter(path.name for path in paths).items() if count == 1}
    by_name = {path.name: path for path in paths if path.name in alone}
    same = {path: places.get(path.resolve()) or by_name.get(path.name) for path in named}
    found = {own: named[path] for path, own in same.items() if own is not None}
    if not found:
        raise XaicmpError(
            f"{file}: none of its {len(named):,} paths is among the images; write them relative to it"
        )
    return list(found), found


def _indices(
    paths: list[Path], named: Mapping[Path, str] | None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The labels as numbers, and the names of the classes that they count."""
    if not named:
        return None, ()
    names = [named.get(path, "") for path in paths]
    classes = tuple(sorted(set(names)))
    index = {name: place for place, name in enumerate(classes)}
    return np.array([index[name] for name in names]), classes

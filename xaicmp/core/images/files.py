"""Photographs in files and folders. They are decoded when they are needed."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from xaicmp.core.images.framing import Framing
from xaicmp.core.images.source import ImageSource, Unreadable
from xaicmp.core.machine.storage import followed, regular, text_of
from xaicmp.errors import UsageError, XaicmpError, arg

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
LISTS = (".txt", ".lst")
"""Suffixes of files that name images, one per line."""
STDIN = "-"
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
"""An image with more is taken for a decompression bomb."""
PATHS, NAMES = ("path", "file", "filename", "image"), ("label", "class", "class_name", "index", "target")
"""Names of the columns in a file of labels."""


class FileImages(ImageSource):
    """Photographs in files: EXIF rotation applied, alpha on white, the first frame of several, 8 bits per channel.

    Args:
        paths: of the files, one or more.
        framing: how they are resized and cropped.
        labels: one per file, an index into ``classes``, or into the model's classes if there are none; -1 for unknown.
        classes: the names of the classes.
        root: the folder that names are relative to.
        strict: whether a file that cannot be read ends the run instead of being skipped.
        name: what captions call them.
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
        self.root = _common(paths) if root is None else root
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
            except Exception as error:  # Pillow raises whatever a damaged file makes it raise
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

    def part(self, ids: np.ndarray) -> FileImages:
        """The images ``ids``, in that order."""
        part = copy(self)
        part.paths = [self.paths[each] for each in ids.tolist()]
        part.labels = None if self.labels is None else self.labels[ids]
        part._started, part._next = {}, set()
        return part

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
    with opened(path) as image:
        return framing(to_rgb(image))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file, upright; of several frames the first. Pillow raises all sorts of errors."""
    with Image.open(regular(path)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise Image.DecompressionBombError(
                f"{image.width} x {image.height} pixels are more than a photograph has"
            )
        yield ImageOps.exif_transpose(image)


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
    every: dict[tuple[str, Path], Path] = {}
    for path in (path for word in words for path in _files(str(word))):
        # A file counts once, however its path is written; a link is a file of its own.
        every.setdefault((os.path.abspath(path), followed(path)), path)  # noqa: PTH100  (without "..")
    paths = list(every.values())
    root = Path(words[0]) if len(words) == 1 and Path(words[0]).is_dir() else None
    if not paths:
        raise XaicmpError(
            f"{', '.join(map(str, words))}: no image there ({', '.join(SUFFIXES)}); name others"
        )
    named = _by_folder(paths, root) if labels is None else _by_file(paths, labels)
    if label_map is not None and named is None:
        raise UsageError(
            f"{arg('label_map')} goes with labels, and these images have none; give {arg('labels')} too"
        )
    if label_map is not None and named is not None:
        renamed = _renaming(label_map, set(named.values()))
        named = {path: renamed.get(name, name) for path, name in named.items()}
    title = root.resolve().name if root is not None else ""
    if named is None:
        return FileImages(paths, framing, root=root, strict=strict, name=title)
    classes = tuple(sorted(set(named.values())))
    index = {name: place for place, name in enumerate(classes)}
    indices = [index[name] for name in named.values()]
    return FileImages(
        list(named), framing, labels=indices, classes=classes, root=root, strict=strict, name=title
    )


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
        return sorted(_inside(path))
    if word and path.exists():
        return [path]
    found = sorted(Path(each) for each in glob.glob(word, recursive=True))  # noqa: PTH207  (a pattern may begin with a root)
    if not found:
        raise XaicmpError(
            f"{arg('images')} {word}: no such file or folder; name photographs, or a folder of them"
        )
    return [file for each in found for file in (_files(str(each)) if each.is_dir() else [each])]


def _common(paths: Iterable[Path]) -> Path:
    """The folder that all are in; the working folder where some are absolute and others are not."""
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:
        return Path()


def _inside(root: Path) -> Iterator[Path]:
    """The images in a folder and in those in it, but for hidden ones, and for links to a folder that they are in."""
    for place, folders, names in os.walk(root, followlinks=True):
        folder = Path(place)
        around = {followed(folder), *followed(folder).parents}
        folders[:] = [each for each in folders if each[0] != "." and followed(folder / each) not in around]
        yield from (folder / each for each in names if each[0] != "." and each.lower().endswith(SUFFIXES))


def _by_folder(paths: Iterable[Path], root: Path | None) -> dict[Path, str] | None:
    """The class of each file, if all are in folders inside of ``root``: the name of the outermost."""
    if root is None:
        return None
    parts = {path: path.relative_to(root).parts for path in paths}
    if any(len(each) == 1 for each in parts.values()):
        return None
    return {path: each[0] for path, each in parts.items()}


def _by_file(paths: list[Path], file: Path) -> dict[Path, str]:
    """The labels of the images that a file names, in its order: by their paths, or by ends of these that only one has."""
    labels = read_labels(file)
    places = {followed(path): path for path in paths}
    alike: dict[str, list[Path]] = {}
    for path in paths:
        for name in {path.name, path.stem}:
            alike.setdefault(name, []).append(path)
    found: dict[Path, str] = {}
    for path, label in labels.items():
        written = path.relative_to(file.parent).parts if path.is_relative_to(file.parent) else path.parts
        folders = written[:-1]
        same = [
            each
            for each in alike.get(path.name, [])
            if not folders or each.absolute().parent.parts[-len(folders) :] == folders
        ]
        own = places.get(followed(path)) or (same[0] if len(same) == 1 else None)
        if own is not None and found.setdefault(own, label) != label:
            raise XaicmpError(f"{file}: {own} has two labels, {found[own]} and {label}; give it one")
    if not found:
        raise XaicmpError(
            f"{file}: none of its {len(labels):,} paths is among the images; write them relative to it"
        )
    return found


def _renaming(file: Path, labels: set[str]) -> dict[str, str]:
    """The class for each label in a file, which is one of ``labels``, or several."""
    renamed: dict[str, str] = {}
    for label, *_, name in read_rows(file, "a label and a class"):
        if renamed.setdefault(label, name) != name:
            raise XaicmpError(f"{file}: {label} has two classes, {renamed[label]} and {name}; give it one")
    if labels.isdisjoint(renamed):
        raise XaicmpError(
            f"{file}: none of its {len(renamed):,} labels is one of the images', as {min(labels)}; write those"
        )
    return renamed


def read_labels(file: Path) -> dict[Path, str]:
    """Labels by path from a CSV file with the columns path and label, or without a head in that order.

    Raises:
        XaicmpError: it cannot be read, its head names only one of the columns, or a path has two labels.
    """
    rows = read_rows(file)
    head = [each.lower() for each in rows[0]] if rows else []
    path, label = (
        next((head.index(name) for name in names if name in head), None) for names in (PATHS, NAMES)
    )
    if (path is None and label is None) or any(each.endswith(SUFFIXES) for each in head):
        path, label = 0, -1
    else:
        rows = rows[1:]
    if path is None or label is None:
        names = PATHS if path is None else NAMES
        raise XaicmpError(
            f"{file}: its first line names no column {names[0]}, nor {', '.join(names[1:])}; name it"
        )
    labels: dict[Path, str] = {}
    for row in rows:
        if len(row) <= max(path, label):
            raise XaicmpError(
                f"{file}: {','.join(row)[:80]} has too few columns; write a path and a label per line"
            )
        if labels.setdefault(file.parent / row[path], row[label]) != row[label]:
            raise XaicmpError(f"{file}: {row[path]} has two labels; give it one")
    return labels


def read_rows(path: Path, what: str = "a path and a label") -> list[list[str]]:
    """The rows of two or more values in a CSV file, or the pairs in a JSON object; ``what`` they are.

    Raises:
        XaicmpError: it cannot be read, or has a row of fewer values.
    """
    try:
        text = text_of(path)
        if path.suffix == ".json":
            whole = json.loads(
                text, object_pairs_hook=lambda pairs: dict(enumerate(pairs))
            )  # also those of one key
            return [[key, str(value)] for key, value in whole.values()]
        rows = [
            [each.strip() for each in row]
            for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
            if row
        ]
    except OSError as error:
        raise XaicmpError(f"cannot read {path}: {error.strerror}; give another file") from error
    except (ValueError, csv.Error, AttributeError, RecursionError) as error:
        raise XaicmpError(f"{path} is no table of two columns; write {what} per line") from error
    if any(len(row) < 2 for row in rows):
        raise XaicmpError(f"{path}: a line has fewer than two columns; write {what} per line")
    return rows

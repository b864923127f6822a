"""Maps that were kept in an ``.npz`` file, by ``xaicmp explain`` or by anyone, compared without model or images."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xaicmp.core.attribution.selection import find_known
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.memory import free_memory
from xaicmp.core.machine.storage import contents, replacing
from xaicmp.core.results.comparison import Comparison, Source
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import UNKNOWN, Predictions
from xaicmp.core.results.scores import Scores
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.journal import DAMAGE, Journal
from xaicmp.core.run.provenance import versions
from xaicmp.core.run.scoring import BLOCK, score
from xaicmp.errors import UsageError, XaicmpError

KINDS = {"numbers": "fiu", "whole numbers": "iu", "names": "USiu", "bytes": "B"}
ARRAYS = {
    "maps": ("numbers", ("M", "N", "H", "W")),
    "methods": ("names", ("M",)),
    "ids": ("whole numbers", ("N",)),
    "labels": ("names", ("N",)),
    "predicted": ("names", ("N",)),
    "targets": ("names", ("N",)),
    "confidence": ("numbers", ("N",)),
    "grids": ("whole numbers", ("M", "2")),
    "completeness": ("numbers", ("M", "N")),
    "other_maps": ("numbers", ("2", "M", "N", "H", "W")),
    "other_targets": ("names", ("2", "N")),
    "files": ("names", ("N",)),
    "images": ("bytes", ("N", "H", "W", "3")),
}
"""The arrays that are read: their kind and shape for M methods and N images. Only the first two must be there, and the
images are read only where they are wanted."""
EXACT = 2**53
"""Up to here float64 holds every whole number, and equal pixels are those that are equal in the file."""


def compare_maps(
    path: Path,
    settings: Settings | Callable[[Sequence[str]], Settings],
    remark: Callable[[str], None] = lambda message: None,
    keep: Callable[[Explanations], None] | None = None,
    images: bool = True,
) -> Comparison:
    """Compare the maps in ``path`` pairwise.

    Args:
        path: an ``.npz`` file with ``methods`` strings ``(M,)`` and ``maps`` ``(M, N, H, W)``; and, if known,
            ``ids`` ``(N,)``, ``labels``, ``predicted`` and ``targets`` (strings), ``confidence``, ``grids``
            ``(M, 2)``, ``completeness`` ``(M, N)``, ``other_maps`` ``(2, M, N, H, W)`` and ``other_targets`` strings
            ``(2, N)``. What else it holds is not read.
        settings: what is measured; or what says so, given the names of the methods.
        remark: told how many images were left out because the file holds them before, with the same maps.
        keep: gets the maps.
        images: whether with their ``images``, uint8 ``(N, H, W, 3)``, as far as the file has them.

    Raises:
        UsageError: fewer than two methods, or a share of top pixels below one pixel.
        XaicmpError: the file cannot be read, does not hold that, or holds different maps under one id.
    """
    arrays, digest = _read(path, images=images and keep is not None)
    if repeated := _drop_repeated(path, arrays):
        remark(f"{path}: {repeated} repeated image{'s' * (repeated > 1)} left out; each image counts once")
    known = {name: find_known(name) for name in arrays["methods"].astype(str).tolist()}
    if len(known) < 2:
        raise UsageError(f"{path} holds the maps of one method; two or more are needed to compare")
    pixels = arrays["maps"][0, 0].size
    settings = settings if isinstance(settings, Settings) else settings(list(known))
    settings.check(pixels)
    predictions, classes, others = _predictions(arrays, arrays["maps"].shape[1])
    whole = _explanations(arrays, predictions, others)
    if keep is not None:
        keep(whole)
    blocks = (whole.rows(slice(at, at + BLOCK)) for at in range(0, len(predictions), BLOCK))
    scores = Scores.join([score(each, settings) for each in blocks])
    return Comparison(
        Source(
            f"Maps from {path}.",
            {
                "maps": {"path": str(path), "sha256": digest},
                "checkpoint": {},
                "data": {"name": str(arrays.get("data", "")), "split": "", "verified": None, "sample": None},
                "seed": settings.seed,
                "versions": versions(),
            },
            classes,
            tuple(arrays["files"].astype(str).tolist()) if "files" in arrays else (),
        ),
        {name: name if method is None else method.title for name, method in known.items()},
        frozenset(name for name, method in known.items() if method is not None and method.model_free),
        settings,
        pixels,
        predictions,
        scores,
    )


def _explanations(
    arrays: dict[str, Any], predictions: Predictions, other_targets: np.ndarray | None
) -> Explanations:
    """The maps in a file, with what else it knows of them."""
    # float64 where float32 would round: pixels must not become equal.
    kind = np.float32 if np.can_cast(arrays["maps"].dtype, np.float32) else np.float64
    names, maps = arrays["methods"].astype(str).tolist(), torch.from_numpy(arrays["maps"].astype(kind))
    gaps = dict(zip(names, arrays.get("completeness", np.empty((0, 0))).astype(np.float64), strict=False))
    gaps = {name: gap for name, gap in gaps.items() if not np.isnan(gap).all()}
    grids = dict(zip(names, map(tuple, arrays.get("grids", np.empty((0, 2))).tolist()), strict=False))
    grids = {name: grid for name, grid in grids.items() if grid != maps.shape[2:]}
    seen = torch.from_numpy(arrays.get("images", np.empty((0, 0, 0, 3), np.uint8))).permute(0, 3, 1, 2)
    others = torch.from_numpy(arrays["other_maps"].astype(kind)) if "other_maps" in arrays else None
    return Explanations(
        predictions, seen, tuple(names), maps, gaps, grids, other_maps=others, other_targets=other_targets
    )


def _read(path: Path, images: bool) -> tuple[dict[str, Any], str]:
    """The arrays in the file, of the right kinds and shapes, with or without the images, and its SHA-256."""
    names = [name for name in (*ARRAYS, "data") if images or name != "images"]
    try:
        content = contents(path)
        _check_room(path, content, names)
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in names if name in archive}
        arrays |= {name: each.astype(str) for name, each in arrays.items() if each.dtype.kind == "S"}
    except OSError as error:
        raise XaicmpError(
            f"cannot read {path}: {error.strerror or error}; `xaicmp explain` writes one"
        ) from error
    except (
        MemoryError,
        OverflowError,
        *DAMAGE,
    ) as error:  # the first two of an array that is not as large as it says
        raise XaicmpError(f"{path} is no .npz file of plain arrays; `xaicmp explain` writes one") from error
    _check(path, arrays)
    return arrays, hashlib.sha256(content).hexdigest()


def _check_room(path: Path, content: bytes, names: Sequence[str]) -> None:
    """Raise unless the arrays fit into memory once they are unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    total, free = sum(sizes.get(name, 0) for name in names), free_memory(torch.device("cpu"))
    if free is not None and total > free:
        raise XaicmpError(
            f"{path} holds {total / 2**30:.1f} GiB, more than the memory that is free; split it"
        )


def _check(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Raise XaicmpError unless the arrays are what ``ARRAYS`` says."""
    sizes = {"2": 2, "3": 3}
    for name, (kind, axes) in ARRAYS.items():
        if name not in arrays:
            if name in ("maps", "methods"):
                raise XaicmpError(f"{path} holds no {name!r}; it needs methods (M,) and maps (M, N, H, W)")
            continue
        array, wanted = arrays[name], ", ".join(str(sizes.get(axis, axis)) for axis in axes)
        given = array.dtype.char if kind == "bytes" else array.dtype.kind
        fits = array.ndim == len(axes) and given in KINDS[kind] and 0 not in array.shape
        if not fits or any(
            sizes.setdefault(axis, size) != size for axis, size in zip(axes, array.shape, strict=True)
        ):
            raise XaicmpError(
                f"{path} holds {name} of shape {array.shape} and type {array.dtype}; it needs {kind} ({wanted})"
            )
    for name in ("maps", "other_maps"):
        values = arrays.get(name, np.zeros(1))
        if values.dtype.kind in "iu" and (values.max() > EXACT or values.min() < -EXACT):
            raise XaicmpError(f"{path} holds {name} beyond 2^53, which float64 rounds; scale them")
    if sizes["H"] * sizes["W"] == 1:
        raise XaicmpError(f"{path} holds maps of one pixel, which cannot be compared; write larger ones")
    if len(set(arrays["methods"].tolist())) < sizes["M"]:
        raise XaicmpError(f"{path} names a method twice; name each once")
    if "ids" in arrays and arrays["ids"].astype(np.int64).min() < 0:
        raise XaicmpError(f"{path} holds an id below 0; ids count from 0")
    grids, size = arrays.get("grids", np.ones((1, 2))), (sizes["H"], sizes["W"])
    if (grids < 1).any() or (grids > size).any():
        raise XaicmpError(
            f"{path} holds a grid that is not between 1 x 1 and the maps' {size[0]} x {size[1]}; write it again"
        )


def _drop_repeated(path: Path, arrays: dict[str, Any]) -> int:
    """Keep each image where it comes first, in place, and say how many others there were.

    Without ids, images are the same if all that the file holds of them is.

    Raises:
        XaicmpError: what the file holds under one id differs.
    """
    by_image = {
        name: np.moveaxis(arrays[name], axes.index("N"), 0)
        for name, (_, axes) in ARRAYS.items()
        if name in arrays and "N" in axes
    }
    ids = arrays["ids"].astype(np.int64) if "ids" in arrays else _same_as(by_image)
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[inverse] != np.arange(len(ids)))
    if not len(repeated):
        return 0
    kept = np.sort(first)
    for name, values in by_image.items():
        for row in repeated:
            one, other = values[row], values[first[inverse[row]]]
            if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
                raise XaicmpError(
                    f"{path} holds two images with id {ids[row]}, whose {name} differ; give each an id of its own"
                )
        arrays[name] = np.take(arrays[name], kept, axis=ARRAYS[name][1].index("N"))
    arrays["ids"] = ids[kept]
    return len(repeated)


def _same_as(by_image: dict[str, np.ndarray]) -> np.ndarray:
    """Of each image, which is the first of which everything is the same; itself, if its maps are all constant."""
    maps, seen = by_image["maps"], dict[bytes, int]()
    first = np.arange(len(maps))
    for row in first[(maps != maps[..., :1, :1]).any(axis=(1, 2, 3))]:
        digest = hashlib.sha256(b"".join(each[row].tobytes() for each in by_image.values())).digest()
        first[row] = seen.setdefault(digest, row)
    return first


def _predictions(
    arrays: dict[str, Any], count: int
) -> tuple[Predictions, tuple[str, ...], np.ndarray | None]:
    """The images as far as the file knows them, the names of the classes, and which others were explained.

    An unknown class is -1.
    """
    labels, predicted = (
        arrays.get(name, np.full(count, UNKNOWN)).astype(str) for name in ("labels", "predicted")
    )
    targets = arrays.get("targets", predicted).astype(str)
    others = arrays.get("other_targets", np.empty((0, count))).astype(str)
    every = np.stack([labels, predicted, targets, *others])
    classes, numbers = np.unique(every, return_inverse=True)
    known = np.where(classes[numbers] == UNKNOWN, -1, numbers).reshape(every.shape)
    if (known < 0).any() and classes[-1] != UNKNOWN:  # as which the last is shown
        classes = np.append(classes, UNKNOWN)
    ids = arrays.get("ids", np.arange(count)).astype(np.int64)
    confidence = arrays.get("confidence", np.full(count, np.nan)).astype(np.float64)
    predictions = Predictions(ids, known[0], known[1], confidence, known[2])
    return predictions, tuple(classes.tolist()), known[3:] if len(others) else None


def write_maps(path: Path, journal: Journal, images: ImageSource, comparison: Comparison) -> None:
    """Put the explanations in a journal into an .npz file, one array at a time.

    It holds, readable with ``allow_pickle=False``: ``ids`` int64 (N,), ``labels``, ``predicted`` and ``targets``
    strings (N,), ``confidence`` float64 (N,), ``images`` uint8 (N, H, W, 3), ``methods`` strings (M,),
    ``maps`` float32 (M, N, H, W), ``grids`` int64 (M, 2) (height and width that the maps truly have),
    ``completeness`` float64 (M, N) (NaN for methods that promise none), ``data`` string and ``verified`` bool; and
    with the control ``other-class``, ``other_maps`` float32 (2, M, N, H, W) and ``other_targets`` strings (2, N).

    Args:
        path: the file.
        journal: of one image or more.
        images: what they are of.
        comparison: of them; it names the methods and the classes.

    Raises:
        XaicmpError: the file cannot be written.
    """
    predictions, classes = journal.predictions, np.array(comparison.source.classes)
    methods, data = list(comparison.titles), images.provenance
    size = next(journal.column(f"map {methods[0]}")).shape[1:]
    with replacing(path, journal.folder) as target, zipfile.ZipFile(target, "w") as archive:
        maps = (len(methods), len(predictions), *size)
        parts = (part for name in methods for part in journal.column(f"map {name}"))
        _write_array(archive, "maps", "<f4", maps, parts)
        if any(True for _ in journal.column(f"other {methods[0]}")):
            every = product(range(2), methods)
            parts = (part[kind] for kind, name in every for part in journal.column(f"other {name}"))
            _write_array(archive, "other_maps", "<f4", (2, *maps), parts)
        parts = (images.pixels(ids).permute(0, 2, 3, 1).numpy() for ids in journal.column("ids"))
        _write_array(archive, "images", "|u1", (len(predictions), *size, 3), parts)
        others = [classes[each] for each in journal.column("others")]
        none = np.full(len(predictions), np.nan)
        gaps = [np.concatenate(list(journal.column(f"gap {name}")) or [none]) for name in methods]
        for name, array in {
            "ids": predictions.ids,
            "labels": classes[predictions.labels],
            "predicted": classes[predictions.predicted],
            "targets": classes[predictions.targets],
            "confidence": predictions.confidence,
            "methods": np.array(methods),
            "grids": np.array([next(journal.column(f"grid {name}"), size) for name in methods]),
            "completeness": np.array(gaps),
            **({"other_targets": np.concatenate(others, axis=1)} if others else {}),
            **({"files": np.array(names)} if any(names := images.names(predictions.ids)) else {}),
            "data": np.array(f"{data['name']} {data['split']}".strip()),
            "verified": np.array(bool(data["verified"])),
        }.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)


def _write_array(
    archive: zipfile.ZipFile, name: str, kind: str, shape: tuple[int, ...], parts: Iterable[np.ndarray]
) -> None:
    """Put an array into the archive of which no more than one part is in memory."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(entry, header)
        for part in parts:
            entry.write(np.ascontiguousarray(part, dtype=kind).tobytes())

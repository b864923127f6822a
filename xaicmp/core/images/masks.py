"""Where the object is: a mask or boxes for each image, resized and cropped as the image is."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xaicmp.core.images.files import SUFFIXES, FileImages, opened, reason_of
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.storage import text_of
from xaicmp.errors import XaicmpError, arg

Boxes = list[list[float]]


def load_masks(images: ImageSource, ids: np.ndarray, where: Path) -> Tensor:
    """The objects in the images ``ids``, resized and cropped as these are: bool ``(N, H, W)``, empty without a mask.

    Args:
        images, ids: what the masks are of.
        where: a folder of masks, each called like its image but for the suffix; what is brighter than half of its
            brightest pixel is the object, in a palette what is not its first colour. Or a CSV file of boxes: path, x0,
            y0, x1, y1 in pixels of the upright photograph, x1 and y1 outside; an image may have several.

    Raises:
        XaicmpError: ``where`` cannot be read, a mask is of another size than its image, or no image has one.
    """
    none = torch.zeros(images.size(), dtype=torch.bool)
    found = [
        none if mask is None else _seen(images, each, mask, where)
        for each, mask in _matched(images, ids, where)
    ]
    masks = torch.stack(found)
    if not masks.any():
        raise _no_mask(where, len(ids))
    return masks


def check_masks(images: ImageSource, ids: np.ndarray, where: Path) -> None:
    """Raise XaicmpError if ``where`` cannot be read, has no mask for any of the images, or a bad one for the first."""
    for each, mask in _matched(images, ids, where):
        if mask is not None:
            _seen(images, each, mask, where)
            return
    raise _no_mask(where, len(ids))


def _no_mask(where: Path, images: int) -> XaicmpError:
    return XaicmpError(f"{where}: no mask for any of the {images} images; call each like its image")


def _matched(images: ImageSource, ids: np.ndarray, where: Path) -> Iterator[tuple[int, Path | Boxes | None]]:
    """Each image and its mask, if ``where`` holds one."""
    known, root = masks_in(where), images.root.absolute()
    every = [
        PurePath(name or str(each)).with_suffix("")
        for each, name in enumerate(images.names(np.arange(len(images))))
    ]
    counts = Counter(path.name for path in every)
    for each in ids.tolist():
        path = every[each]
        parts = (root / path).parts
        ends = (PurePath(*parts[start:]) for start in range(len(parts)))  # the longest first
        found = path if path in known else next((end for end in ends if end in known), None)
        if found is not None and len(found.parts) == 1 and counts[found.name] > 1:
            raise XaicmpError(
                f"{where}: the mask {found} may be of {counts[found.name]} images; put masks into folders as the images"
            )
        yield each, None if found is None else known[found]


def _seen(images: ImageSource, image: int, mask: Path | Boxes, where: Path) -> Tensor:
    """One object as the network sees it, bool ``(H, W)``."""
    size = images.size()
    if isinstance(images, FileImages):
        with opened(images.paths[image]) as photograph:
            size = photograph.height, photograph.width
    try:
        inside = _in_file(mask, size) if isinstance(mask, Path) else _in_boxes(mask, size)
    except Exception as error:  # Pillow raises whatever a damaged file makes it raise
        raise XaicmpError(f"{where}: the mask of image {image}: {reason_of(error)}; give another") from error
    if not isinstance(images, FileImages):
        return torch.from_numpy(inside)
    grey = Image.fromarray(255 * inside.astype(np.uint8))
    return images.framing(grey.convert("RGB"))[0] >= 128


def _in_file(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The object in a mask of an image of a height and width, bool ``(H, W)``."""
    with opened(path) as mask:
        if mask.size != size[::-1]:
            raise ValueError(f"{path} has {mask.width} x {mask.height} pixels, not {size[1]} x {size[0]}")
        if mask.mode == "P":
            return np.asarray(mask) > 0
        values = np.asarray(mask.convert("L"))
        return values > int(values.max(initial=0)) / 2


def _in_boxes(boxes: Boxes, size: tuple[int, int]) -> np.ndarray:
    """The same of boxes."""
    inside = np.zeros(size, dtype=bool)
    for box in boxes:
        left, top, right, bottom = (max(0, min(round(each), max(size))) for each in box)
        inside[top:bottom, left:right] = True
    return inside


def masks_in(where: Path) -> Mapping[PurePath, Path | Boxes]:
    """The masks in a folder or the boxes in a file, by their name without a suffix."""
    if not where.is_dir():
        return _boxes_in(where)
    files = sorted(path for path in where.rglob("*") if path.suffix.lower() in SUFFIXES)
    return {PurePath(path.relative_to(where)).with_suffix(""): path for path in files}


def _boxes_in(path: Path) -> dict[PurePath, Boxes]:
    boxes: dict[PurePath, Boxes] = {}
    try:
        rows = [row for row in csv.reader(text_of(path).splitlines()) if row]
        for row in rows[rows[:1] != [] and rows[0][1:2] == ["x0"] :]:
            name, *numbers = row
            box = [float(each) for each in numbers]
            if len(box) != 4 or not (np.isfinite(box).all() and box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"{','.join(row)[:80]} is no box")
            boxes.setdefault(PurePath(name.strip()).with_suffix(""), []).append(box)
    except OSError as error:
        raise XaicmpError(
            f"cannot read {arg('masks')} {path}: {reason_of(error)}; give a folder of masks or a .csv of boxes"
        ) from error
    except (ValueError, csv.Error) as error:
        raise XaicmpError(
            f"{path}: {reason_of(error)}; write path,x0,y0,x1,y1 per line, in pixels"
        ) from error
    return boxes

"""Folders of class folders, as what a network is trained on and what it is tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from xaicmp.core.images.files import SUFFIXES, FileImages, find_files
from xaicmp.core.images.framing import Framing
from xaicmp.core.images.source import Unreadable
from xaicmp.core.images.tensors import ImageSet, Split
from xaicmp.core.machine.memory import free_memory
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.errors import UsageError, XaicmpError, arg

TRAIN = ("train", "training")
TEST = ("val", "valid", "validation", "test")
AT_ONCE = 256


def split_folder(
    root: Path, framing: Framing, share: float | None, seed: int
) -> tuple[FileImages, FileImages]:
    """The images to train on and to test on, each shuffled; nothing is decoded.

    Args:
        root: has the folders ``train`` and ``val`` with a folder per class each, or a folder per class.
        framing: how the images are resized and cropped.
        share: of each class that is held out where there is no ``val``; by default a tenth.
        seed: of which these are, and of the order.

    Raises:
        UsageError: a share where the folders say what is held out, or one not between 0 and 1.
        XaicmpError: there are no class folders with images, fewer than two classes, or a class on one side alone.
    """
    parts = [next((root / name for name in names if (root / name).is_dir()), None) for names in (TRAIN, TEST)]
    if parts[0] is None or parts[1] is None:
        return _by_share(_labelled(root, framing), 0.1 if share is None else share, seed)
    if share is not None:
        raise UsageError(
            f"{arg('split')} {share:g}: {parts[1]} holds what is held out; leave {arg('split')} out"
        )
    images, test = (_labelled(part, framing) for part in parts if part is not None)
    if unknown := sorted(set(test.classes) - set(images.classes)):
        raise XaicmpError(
            f"{parts[1]} has the class {unknown[0]}, which {parts[0]} has not; add or remove it"
        )
    to = np.array([images.classes.index(name) for name in test.classes])
    test.labels, test.classes = to[test.labels], images.classes
    return images.part(_order(len(images), seed)), test.part(_order(len(test), seed))


def decoded(images: FileImages, split: Split, progress: Progress = no_progress) -> ImageSet:
    """All of the images, in memory.

    Raises:
        XaicmpError: one cannot be read, or memory does not hold them.
    """
    height, width = images.size()
    takes, free = len(images) * 3 * height * width, free_memory(torch.device("cpu"))
    if free is not None and 2 * takes > free:  # a second time, with margins, where crops are cut
        raise XaicmpError(
            f"{len(images):,} images of {height} x {width} take {2 * takes / 1e9:.1f} GB and {free / 1e9:.1f} are free; "
            f"give a smaller {arg('input_size')}, or {arg('limit')}"
        )
    tensor = torch.empty(len(images), 3, height, width, dtype=torch.uint8)
    for start in range(0, len(images), AT_ONCE):
        ids = np.arange(start, min(start + AT_ONCE, len(images)))
        images.ahead(ids + AT_ONCE if ids[-1] + AT_ONCE < len(images) else ids)
        try:
            tensor[ids] = images.pixels(ids)
        except Unreadable as error:
            raise XaicmpError(
                f"cannot read {next(iter(error.reasons.values()))}; replace it, or take it out of the folder"
            ) from error
        progress("reading images", int(ids[-1]) + 1, len(images))
    labels = torch.from_numpy(images.labels)
    return ImageSet(images.name, split, None, tensor, labels, images.classes)


def _labelled(root: Path, framing: Framing) -> FileImages:
    """The images in the folders of ``root``, a class each."""
    if not any(path.suffix.lower() in SUFFIXES for path in root.rglob("*")):
        raise XaicmpError(
            f"{arg('data')} {root}: no images there, and no CIFAR-10; name a folder with a folder of images per class"
        )
    images = find_files([root], framing)
    if images.labels is None:
        loose = next(path for path in images.paths if path.parent == root)
        raise XaicmpError(
            f"{loose} is in no folder of a class; name a folder with a folder of images for each class"
        )
    if len(images.classes) < 2:
        raise XaicmpError(
            f"{root} has images of one class, {images.classes[0]}; a classifier needs two or more"
        )
    return images


def _by_share(images: FileImages, share: float, seed: int) -> tuple[FileImages, FileImages]:
    """Of each class that share, at least one image, is held out."""
    if not 0 < share < 1:
        raise UsageError(f"{arg('split')} {share:g}: give a share between 0 and 1, as 0.1")
    order = _order(len(images), seed)
    labels, held = images.labels[order], np.zeros(len(images), dtype=bool)
    for index, name in enumerate(images.classes):
        own = np.flatnonzero(labels == index)
        count = max(1, round(share * len(own)))
        if count == len(own):
            raise XaicmpError(
                f"the class {name} has {len(own)} images, of which {count} would be held out; add more to it"
            )
        held[own[:count]] = True
    return images.part(order[~held]), images.part(order[held])


def _order(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)

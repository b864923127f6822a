"""Folders of class folders: images to train on, and images to test on."""

from __future__ import annotations

from collections.abc import Sequence
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
        seed: of the split and of the order.

    Raises:
        UsageError: a share where the folders say what is held out, or one not between 0 and 1.
        XaicmpError: there are no class folders with images, fewer than two classes, or a class on one side alone.
    """
    if (folders := _folders(root)) is None:
        return _by_share(_labelled(root, framing), 0.1 if share is None else share, seed)
    if share is not None:
        raise UsageError(
            f"{arg('split')} {share:g}: {folders[1]} holds what is held out; leave {arg('split')} out"
        )
    images, test = (_labelled(folder, framing) for folder in folders)
    if unknown := sorted(set(test.classes) - set(images.classes)):
        raise XaicmpError(
            f"{folders[1]} has the class {unknown[0]}, which {folders[0]} does not have; add or remove it"
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
    if free is not None and takes > 0.8 * free:
        raise XaicmpError(
            f"{len(images):,} images of {height} x {width} take {takes / 1e9:.1f} GB and {free / 1e9:.1f} are free; "
            f"give a smaller {arg('input_size')}, or {arg('limit')}"
        )
    shape, kind = (len(images), 3, height, width), torch.uint8
    tensor = torch.empty(shape, dtype=kind, memory_format=torch.channels_last)  # as training takes them
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
    labels, names = torch.from_numpy(images.labels), tuple(images.names(np.arange(len(images))))
    return ImageSet(images.name, split, None, tensor, labels, images.classes, root=images.root, files=names)


def images_tested(root: Path, framing: Framing, files: Sequence[str]) -> FileImages:
    """The images in ``root`` that a network was tested on while it was trained, in the same order.

    Args:
        root: what it was trained on, see ``split_folder``.
        framing: how the images are resized and cropped.
        files: their names, from its checkpoint.

    Raises:
        XaicmpError: one of them is not there.
    """
    images = _labelled((_folders(root) or (root, root))[1], framing)
    places = {name: place for place, name in enumerate(images.names(np.arange(len(images))))}
    if lost := [name for name in files if name not in places]:
        raise XaicmpError(
            f"{arg('data')} {root}: of the {len(files):,} files that the network was tested on, {len(lost):,} are not "
            f"there, as {lost[0]}; name the folder that it was trained on"
        )
    return images.part(np.array([places[name] for name in files]))


def _folders(root: Path) -> tuple[Path, Path] | None:
    """The folders to train on and to test on, if there are both."""
    train, test = (
        next((root / name for name in names if (root / name).is_dir()), None) for names in (TRAIN, TEST)
    )
    return None if train is None or test is None else (train, test)


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

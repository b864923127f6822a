"""CIFAR-100 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009) with its 100 fine classes."""

from __future__ import annotations

from pathlib import Path

from xaicmp.core.images.archive import Archive
from xaicmp.core.images.tensors import ImageSet, Split
from xaicmp.core.machine.progress import Progress, no_progress

OFFICIAL = Archive(
    "CIFAR-100",
    "cifar-100-python",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-python",
)


def load_cifar100(split: Split, folder: Path | None = None, *, progress: Progress = no_progress) -> ImageSet:
    """CIFAR-100 in torchvision's layout from ``folder`` (or the one above the data files), else from the cache folder.

    Args:
        split: which part of the data set.
        folder: one that holds it, or a new or empty one to download it into (170 MB).
        progress: told how far the download is.

    Raises:
        XaicmpError: no data there, damaged files, or no way to download.
    """
    return OFFICIAL.load(split, folder, progress=progress)

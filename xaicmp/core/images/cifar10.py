"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).

It is read from a folder in torchvision's layout (``cifar-10-batches-py``) or the official binary layout
(``cifar-10-batches-bin``), or downloaded. The first 1,000 test images travel inside the package.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch

from xaicmp.core.images.archive import Archive, cache_folder
from xaicmp.core.images.source import ImageSource
from xaicmp.core.images.tensors import ImageSet, Split
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.machine.storage import contents
from xaicmp.errors import XaicmpError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)

PICKLED, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
OFFICIAL = Archive(
    "CIFAR-10",
    PICKLED,
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    f"{BINARY} and {PICKLED}",
)
RECORDS = 10_000
RECORD_BYTES = 1 + 3 * 32 * 32
FILES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}

# The release publishes an MD5 sum of its archive only; these sums of the files in it are those that
# MXNet's CIFAR10 data set has carried since 2017.
OFFICIAL_SHA1 = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}


SAMPLE_SHA256 = "30904477a5fe7f0655e398dd2d27b9bf253857adcb2ec728f474a6b4a9c4774c"


def load_sample(load_whole: Callable[[], ImageSource] | None = None) -> ImageSet:
    """The first 1,000 CIFAR-10 test images, from inside the package.

    Args:
        load_whole: loads the whole test set, if more images are needed.

    Raises:
        XaicmpError: the file in the installation is damaged.
    """
    with as_file(files("xaicmp") / "sample" / "cifar10-test-1000.npz") as path:
        if hashlib.sha256(path.read_bytes()).hexdigest() != SAMPLE_SHA256:
            raise XaicmpError(f"{path} is damaged; install xaicmp again")
        with np.load(path, allow_pickle=False) as arrays:
            return ImageSet(
                "CIFAR-10",
                "test",
                True,
                torch.from_numpy(arrays["pixels"]),
                torch.from_numpy(arrays["labels"]).long(),
                CLASSES,
                sample=True,
                load_whole=load_whole,
            )


def load_cifar10(
    split: Split,
    folder: Path | None = None,
    *,
    download: bool = True,
    progress: Progress = no_progress,
) -> ImageSet:
    """CIFAR-10 from ``folder`` (or the one above the data files), else from the cache folder.

    Args:
        split: which part of the data set.
        folder: a folder that holds CIFAR-10 in either layout, or a new or empty one to download into.
        download: fetch the data set (170 MB) when the folder has none.
        progress: told how far the download is.

    Raises:
        XaicmpError: no data there, files cut short or damaged, or no way to download.
    """
    if (found := _find_binary(cache_folder() if folder is None else folder)) is not None:
        return _load_binary(found, split)
    return OFFICIAL.load(split, folder, download=download, progress=progress)


def holds_cifar10(root: Path) -> bool:
    """Whether a folder holds CIFAR-10 in either layout."""
    return root.is_dir() and (_find_binary(root) or OFFICIAL.find(root)) is not None


def _find_binary(root: Path) -> Path | None:
    """The folder with files of the binary layout, ``root`` itself or in it."""
    names = [name for part in FILES.values() for name in part]
    folders = (root, root / BINARY)
    return next((each for each in folders if any(os.path.isfile(each / name) for name in names)), None)  # noqa: PTH113  (a name may be too long)


def _load_binary(folder: Path, split: Split) -> ImageSet:
    arrays, verified = [], True
    for name in FILES[split]:
        path = folder / name
        try:
            content = contents(path)
        except OSError as error:
            raise XaicmpError(f"cannot read {path}: {error.strerror}; put the file there") from error
        if len(content) != RECORDS * RECORD_BYTES:
            raise XaicmpError(
                f"{path} has {len(content):,} bytes where CIFAR-10 has {RECORDS * RECORD_BYTES:,}; fetch it again"
            )
        verified &= hashlib.sha1(content, usedforsecurity=False).hexdigest() == OFFICIAL_SHA1[name]
        arrays.append(np.frombuffer(content, dtype=np.uint8).reshape(RECORDS, RECORD_BYTES))
    records = np.concatenate(arrays)
    if records[:, 0].max() >= len(CLASSES):
        raise XaicmpError(f"{folder} holds labels above 9: not CIFAR-10; fetch it again")
    pixels = torch.from_numpy(np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32))
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    return ImageSet("CIFAR-10", split, verified, pixels, labels, CLASSES)

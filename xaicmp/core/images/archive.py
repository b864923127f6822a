"""A data set in torchvision's layout, from an archive whose checksum is known."""

from __future__ import annotations

import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xaicmp.core.images.download import fetch
from xaicmp.core.images.tensors import ImageSet, Split
from xaicmp.core.machine.progress import Progress
from xaicmp.errors import XaicmpError, arg


@dataclass(frozen=True)
class Archive:
    """Where a data set comes from.

    Attributes:
        title: of the data set.
        dataset: torchvision's class, which checks every file's sum before it unpickles any.
        folder: in the archive, with the data.
        unpacking: how the folders begin in which a download becomes complete.
        url, md5: of the archive.
    """

    title: str
    dataset: str
    folder: str
    unpacking: str
    url: str
    md5: str

    @property
    def file(self) -> str:
        """The archive's name."""
        return self.url.rpartition("/")[2]

    def may_go_into(self, root: Path) -> bool:
        """Whether ``root`` is a new or empty folder, or one with the archive; what a kill has left does not count."""
        if not root.exists():
            return True
        if not root.is_dir():
            raise XaicmpError(
                f"{root} is not a folder; {arg('data')} names the folder that holds {self.title}"
            )
        return (root / self.file).is_file() or all(
            path.name.startswith(self.unpacking) for path in root.iterdir()
        )

    def load(self, folder: Path, split: Split) -> ImageSet:
        """A part of the data set.

        Raises:
            XaicmpError: the folder is incomplete or damaged, and was not opened.
        """
        import torchvision.datasets

        made: Any = getattr(torchvision.datasets, self.dataset)
        try:
            data = made(str(folder.parent), train=split == "train", download=False)
        except RuntimeError as error:
            raise XaicmpError(
                f"{folder} is incomplete or damaged (MD5 sums differ), so it was not opened; "
                "remove it and fetch it again"
            ) from error
        except OSError as error:
            raise XaicmpError(f"cannot read {folder}: {error.strerror}; give another folder") from error
        pixels = torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
        return ImageSet(self.title, split, True, pixels, torch.tensor(data.targets), tuple(data.classes))

    def download(self, root: Path, progress: Progress) -> None:
        """Put the folder into ``root``, complete or not at all."""
        created = not root.exists()
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=self.unpacking) as unpacked:
                into = root if (root / self.file).is_file() else Path(unpacked)
                archive = fetch(self.url, into, self.md5, f"downloading {self.title} (MB)", progress)
                with tarfile.open(archive) as tar:
                    # Its checksum is known; the filter only keeps newer Pythons from warning.
                    tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
                    tar.extractall(unpacked)
                (Path(unpacked) / self.folder).replace(root / self.folder)
        except (OSError, XaicmpError, tarfile.TarError) as error:
            if created and root.is_dir() and not any(root.iterdir()):
                root.rmdir()
            reason = getattr(error, "strerror", None) or error
            raise XaicmpError(
                f"could not download {self.title} into {root} ({reason}); run again, or name a folder that holds it"
            ) from error

"""A data set in torchvision's layout, from an archive whose checksum is known."""

from __future__ import annotations

import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xaicmp.core.images.download import fetch
from xaicmp.core.images.tensors import ImageSet, Split
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.machine.storage import followed
from xaicmp.errors import XaicmpError, arg


def cache_folder() -> Path:
    """Where downloaded data is kept: ``$XAICMP_DATA``, else the user's cache folder."""
    if folder := os.environ.get("XAICMP_DATA"):
        return Path(folder)
    import pooch

    try:
        return pooch.os_cache("xaicmp")
    except RuntimeError as error:
        raise XaicmpError(
            f"there is no home folder for data; give {arg('data')}, or set XAICMP_DATA"
        ) from error


@dataclass(frozen=True)
class Archive:
    """Where a data set comes from.

    Attributes:
        title: of the data set; without its hyphen, torchvision's class, which checks every file's sum before it
            unpickles any.
        folder: in the archive, with the data.
        url, md5: of the archive.
        layouts: the folders that are looked for, as messages name them.
    """

    title: str
    folder: str
    url: str
    md5: str
    layouts: str

    @property
    def file(self) -> str:
        """The archive's name."""
        return self.url.rpartition("/")[2]

    @property
    def unpacking(self) -> str:
        """How the names of folders begin in which a download becomes complete."""
        return f".{self.title.lower()}-"

    def find(self, root: Path) -> Path | None:
        """The folder with the data files, ``root`` itself or in it."""
        # torchvision finds its folder by name, which a dot does not show.
        places = (root, root / self.folder, followed(root))
        return next((path for path in places if path.name == self.folder and path.is_dir()), None)

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

    def load(
        self, split: Split, folder: Path | None, *, download: bool = True, progress: Progress = no_progress
    ) -> ImageSet:
        """A part of the data set from ``folder``, by default the cache folder; fetched if that is new or empty.

        Raises:
            XaicmpError: no data there, files that are incomplete or damaged and so not opened, or no way to download.
        """
        root = cache_folder() if folder is None else folder
        try:
            found = self.find(root)
            fresh = self.may_go_into(root) or folder is None
        except OSError as error:
            raise XaicmpError(f"cannot read {root}: {error.strerror}; give another folder") from error
        if found is None and not download:
            raise XaicmpError(
                f"no {self.title} in {root}; give {arg('data')}: a folder that holds it, or a new one to download it into"
            )
        if found is None and not fresh:
            raise XaicmpError(
                f"no {self.title} in {root} (looked for {self.layouts}); name the folder that holds it, "
                "or a new one to download it into"
            )
        if found is None:
            self.download(root, progress)
        return self._read(found or root / self.folder, split)

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

    def _read(self, folder: Path, split: Split) -> ImageSet:
        import torchvision.datasets

        made: Any = getattr(torchvision.datasets, self.title.replace("-", ""))
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

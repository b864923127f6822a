"""Sources of images: anything that returns the pixels of the images with given ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from xaicmp.errors import UsageError, XaicmpError, arg


class Unreadable(XaicmpError):
    """Some of the images that were asked for cannot be read.

    Args:
        reasons: by id, which file it is and why.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"cannot read {next(iter(reasons.values()))}; give other images")
        self.reasons = dict(reasons)


class ImageSource(ABC):
    """Images in an order; an image's id is its place, from 0.

    To add a source, derive a class and give it ``__len__`` and ``pixels``.

    Attributes:
        name: of the data set or folder, for captions.
        classes: the names of the classes that ``labels`` index; empty without labels.
        labels: int64 ``(N,)``, an array or a tensor; None where they are unknown.
        root: the folder that names are relative to, if they are of files.
    """

    name: str = "images"
    classes: tuple[str, ...] = ()
    labels: Any = None
    root: Path = Path()

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abstractmethod
    def pixels(self, ids: np.ndarray) -> Tensor:
        """The images ``ids`` as the model sees them, before normalisation: uint8 ``(len(ids), 3, H, W)``, RGB."""

    def normalised(self, ids: np.ndarray) -> Tensor | None:
        """The same as the model's float32 input, where the images were given so; None leaves it to the model."""
        return None

    def names(self, ids: np.ndarray) -> list[str]:
        """The names of the images ``ids``, for tables and figures; empty where they have none but their ids."""
        return [""] * len(ids)

    def size(self) -> tuple[int, int]:
        """Height and width of the images as the model sees them."""
        height, width = self.pixels(np.arange(1)).shape[2:]
        return height, width

    def find(self, name: str) -> int:
        """The id of the image that is called so: by its path, the end of that, or its name without a suffix.

        Raises:
            UsageError: there is none, there are several, or images have no names.
        """
        every = self.names(np.arange(len(self)))
        if not any(every):
            raise UsageError(
                f"{arg('ids')} {name!r}: ids of {self.name} count from 0; write 3 7 12, or 3,7,12, or 0-99"
            )
        wanted, root = Path(name), self.root.absolute()
        paths = [root / each for each in every]
        ways = (
            [path == wanted.absolute() or each == name for path, each in zip(paths, every, strict=True)],
            [path.parts[-len(wanted.parts) :] == wanted.parts for path in paths],
            [path.stem == name for path in paths],
        )
        for same in ways:
            found = np.flatnonzero(same).tolist()
            if len(found) == 1:
                return found[0]
            if found:
                shown = ", ".join(every[each] for each in found[:3])
                raise UsageError(
                    f"{arg('ids')} {name}: {len(found)} files have this name ({shown}); give more of the path"
                )
        raise UsageError(
            f"{arg('ids')} {name}: no such file among the {len(self):,} of {self.name}; give the name of one"
        )

    def ahead(self, ids: np.ndarray) -> None:
        """A hint that these will be asked for next."""
        return

    def readable(self, ids: np.ndarray) -> tuple[np.ndarray, Tensor, dict[int, str]]:
        """Those of the images ``ids`` that can be read, their pixels, and by id why others cannot."""
        try:
            return ids, self.pixels(ids), {}
        except Unreadable as error:
            rest = ids[~np.isin(ids, list(error.reasons))]
            return rest, self.pixels(rest), error.reasons

    def whole(self) -> ImageSource | None:
        """The source that these images are the beginning of, and that is worth loading only if they do not suffice.

        Raises:
            XaicmpError: it is not at hand.
        """
        return None

    @property
    def about(self) -> str:
        """What captions say of them."""
        return self.name

    @property
    def provenance(self) -> dict[str, Any]:
        """Where they come from, as plain values."""
        return {"name": self.name, "split": "", "verified": None, "sample": None}

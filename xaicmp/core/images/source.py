"""Where images come from: anything that gives the pixels of the images that are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
        name: of the data set or folder, as captions have it.
        classes: the names of the classes that ``labels`` index; empty without labels.
        labels: int64 ``(N,)``, an array or a tensor; None where they are unknown.
    """

    name: str = "images"
    classes: tuple[str, ...] = ()
    labels: Any = None

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
        """The id of the image that is called so.

        Raises:
            UsageError: there is none, or the images have no names.
        """
        raise UsageError(
            f"{arg('ids')} {name!r}: ids of {self.name} count from 0; write 3 7 12, or 3,7,12, or 0-99"
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

"""Where images come from: anything that gives the pixels of the images that are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from torch import Tensor


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
        """What tables and figures call the images ``ids``."""
        return [str(each) for each in ids]

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

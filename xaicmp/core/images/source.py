"""A set of images in memory, and what a model is given of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Split = Literal["train", "test"]


@dataclass(frozen=True)
class ImageSet:
    """Images in data-set order; an image's id is its row.

    Attributes:
        name: of the data set.
        split: ``"train"`` or ``"test"``.
        verified: whether the files' checksums are the official ones.
        pixels: uint8 tensor ``(N, 3, H, W)``, RGB, 0 to 255.
        labels: int64 tensor ``(N,)``, an index into ``classes``.
        classes: the names of the classes.
        sample: whether this is the part of the data set that ships in the package.
    """

    name: str
    split: Split
    verified: bool
    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    sample: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> ImageSet:
        """The first ``count`` images, as a set of their own."""
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 ``(N, 3, H, W)`` to float32 of the same shape: scaled to [0, 1], less the mean, over the deviation."""
    shift, scale = (torch.tensor(values, device=pixels.device).view(1, -1, 1, 1) for values in (mean, std))
    return (pixels.float() / 255 - shift) / scale

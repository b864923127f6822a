"""Resizing and cropping of photographs for a network."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from xaicmp.core.choices import Interpolation


@dataclass(frozen=True)
class Framing:
    """A photograph is resized and its middle cut out, as torchvision's and timm's transforms for evaluation do.

    Attributes:
        size: height and width of what is cut out.
        crop_pct: the share of the resized photograph's shorter side that this is.
        interpolation: how it is resized; antialiased where it shrinks.
    """

    size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image to uint8 ``(3, H, W)``."""
        from torchvision.transforms import InterpolationMode, functional

        height, width = self.size
        # A quotient of two whole sizes must not be rounded down to one below.
        down, across = least = [math.floor(side / self.crop_pct + 1e-6) for side in self.size]
        if height == width:
            least = least[:1]  # the shorter side
        else:
            scale = max(down / image.height, across / image.width)
            least = [max(down, round(image.height * scale)), max(across, round(image.width * scale))]
        resized = functional.resize(image, least, InterpolationMode(self.interpolation))
        return functional.pil_to_tensor(functional.center_crop(resized, list(self.size)))

"""How a photograph becomes what a network sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
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
        height, width = self.size
        # A quotient of two whole sizes must not be rounded down to one below.
        least = [math.floor(side / self.crop_pct + 1e-6) for side in self.size]
        if height == width:
            short, long = sorted(image.size)
            other = int(least[0] * long / short)
            resized = (least[0], other) if image.width <= image.height else (other, least[0])
        else:
            scale = max(least[0] / image.height, least[1] / image.width)
            resized = (max(least[1], round(image.width * scale)), max(least[0], round(image.height * scale)))
        if image.size != resized:
            image = image.resize(resized, Image.Resampling[self.interpolation.upper()])
        top, left = (round((image.height - height) / 2), round((image.width - width) / 2))
        pixels = np.array(image.crop((left, top, left + width, top + height)))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

"""The images and maps that a page shows, as small as they are shipped."""

from __future__ import annotations

import gzip
import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from xaicmp.core.agreement.statistic import is_orderless
from xaicmp.core.agreement.top_pixels import ranked
from xaicmp.core.results.explanations import Explanations
from xaicmp.views.figures.layout import is_signed, norms

MOST, SIDE, LEAST = 200, 64, 12
"""The most images, and the height and width of square maps at most and at least."""
THUMBNAIL = 224
"""Pixels of the longer side of an image at most; one that is no larger than ``SIDE`` is shipped without loss."""
LEVELS = 256
UNDEFINED = 2**16 - 1
"""The place of the pixels of a map that has no order."""


@dataclass
class Gallery:
    """Collects images and maps batch by batch, and keeps them no larger than a page shows them.

    Attributes:
        images: ``data:`` addresses of the images.
        maps: float32 ``(M, N, h, w)``, batch by batch.
        size: height and width of the maps as they were compared.
    """

    images: list[str] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)

    def add(self, explanations: Explanations) -> None:
        """Take a batch."""
        self.size = (explanations.maps.shape[-2], explanations.maps.shape[-1])
        self.images += map(_address, explanations.pixels.permute(0, 2, 3, 1).numpy())
        self.maps.append(_shrunk(explanations.maps, SIDE**2))

    def rows(self, agreement: np.ndarray) -> np.ndarray:
        """Which images are shown, in order: all, or of many some evenly from the least agreement to the most."""
        methods, count = len(self.maps[0]), len(agreement)
        most = max(1, min(MOST, MOST * 6 // methods))
        order = np.argsort(agreement, kind="stable")
        return np.sort(order[np.linspace(0, count - 1, min(most, count)).round().astype(int)])

    def packed(self, rows: np.ndarray, room: int) -> Packed:
        """The maps of some images, as large as they are in ``room`` bytes, but no smaller than ``LEAST`` squared."""
        maps, pixels = torch.cat(self.maps, dim=1)[:, torch.from_numpy(rows)], SIDE**2
        while len((found := _packed(_shrunk(maps, pixels))).data) > room and pixels > LEAST**2:
            pixels = max(min(pixels, found.size[0] * found.size[1]) * room // len(found.data), LEAST**2)
        return found


@dataclass(frozen=True)
class Packed:
    """Maps as a page reads them.

    Attributes:
        size: their height and width as shipped.
        signed: by method, whether a value is below 0; then zero is the middle level.
        data: bytes under gzip. By image and method the place of each pixel from the highest down, ties by the lower
            index: first all low bytes, then all high bytes. Then the levels at ``LEVELS`` places from the highest down.
    """

    size: tuple[int, int]
    signed: Sequence[bool]
    data: bytes


def _packed(maps: Tensor) -> Packed:
    flat, scales = maps.flatten(-2), norms(maps.nan_to_num().numpy(), "image")
    values, places = ranked(flat)
    places[is_orderless(flat)] = UNDEFINED
    at = ((torch.arange(LEVELS) + 0.5) * values.shape[-1] / LEVELS).long()
    levels = np.zeros((*maps.shape[:2], LEVELS))
    for method, image in np.ndindex(*maps.shape[:2]):
        levels[method, image] = scales[method][image](values[method, image, at].nan_to_num().numpy())
    order = places.numpy().swapaxes(0, 1).ravel()
    shades = (levels * (LEVELS - 1)).round().swapaxes(0, 1).ravel()
    whole = np.concatenate([order % 256, order // 256, shades]).astype("u1").tobytes()
    signed = [is_signed(own[0]) for own in scales]
    return Packed((maps.shape[-2], maps.shape[-1]), signed, gzip.compress(whole, mtime=0))


def _shrunk(maps: Tensor, pixels: int) -> Tensor:
    """Maps ``(M, N, H, W)`` of at most about so many pixels, each the mean of those it stands for."""
    height, width = maps.shape[-2:]
    factor = (pixels / (height * width)) ** 0.5
    if factor >= 1:
        return maps.float()
    size = max(1, int(factor * height)), max(1, int(factor * width))
    return interpolate(maps.float(), size=size, mode="area")


def _address(pixels: np.ndarray) -> str:
    """An image uint8 ``(H, W, 3)`` as a ``data:`` address."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    kind, options = ("png", {}) if max(image.size) <= SIDE else ("jpeg", {"quality": 80})
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(file, kind, optimize=True, **options)
    return f"data:image/{kind};base64,{b64encode(file.getvalue()).decode()}"

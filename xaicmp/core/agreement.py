"""How far two batches of maps agree, image by image.

A statistic is a function ``(maps_a, maps_b, ...) -> (N,)`` in float64. A value that is not defined is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xaicmp.core.errors import UsageError


@dataclass(frozen=True)
class Statistic:
    """A statistic and how to read it.

    Attributes:
        name: as in files.
        title: as in tables.
        low, high: the range of its values; higher is more agreement.
        chance: its expected value for two unrelated maps, given the share of top pixels.
        source: where it is defined.
    """

    name: str
    title: Callable[[float], str]
    low: float
    high: float
    chance: Callable[[float], float]
    source: str


PEARSON = Statistic(
    "pearson",
    title=lambda top: "Pearson",
    low=-1,
    high=1,
    chance=lambda top: 0.0,
    source="Pearson product-moment correlation, as scipy.stats.pearsonr",
)
IOU = Statistic(
    "iou",
    title=lambda top: f"IoU@{100 * top:g}%",
    low=0,
    high=1,
    chance=lambda top: top / (2 - top),
    source="Jaccard index of the two sets of top pixels",
)
STATISTICS = (PEARSON, IOU)


def pearson(maps_a: Tensor, maps_b: Tensor) -> Tensor:
    """Pearson correlation of each pair of maps over their pixels.

    Args:
        maps_a, maps_b: ``(N, H, W)``.

    Returns:
        float64 ``(N,)`` in [-1, 1]; NaN where a map is constant or has a value that is not finite.
    """
    a, b = maps_a.flatten(1).double(), maps_b.flatten(1).double()
    constant = (a == a[:, :1]).all(dim=1) | (b == b[:, :1]).all(dim=1)
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (a, b))
    # Squares of very large or very small values would leave the range of float64.
    a, b = (x / x.abs().amax(dim=1, keepdim=True) for x in (a, b))
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    return (a * b).sum(dim=1).clamp(-1, 1).masked_fill(constant, torch.nan)


@dataclass(frozen=True)
class TopPixels:
    """The highest pixels of each map.

    Attributes:
        mask: bool ``(N, H * W)``, exactly ``int(top * H * W)`` set in each row; ties go to the lower index.
        tied: bool ``(N,)``, whether the lowest pixel inside equals the highest outside.
        undefined: bool ``(N,)``, whether the map has a NaN, which has no order.
    """

    mask: Tensor
    tied: Tensor
    undefined: Tensor


def check_top(top: float) -> None:
    """Raise UsageError unless ``top`` lies between 0 and 1, exclusive."""
    if not 0 < top < 1:
        raise UsageError(f"--top {top:g}: the share of top pixels lies between 0 and 1, as in --top 0.2")


def count_top(top: float, pixels: int) -> int:
    """How many of ``pixels`` the share ``top`` is: ``int(top * pixels)``.

    Raises:
        UsageError: ``top`` is outside (0, 1) or leaves no pixel.
    """
    check_top(top)
    count = int(top * pixels)
    if count == 0:
        enough = math.ceil(1e6 / pixels) / 1e6
        raise UsageError(f"--top {top:g} leaves no pixel of {pixels}; ask for at least {enough:g}")
    return count


def top_pixels(maps: Tensor, top: float = 0.2) -> TopPixels:
    """The top share ``top`` of the pixels of each map.

    Args:
        maps: ``(N, H, W)``.
        top: between 0 and 1, exclusive.

    Raises:
        UsageError: ``top`` is outside (0, 1) or leaves no pixel.
    """
    flat = maps.flatten(1)
    count = count_top(top, flat.shape[1])
    values, order = flat.sort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order[:, :count], True)
    return TopPixels(mask, values[:, count - 1] == values[:, count], flat.isnan().any(dim=1))


def iou(top_a: TopPixels, top_b: TopPixels) -> Tensor:
    """Intersection over union of two sets of top pixels.

    Returns:
        float64 ``(N,)`` in [0, 1]; NaN where a map has a NaN.
    """
    intersection = (top_a.mask & top_b.mask).sum(dim=1).double()
    union = (top_a.mask | top_b.mask).sum(dim=1).double()
    return (intersection / union).masked_fill(top_a.undefined | top_b.undefined, torch.nan)

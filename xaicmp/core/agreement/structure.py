"""Structural similarity."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from xaicmp.core.agreement.statistic import (
    Prepared,
    Statistic,
    aligned,
    extent,
    flatten,
    register,
)

_RADIUS, _SIGMA = 5, 1.5


@cache
def _window(size: int) -> Tensor:
    """``(size - 10, size)``: the Gaussian weights of the pixels around each that is 5 or more from both ends."""
    if size <= 2 * _RADIUS:
        return torch.empty(0, size, dtype=torch.float64)
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
    weights = (-0.5 * (offsets / _SIGMA) ** 2).exp()
    return torch.eye(size, dtype=torch.float64).unfold(0, 2 * _RADIUS + 1, 1) @ (weights / weights.sum())


def _blur(maps: Tensor) -> Tensor:
    # One product per map, because rounding in a product of all would depend on how many they are.
    height, width = maps.shape[-2:]
    rows, columns = (
        each.expand(*maps.shape[:-2], -1, -1) for each in (_window(height), aligned(_window(width)))
    )
    return rows @ aligned(maps) @ columns.mT


def _prepare_ssim(maps: Tensor, top: float) -> Prepared:
    """The maps scaled to [0, 1] each, and their local means and variances."""
    flat, undefined = flatten(maps)
    scaled = flat / extent(flat)
    low, high = scaled.aminmax(dim=-1, keepdim=True)
    scaled = ((scaled - low) / (high - low)).view(maps.shape)
    mean = _blur(scaled)
    too_small = min(maps.shape[-2:]) <= 2 * _RADIUS
    return Prepared.of(undefined | too_small, scaled, mean, _blur(scaled**2) - mean**2)


def _ssim(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Mean of (2 m_a m_b + c1)(2 cov + c2) / ((m_a^2 + m_b^2 + c1)(var_a + var_b + c2)) over whole windows."""
    (map_a, mean_a, variance_a), (map_b, mean_b, variance_b) = a, b
    c1, c2 = 0.01**2, 0.03**2
    covariance = _blur(map_a * map_b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)).mean(dim=(1, 2))


register(
    Statistic(
        "ssim",
        label="SSIM",
        low=-1,
        high=1,
        source="Wang et al. (2004), Gaussian window, sigma 1.5, over 11 x 11 pixels, as scikit-image has it; "
        "maps scaled to [0, 1] each, NaN for those with a side under 11 pixels",
        prepare=_prepare_ssim,
        formula=_ssim,
        moves=False,
    )
)

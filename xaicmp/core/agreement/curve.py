"""IoU against the share of top pixels: one share is a choice, and the curve shows what hangs on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.controls import every_other_image
from xaicmp.core.agreement.statistic import Pair, Prepared, chunks, is_orderless
from xaicmp.core.agreement.top_pixels import IOU, count_top, ranked, whole_pixels

SHARES = tuple(percent / 100 for percent in range(1, 51))


def curve_shares(pixels: int) -> list[float]:
    """1% to 50%, without those that are less than a pixel of so many."""
    return [share for share in SHARES if whole_pixels(share, pixels)]


def iou_curves(maps: Tensor, names: Sequence[str], others: bool) -> dict[str, dict[Pair, np.ndarray]]:
    """IoU of every two methods at the K shares of ``curve_shares``, from one sort of each map.

    Args:
        maps: ``(N, M, H, W)``.
        names: of the M methods.
        others: whether with any other image too.

    Returns:
        ``observed`` and, with others, ``other_image``, the mean over all of them: by pair, float64 ``(N, K)``, NaN
        where a map is constant or has a NaN, or there is no other image.
    """
    pixels = maps.shape[2] * maps.shape[3]
    counts = torch.tensor([count_top(share, pixels) for share in curve_shares(pixels)])
    levels = torch.empty(*maps.shape[:2], pixels, dtype=torch.uint8)
    undefined = torch.empty(maps.shape[:2], dtype=torch.bool)
    for rows in chunks(maps):
        flat = maps[rows].flatten(2)
        levels[rows], undefined[rows] = _levels(flat, counts), is_orderless(flat)

    def observed(a: int, b: int) -> Tensor:
        parts = [_iou(levels[rows, a], levels[rows, b], counts) for rows in chunks(levels)]
        return torch.cat(parts).masked_fill((undefined[:, a] | undefined[:, b])[:, None], torch.nan)

    pairs = list(combinations(range(len(names)), 2))
    found = {"observed": [observed(a, b) for a, b in pairs]}
    if others:
        groups, every = np.zeros(len(maps)), torch.tensor(pairs).T
        tops = (Prepared.of(undefined, levels <= index) for index in range(len(counts)))
        means = torch.stack([every_other_image(IOU, each, each, every, groups) for each in tops], dim=2)
        found["other_image"] = list(means.unbind(dim=1))
    return {
        name: {(names[a], names[b]): each.numpy() for (a, b), each in zip(pairs, values, strict=True)}
        for name, values in found.items()
    }


def _levels(flat: Tensor, counts: Tensor) -> Tensor:
    """uint8 ``(..., H * W)``: the index of the first share whose top pixels a pixel is one of; K for none."""
    level = torch.searchsorted(counts, torch.arange(flat.shape[-1]), right=True).to(torch.uint8)
    return level[ranked(flat)[1]]


def _iou(a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
    """From the levels of two maps ``(N, H * W)``: a pixel is in both sets from the later of its levels on."""
    later = torch.maximum(a, b).long()
    joined = torch.zeros(len(later), len(counts) + 1).scatter_add_(1, later, torch.ones(1).expand_as(later))
    both = joined.cumsum(dim=1)[:, :-1].double()
    return both / (2 * counts - both)

"""IoU against the share of top pixels: one share is a choice, and the curve shows what hangs on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.summary import Pair

SHARES = tuple(percent / 100 for percent in range(1, 51))
CELLS = 4_000_000
"""Pixels that are compared at once."""


def curve_shares(pixels: int) -> list[float]:
    """1% to 50%, without those that are less than a pixel of so many."""
    return [share for share in SHARES if int(share * pixels)]


def iou_curves(
    maps: Tensor, names: Sequence[str], partners: Tensor | None
) -> dict[str, dict[Pair, np.ndarray]]:
    """IoU of every two methods at the K shares of ``curve_shares``, from one sort of each map.

    Args:
        maps: ``(M, N, H, W)``.
        names: of the M methods.
        partners: ``(draws, N)``, from ``controls.other_images``, for any other image; None for no such floor.

    Returns:
        ``observed`` and, with partners, ``other_image``, the mean over them: by pair, float64 ``(N, K)``, NaN where
        a map has a NaN or there is no other image.
    """
    pixels = maps[0, 0].numel()
    counts = torch.tensor([int(share * pixels) for share in curve_shares(pixels)])
    levels = [_levels(each.flatten(1), counts) for each in maps]
    undefined = maps.flatten(2).isnan().any(dim=2)
    pairs = list(combinations(range(len(maps)), 2))
    images = torch.arange(maps.shape[1])
    draws = {"observed": images[None]}
    if partners is not None:
        draws["other_image"] = partners[(partners >= 0).all(dim=1)]

    def compare(a: int, b: int, rows: Tensor, others: Tensor) -> Tensor:
        values = _iou(levels[a][rows], levels[b][others], counts)
        return values.masked_fill((undefined[a][rows] | undefined[b][others])[:, None], torch.nan)

    def mean(a: int, b: int, drawn: Tensor) -> np.ndarray:
        found = torch.full((len(images), len(counts)), torch.nan, dtype=torch.float64)
        for rows in images.split(max(1, CELLS // pixels)) if len(drawn) else ():
            found[rows] = torch.stack([compare(a, b, rows, row[rows]) for row in drawn]).nanmean(dim=0)
        return found.numpy()

    return {
        name: {(names[a], names[b]): mean(a, b, drawn) for a, b in pairs} for name, drawn in draws.items()
    }


def _levels(flat: Tensor, counts: Tensor) -> Tensor:
    """uint8 ``(N, H * W)``: the index of the first share whose top pixels a pixel is one of; K for none."""
    order = flat.argsort(dim=1, descending=True, stable=True)
    level = torch.searchsorted(counts, torch.arange(flat.shape[1]), right=True).to(torch.uint8)
    return torch.empty(flat.shape, dtype=torch.uint8).scatter_(1, order, level.expand_as(order))


def _iou(a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
    """From the levels of two maps ``(N, H * W)``: a pixel is in both sets from the later of its levels on."""
    later = torch.maximum(a, b).long()
    joined = torch.zeros(len(later), len(counts) + 1).scatter_add_(1, later, torch.ones(1).expand_as(later))
    both = joined.cumsum(dim=1)[:, :-1].double()
    return both / (2 * counts - both)

"""IoU against the share of top pixels: one share is a choice, and the curve shows what hangs on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.partners import other_image, with_every_other
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

    pairs, groups = torch.combinations(torch.arange(len(names))).T, np.zeros(len(maps))
    found: dict[str, list[Tensor]] = {name: [] for name in ("observed", *["other_image"] * others)}
    for index in range(len(counts)):
        tops = Prepared.of(undefined, levels <= index)
        found["observed"].append(IOU.compare_own(tops, pairs))
        if others:
            means = [other_image(values) for values in with_every_other(IOU, tops, tops, pairs, groups)]
            found["other_image"].append(torch.stack(means, dim=1))
    return {
        name: {
            (names[a], names[b]): torch.stack([each[:, pair] for each in values], dim=1).numpy()
            for pair, (a, b) in enumerate(pairs.T.tolist())
        }
        for name, values in found.items()
    }


def _levels(flat: Tensor, counts: Tensor) -> Tensor:
    """uint8 ``(..., H * W)``: the index of the first share whose top pixels a pixel is one of; K for none."""
    level = torch.searchsorted(counts, torch.arange(flat.shape[-1]), right=True).to(torch.uint8)
    return level[ranked(flat)[1]]

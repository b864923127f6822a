"""Images cut into patches of like colour: what methods that take away parts of an image take away."""

from __future__ import annotations

import torch
from torch import Tensor

GRID = 7
"""Segments along a side, unless that would make them smaller than ``SMALLEST`` pixels."""

SMALLEST = 4
COMPACTNESS = 0.25
"""The distance in RGB from 0 to 1 that weighs as much as one segment's side in space."""

ROUNDS = 10


def superpixels(colours: Tensor) -> Tensor:
    """Cut each image into the same number K of segments, 49 from 28 x 28 pixels upwards.

    SLIC (Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", 2012): k-means
    over place and colour, started from a regular grid, in which a pixel may join the segment of its own cell
    or of the 8 around it. Unlike there, colours are RGB, the pixel in the middle of a cell stays with its
    segment, so that none is ever empty, and segments need not be connected. Nothing is drawn at random, and
    no image has an influence on another.

    Args:
        colours: ``(N, C, H, W)``, channels from 0 to 1.

    Returns:
        int64 ``(N, H, W)`` on the same device, each of 0 to K - 1 in each image.
    """
    count, _, *sides = colours.shape
    cells = [max(1, min(GRID, side // SMALLEST)) for side in sides]
    # In float64 and on the CPU, where sums are always taken in the same order.
    features = colours.cpu().double() / COMPACTNESS
    down, across = (
        (torch.arange(side, dtype=torch.float64) + 0.5) * each / side
        for side, each in zip(sides, cells, strict=True)
    )
    places = torch.stack(torch.meshgrid(down, across, indexing="ij")).expand(count, -1, -1, -1)
    features = torch.cat([places, features], dim=1).flatten(2)
    row, column = places[0].flatten(1).long()
    nearby = [
        (row + i).clamp(0, cells[0] - 1) * cells[1] + (column + j).clamp(0, cells[1] - 1)
        for i in (0, -1, 1)
        for j in (0, -1, 1)
    ]
    rows, columns = (
        ((torch.arange(each) + 0.5) * side / each).long() for side, each in zip(sides, cells, strict=True)
    )
    middles = (rows[:, None] * sides[1] + columns).flatten()
    labels = nearby[0].expand(count, -1)
    for _ in range(ROUNDS):
        sums = features.new_zeros(count, features.shape[1], len(middles))
        sums.scatter_add_(2, labels[:, None].expand_as(features), features)
        sizes = features.new_zeros(count, 1, len(middles))
        sizes.scatter_add_(2, labels[:, None], features.new_ones(labels[:, None].shape))
        centres, nearest = sums / sizes, features.new_full(labels.shape, torch.inf)
        for cell in nearby:
            distance = (features - centres[:, :, cell]).square().sum(dim=1)
            labels = torch.where(distance < nearest, cell, labels)
            nearest = torch.minimum(distance, nearest)
        labels[:, middles] = torch.arange(len(middles))
    return labels.view(count, *sides).to(colours.device)

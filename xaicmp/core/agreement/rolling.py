"""Maps that are rolled over their edges: as smooth as before, and elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.statistic import Prepared, Statistic

SHIFTS = 19
"""Shifted maps that each map is compared with: the fewest for which p can be ``controls.LEVEL``."""


def shifts(
    size: Sequence[int], ids: Sequence[int] | np.ndarray, draws: int = SHIFTS, seed: int = 0
) -> Iterator[Tensor]:
    """Rolls over the edges by random offsets, never (0, 0) and never twice by the same.

    Args:
        size: height and width of a map.
        ids: ``(N,)``: an image's offsets depend on its id and the seed, not on the other images.
        draws: H * W - 1 at most.
        seed: of the draws.

    Yields:
        int64 ``(N, H * W)``, which pixel comes to each place, once per draw.
    """
    height, width = size
    pixels = height * width
    offsets = np.empty((min(draws, pixels - 1), len(ids)), dtype=np.int64)
    for column, each in enumerate(ids):
        rng = np.random.default_rng([seed, int(each)])
        offsets[:, column] = 1 + rng.choice(pixels - 1, len(offsets), replace=False)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    for offset in torch.from_numpy(offsets)[..., None, None]:
        index = (rows - offset // width) % height * width + (columns - offset % width) % width
        yield index.flatten(1)


def roll(values: Tensor, shift: Tensor) -> Tensor:
    """The pixels of ``(N, M, H * W)`` where ``shift``, one of the ``shifts``, puts them."""
    return values.gather(2, shift[:, None].expand_as(values))


def prepare_rolled(
    statistic: Statistic, maps: Tensor, prepared: Prepared, shift: Tensor, top: float
) -> Prepared:
    """What ``statistic.prepare`` makes of ``maps`` ``(N, M, H, W)`` after a shift, but for rounding.

    Where it can be, this is what it made of them before, rolled, which costs a fraction.
    """
    if not statistic.moves:
        return statistic.prepare(roll(maps.flatten(2), shift).view_as(maps), top)
    first, *others = prepared.values
    first, tied = roll(first, shift), prepared.tied
    if tied.any():  # which of the equal pixels is taken depends on where they are
        again = maps[tied].flatten(1).gather(1, shift[:, None].expand(*tied.shape, -1)[tied])
        first[tied] = statistic.prepare(again.view(-1, *maps.shape[2:]), top).values[0]
    return Prepared((first, *others), prepared.undefined, tied)

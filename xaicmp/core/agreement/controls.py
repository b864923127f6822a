"""What agreement would be for no good reason: the floors that it must be above to mean anything.

Pure functions of maps, labels and a seed: none asks the model again. Each takes a ``Statistic``, what it prepared of
several methods' maps, and ``pairs`` of these, int64 ``(2, K)``, and gives float64 ``(N, K)``, NaN where undefined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from xaicmp.core.agreement.statistic import Prepared, Statistic, chunks, extent, take

LEVEL = 0.05

"""A p-value below this is taken for a finding."""

SHIFTS = 19

"""Shifted maps that each map is compared with: the fewest for which p can be ``LEVEL``."""


def other_images(groups: np.ndarray, draws: int = 5, seed: int = 0) -> Tensor:
    """For each image, others of its group, drawn without replacement and each with the same probability.

    A group is put into a random circle, and draw d goes the same random number of places on from every image: so
    each draw is a permutation without a fixed point, and no two draws give an image the same partner.

    Args:
        groups: ``(N,)``: all equal for any other image, the labels for another of the same class.
        draws: how many partners an image gets; fewer in groups of as many images or less.
        seed: of the draws.

    Returns:
        int64 ``(draws, N)``, -1 where there is no partner left.
    """
    rng = np.random.default_rng(seed)
    partners = np.full((draws, len(groups)), -1)
    for group in np.unique(groups):
        circle = rng.permutation(np.flatnonzero(groups == group))
        for row, places in zip(partners, 1 + rng.permutation(len(circle) - 1), strict=False):
            row[circle] = np.roll(circle, places)
    return torch.from_numpy(partners)


def other_image(
    statistic: Statistic,
    prepared_a: Prepared,
    prepared_b: Prepared,
    pairs: Tensor,
    partners: Tensor,
    *,
    balanced: bool = False,
) -> Tensor:
    """The statistic of A's map of an image with B's map of another, the mean over its partners.

    Args:
        statistic: what to compare by.
        prepared_a, prepared_b: what ``statistic.prepare`` made of the maps ``(N, M, H, W)``.
        pairs: int64 ``(2, K)``, methods of A and of B.
        partners: ``(draws, N)``, from ``other_images``.
        balanced: whether B's own level is in an image's value as A's is: the mean of its row, plus that of its
            column, less that of all. The mean stays the same; a paired test against the observed values is
            then as sharp as it says, where every image has a partner in every draw.

    Returns:
        float64 ``(N, K)``, NaN for an image without a partner or undefined with all of them.
    """
    values = torch.full((pairs.shape[1], *partners.shape), torch.nan, dtype=torch.float64)
    for rows in chunks(prepared_a.values[0]):
        own = take(prepared_a, rows)
        for draw, others in enumerate(partners[:, rows]):
            found = statistic.compare_pairs(own, take(prepared_b, others.clamp_min(0)), pairs)
            values[:, draw, rows] = found.masked_fill((others < 0)[:, None], torch.nan).T
    balanced = balanced and bool((partners >= 0).all())
    return torch.stack(
        [_balanced(each, partners) if balanced else each.nanmean(dim=0) for each in values], dim=1
    )


def _balanced(values: Tensor, partners: Tensor) -> Tensor:
    """Of values ``(draws, N)``, the mean of each image's row plus that of its column, less that of all."""
    columns = torch.full_like(values, torch.nan).scatter_(1, partners, values).nanmean(dim=0)
    return values.nanmean(dim=0) + columns - values.nanmean()


@dataclass(frozen=True)
class Shifted:
    """The statistic after B's maps were rolled.

    Attributes:
        mean: float64 ``(N, K)``, over the draws.
        p: float64 ``(N, K)``, (1 + number of draws that agree as well as observed or better) / (1 + draws): exact if
            every place of B's map is as likely as any other.
        draws: how many shifted maps each map was compared with.
    """

    mean: Tensor
    p: Tensor
    draws: int

    @property
    def above(self) -> Tensor:
        """Float64 ``(N, K)``, see ``among_highest``."""
        return torch.from_numpy(among_highest(self.p.numpy(), self.draws))


def among_highest(p: np.ndarray, draws: int) -> np.ndarray:
    """Whether each observed value is in the top 5% of its own null distribution, from ``Shifted.p``.

    Returns:
        float64 like ``p``: 1 for yes, 0 for no, NaN where p is; NaN everywhere if so few draws cannot say yes.
    """
    undefined = np.isnan(p) | (1 / (1 + draws) > LEVEL)
    return np.where(undefined, np.nan, p <= LEVEL)


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
        int64 ``(N, H * W)``, which pixel comes to each place, once a draw.
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


def shifted(
    statistic: Statistic,
    observed: Tensor,
    prepared_a: Prepared,
    prepared_rolled: Iterable[Prepared],
    pairs: Tensor,
) -> Shifted:
    """The statistic of A's maps with B's at the wrong place: what smoothness alone explains.

    Args:
        statistic: what to compare by.
        observed: ``(N, K)``, its values at the right place.
        prepared_a: what ``statistic.prepare`` made of A's maps ``(N, M, H, W)``.
        prepared_rolled: what it makes of B's after each of the ``shifts``.
        pairs: int64 ``(2, K)``, methods of A and of B.
    """
    total, defined, as_good = (torch.zeros_like(observed) for _ in range(3))
    draws = 0
    for rolled in prepared_rolled:
        draws += 1
        null = statistic.compare_pairs(prepared_a, rolled, pairs)
        # Where a map repeats itself, a draw may equal the observed value but for rounding.
        as_good += null >= observed - 1e-12 if statistic.higher else null <= observed + 1e-12
        defined += ~null.isnan()
        total += null.masked_fill(null.isnan(), 0)
    p = (1 + as_good) / (1 + draws)
    return Shifted(total / defined, p.masked_fill(observed.isnan(), torch.nan), draws)


def pool(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means over the blocks of ``grid``, float64 ``(..., *grid)``: what a method as coarse as that can say at all.

    A grid that does not divide the map has blocks that overlap by a pixel.
    """
    values = maps.double()
    scale = extent(values.flatten(-2))[..., None]
    return adaptive_avg_pool2d(values / scale, grid) * scale

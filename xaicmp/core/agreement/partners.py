"""Agreement with the maps of other images: which they are, its mean, and where an observed value stands among such."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.statistic import Prepared, Statistic, chunks, take

DRAWS = 100
"""Other images that a map is compared with, or all if there are fewer, where not all can be had by one product."""

TILE = 64
"""Images on each side of such a product, whose rounding must not depend on how much is worked on at once."""


def other_images(groups: np.ndarray, draws: int = 5, seed: int = 0) -> Tensor:
    """For each image, others of its group, drawn without replacement and each with the same probability.

    A group is put into a random circle, and draw d goes the same random number of places on from every image: so
    each draw is a permutation without a fixed point, and no two draws give an image the same partner.

    Args:
        groups: ``(N,)``: all equal for any other image, the labels for another of the same class; below 0 for an
            image whose group is unknown, which has no partner and is none.
        draws: how many partners an image gets; fewer in groups of as many images or less.
        seed: of the draws.

    Returns:
        int64 ``(draws, N)``, -1 where there is no partner left.
    """
    rng = np.random.default_rng(seed)
    partners = np.full((draws, len(groups)), -1)
    for group in np.unique(groups[groups >= 0]):
        circle = rng.permutation(np.flatnonzero(groups == group))
        for row, places in zip(partners, 1 + rng.permutation(len(circle) - 1), strict=False):
            row[circle] = np.roll(circle, places)
    return torch.from_numpy(partners)


def with_partners(
    statistic: Statistic, prepared_a: Prepared, prepared_b: Prepared, pairs: Tensor, partners: Tensor
) -> Iterator[Tensor]:
    """The statistic of A's map of each image with B's map of each of its partners.

    Args:
        statistic: what to compare by.
        prepared_a, prepared_b: what ``statistic.prepare`` made of the maps ``(N, M, H, W)``.
        pairs: int64 ``(2, K)``, methods of A and of B.
        partners: ``(draws, N)``, from ``other_images``.

    Yields:
        per pair float64 ``(N, N)``, of A's images by B's, NaN where these are no partners or it is undefined.
    """
    values = torch.empty(pairs.shape[1], *partners.shape, dtype=torch.float64)
    for rows in chunks(prepared_a.values[0]):
        own = take(prepared_a, rows)
        for draw, others in enumerate(partners[:, rows]):
            values[:, draw, rows] = statistic.compare_pairs(own, take(prepared_b, others), pairs).T
    images = partners.shape[1]
    for each in values:
        whole = torch.full((images, images + 1), torch.nan, dtype=torch.float64)
        yield whole.scatter_(1, partners.T % (images + 1), each.T)[:, :-1]  # -1 is no partner, and the last


def with_every_other(
    statistic: Statistic, prepared_a: Prepared, prepared_b: Prepared, pairs: Tensor, groups: np.ndarray
) -> Iterator[Tensor]:
    """``with_partners`` with all other images of the group as partners, for a statistic that is a product.

    Nothing is drawn. ``groups`` as for ``other_images``.
    """
    of = torch.from_numpy(groups)
    strangers = (of[:, None] != of) | (of < 0) | torch.eye(len(of), dtype=torch.bool)
    tiles = [slice(start, start + TILE) for start in range(0, len(of), TILE)]
    for a, b in pairs.T.tolist():
        rows, columns = (
            [take(prepared, (tile, method)) for tile in tiles]
            for prepared, method in ((prepared_a, a), (prepared_b, b))
        )
        parts = [torch.cat([statistic.compare_all(row, column) for column in columns], dim=1) for row in rows]
        yield torch.cat(parts).masked_fill_(strangers, torch.nan)


def other_image(values: Tensor, *, balanced: bool = False) -> Tensor:
    """The mean of each image over its partners, from ``with_partners`` or ``with_every_other``.

    Args:
        values: float64 ``(N, N)``.
        balanced: whether B's own level is in an image's value as A's is: the mean of its row, plus that of its
            column, minus that of all. The mean stays the same; a paired test against the observed values is
            then as sharp as it says, where every image has as many partners.

    Returns:
        float64 ``(N,)``, NaN for an image without a partner or undefined with all of them.
    """
    mean = values.nanmean(dim=1)
    return mean + values.nanmean(dim=0) - values.nanmean() if balanced else mean


def place(null: Tensor, observed: Tensor, higher: bool) -> tuple[Tensor, Tensor]:
    """The exact p of each observed value ``(N, ...)`` among those of its null distribution ``(draws, N, ...)``.

    p is the share of values that agree as well as the observed one or better, itself included: exact if every other
    map is as likely to stand in the place of B's. Values of the null distribution that are NaN are none.

    Returns:
        p, and how many values that is among, float64 ``(N, ...)``, NaN where there is no observed value.
    """
    # Products round otherwise than single values do, and a map that repeats itself equals itself but for rounding.
    as_good = null >= observed - 1e-12 if higher else null <= observed + 1e-12
    none = observed.isnan()
    among = (1.0 + (~null.isnan()).sum(dim=0)).double().masked_fill(none, torch.nan)
    return ((1 + as_good.sum(dim=0)) / among).masked_fill(none, torch.nan), among

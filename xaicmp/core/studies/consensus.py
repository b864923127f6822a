"""How far all methods agree at once, and how far each is from what the others have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.correlation import mean_ranks
from xaicmp.core.agreement.partners import other_image, with_every_other
from xaicmp.core.agreement.statistic import STATISTICS, is_orderless
from xaicmp.core.results.comparison import OTHER_IMAGE
from xaicmp.core.results.settings import Settings
from xaicmp.core.studies.measured import Measured
from xaicmp.errors import UsageError, arg

ALL = "all"
"""In the place of a method: all of them together."""

BLOCK = 256
"""Images that are worked on at once; the maps of other images come from the same block."""


@dataclass(frozen=True)
class Consensus(Measured):
    """Kendall's W, and the mean of the methods' ranks.

    There are two measures: ``kendall_w`` of ``ALL`` methods together, see ``kendall_w``; and ``consensus`` of each,
    Spearman's correlation of its map with the mean rank of the other methods. The control is ``OTHER_IMAGE``: every
    two maps are of different images.

    Attributes:
        maps: float32 ``(N, H, W)``, the consensus: the mean over all methods of the ranks, 1 for the lowest pixel.
        left_out: the titles of methods that have the maps of one before, so that a map counts once.
    """

    maps: np.ndarray
    left_out: tuple[str, ...] = ()

    def limits(self, measure: str) -> tuple[float, float]:
        """W lies between 0 and 1, a correlation between -1 and 1."""
        return (0, 1) if measure == "kendall_w" else (-1, 1)


def consensus(
    maps: Tensor, titles: Mapping[str, str], settings: Settings, distinct: Collection[str] | None = None
) -> Consensus:
    """The consensus of methods.

    Args:
        maps: ``(M, N, H, W)``, of three methods or more.
        titles: of the M methods, by name.
        settings: whose level and seed the intervals have.
        distinct: those that count, because others have the maps of one of them; by default all. Alone, one has no
            consensus, and all count.

    Raises:
        UsageError: there are fewer than three methods.
    """
    if len(titles) < 3:
        raise UsageError(
            f"{arg('methods')}: {len(titles)} have no consensus; compare three or more that know the model"
        )
    rows = [row for row, name in enumerate(titles) if distinct is None or name in distinct]
    if len(rows) < 2:
        rows = list(range(len(titles)))
    maps, every = maps[rows], list(titles)
    left_out = tuple(titles[name] for row, name in enumerate(every) if row not in rows)
    titles = {every[row]: titles[every[row]] for row in rows}
    parts = [_block(maps[:, start : start + BLOCK]) for start in range(0, maps.shape[1], BLOCK)]
    w, others, means, alone, alone_others = (torch.cat(each, dim=-1) for each in zip(*parts, strict=True))
    own, theirs = (
        {"kendall_w": {ALL: whole.numpy()}, "consensus": dict(zip(titles, each.numpy(), strict=True))}
        for whole, each in ((w, alone), (others, alone_others))
    )
    mean = means.T.reshape(maps.shape[1:]).float().numpy()
    return Consensus(titles, settings, own, {OTHER_IMAGE: theirs}, mean, left_out)


def _block(maps: Tensor) -> tuple[Tensor, ...]:
    """W, it with other images, the mean ranks ``(P, N)``, and each method with the others, its own and other images'."""
    flat = maps.flatten(2)
    methods, count, pixels = flat.shape
    ranks = torch.stack([mean_ranks(each) for each in flat])
    undefined = torch.stack([is_orderless(each) for each in flat])
    w, others = kendall_w(ranks.masked_fill(undefined[..., None], torch.nan))
    statistic, pair, groups = STATISTICS["spearman"], torch.tensor([[0], [1]]), np.zeros(count)
    whole, found = ranks.sum(dim=0), []
    for own, map_ranks in enumerate(ranks):
        rest = (whole - map_ranks).masked_fill(
            undefined[torch.arange(methods) != own].any(dim=0)[:, None], torch.nan
        )
        both = torch.stack([flat[own].double(), rest], dim=1).view(count, 2, 1, pixels)
        prepared = statistic.prepare(both, 0.2)
        (others_values,) = with_every_other(statistic, prepared, prepared, pair, groups)
        observed = statistic.compare_pairs(prepared, prepared, pair)[:, 0]
        found.append((observed, other_image(others_values, balanced=True)))
    alone, alone_others = (torch.stack(each) for each in zip(*found, strict=True))
    return w, others, (whole / methods).T, alone, alone_others


def kendall_w(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Kendall's W with ties (Kendall and Babington Smith, 1939), and the same with maps of different images.

    With c the ranks less their mean, W = |sum_m c_m|^2 / (M sum_m |c_m|^2), which is chi^2 / (M (P - 1)) of Friedman's
    test. For maps of different images each product c_l c_m is its mean over all other images of m, the maps brought
    to the length of the image's own.

    Args:
        ranks: float64 ``(M, N, P)``, mean ranks where values are tied, NaN where undefined.

    Returns:
        float64 ``(N,)`` each; NaN where a method is undefined, the second also without another image.
    """
    centred = ranks - ranks.mean(dim=2, keepdim=True)
    length = centred.norm(dim=2, keepdim=True)
    squares = length.square().sum(dim=(0, 2))
    methods = len(ranks)
    w = centred.sum(dim=0).square().sum(dim=1) / (methods * squares)
    unit = centred / length
    known = ~unit.isnan().any(dim=2, keepdim=True)
    zeroed = unit.nan_to_num()
    others = (zeroed.sum(dim=1, keepdim=True) - zeroed) / (known.sum(dim=1, keepdim=True) - known.long())
    scaled = length * others
    cross = (centred.sum(dim=0) * scaled.sum(dim=0)).sum(dim=1) - (centred * scaled).sum(dim=(0, 2))
    return w, (squares + cross) / (methods * squares)

"""Where the mass of a map lies, and which way it points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xaicmp.core.agreement.statistic import (
    Prepared,
    Statistic,
    extent,
    flatten,
    register,
)


def _prepare_shares(maps: Tensor, top: float) -> Prepared:
    """The positive part as shares that sum to 1, and their entropy."""
    flat, undefined = flatten(maps)
    positive = flat.clamp_min(0)
    positive = positive / extent(positive)
    shares = positive / positive.sum(dim=-1, keepdim=True)
    return Prepared.of(undefined | (flat <= 0).all(dim=-1), shares, torch.special.entr(shares).sum(dim=-1))


def _overlap(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Sum of the smaller of the two shares."""
    return torch.minimum(a[0], b[0]).sum(dim=1)


register(
    Statistic(
        "mass-overlap",
        label="Mass overlap",
        source="histogram intersection (Swain and Ballard, 1991) of the positive parts, each summing to 1",
        prepare=_prepare_shares,
        formula=_overlap,
    )
)


def _jensen_shannon(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """sqrt(H((p + q) / 2) - (H(p) + H(q)) / 2) with the entropy H in bits."""
    mixed = torch.special.entr((a[0] + b[0]) / 2).sum(dim=1)
    return ((mixed - (a[1] + b[1]) / 2) / math.log(2)).clamp_min(0).sqrt()


register(
    Statistic(
        "jensen-shannon",
        label="JS distance",
        source="Jensen-Shannon distance in base 2 (Endres and Schindelin, 2003) of the positive parts, each "
        "summing to 1, as scipy.spatial.distance.jensenshannon",
        prepare=_prepare_shares,
        formula=_jensen_shannon,
        higher=False,
    )
)


def _prepare_signs(maps: Tensor, top: float) -> Prepared:
    flat = maps.flatten(-2)
    one_sided = ~((flat > 0).any(dim=-1) & (flat < 0).any(dim=-1))
    return Prepared.of(one_sided | flat.isnan().any(dim=-1), flat.nan_to_num().double().sign().to(torch.int8))


def _same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Share of equal signs; zero is a sign of its own."""
    return (a[0] == b[0]).double().mean(dim=1)


register(
    Statistic(
        "sign",
        label="Same sign",
        source="share of pixels with the same sign, zero being one; NaN for maps of one sign only",
        prepare=_prepare_signs,
        formula=_same,
    )
)

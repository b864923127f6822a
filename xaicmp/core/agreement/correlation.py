"""Correlations of the values of two maps, or of their ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from xaicmp.core.agreement.statistic import (
    Prepared,
    Statistic,
    aligned,
    extent,
    flatten,
    is_orderless,
    register,
    zero,
)


def _unit(flat: Tensor) -> Tensor:
    # Squares of very large or very small values would leave the range of float64.
    scaled = flat / flat.abs().amax(dim=-1, keepdim=True)
    return scaled / scaled.norm(dim=-1, keepdim=True)


def _dot(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return aligned(a[0]) @ aligned(b[0]).mT


def _prepare_pearson(maps: Tensor, top: float) -> Prepared:
    """Unit deviations from the mean, whose scalar product is the correlation."""
    flat, undefined = flatten(maps)
    scaled = flat / extent(flat)
    return Prepared.of(undefined, _unit(scaled - scaled.mean(dim=-1, keepdim=True)))


PEARSON = register(
    Statistic(
        "pearson",
        label="Pearson",
        low=-1,
        high=1,
        chance=zero,
        source="Pearson product-moment correlation, as scipy.stats.pearsonr",
        prepare=_prepare_pearson,
        formula=_dot,
        products=True,
    )
)


def mean_ranks(flat: Tensor) -> Tensor:
    """Float64 ``(..., P)``: 1 for the lowest value, and the mean rank where values are tied."""
    ordered = flat.sort(dim=-1).values
    return (
        1 + torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True)
    ).double() / 2


def _prepare_spearman(maps: Tensor, top: float) -> Prepared:
    """The same of the ranks, the mean rank where values are tied."""
    flat = maps.flatten(-2)
    ranks = mean_ranks(flat)
    return Prepared.of(is_orderless(flat), _unit(ranks - ranks.mean(dim=-1, keepdim=True)))


register(
    Statistic(
        "spearman",
        label="Spearman",
        low=-1,
        high=1,
        chance=zero,
        source="Spearman rank correlation with mean ranks for ties, as scipy.stats.spearmanr",
        prepare=_prepare_spearman,
        formula=_dot,
        products=True,
    )
)


def _prepare_kendall(maps: Tensor, top: float) -> Prepared:
    flat = maps.flatten(-2)
    ranks = torch.searchsorted(flat.sort(dim=-1).values, flat, out_int32=True)
    return Prepared.of(is_orderless(flat), ranks)


def tau_b(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Tau-b: concordant minus discordant pairs of pixels, over the geometric mean of the pairs not tied in each."""
    from scipy.stats import kendalltau  # here, because it takes most of a second to import

    if a[0].shape[1] < 2:  # of which scipy warns
        return torch.full((len(a[0]),), torch.nan, dtype=torch.float64)
    rows = zip(a[0].numpy(), b[0].numpy(), strict=True)
    return torch.tensor([kendalltau(x, y).statistic for x, y in rows], dtype=torch.float64)


register(
    Statistic(
        "kendall",
        label="Kendall τ-b",
        low=-1,
        high=1,
        chance=zero,
        source="Kendall rank correlation, tau-b (Kendall, 1945), by scipy.stats.kendalltau",
        prepare=_prepare_kendall,
        formula=tau_b,
    )
)


def _prepare_cosine(maps: Tensor, top: float) -> Prepared:
    flat, undefined = flatten(maps)
    return Prepared.of(undefined, _unit(flat))


register(
    Statistic(
        "cosine",
        label="Cosine",
        low=-1,
        high=1,
        source="cosine of the angle between the maps as vectors",
        prepare=_prepare_cosine,
        formula=_dot,
        products=True,
    )
)

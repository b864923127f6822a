"""The top pixels, as a set and in order."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from xaicmp.core.agreement.statistic import Prepared, Statistic, is_orderless, register
from xaicmp.core.arguments import real_number
from xaicmp.errors import UsageError, arg


def check_top(top: float) -> None:
    """Raise UsageError unless ``top`` lies between 0 and 1, exclusive."""
    if not 0 < real_number("top", top) < 1:
        raise UsageError(f"{arg('top')} {top:g}: the share of top pixels lies between 0 and 1, as 0.2 does")


def whole_pixels(share: float, pixels: int) -> int:
    """The whole pixels in a share of ``pixels``, exactly: 0.29 is 29%, and 29 of 100 pixels.

    The float nearest to 0.29 lies below it, and so may its product; the shortest decimal that gives this float is
    what was meant.
    """
    return math.floor(Fraction(str(share)) * pixels)


def count_top(top: float, pixels: int) -> int:
    """How many of ``pixels`` the share ``top`` is, see ``whole_pixels``.

    Raises:
        UsageError: ``top`` is outside (0, 1) or leaves no pixel.
    """
    check_top(top)
    count = whole_pixels(top, pixels)
    if count == 0:
        enough = math.ceil(1e6 / pixels) / 1e6
        raise UsageError(f"{arg('top')} {top:g} leaves no pixel of {pixels}; ask for at least {enough:g}")
    return count


def ranked(flat: Tensor, *, descending: bool = True) -> tuple[Tensor, Tensor]:
    """The values ``(..., P)`` from the highest down (or the lowest up), ties by the lower index, and the place of each
    pixel among them, int64 ``(..., P)``."""
    values, order = flat.sort(dim=-1, descending=descending, stable=True)
    index = torch.arange(flat.shape[-1], device=flat.device).expand_as(order)
    return values, torch.empty_like(order).scatter_(-1, order, index)


def top_pixels(maps: Tensor, top: float = 0.2) -> Prepared:
    """The top share ``top`` of the pixels of each map ``(..., H, W)``.

    Returns:
        one tensor, bool ``(..., H * W)``, exactly ``count_top(top, H * W)`` set in each row; ties go to the
        lower index, and ``tied`` says whether the lowest pixel inside equals the highest outside.

    Raises:
        UsageError: ``top`` is outside (0, 1) or leaves no pixel.
    """
    flat = maps.flatten(-2)
    count = count_top(top, flat.shape[-1])
    values, place = ranked(flat)
    return Prepared.of(is_orderless(flat), place < count, tied=values[..., count - 1] == values[..., count])


def _jaccard(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Intersection over union, of sets of one size."""
    one, other = a[0].float(), b[0].float()  # in which a product counts exactly
    both = (one @ other.mT).double()
    return both / (one.sum(dim=-1)[..., None] + other.sum(dim=-1)[..., None, :] - both)


def _chance_iou(top: float, pixels: int) -> float:
    """top / (2 - top) for many pixels."""
    count = count_top(top, pixels)
    return expected_iou(count, count, pixels)


def expected_iou(one: int, other: int, pixels: int) -> float:
    """Exact mean of the IoU of two unrelated sets of so many of ``pixels``, the intersection being hypergeometric."""
    both = torch.arange(max(0, one + other - pixels), min(one, other) + 1, dtype=torch.float64)
    ways = _log_binomial(one, both) + _log_binomial(pixels - one, other - both)
    return float((ways.softmax(dim=0) * both / (one + other - both)).sum())


def _log_binomial(n: int, k: Tensor) -> Tensor:
    return math.lgamma(n + 1) - (k + 1).lgamma() - (n - k + 1).lgamma()


IOU = register(
    Statistic(
        "iou",
        label="IoU",
        chance=_chance_iou,
        source="Jaccard index of the two sets of top pixels",
        prepare=top_pixels,
        formula=_jaccard,
        uses_top=True,
        products=True,
    )
)


def _prepare_rbo(maps: Tensor, top: float) -> Prepared:
    """The place of each pixel, ``count`` for all below the top, and what a pixel adds that both have reached by
    a place.

    With A_d the share of common pixels among the first d of both, RBO = (1 - p) sum_{d<=k} p^(d-1) A_d + p^k A_k.
    A pixel whose later place is m counts in every A_d from d = m on.
    """
    flat = maps.flatten(-2)
    count = count_top(top, flat.shape[-1])
    values, place = ranked(flat)
    p = 1 - 1 / count
    depth = torch.arange(1, count + 1, dtype=torch.float64)
    terms = (1 - p) * p ** (depth - 1) / depth
    weights = terms.flip(0).cumsum(dim=0).flip(0) + p**count / count
    weights = torch.cat([weights, weights.new_zeros(1)]).expand(*flat.shape[:-1], -1)
    tied = (values[..., :count] == values[..., 1 : count + 1]).any(dim=-1)
    return Prepared.of(is_orderless(flat), place.clamp_max(count), weights, tied=tied)


def _rbo(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return a[1].gather(1, torch.maximum(a[0], b[0])).sum(dim=1)


def _chance_rbo(top: float, pixels: int) -> float:
    """The mean of A_d is d / pixels, which the weights add up to (1 - p^k) / (1 - p) / pixels."""
    count = count_top(top, pixels)
    return count * (1 - (1 - 1 / count) ** count) / pixels


register(
    Statistic(
        "rbo",
        label="RBO",
        chance=_chance_rbo,
        source="rank-biased overlap, extrapolated (Webber et al., 2010, eq. 23), of the k top pixels in order, "
        "with p = 1 - 1/k: 86% of the weight is on them, as p = 0.9 has it for the first ten",
        prepare=_prepare_rbo,
        formula=_rbo,
        uses_top=True,
    )
)

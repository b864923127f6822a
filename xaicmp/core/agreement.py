"""How far two batches of maps agree, image by image.

A statistic does what needs one map only once a method (``prepare``), and the rest once a pair (``compare``).
Everything is float64 and batched over the images, and over the methods where there are several. A value that is
not defined is NaN; a constant map has no structure, and so no statistic is defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from xaicmp.core.errors import UsageError

DEFAULT_STATISTICS = ("pearson", "iou")
CELLS = 2**18
"""Values that are worked on at once."""


@dataclass(frozen=True)
class Prepared:
    """What a statistic needs of one method's maps ``(N, H, W)``, or of several methods' ``(N, M, H, W)``.

    Attributes:
        values: tensors ``(N, ...)`` or ``(N, M, ...)``, of the statistic's own choice.
        undefined: bool ``(N,)`` or ``(N, M)``, whether the map has no statistic with any other.
        tied: bool likewise, whether pixels had to be chosen among equals; they go by the lower index.
    """

    values: tuple[Tensor, ...]
    undefined: Tensor
    tied: Tensor


def take(prepared: Prepared, rows: Any) -> Prepared:
    """The images ``rows`` (or what else indexes a tensor), in that order: as if only their maps had been prepared."""
    values = tuple(each[rows] for each in prepared.values)
    return Prepared(values, prepared.undefined[rows], prepared.tied[rows])


def chunks(values: Tensor) -> list[slice]:
    """Images ``(N, ...)`` in parts that the processor's cache holds; no value depends on how they fall."""
    most = max(1, CELLS // max(1, values[:1].numel()))
    return [slice(start, start + most) for start in range(0, len(values), most)]


@dataclass(frozen=True)
class Statistic:
    """A statistic and how to read it.

    Attributes:
        name: as on the command line and in files.
        title: as in tables, given the share of top pixels.
        low, high: the range of its values.
        chance: its expected value for two unrelated maps, every arrangement of whose pixels is equally likely,
            given the share of top pixels and the number of pixels; None where that depends on the maps.
        source: where it is defined.
        prepare: ``(maps (..., H, W), top) -> Prepared``.
        formula: ``(values_a, values_b) -> (N,)`` float64, where both are defined.
        higher: whether higher is more agreement.
        uses_top: whether it looks at the top pixels only, and so depends on their share.
        products: whether ``formula`` takes ``(N, A, ...)`` and ``(N, B, ...)`` instead, and gives ``(N, A, B)``,
            each of A with each of B by one matrix product.
        moves: whether a map that is rolled, and not tied, has the same values as before, of which the first has
            one a pixel and is rolled with it.
        top: a share of its own, whatever is asked for, see ``at``.
    """

    name: str
    title: Callable[[float], str]
    low: float
    high: float
    chance: Callable[[float, int], float | None]
    source: str
    prepare: Callable[[Tensor, float], Prepared]
    formula: Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], Tensor]
    higher: bool = True
    uses_top: bool = False
    products: bool = False
    moves: bool = True
    top: float | None = None

    def at(self, top: float) -> Statistic:
        """The same at a share of top pixels of its own: ``iou@10%``."""
        return replace(
            self,
            name=f"{self.name}@{100 * top:g}%",
            title=lambda _: self.title(top),
            chance=lambda _, pixels: self.chance(top, pixels),
            prepare=lambda maps, _: self.prepare(maps, top),
            top=top,
        )

    def compare(self, a: Prepared, b: Prepared) -> Tensor:
        """The statistic of each image, of one method each, float64 ``(N,)``; NaN where it is not defined."""
        a, b = (take(each, (slice(None), None)) for each in (a, b))
        return self.compare_pairs(a, b, torch.zeros(2, 1, dtype=torch.int64))[:, 0]

    def compare_pairs(self, a: Prepared, b: Prepared, pairs: Tensor) -> Tensor:
        """The statistic of each image for several pairs of methods.

        Args:
            a, b: of several methods each.
            pairs: int64 ``(2, K)``, one of A's and one of B's methods.

        Returns:
            float64 ``(N, K)``; NaN where it is not defined.
        """
        if self.products:
            values = self.formula(a.values, b.values)[:, pairs[0], pairs[1]]
        else:
            found = [
                self.formula(tuple(each[:, i] for each in a.values), tuple(each[:, j] for each in b.values))
                for i, j in pairs.T.tolist()
            ]
            values = torch.stack(found, dim=1)
        values = values.clamp(self.low, self.high)  # rounding leaves the range
        return values.masked_fill(a.undefined[:, pairs[0]] | b.undefined[:, pairs[1]], torch.nan)


def agreement(name: str, maps_a: Tensor, maps_b: Tensor, top: float = 0.2) -> Tensor:
    """The statistic ``name`` of each pair of maps.

    Args:
        name: a key of ``STATISTICS``.
        maps_a, maps_b: ``(N, H, W)``.
        top: the share of top pixels, between 0 and 1, exclusive.

    Returns:
        float64 ``(N,)``; NaN where it is not defined.

    Raises:
        UsageError: an unknown statistic, or a share that is not one or leaves no pixel.
    """
    (statistic,) = get_statistics([name])
    return statistic.compare(statistic.prepare(maps_a, top), statistic.prepare(maps_b, top))


def prepare_all(statistic: Statistic, maps: Tensor, top: float) -> Prepared:
    """``statistic.prepare`` of maps ``(N, M, H, W)``, a few images at a time."""
    whole: list[Tensor] = []
    for rows in chunks(maps):
        part = statistic.prepare(maps[rows].contiguous(), top)
        tensors = (*part.values, part.undefined, part.tied)
        whole = whole or [each.new_empty(len(maps), *each.shape[1:]) for each in tensors]
        for each, values in zip(whole, tensors, strict=True):
            each[rows] = values
    return Prepared(tuple(whole[:-2]), whole[-2], whole[-1])


def get_statistics(names: Sequence[str], tops: Sequence[float] = ()) -> tuple[Statistic, ...]:
    """The statistics called ``names``, in that order; after each that looks at top pixels, it at each of ``tops``.

    Raises:
        UsageError: an unknown name, one named twice, or none.
    """
    if not names:
        raise UsageError(f"--statistics names none; choose from {', '.join(STATISTICS)}")
    for index, name in enumerate(names):
        if name not in STATISTICS:
            raise UsageError(f"unknown statistic {name!r}; choose from {', '.join(STATISTICS)}")
        if name in names[:index]:
            raise UsageError(f"statistic {name!r} is named twice; name each once")
    return tuple(
        each
        for statistic in (STATISTICS[name] for name in names)
        for each in (statistic, *(statistic.at(top) for top in tops if statistic.uses_top))
    )


# What the values are: correlations of the maps themselves, or of their ranks.


def _prepared(undefined: Tensor, *values: Tensor, tied: Tensor | None = None) -> Prepared:
    return Prepared(values, undefined, torch.zeros_like(undefined) if tied is None else tied)


def _flat(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Float64 ``(..., H * W)``, and which maps have a value that is not finite."""
    flat = maps.flatten(-2).double()
    return flat, ~flat.isfinite().all(dim=-1)


def is_constant(flat: Tensor) -> Tensor:
    """Which maps ``(..., H * W)`` have one value throughout: no structure, and so no statistic with any other."""
    return (flat == flat[..., :1]).all(dim=-1)


def is_orderless(flat: Tensor) -> Tensor:
    """Which maps ``(..., H * W)`` have no order of their pixels: constant ones, and those with a NaN."""
    return flat.isnan().any(dim=-1) | is_constant(flat)


def extent(flat: Tensor) -> Tensor:
    """What to divide maps ``(..., H * W)`` by before sums: the largest absolute value, where these could leave
    the range of float64, else 1, so that the maps of every network stay bit-identical.

    Returns:
        float64 ``(..., 1)``.
    """
    largest = flat.abs().amax(dim=-1, keepdim=True)
    return largest.masked_fill((largest == 0) | ((largest > 1e-100) & (largest < 1e100)), 1)


def _unit(flat: Tensor) -> Tensor:
    # Squares of very large or very small values would leave the range of float64.
    scaled = flat / flat.abs().amax(dim=-1, keepdim=True)
    return scaled / scaled.norm(dim=-1, keepdim=True)


def _aligned(values: Tensor) -> Tensor:
    """With zeros up to a whole number of cache lines a row, for rounding in products depends on where a row lies."""
    missing = -values.shape[-1] % 8
    return pad(values, (0, missing)) if missing else values


def _dot(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return _aligned(a[0]) @ _aligned(b[0]).mT


def _prepare_pearson(maps: Tensor, top: float) -> Prepared:
    """Unit deviations from the mean, whose scalar product is the correlation."""
    flat, infinite = _flat(maps)
    scaled = flat / extent(flat)
    return _prepared(infinite | is_constant(flat), _unit(scaled - scaled.mean(dim=-1, keepdim=True)))


def _prepare_spearman(maps: Tensor, top: float) -> Prepared:
    """The same of the ranks, the mean rank where values are tied."""
    flat = maps.flatten(-2)
    ordered = flat.sort(dim=-1).values
    ranks = (torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True)).double()
    return _prepared(is_orderless(flat), _unit(ranks - ranks.mean(dim=-1, keepdim=True)))


def _prepare_kendall(maps: Tensor, top: float) -> Prepared:
    flat = maps.flatten(-2)
    ranks = torch.searchsorted(flat.sort(dim=-1).values, flat, out_int32=True)
    return _prepared(is_orderless(flat), ranks)


def _kendall(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Tau-b: concordant less discordant pairs of pixels, over the geometric mean of the pairs not tied in each."""
    from scipy.stats import kendalltau  # here, for it takes most of a second to import

    rows = zip(a[0].numpy(), b[0].numpy(), strict=True)
    return torch.tensor([kendalltau(x, y).statistic for x, y in rows], dtype=torch.float64)


def _prepare_cosine(maps: Tensor, top: float) -> Prepared:
    flat, infinite = _flat(maps)
    return _prepared(infinite | is_constant(flat), _unit(flat))


# Structural similarity.

_RADIUS, _SIGMA = 5, 1.5


@cache
def _window(size: int) -> Tensor:
    """``(size - 10, size)``: the Gaussian weights of the pixels around each that is 5 or more from both ends."""
    if size <= 2 * _RADIUS:
        return torch.empty(0, size, dtype=torch.float64)
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
    weights = (-0.5 * (offsets / _SIGMA) ** 2).exp()
    return torch.eye(size, dtype=torch.float64).unfold(0, 2 * _RADIUS + 1, 1) @ (weights / weights.sum())


def _blur(maps: Tensor) -> Tensor:
    # A product a map, for rounding in a product of all would depend on how many they are.
    height, width = maps.shape[-2:]
    rows, columns = (
        each.expand(*maps.shape[:-2], -1, -1) for each in (_window(height), _aligned(_window(width)))
    )
    return rows @ _aligned(maps) @ columns.mT


def _prepare_ssim(maps: Tensor, top: float) -> Prepared:
    """The maps scaled to [0, 1] each, and their local means and variances."""
    flat, infinite = _flat(maps)
    scaled = flat / extent(flat)
    low, high = scaled.aminmax(dim=-1, keepdim=True)
    scaled = ((scaled - low) / (high - low)).view(maps.shape)
    mean = _blur(scaled)
    undefined = infinite | is_constant(flat) | (min(maps.shape[-2:]) <= 2 * _RADIUS)
    return _prepared(undefined, scaled, mean, _blur(scaled**2) - mean**2)


def _ssim(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Mean of (2 m_a m_b + c1)(2 cov + c2) / ((m_a^2 + m_b^2 + c1)(var_a + var_b + c2)) over whole windows."""
    (map_a, mean_a, variance_a), (map_b, mean_b, variance_b) = a, b
    c1, c2 = 0.01**2, 0.03**2
    covariance = _blur(map_a * map_b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)).mean(dim=(1, 2))


# The top pixels, as a set and in order.


def check_top(top: float) -> None:
    """Raise UsageError unless ``top`` lies between 0 and 1, exclusive."""
    if not 0 < top < 1:
        raise UsageError(f"--top {top:g}: the share of top pixels lies between 0 and 1, as in --top 0.2")


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
        raise UsageError(f"--top {top:g} leaves no pixel of {pixels}; ask for at least {enough:g}")
    return count


def _descending(flat: Tensor) -> tuple[Tensor, Tensor]:
    """The values from the highest down, ties by the lower index, and the place of each pixel among them."""
    values, order = flat.sort(dim=-1, descending=True, stable=True)
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
    values, place = _descending(flat)
    return _prepared(is_orderless(flat), place < count, tied=values[..., count - 1] == values[..., count])


def _jaccard(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Intersection over union, of sets of one size."""
    one, other = a[0].float(), b[0].float()  # in which a product counts exactly
    both = (one @ other.mT).double()
    return both / (one.sum(dim=-1)[..., None] + other.sum(dim=-1)[..., None, :] - both)


def _chance_iou(top: float, pixels: int) -> float:
    """Exact mean, the intersection being hypergeometric; top / (2 - top) for many pixels."""
    count = count_top(top, pixels)
    both = torch.arange(max(0, 2 * count - pixels), count + 1, dtype=torch.float64)
    ways = _log_binomial(count, both) + _log_binomial(pixels - count, count - both)
    return float((ways.softmax(dim=0) * both / (2 * count - both)).sum())


def _log_binomial(n: int, k: Tensor) -> Tensor:
    return math.lgamma(n + 1) - (k + 1).lgamma() - (n - k + 1).lgamma()


def _prepare_rbo(maps: Tensor, top: float) -> Prepared:
    """The place of each pixel, ``count`` for all below the top, and what a pixel adds that both have reached by
    a place.

    With A_d the share of common pixels among the first d of both, RBO = (1 - p) sum_{d<=k} p^(d-1) A_d + p^k A_k.
    A pixel whose later place is m counts in every A_d from d = m on.
    """
    flat = maps.flatten(-2)
    count = count_top(top, flat.shape[-1])
    values, place = _descending(flat)
    p = 1 - 1 / count
    depth = torch.arange(1, count + 1, dtype=torch.float64)
    terms = (1 - p) * p ** (depth - 1) / depth
    weights = terms.flip(0).cumsum(dim=0).flip(0) + p**count / count
    weights = torch.cat([weights, weights.new_zeros(1)]).expand(*flat.shape[:-1], -1)
    tied = (values[..., :count] == values[..., 1 : count + 1]).any(dim=-1)
    return _prepared(is_orderless(flat), place.clamp_max(count), weights, tied=tied)


def _rbo(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return a[1].gather(1, torch.maximum(a[0], b[0])).sum(dim=1)


def _chance_rbo(top: float, pixels: int) -> float:
    """The mean of A_d is d / pixels, which the weights add up to (1 - p^k) / (1 - p) / pixels."""
    count = count_top(top, pixels)
    return count * (1 - (1 - 1 / count) ** count) / pixels


# Where the mass lies, and which way it points.


def _prepare_shares(maps: Tensor, top: float) -> Prepared:
    """The positive part as shares that sum to 1, and their entropy."""
    flat, infinite = _flat(maps)
    positive = flat.clamp_min(0)
    positive = positive / extent(positive)
    shares = positive / positive.sum(dim=-1, keepdim=True)
    undefined = infinite | is_constant(flat) | (flat <= 0).all(dim=-1)
    return _prepared(undefined, shares, torch.special.entr(shares).sum(dim=-1))


def _overlap(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Sum of the smaller of the two shares."""
    return torch.minimum(a[0], b[0]).sum(dim=1)


def _jensen_shannon(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """sqrt(H((p + q) / 2) - (H(p) + H(q)) / 2) with the entropy H in bits."""
    mixed = torch.special.entr((a[0] + b[0]) / 2).sum(dim=1)
    return ((mixed - (a[1] + b[1]) / 2) / math.log(2)).clamp_min(0).sqrt()


def _prepare_signs(maps: Tensor, top: float) -> Prepared:
    flat = maps.flatten(-2)
    one_sided = ~((flat > 0).any(dim=-1) & (flat < 0).any(dim=-1))
    return _prepared(one_sided | flat.isnan().any(dim=-1), flat.nan_to_num().double().sign().to(torch.int8))


def _same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Share of equal signs; zero is a sign of its own."""
    return (a[0] == b[0]).double().mean(dim=1)


def _zero(top: float, pixels: int) -> float:
    return 0.0


def _unknown(top: float, pixels: int) -> None:
    return None


def _always(title: str) -> Callable[[float], str]:
    return lambda top: title


STATISTICS: dict[str, Statistic] = {
    each.name: each
    for each in (
        Statistic(
            "pearson",
            title=_always("Pearson"),
            low=-1,
            high=1,
            chance=_zero,
            source="Pearson product-moment correlation, as scipy.stats.pearsonr",
            prepare=_prepare_pearson,
            formula=_dot,
            products=True,
        ),
        Statistic(
            "spearman",
            title=_always("Spearman"),
            low=-1,
            high=1,
            chance=_zero,
            source="Spearman rank correlation with mean ranks for ties, as scipy.stats.spearmanr",
            prepare=_prepare_spearman,
            formula=_dot,
            products=True,
        ),
        Statistic(
            "kendall",
            title=_always("Kendall τ-b"),
            low=-1,
            high=1,
            chance=_zero,
            source="Kendall rank correlation, tau-b (Kendall, 1945), by scipy.stats.kendalltau",
            prepare=_prepare_kendall,
            formula=_kendall,
        ),
        Statistic(
            "cosine",
            title=_always("Cosine"),
            low=-1,
            high=1,
            chance=_unknown,
            source="cosine of the angle between the maps as vectors",
            prepare=_prepare_cosine,
            formula=_dot,
            products=True,
        ),
        Statistic(
            "ssim",
            title=_always("SSIM"),
            low=-1,
            high=1,
            chance=_unknown,
            source="Wang et al. (2004), Gaussian window, sigma 1.5, over 11 x 11 pixels, as scikit-image has it; "
            "maps scaled to [0, 1] each, NaN for those with a side under 11 pixels",
            prepare=_prepare_ssim,
            formula=_ssim,
            moves=False,
        ),
        Statistic(
            "iou",
            title=lambda top: f"IoU@{100 * top:g}%",
            low=0,
            high=1,
            chance=_chance_iou,
            source="Jaccard index of the two sets of top pixels",
            prepare=top_pixels,
            formula=_jaccard,
            uses_top=True,
            products=True,
        ),
        Statistic(
            "rbo",
            title=lambda top: f"RBO@{100 * top:g}%",
            low=0,
            high=1,
            chance=_chance_rbo,
            source="rank-biased overlap, extrapolated (Webber et al., 2010, eq. 23), of the k top pixels in order, "
            "with p = 1 - 1/k: 86% of the weight is on them, as p = 0.9 has it for the first ten",
            prepare=_prepare_rbo,
            formula=_rbo,
            uses_top=True,
        ),
        Statistic(
            "mass-overlap",
            title=_always("Mass overlap"),
            low=0,
            high=1,
            chance=_unknown,
            source="histogram intersection (Swain and Ballard, 1991) of the positive parts, each summing to 1",
            prepare=_prepare_shares,
            formula=_overlap,
        ),
        Statistic(
            "jensen-shannon",
            title=_always("JS distance"),
            low=0,
            high=1,
            chance=_unknown,
            source="Jensen-Shannon distance in base 2 (Endres and Schindelin, 2003) of the positive parts, each "
            "summing to 1, as scipy.spatial.distance.jensenshannon",
            prepare=_prepare_shares,
            formula=_jensen_shannon,
            higher=False,
        ),
        Statistic(
            "sign",
            title=_always("Same sign"),
            low=0,
            high=1,
            chance=_unknown,
            source="share of pixels with the same sign, zero being one; NaN for maps of one sign only",
            prepare=_prepare_signs,
            formula=_same,
        ),
    )
}
PEARSON, IOU = STATISTICS["pearson"], STATISTICS["iou"]


def pearson(maps_a: Tensor, maps_b: Tensor) -> Tensor:
    """Pearson correlation of each pair of maps ``(N, H, W)`` over their pixels, float64 ``(N,)``.

    NaN where a map is constant or has a value that is not finite.
    """
    return agreement("pearson", maps_a, maps_b)


def iou(top_a: Prepared, top_b: Prepared) -> Tensor:
    """Intersection over union of two sets of ``top_pixels``, float64 ``(N,)``.

    NaN where a map is constant or has a NaN.
    """
    return IOU.compare(top_a, top_b)

"""The one list of statistics, and single statistics by name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from xaicmp.core.agreement.correlation import (
    _dot,
    _kendall,
    _prepare_cosine,
    _prepare_kendall,
    _prepare_pearson,
    _prepare_spearman,
)
from xaicmp.core.agreement.mass import _jensen_shannon, _overlap, _prepare_shares, _prepare_signs, _same
from xaicmp.core.agreement.statistic import Prepared, Statistic, _always, _unknown, _zero
from xaicmp.core.agreement.structure import _prepare_ssim, _ssim
from xaicmp.core.agreement.top_pixels import (
    _chance_iou,
    _chance_rbo,
    _jaccard,
    _prepare_rbo,
    _rbo,
    top_pixels,
)
from xaicmp.errors import UsageError, arg

DEFAULT_STATISTICS = ("pearson", "iou")


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


def get_statistics(names: Sequence[str], tops: Sequence[float] = ()) -> tuple[Statistic, ...]:
    """The statistics called ``names``, in that order; after each that looks at top pixels, it at each of ``tops``.

    Raises:
        UsageError: an unknown name, one named twice, or none.
    """
    if not names:
        raise UsageError(f"{arg('statistics')} names none; choose from {', '.join(STATISTICS)}")
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

"""Statistics by name. Importing this fills ``STATISTICS``, one family after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement import correlation, structure  # noqa: F401  # isort: skip
from xaicmp.core.agreement import top_pixels, mass  # noqa: F401  # isort: skip
from xaicmp.core.agreement.statistic import STATISTICS, Prepared, Statistic
from xaicmp.errors import UsageError, arg

DEFAULT_STATISTICS = ("pearson", "iou")


def agreement(
    name: str, maps_a: Tensor | np.ndarray, maps_b: Tensor | np.ndarray, top: float = 0.2
) -> Tensor:
    """The statistic ``name`` of each pair of maps.

    Args:
        name: a key of ``STATISTICS``.
        maps_a, maps_b: ``(N, H, W)`` each, or one map ``(H, W)`` each.
        top: the share of top pixels, between 0 and 1, exclusive.

    Returns:
        float64 ``(N,)``, ``(1,)`` for one map each; NaN where it is not defined.

    Raises:
        UsageError: an unknown statistic, maps of other shapes, or a share that is not one or leaves no pixel.

    >>> agreement("pearson", [[0.0, 1.0], [2.0, 3.0]], [[1.0, 3.0], [5.0, 7.0]])
    tensor([1.], dtype=torch.float64)
    """
    (statistic,) = get_statistics([name])
    a, b = (torch.as_tensor(maps) for maps in (maps_a, maps_b))
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise UsageError(
            f"maps of shapes {tuple(a.shape)} and {tuple(b.shape)}: give as many of each, (N, H, W) of one size"
        )
    a, b = (maps.detach().cpu().view(-1, *maps.shape[-2:]) for maps in (a, b))
    return statistic.compare(statistic.prepare(a, top), statistic.prepare(b, top))


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


PEARSON, IOU = STATISTICS["pearson"], STATISTICS["iou"]


def pearson(maps_a: Tensor | np.ndarray, maps_b: Tensor | np.ndarray) -> Tensor:
    """Pearson correlation of each pair of maps ``(N, H, W)`` over their pixels, float64 ``(N,)``.

    NaN where a map is constant or has a value that is not finite.
    """
    return agreement("pearson", maps_a, maps_b)


def iou(top_a: Prepared, top_b: Prepared) -> Tensor:
    """Intersection over union of two sets of ``top_pixels``, float64 ``(N,)``.

    NaN where a map is constant or has a NaN.
    """
    return IOU.compare(top_a, top_b)

"""Statistics by name, and how far two batches of maps agree by one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.correlation import PEARSON
from xaicmp.core.agreement.statistic import STATISTICS, Prepared, Statistic
from xaicmp.core.agreement.top_pixels import IOU
from xaicmp.errors import UsageError, arg

__all__ = [
    "DEFAULT_STATISTICS",
    "IOU",
    "PEARSON",
    "STATISTICS",
    "agreement",
    "get_statistics",
    "iou",
    "pearson",
]

DEFAULT_STATISTICS = ("pearson", "iou")

Maps = Tensor | np.ndarray


def agreement(name: str, maps_a: Maps, maps_b: Maps, top: float = 0.2) -> Tensor:
    """The statistic ``name`` of each pair of maps.

    >>> agreement("pearson", np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 3], [2, 4]]))
    tensor([0.8000], dtype=torch.float64)

    Args:
        name: a key of ``STATISTICS``.
        maps_a, maps_b: tensors or arrays ``(N, H, W)``, as many of one as of the other; or ``(H, W)``, one map each.
        top: the share of top pixels, between 0 and 1, exclusive, for the statistics that look at them.

    Returns:
        float64 ``(N,)`` on the CPU, ``(1,)`` for one map each; NaN where it is not defined.

    Raises:
        UsageError: an unknown statistic, maps that cannot be compared, or a share that is not one or leaves no pixel.
    """
    (statistic,) = get_statistics([name])
    a, b = _batch("maps_a", maps_a), _batch("maps_b", maps_b)
    if len(a) != len(b):
        raise UsageError(f"maps_a and maps_b hold {len(a)} and {len(b)} maps; give one of each per image")
    if a.shape != b.shape:
        one, other = (f"{each.shape[1]} x {each.shape[2]}" for each in (a, b))
        raise UsageError(f"maps_a is {one} pixels and maps_b {other}; resize one to the size of the other")
    return statistic.compare(statistic.prepare(a, top), statistic.prepare(b, top))


def _batch(argument: str, maps: Maps) -> Tensor:
    """Maps ``(N, H, W)`` on the CPU, from what a caller has."""
    shape = "give a tensor or an array (N, H, W), or (H, W) for one map"
    if isinstance(maps, np.ndarray):
        if maps.dtype.kind not in "fiub":
            raise UsageError(f"{argument} holds values of type {maps.dtype}; give real numbers")
        maps = torch.from_numpy(np.array(maps, dtype=np.float64, order="C"))
    if not isinstance(maps, Tensor):
        raise UsageError(f"{argument} is a {type(maps).__name__}; {shape}")
    if maps.is_complex():
        raise UsageError(f"{argument} holds values of type {maps.dtype}; give real numbers")
    if maps.ndim not in (2, 3) or 0 in maps.shape[-2:]:
        raise UsageError(f"{argument} has the shape {tuple(maps.shape)}; {shape}")
    maps = maps.detach().cpu()
    if not maps.is_floating_point():
        maps = maps.double()  # as arrays are; not every operation takes booleans
    return maps[None] if maps.ndim == 2 else maps


def get_statistics(wanted: Sequence[Statistic | str], tops: Sequence[float] = ()) -> tuple[Statistic, ...]:
    """Statistics by name or as they are, in that order; after each that looks at top pixels, it at each of ``tops``.

    Raises:
        UsageError: an unknown name, one named twice, or none.
    """
    if not wanted:
        raise UsageError(f"{arg('statistics')} names none; choose from {', '.join(STATISTICS)}")
    found: dict[str, Statistic] = {}
    for each in wanted:
        if isinstance(each, str) and each not in STATISTICS:
            raise UsageError(f"unknown statistic {each!r}; choose from {', '.join(STATISTICS)}")
        statistic = STATISTICS[each] if isinstance(each, str) else each
        for one in (statistic, *(statistic.at(top) for top in tops if statistic.uses_top)):
            if one.name in found:
                raise UsageError(f"statistic {one.name!r} is named twice; name each once")
            found[one.name] = one
    return tuple(found.values())


def pearson(maps_a: Maps, maps_b: Maps) -> Tensor:
    """Pearson correlation of each pair of maps ``(N, H, W)`` over their pixels, float64 ``(N,)``.

    NaN where a map is constant or has a value that is not finite. Arguments as for ``agreement``.
    """
    return agreement("pearson", maps_a, maps_b)


def iou(top_a: Prepared, top_b: Prepared) -> Tensor:
    """Intersection over union of two sets of ``top_pixels``, float64 ``(N,)``.

    NaN where a map is constant or has a NaN.

    Raises:
        UsageError: the sets are of different numbers of maps or pixels.
    """
    if not (isinstance(top_a, Prepared) and isinstance(top_b, Prepared)):
        raise UsageError(
            "iou compares what top_pixels returns; for maps see agreement('iou', maps_a, maps_b)"
        )
    one, other = top_a.values[0].shape, top_b.values[0].shape
    if one != other:
        raise UsageError(
            f"top_a is of {tuple(one)} and top_b of {tuple(other)} maps and pixels; give one of each per image"
        )
    return IOU.compare(top_a, top_b)

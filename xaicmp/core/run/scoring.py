"""Statistics of every pair of methods on a block of images, and what they would be for no good reason."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.controls import other_image, other_images, pool, prepare_rolled, shifted, shifts
from xaicmp.core.agreement.curve import iou_curves
from xaicmp.core.agreement.statistic import Pair, Statistic, chunks, is_constant, prepare_all, take
from xaicmp.core.agreement.top_pixels import whole_pixels
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.scores import Scores, Values
from xaicmp.core.results.settings import Settings
from xaicmp.errors import UsageError, arg

BLOCK = 1024

"""Images whose maps are compared at once; the maps of other images come from the same block."""

DRAWS = 20

"""Other images that a map is compared with: with 5, a test at 5% against them rejects in 2% of cases."""

SAME = 1e-5

"""How far two maps, scaled to each other, may differ at most and be the same, relative to the largest deviation."""

TYPICAL = 1e-3

"""The same for half of the pixels that vary, relative to a small deviation: no single pixel hides the others."""

ROUNDING = torch.finfo(torch.float32).eps

"""What float32 makes of a value, relative to it."""

CONTROLS = {
    "other-image": ("other_image", "other_image_same_class"),
    "shift": ("shifted",),
    "resolution": ("pooled",),
    "none": (),
}

"""What can be asked for, and the names of what it gives."""


def get_controls(names: Sequence[str]) -> tuple[str, ...]:
    """What ``Settings.controls`` takes; without names, those that are on by default.

    Raises:
        UsageError: an unknown name, or ``none`` with others.
    """
    for name in names:
        if name not in CONTROLS:
            raise UsageError(f"unknown control {name!r}; choose from {', '.join(CONTROLS)}")
    if "none" in names and len(names) > 1:
        raise UsageError(f"{arg('controls')} none goes alone; leave it or the others out")
    return (
        tuple(dict.fromkeys(each for name in names for each in CONTROLS[name]))
        if names
        else Settings().controls
    )


def score(explanations: Explanations, settings: Settings) -> Scores:
    """Compare the maps of every two methods, and each with what a control makes of the other.

    Only what the controls take from other images is held of all images; the rest is done a few images at a time.
    """
    names, chosen, top = explanations.methods, explanations.predictions, settings.top
    maps = explanations.maps.transpose(0, 1)
    pairs = torch.combinations(torch.arange(len(names))).T
    partners = {
        "other_image": other_images(np.zeros(len(chosen)), DRAWS, settings.seed),
        "other_image_same_class": other_images(chosen.labels, DRAWS, settings.seed),
    }

    def named(parts: Sequence[Tensor]) -> dict[Pair, np.ndarray]:
        rows = torch.cat(list(parts)).T.contiguous().numpy()
        return {(names[a], names[b]): row for (a, b), row in zip(pairs.T.tolist(), rows, strict=True)}

    values: Values = {}
    tied: Values = {}
    controls: dict[str, Values] = {name: {} for name in settings.controls}
    places: Values = {}
    for statistic in settings.statistics:
        name, whole = statistic.name, prepare_all(statistic, maps, top)
        found: dict[str, list[Tensor]] = defaultdict(list)
        for rows in chunks(maps):
            part, prepared = maps[rows].contiguous(), take(whole, rows)
            observed = statistic.compare_pairs(prepared, prepared, pairs)
            found["observed"].append(observed)
            if "shifted" in controls:
                offsets = shifts(part.shape[2:], chosen.ids[rows], seed=settings.seed)
                rolled = (prepare_rolled(statistic, part, prepared, each, top) for each in offsets)
                moved = shifted(statistic, observed, prepared, rolled, pairs)
                found["shifted"].append(moved.mean)
                found["place"].append(moved.p)
            if "pooled" in controls:
                found["pooled"].append(_pooled(statistic, part, _grids(explanations), pairs, top))
        for control in controls.keys() & partners.keys():
            balanced = control == "other_image"
            found[control] = [
                other_image(statistic, whole, whole, pairs, partners[control], balanced=balanced)
            ]
        values[name] = named(found["observed"])
        if statistic.uses_top:
            tied[name] = named([whole.tied[:, pairs[0]] | whole.tied[:, pairs[1]]])
        for control in controls:
            controls[control][name] = named(found[control])
        if "shifted" in controls:
            places[name] = named(found["place"])
    any_other = partners["other_image"] if "other_image" in controls else None
    return Scores(
        values,
        tied,
        named([_identical(maps[rows], pairs) for rows in chunks(maps)]),
        controls,
        places,
        explanations.completeness,
        iou_curves(maps, names, any_other) if settings.curve else {},
    )


def _grids(explanations: Explanations) -> list[tuple[int, int]]:
    """The true height and width of each method's maps."""
    height, width = explanations.maps.shape[2:]
    return [explanations.grids.get(name, (height, width)) for name in explanations.methods]


def _pooled(
    statistic: Statistic, maps: Tensor, grids: Sequence[tuple[int, int]], pairs: Tensor, top: float
) -> Tensor:
    """The statistic of maps ``(N, M, H, W)``, both of a pair pooled to the coarser of their grids."""
    coarser = [min(grids[a], grids[b], key=math.prod) for a, b in pairs.T.tolist()]
    values = torch.full((len(maps), len(coarser)), torch.nan, dtype=torch.float64)
    for grid in set(coarser):
        if not statistic.uses_top or whole_pixels(statistic.top or top, math.prod(grid)):
            those = torch.tensor([each == grid for each in coarser])
            prepared = statistic.prepare(pool(maps, grid), top)
            values[:, those] = statistic.compare_pairs(prepared, prepared, pairs[:, those])
    return values


def _identical(maps: Tensor, pairs: Tensor) -> Tensor:
    """Whether the maps are the same up to a positive scale: 1 or 0, NaN where neither varies; float64 ``(N, K)``.

    What two maps have in common where they do not vary, an offset or a background, or in a few pixels, is no
    sameness: they differ little only if that is little beside how far most of their pixels deviate.
    """
    flat = maps.flatten(2).double()
    scaled = flat / flat.abs().amax(dim=2, keepdim=True)
    away = (scaled - scaled.median(dim=2, keepdim=True).values).abs()
    varies = ~is_constant(flat)
    found = torch.stack(
        [_same(scaled[:, a], scaled[:, b], away[:, a], away[:, b]) for a, b in pairs.T.tolist()], dim=1
    )
    either = varies[:, pairs[0]] | varies[:, pairs[1]]
    return found.double().masked_fill(~either, torch.nan)


def _same(a: Tensor, b: Tensor, away_a: Tensor, away_b: Tensor) -> Tensor:
    """Whether maps ``(N, H * W)``, of 1 at most, are the same up to scale; ``away`` is how far from the median."""
    scale = (a * b).sum(dim=1) / (b * b).sum(dim=1)  # the best in least squares
    apart = (a - scale[:, None] * b).abs()
    worst, largest = apart.amax(dim=1), away_a.amax(dim=1)
    same = (scale > 0) & (largest > 0) & (worst <= TYPICAL * largest)
    same &= worst <= SAME * largest + ROUNDING
    if same.any():  # seldom, and only then worth a sort
        moving = (away_a[same] > 0) | (away_b[same] > 0)
        typical = _quantile(apart[same], moving, 0.5)
        same[same.clone()] = typical <= TYPICAL * _quantile(away_a[same], away_a[same] > 0, 0.25)
    return same


def _quantile(values: Tensor, counted: Tensor, share: float) -> Tensor:
    """Of those of ``(N, P)`` that are counted, the lowest with that share of them below it; at least one a row is."""
    ordered = values.masked_fill(~counted, torch.inf).sort(dim=1).values
    return ordered.gather(1, (share * counted.sum(dim=1, keepdim=True)).long())[:, 0]

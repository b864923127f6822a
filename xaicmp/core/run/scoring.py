"""Statistics of every pair of methods on a block of images, and what the controls make of them."""

from __future__ import annotations

from itertools import count

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.controls import KEYS, OTHER_CLASS, Context
from xaicmp.core.agreement.curve import iou_curves
from xaicmp.core.agreement.statistic import Pair, chunks, is_constant, prepare_all
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.scores import Scores, Values
from xaicmp.core.results.settings import Settings

MEASURING = "measuring"
BLOCK = 1024
"""Images whose maps are compared at once; the maps of other images come from the same block."""

SAME = 1e-5
"""How far two maps, scaled to each other, may differ at most and be the same, relative to the largest deviation."""

TYPICAL = 1e-3
"""The same for half of the pixels that vary, relative to a small deviation: no single pixel hides the others."""

ROUNDING = torch.finfo(torch.float32).eps
"""What float32 makes of a value, relative to it."""


def score(
    explanations: Explanations,
    settings: Settings,
    progress: Progress = no_progress,
    pairs: Tensor | None = None,
) -> Scores:
    """Compare the maps of every two methods, or ``pairs`` ``(2, K)``, and each with what a control makes of the other.

    Only what the controls take from other images is held of all images; the rest is done a few images at a time.
    """
    steps = count(1)
    whole = len(settings.statistics) * (1 + len(settings.controls))
    progress(MEASURING, 0, whole)
    names, chosen, top = explanations.methods, explanations.predictions, settings.top
    maps, grids = explanations.maps.transpose(0, 1), _grids(explanations)
    pairs = torch.combinations(torch.arange(len(names))).T if pairs is None else pairs
    others = None if explanations.other_maps is None else explanations.other_maps.transpose(1, 2)
    classes = () if explanations.other_targets is None else explanations.other_targets

    def named(found: Tensor) -> dict[Pair, np.ndarray]:
        rows = found.T.contiguous().numpy()
        return {(names[a], names[b]): row for (a, b), row in zip(pairs.T.tolist(), rows, strict=True)}

    values: Values = {}
    tied: Values = {}
    controls: dict[str, Values] = {key: {} for key in settings.controls}
    p_values: dict[str, Values] = {}
    among: dict[str, Values] = {}
    pairing: Values = {}
    for statistic in settings.statistics:
        prepared = prepare_all(statistic, maps, top)
        observed = statistic.compare_own(prepared, pairs)
        values[statistic.name] = named(observed)
        progress(MEASURING, next(steps), whole)
        if statistic.uses_top:
            tied[statistic.name] = named(prepared.tied[:, pairs[0]] | prepared.tied[:, pairs[1]])
        seen = (statistic, top, maps, prepared, pairs, observed, chosen.ids, chosen.labels)
        context = Context(*seen, grids, settings.seed, others)
        for key in settings.controls:
            found = KEYS[key].compute(context)
            controls[key][statistic.name] = named(found.values)
            if found.pairing is not None:
                pairing[statistic.name] = {pair: row[None] for pair, row in named(found.pairing).items()}
            for kept, each in ((p_values, found.p), (among, found.among)):
                if each is not None:
                    kept.setdefault(key, {})[statistic.name] = named(each)
            progress(MEASURING, next(steps), whole)
    return Scores(
        values,
        tied,
        named(torch.cat([_identical(maps[rows], pairs) for rows in chunks(maps)])),
        controls,
        p_values,
        explanations.completeness,
        iou_curves(maps, names, "other_image" in settings.controls) if settings.curve else {},
        among,
        pairing,
        {key: each for key, each in zip(OTHER_CLASS, classes, strict=False) if key in settings.controls},
    )


def _grids(explanations: Explanations) -> list[tuple[int, int]]:
    """The true height and width of each method's maps."""
    height, width = explanations.maps.shape[2:]
    return [explanations.grids.get(name, (height, width)) for name in explanations.methods]


def _identical(maps: Tensor, pairs: Tensor) -> Tensor:
    """Whether the maps are the same up to a positive scale: 1 or 0, float64 ``(N, K)``.

    What two maps have in common where they do not vary, an offset or a background, or in a few pixels, is no
    sameness: they differ little only if that is little beside how far most of the pixels of both deviate.
    NaN where neither map varies, a map with a value that is not finite being none.
    """
    flat = maps.flatten(2).double()
    scaled = flat / flat.abs().amax(dim=2, keepdim=True)
    away = (scaled - scaled.median(dim=2, keepdim=True).values).abs()
    varies = ~is_constant(flat) & flat.isfinite().all(dim=2)
    found = torch.stack(
        [_same(scaled[:, a], scaled[:, b], away[:, a], away[:, b]) for a, b in pairs.T.tolist()], dim=1
    )
    either = varies[:, pairs[0]] | varies[:, pairs[1]]
    return found.double().masked_fill(~either, torch.nan)


def _same(a: Tensor, b: Tensor, away_a: Tensor, away_b: Tensor) -> Tensor:
    """Whether maps ``(N, H * W)``, of 1 at most, are the same up to scale; ``away`` is how far from the median."""
    scale = (a * b).sum(dim=1) / (b * b).sum(dim=1)  # the best in least squares
    apart = (a - scale[:, None] * b).abs()
    worst, largest = apart.amax(dim=1), torch.minimum(away_a.amax(dim=1), away_b.amax(dim=1))
    same = (scale > 0) & (largest > 0) & (worst <= TYPICAL * largest)
    same &= worst <= SAME * largest + ROUNDING
    if same.any():  # seldom, and only then worth a sort
        moving = (away_a[same] > 0) | (away_b[same] > 0)
        typical = _quantile(apart[same], moving, 0.5)
        small = [_quantile(away[same], away[same] > 0, 0.25) for away in (away_a, away_b)]
        same[same.clone()] = typical <= TYPICAL * torch.minimum(*small)
    return same


def _quantile(values: Tensor, counted: Tensor, share: float) -> Tensor:
    """Of those of ``(N, P)`` that are counted, the lowest with that share of them below it; at least one a row is."""
    ordered = values.masked_fill(~counted, torch.inf).sort(dim=1).values
    return ordered.gather(1, (share * counted.sum(dim=1, keepdim=True)).long())[:, 0]

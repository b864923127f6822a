"""Statistics of every pair of methods on a block of images, and what they would be for no good reason."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement import Statistic
from xaicmp.core.comparison import Explanations, Measures, Pair, Scores, Values
from xaicmp.core.controls import other_image, other_images, pool, shifted, shifts
from xaicmp.core.curve import iou_curves
from xaicmp.core.errors import UsageError

BLOCK = 2048
"""Images whose maps are compared at once; the maps of other images come from the same block."""
DRAWS = 20
"""Other images that a map is compared with: with 5, a test at 5% against them rejects in 2% of cases."""
SAME = 1e-5
"""How far two maps, each scaled to 1 at most, may differ and still be called the same."""
CONTROLS = {
    "other-image": ("other_image", "other_image_same_class"),
    "shift": ("shifted",),
    "resolution": ("pooled",),
    "none": (),
}
"""What can be asked for, and the names of what it gives."""


def get_controls(names: Sequence[str]) -> tuple[str, ...]:
    """What ``Measures.controls`` takes; without names, those that are on by default.

    Raises:
        UsageError: an unknown name, or ``none`` with others.
    """
    for name in names:
        if name not in CONTROLS:
            raise UsageError(f"unknown control {name!r}; choose from {', '.join(CONTROLS)}")
    if "none" in names and len(names) > 1:
        raise UsageError("--controls none goes alone; leave it or the others out")
    return (
        tuple(dict.fromkeys(each for name in names for each in CONTROLS[name]))
        if names
        else Measures().controls
    )


def score(explanations: Explanations, measures: Measures) -> Scores:
    """Compare the maps of every two methods, and each with what a control makes of the other."""
    maps, names, ids = explanations.maps, explanations.methods, explanations.chosen.ids
    size = (maps.shape[2], maps.shape[3])
    pairs = list(combinations(range(len(names)), 2))

    def named(found: dict[tuple[int, int], Tensor]) -> dict[Pair, np.ndarray]:
        return {(names[a], names[b]): values.numpy() for (a, b), values in found.items()}

    def pooled(statistic: Statistic, a: int, b: int) -> Tensor:
        grids = [explanations.grids.get(names[each], size) for each in (a, b)]
        grid = min(grids, key=lambda grid: grid[0] * grid[1])
        if statistic.uses_top and int((statistic.top or measures.top) * grid[0] * grid[1]) == 0:
            return torch.full((len(ids),), torch.nan, dtype=torch.float64)
        coarse = [statistic.prepare(pool(maps[each], grid), measures.top) for each in (a, b)]
        return statistic.compare(coarse[0], coarse[1])

    partners = {
        "other_image": other_images(np.zeros(len(ids)), DRAWS, measures.seed),
        "other_image_same_class": other_images(explanations.chosen.labels, DRAWS, measures.seed),
    }
    values: Values = {}
    tied: Values = {}
    controls: dict[str, Values] = {name: {} for name in measures.controls}
    places: Values = {}
    for statistic in measures.statistics:
        name = statistic.name
        whole = [statistic.prepare(each, measures.top) for each in maps]
        observed = {(a, b): statistic.compare(whole[a], whole[b]) for a, b in pairs}
        values[name] = named(observed)
        if statistic.uses_top:
            tied[name] = named({(a, b): whole[a].tied | whole[b].tied for a, b in pairs})
        for control in controls:
            if control in partners:
                rows = partners[control]
                balanced = control == "other_image"
                floor = {
                    (a, b): other_image(statistic, whole[a], whole[b], rows, balanced=balanced)
                    for a, b in pairs
                }
            elif control == "shifted":
                rolled = [
                    [
                        statistic.prepare(each, measures.top)
                        for each in shifts(method, ids, seed=measures.seed)
                    ]
                    for method in maps
                ]
                moved = {(a, b): shifted(statistic, observed[a, b], whole[a], rolled[b]) for a, b in pairs}
                floor = {pair: each.mean for pair, each in moved.items()}
                places[name] = named({pair: each.p for pair, each in moved.items()})
            else:
                floor = {(a, b): pooled(statistic, a, b) for a, b in pairs}
            controls[control][name] = named(floor)
    scaled = maps.flatten(2).double()
    largest = scaled.abs().amax(dim=2, keepdim=True)
    scaled = scaled / largest.masked_fill(largest == 0, 1)  # two maps of nothing are the same
    return Scores(
        values,
        tied,
        named({(a, b): (scaled[a] - scaled[b]).abs().amax(dim=1) <= SAME for a, b in pairs}),
        controls,
        places,
        explanations.completeness,
        iou_curves(maps, names, partners["other_image"] if "other_image" in controls else None)
        if measures.curve
        else {},
    )

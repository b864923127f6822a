"""Does a map point at the object that a mask shows, more than at another image's mask or at the centre?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.statistic import extent, is_orderless
from xaicmp.core.agreement.top_pixels import count_top, expected_iou, ranked
from xaicmp.core.attribution import METHODS
from xaicmp.core.results.intervals import Summary, summarise_share
from xaicmp.core.results.settings import Settings
from xaicmp.core.studies.measured import Measured

MEASURES = {
    "pointing": "Pointing game",
    "mass": "Relevance mass accuracy",
    "rank": "Relevance rank accuracy",
    "iou": "IoU of the top pixels",
    "auc": "AUC",
}
"""The highest pixel is in the mask (Zhang et al., 2016, without a tolerance); the share of the positive relevance in it,
and of as many top pixels as it has (Arras et al., 2022); IoU of the top pixels and it; area under the ROC curve."""
CENTRE = "centre"
"""The map that knows nothing of the model."""
CONTROLS = {"other_mask": "Above\nother mask", "centre": "Above\ncentre", "chance": "Above\nchance"}
"""The masks of all other images; the centre's map; a map that has nothing to do with the mask. What is above them has
these titles."""


@dataclass(frozen=True)
class Localisation(Measured):
    """How far each method's maps point at the masks; the measures are ``MEASURES``, the controls ``CONTROLS``.

    A measure is undefined for a constant map, and for a mask that is empty or everything. The centre's map comes last.

    Attributes:
        empty: masks that are missing, empty, cropped away or everything.
    """

    empty: int

    def summary(self, measure: str, method: str) -> Summary:
        """Mean, spread and interval over the images; of the pointing game, which is a share, the exact one."""
        if measure == "pointing":
            return summarise_share(self.values[measure][method], level=self.settings.level)
        return super().summary(measure, method)


def localise(maps: Tensor, masks: Tensor, titles: dict[str, str], settings: Settings) -> Localisation:
    """Compare the maps ``(M, N, H, W)`` of the methods ``titles`` with masks, bool ``(N, H, W)``."""
    if CENTRE not in titles:
        none = torch.nn.Identity()
        centre = METHODS[CENTRE].function(none, maps[0][:, None], torch.zeros(0))
        titles, maps = titles | {CENTRE: METHODS[CENTRE].title}, torch.cat([maps, centre[None]])
    values: dict[str, dict[str, np.ndarray]] = {name: {} for name in MEASURES}
    other: dict[str, dict[str, np.ndarray]] = {name: {} for name in MEASURES}
    alone = torch.eye(len(masks), dtype=torch.bool)
    for method, own in zip(titles, maps, strict=True):
        for name, found in measures(own, masks, settings.top).items():
            values[name][method] = found.diagonal().numpy().copy()
            rest = found.masked_fill(alone, torch.nan)
            mean = rest.nanmean(dim=1) + rest.nanmean(dim=0) - rest.nanmean()  # as the other image's map
            other[name][method] = mean.numpy()
    pixels, sizes = masks[0].numel(), masks.flatten(1).sum(dim=1).tolist()
    bad = np.array([size in (0, pixels) for size in sizes])
    share, count = np.array(sizes) / pixels, count_top(settings.top, pixels)
    iou = np.array([expected_iou(count, size, pixels) for size in sizes])
    chance = {name: {"iou": iou, "auc": np.full(len(sizes), 0.5)}.get(name, share) for name in MEASURES}
    controls = {
        "other_mask": other,
        "centre": {name: dict.fromkeys(titles, values[name][CENTRE]) for name in MEASURES},
        "chance": {name: dict.fromkeys(titles, np.where(bad, np.nan, each)) for name, each in chance.items()},
    }
    return Localisation(titles, settings, values, controls, int(bad.sum()))


def measures(maps: Tensor, masks: Tensor, top: float) -> dict[str, Tensor]:
    """Each measure of each of the maps ``(N, H, W)`` with each mask ``(N, H, W)``: float64 ``(N, N)``, else NaN."""
    flat, inside = maps.flatten(1).double(), masks.flatten(1)
    sizes, pixels, mask = inside.sum(dim=1), flat.shape[1], inside.double().T
    undefined = is_orderless(flat)[:, None] | ((sizes == 0) | (sizes == pixels))
    _, place = ranked(flat)
    ordered = flat.sort(dim=1).values
    ranks = (
        torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True) + 1
    ).double() / 2
    positive = (flat / extent(flat)).clamp_min(0)
    count = count_top(top, pixels)
    both = (place < count).double() @ mask
    in_rank = [(place[:, own] < size).sum(dim=1) / size for own, size in zip(inside, sizes, strict=True)]
    found = {
        "pointing": (place == 0).double() @ mask,
        "mass": positive @ mask / positive.sum(dim=1, keepdim=True),
        "rank": torch.stack(in_rank, dim=1).double(),
        "iou": both / (count + sizes - both),
        "auc": (ranks @ mask - sizes * (sizes + 1) / 2) / (sizes * (pixels - sizes)),
    }
    return {name: each.masked_fill(undefined, torch.nan) for name, each in found.items()}

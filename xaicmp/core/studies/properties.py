"""Properties of each method's maps: how concentrated and steady they are, and what explains them."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement.controls import OTHER_CLASS
from xaicmp.core.agreement.registry import PEARSON
from xaicmp.core.attribution import METHODS
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.explainer import EXPLAINING, Explainer
from xaicmp.core.studies.measured import Measured

RADIUS = 0.02
"""The most by which a value of the model's input is changed, see ``nudged``."""

DRAWS = 5
"""How many changed copies there are of each image."""

PROPERTIES = {
    "gini": "Gini",
    "entropy": "Entropy",
    "area": "Area",
    "max_sensitivity": "Max\nsensitivity",
    "other_class": "Other\nclass",
    "other_class_runner_up": "Runner-up\nclass",
    "centre": "Centre",
    "edges": "Edges",
}
"""What is measured, and its title; the last are the squared correlations with maps that know no model."""


class Properties(Measured):
    """Properties of each method's maps; the measures are ``PROPERTIES``."""

    def limits(self, measure: str) -> tuple[float, float]:
        """Correlations with another class's map lie between -1 and 1, and the sensitivity has no highest value."""
        if measure == "max_sensitivity":
            return 0, math.inf
        return (-1, 1) if measure in OTHER_CLASS else (0, 1)


def properties(
    explainer: Explainer,
    images: ImageSource,
    predictions: Predictions,
    settings: Settings,
    progress: Progress = no_progress,
) -> Properties:
    """The properties of each method's maps of images that are chosen already; of each image ``3 + DRAWS`` maps.

    Args:
        explainer: the methods, and the model.
        images: what ``predictions`` are of.
        predictions: which images, and which class of each is explained.
        settings: of the intervals.
        progress: told how far it is.
    """
    engine, methods = explainer.engine, explainer.methods
    changes = [partial(nudged, draw=draw, seed=engine.seed) for draw in range(DRAWS)]
    streams = [explainer.again(images, predictions, change=change) for change in changes]
    every = (*methods, METHODS["centre"], METHODS["edge"])
    batches = Explainer(engine, every, other_classes=True).again(images, predictions)
    parts, done = [], 0
    for own, *nearby in zip(batches, *streams, strict=True):
        assert own.other_maps is not None  # because they were asked for
        maps = own.maps[:-2]
        found = concentration(maps)
        found["max_sensitivity"] = max_sensitivity(maps, [each.maps for each in nearby])
        for name, others in zip(OTHER_CLASS, own.other_maps, strict=True):
            found[name] = _pearson(maps, others[:-2])
        for name, other in zip(("centre", "edges"), own.maps[-2:], strict=True):
            found[name] = _pearson(maps, other.expand_as(maps)).square()
        parts.append(found)
        progress(EXPLAINING, done := done + len(own.predictions), len(predictions))
    whole = {name: torch.cat([part[name] for part in parts], dim=1).numpy() for name in PROPERTIES}
    names = {method.name: method.title for method in methods}
    values = {key: dict(zip(names, each, strict=True)) for key, each in whole.items()}
    return Properties(names, settings, values, {})


def concentration(maps: Tensor) -> dict[str, Tensor]:
    """How concentrated the attribution of maps ``(..., H, W)`` is, float64 ``(...,)``; NaN where all pixels are 0.

    Each is of the shares p_i = |a_i| / sum_j |a_j| of the P pixels. ``gini`` is sum_k (2k - P - 1) p_(k) / P, with
    the shares in ascending order (Hurley and Rickard, 2009): 0 for equal shares, 1 - 1/P for one pixel. ``entropy``
    is -sum p_i log p_i / log P: 1 and 0. ``area`` is 1 / (P sum p_i^2), the inverse participation ratio (Bell and
    Dean, 1970): k/P for equal shares of k pixels.
    """
    flat = maps.flatten(-2).double().abs()
    shares, pixels = flat / flat.sum(dim=-1, keepdim=True), flat.shape[-1]
    ranks = torch.arange(1, pixels + 1, dtype=torch.float64)
    return {
        "gini": (shares.sort(dim=-1).values * (2 * ranks - pixels - 1)).sum(dim=-1) / pixels,
        "entropy": torch.special.entr(shares).sum(dim=-1) / math.log(pixels),
        "area": 1 / (pixels * shares.square().sum(dim=-1)),
    }


def nudged(inputs: Tensor, ids: np.ndarray, draw: int, seed: int) -> Tensor:
    """The model's inputs ``(N, 3, H, W)`` with noise from -``RADIUS`` to ``RADIUS``, drawn by image, draw and seed."""
    noise = [
        np.random.default_rng([seed, int(each), draw]).uniform(-RADIUS, RADIUS, inputs.shape[1:])
        for each in ids
    ]
    return inputs + torch.from_numpy(np.stack(noise)).to(inputs)


def max_sensitivity(maps: Tensor, nearby: list[Tensor]) -> Tensor:
    """The largest change of maps ``(..., H, W)``: max_d |nearby_d - map| / |map|, Euclidean norms (Yeh et al., 2019).

    Returns:
        float64 ``(...,)``, NaN for a map of zeros.
    """
    flat = maps.flatten(-2).double()
    length = flat.norm(dim=-1)
    moved = torch.stack([(each.flatten(-2).double() - flat).norm(dim=-1) for each in nearby])
    return (moved.amax(dim=0) / length).masked_fill(length == 0, torch.nan)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    """Of maps ``(M, N, H, W)``, float64 ``(M, N)``."""
    found = PEARSON.compare(*(PEARSON.prepare(each.flatten(0, 1), 0) for each in (a, b)))
    return found.view(a.shape[:2])

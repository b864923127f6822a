"""Does a map point at what the model uses? Remove pixels in its order, and see how the score changes.

Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has Learned", 2017; Petsiuk et al., "RISE",
2018. What stands in a removed pixel's place matters as much as the order, so there are several baselines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import splu
from torch import Tensor

from xaicmp.core.agreement.statistic import is_orderless
from xaicmp.core.agreement.top_pixels import ranked
from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.context import Context
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.models.guard import unchanged
from xaicmp.core.results.intervals import Summary, defined_mean, summarise
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest, paired_tests
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.studies.pair_tests import PairTest, compare_methods
from xaicmp.errors import UsageError

Baseline = Literal["zero", "blur", "road"]

BASELINES: tuple[Baseline, ...] = ("zero", "blur", "road")
"""What removed pixels are replaced by, in turn."""

CURVES = ("deletion", "insertion")
"""Which pixels are removed first: the most relevant (MoRF), and the score should fall at once; or the least (LeRF),
and it should hold. Read from its end, the second inserts the most relevant pixels first."""

OUTPUTS = ("probability", "logit")
LIMITS = {
    **{f"probability_{curve}": (0, 1) for curve in CURVES},
    "probability_gain": (-1, 1),
    "infidelity": (0, math.inf),
}
"""The lowest and highest value of what has one."""

CONTROLS = ("random", "centre")
"""Orders that know nothing of the model, with which the methods are compared: at random, and from the image's centre."""

NOISE = 0.01
"""ROAD's standard deviation, of pixels from 0 to 1: so that the model cannot tell imputed pixels by their smoothness."""

NOISES = 5
"""Draws of ROAD's noise, over which the outputs are averaged."""

NEIGHBOURS = (((0, 1), 1 / 6), ((1, 0), 1 / 6), ((1, 1), 1 / 12), ((1, -1), 1 / 12))
"""ROAD's weights of the pixels to the right, below and on the diagonals below; those opposite have the same."""


@dataclass(frozen=True)
class Faithfulness:
    """How the target's score changes as pixels are removed.

    Attributes:
        baseline: what they are replaced by.
        removed: float64 ``(K,)``: the share that is removed, from 0 to 1.
        curves: by output (``OUTPUTS``), float64 ``(M + 2, 2, N, K)``: of each method, then of each of ``CONTROLS``;
            by ``CURVES``. NaN where the map is constant or has a NaN, and so has no order.
        infidelity: float64 ``(M, N)``, see ``infidelity``.
        settings: the level of the intervals, and the seed of their resampling.
    """

    baseline: Baseline
    removed: np.ndarray
    curves: dict[str, np.ndarray]
    infidelity: np.ndarray
    settings: Settings = field(default_factory=Settings)

    def summaries(self, index: int) -> dict[str, Summary]:
        """The areas, gains and infidelity over the images, of one method or, after them, control.

        Keys are ``probability_deletion``, ``probability_insertion``, ``logit_deletion``, ``logit_insertion``,
        ``probability_gain``, ``logit_gain`` and, where it was measured, ``infidelity``.
        """
        values = {
            f"{output}_{curve}": self.auc(output, curve)[index] for output in OUTPUTS for curve in CURVES
        }
        values |= {f"{output}_gain": self.gain(output)[index] for output in OUTPUTS}
        if index < len(self.infidelity) and not np.isnan(self.infidelity).all():
            values["infidelity"] = self.infidelity[index]
        level, seed = self.settings.level, self.settings.seed
        found = {key: summarise(each, level=level, seed=seed) for key, each in values.items()}
        return {key: each.within(*LIMITS.get(key, (-math.inf, math.inf))) for key, each in found.items()}

    def mean_curves(self, index: int) -> dict[str, list[float]]:
        """The mean probability over the images of one method or control, by ``CURVES``, K values each."""
        by_curve = zip(CURVES, self.curves["probability"][index], strict=True)
        return {curve: [defined_mean(each) for each in values.T] for curve, values in by_curve}

    def auc(self, output: str, curve: str) -> np.ndarray:
        """The area under each curve by trapezoids, ``(M + 2, N)``; low is good in deletion, high in insertion."""
        values = self.curves[output][:, CURVES.index(curve)]
        return ((values[..., 1:] + values[..., :-1]) / 2 * np.diff(self.removed)).sum(axis=-1)

    def gain(self, output: str) -> np.ndarray:
        """Insertion minus deletion, ``(M + 2, N)``: the area between the curves, 0 for an order that says nothing."""
        return self.auc(output, "insertion") - self.auc(output, "deletion")

    def above(self, control: str) -> list[PairedTest]:
        """For each method, the test of its gain in probability against that of one of ``CONTROLS``, image by image."""
        gain, level = self.gain("probability"), self.settings.level
        floor = gain[CONTROLS.index(control) - len(CONTROLS)]
        methods = gain[: -len(CONTROLS)]
        return paired_tests(methods, np.broadcast_to(floor, methods.shape), level=level)

    def differences(self, names: Sequence[str]) -> tuple[list[PairTest[str]], dict[str, str]]:
        """Whether the gains in probability of every two of the methods ``names`` differ, see ``compare_methods``."""
        return compare_methods(dict(zip(names, self.gain("probability"), strict=False)), self.settings)


def faithfulness(
    context: Context, maps: Tensor, baseline: Baseline = "zero", steps: int = 20, samples: int = 50
) -> Faithfulness:
    """Deletion and insertion curves of each method, and its infidelity.

    Costs ``N * (2 + 2 * (M + 2) * (steps - 1) + samples)`` forward passes, with ROAD ``NOISES`` times as many; their
    ends are shared by all curves. An image's random draws depend on its id and the seed, not on the other images.

    Args:
        context: the model as it was before anything was merged, images, targets, ids and seed; at most its
            ``batch_size`` images go in one pass, and its ``report`` is told ``(done, total)`` in these.
        maps: ``(M, N, H, W)``, one per method.
        baseline: ``"zero"``, the data set's mean colour; ``"blur"``; or ``"road"``, see ``impute``.
        steps: the pixels are removed in as many portions, equal but for rounding.
        samples: perturbations an image, for infidelity; 0 leaves it out (NaN).

    Raises:
        UsageError: an unknown baseline, or fewer steps than one or more than pixels.
    """
    count, pixels = context.count, context.images[0, 0].numel()
    if baseline not in BASELINES:
        raise UsageError(f"unknown baseline {baseline!r}; choose from {', '.join(BASELINES)}")
    if not 1 <= steps <= pixels:
        raise UsageError(f"{steps} steps of {pixels} pixels: take between 1 and {pixels}")
    maps = torch.cat([maps.cpu(), _controls(context).to(maps.dtype)])
    ranks, squares = _ranks(maps), _squares(context, samples)[:, :count]
    portions = [round(step * pixels / steps) for step in range(steps + 1)]
    look = _Look(context, baseline, count * (2 + 2 * len(ranks) * (steps - 1) + samples))
    whole, empty = look(ranks[0, :1], (0, pixels)).split(1, dim=-1)
    between = look(ranks.flatten(0, 1), portions[1:-1])
    squared = look((~squares).int(), (1,))[1, ..., 0]
    ends = (end.expand(-1, between.shape[1], -1, -1) for end in (whole, empty))
    curves = torch.cat([next(ends), between, next(ends)], dim=-1).unflatten(1, (-1, 2))
    curves.masked_fill_(is_orderless(maps.flatten(2))[None, :, None, :, None], torch.nan)
    return Faithfulness(
        baseline,
        np.array(portions) / pixels,
        dict(zip(OUTPUTS, curves.numpy(), strict=True)),
        infidelity(maps[: -len(CONTROLS)], squares, whole[1, 0, :, 0] - squared).numpy(),
    )


class _Look:
    """The outputs of a model for images of which pixels are removed.

    Args:
        context: the model and the images.
        baseline: what the pixels are replaced by.
        total: how many images will go through the model.
    """

    def __init__(self, context: Context, baseline: Baseline, total: int) -> None:
        self.context, self.fill = context, _replacement(context, baseline)
        self.done, self.total = 0, total * (NOISES if baseline == "road" else 1)

    def __call__(self, ranks: Tensor, portions: Sequence[int]) -> Tensor:
        """Both outputs without the pixels of rank less than each portion: ``(R, N, H, W)`` to ``(2, R, N, K)``."""
        context, shape = self.context, (*ranks.shape[:2], len(portions))
        outputs = torch.zeros(2, math.prod(shape), dtype=torch.float64)
        images, targets = context.images, context.targets.cpu()
        with torch.no_grad(), unchanged(context.original) as lent:
            for part in torch.arange(math.prod(shape)).split(context.batch_size) if outputs.numel() else ():
                order, which, step = torch.unravel_index(part, shape)
                removed = ranks[order, which] < torch.tensor(portions)[step, None, None]
                fills = self.fill(which, removed)
                for fill in fills:
                    filled = torch.where(removed[:, None].to(images.device), fill, images[which])
                    logits = lent(filled).float().cpu().double()
                    both = torch.stack([logits.softmax(dim=1), logits])
                    outputs[:, part] += both[:, torch.arange(len(part)), targets[which]] / len(fills)
                    self.done += len(part)
                    context.report(self.done, self.total)
        return outputs.unflatten(1, shape)


def infidelity(maps: Tensor, removed: Tensor, drops: Tensor) -> Tensor:
    """mean_s (b a_s - d_s)^2, with a_s the map's sum over what is removed, d_s the drop of the target's logit.

    b = sum a d / sum a^2 is the scale that fits best, so that a map's own does not matter: ``captum.metrics.infidelity``
    with ``normalize=True``, but from the same passes for all maps. Yeh et al., "On the (In)fidelity and
    Sensitivity of Explanations", 2019.

    Args:
        maps: ``(M, N, H, W)``.
        removed: bool ``(S, N, H, W)``.
        drops: ``(S, N)``.

    Returns:
        float64 ``(M, N)``, in squared logits; NaN where a map has a NaN, or without samples.
    """
    sums = torch.einsum("mnp,snp->msn", maps.double().flatten(2), removed.double().flatten(2))
    energy = sums.square().sum(dim=1, keepdim=True)
    scale = (sums * drops).sum(dim=1, keepdim=True) / energy.masked_fill(energy == 0, 1)
    return (scale * sums - drops).square().mean(dim=1)


def impute(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Estimate the removed pixels from those around them: each is the weighted mean of its up to 8 neighbours.

    sum_j w_ij (x_i - x_j) = 0 for each removed i, with the weights ``NEIGHBOURS`` of those inside the image: a
    sparse, symmetric system, factorised once for all channels. Rong et al., "A Consistent and Efficient Evaluation
    Strategy for Attribution Methods" (ROAD), 2022; this is without its noise.

    Args:
        image: float ``(C, H, W)``.
        removed: bool ``(H, W)``; if all are, each becomes the image's mean colour.

    Returns:
        float64 ``(C, H, W)``, with the image's own values where pixels are kept.
    """
    filled, gone = image.astype(np.float64).reshape(len(image), -1).T, removed.ravel()
    if gone.all():
        filled[:] = filled.mean(axis=0)
    elif gone.any():
        equations = _laplacian(*removed.shape)[gone]
        # Symmetric and diagonally dominant: no pivots, and an ordering that makes use of it.
        factors = splu(
            equations[:, gone].tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0,
            options={"SymmetricMode": True},
        )
        filled[gone] = factors.solve(-(equations[:, ~gone] @ filled[~gone]))
    return filled.T.reshape(image.shape)


@cache
def _laplacian(height: int, width: int) -> csr_array:
    """The matrix ``(H * W, H * W)`` of sum_j w_ij (x_i - x_j) over the neighbours j of each pixel i."""
    index = np.arange(height * width).reshape(height, width)
    links = csr_array((height * width,) * 2)
    for (down, across), weight in NEIGHBOURS:
        one = index[: height - down, max(0, -across) : width - max(0, across)].ravel()
        other = index[down:, max(0, across) : width + min(0, across)].ravel()
        links += csr_array((np.full(len(one), weight), (one, other)), shape=links.shape)
    links += links.T
    return csr_array(diags_array(links.sum(axis=1)) - links)


def _controls(context: Context) -> Tensor:
    """The maps of ``CONTROLS``, ``(2, N, H, W)``."""
    size = context.images.shape[2:]
    order = [torch.rand(size, generator=each) for each in context.generators("order")][: context.count]
    return torch.stack([torch.stack(order), METHODS["centre"].explain_in(context).maps.cpu()])


def _replacement(context: Context, baseline: Baseline) -> Callable[[Tensor, Tensor], Sequence[Tensor]]:
    """A function that fills removed pixels: ``(which image (B,), removed (B, H, W))`` to one or more ``(B, C, H, W)``."""
    images = context.images
    if baseline == "road":
        known = images.cpu().double().numpy()
        drawn = [
            torch.randn((NOISES, *images.shape[1:]), generator=each) for each in context.generators("road")
        ]
        noises = NOISE / context.std * torch.stack(drawn, dim=1).to(images)

        def road(which: Tensor, removed: Tensor) -> Sequence[Tensor]:
            filled = [impute(known[index], mask) for index, mask in zip(which, removed.numpy(), strict=True)]
            return list(torch.from_numpy(np.stack(filled)).to(images) + noises[:, which])

        return road
    filled = torch.zeros_like(images)
    if baseline == "blur":
        from torchvision.transforms.functional import gaussian_blur

        # The Gaussian's standard deviation is an eighth of the shorter side; it is cut at two of them.
        side = min(images.shape[2:])
        filled = gaussian_blur(images, [2 * (side // 4) + 1] * 2, [side / 8] * 2)
    return lambda which, removed: [filled[which]]


def _ranks(maps: Tensor) -> Tensor:
    """The rank of each pixel when the most relevant go first, and when the least do; ties go by the index.

    Args:
        maps: ``(M, N, H, W)``.

    Returns:
        int64 ``(M, 2, N, H, W)``, 0 for the first to go.
    """
    flat = maps.flatten(2)
    places = [ranked(flat, descending=falls)[1] for falls in (True, False)]
    return torch.stack(places, dim=1).unflatten(3, maps.shape[2:])


def _squares(context: Context, samples: int) -> Tensor:
    """Random squares, bool ``(samples, N, H, W)``, with sides from 1 pixel to half the image's, anywhere inside it."""
    height, width = context.images.shape[2:]
    drawn = torch.stack(
        [torch.rand(3, samples, 1, generator=each) for each in context.generators("squares")], dim=2
    )
    side = 1 + (drawn[0] * (min(height, width) // 2)).long()

    def along(axis: int, size: int) -> Tensor:
        start = (drawn[1 + axis] * (size - side + 1)).long()
        return (torch.arange(size) >= start) & (torch.arange(size) < start + side)

    return along(0, height)[..., None] & along(1, width)[..., None, :]


def faithful(
    engine: Engine,
    images: ImageSource,
    predictions: Predictions,
    maps: Tensor,
    settings: Settings,
    progress: Progress = no_progress,
) -> list[Faithfulness]:
    """The faithfulness of maps of an engine's classifier, by each of ``BASELINES``.

    Args:
        engine: the model.
        images: what ``predictions`` are of.
        predictions: which images, and which class of each is explained.
        maps: ``(M, N, H, W)``, one per method.
        settings: the level of the intervals.
        progress: told how far it is.
    """
    context = Explainer(engine, ()).context(images, predictions)
    found: list[Faithfulness] = []
    for baseline in BASELINES:
        context.report = partial(progress, f"removing pixels ({baseline})")
        samples = 0 if found else 50  # infidelity has a baseline of its own
        found.append(faithfulness(context, maps, baseline, samples=samples))
    return [replace(each, settings=settings) for each in found]

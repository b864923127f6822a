"""Does a map depend on what the model has learned? The model parameter randomisation test.

Adebayo et al., "Sanity Checks for Saliency Maps", 2018: a map that stays the same when the weights are re-initialised
explains the image and not the model. All maps of a method may have something in common, such as a bright centre. A control
takes that out: the map of the re-initialised model is also compared with the trained model's map of another image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from xaicmp.core.agreement.partners import other_image, other_images, with_every_other, with_partners
from xaicmp.core.agreement.statistic import Prepared, Statistic, prepare_all, take
from xaicmp.core.arguments import one_of, whole_number
from xaicmp.core.choices import Randomise
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.models.guard import unchanged
from xaicmp.core.results.crossed import crossed
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest, holm, lowest_p
from xaicmp.core.run.explainer import Batch, Explainer
from xaicmp.core.run.scoring import BLOCK
from xaicmp.core.studies.reinitialise import find_stages, measure, reinitialised

STATISTICS = ("spearman", "ssim", "pearson")
"""What the maps are compared by."""

DRAWS = 5
"""Re-initialised networks at each stage."""

PARTNERS = 20
"""Other images that the control takes for each where not all can be had by one product, as for SSIM: there is a control
for each of many networks, and more would take longer than the maps."""

MEASURED = 64
"""The most images that running statistics are measured on: the first of the source, whichever are explained."""

ENOUGH = 0.5
"""The share of maps that must be defined at a stage for it to count in the area."""

DEAD = 0.01
"""A network whose ``image_share`` is below this share of the trained one's is called dead."""


@dataclass(frozen=True)
class Inputs:
    """The images that go into the networks.

    Attributes:
        images: ``(N, 3, H, W)``, normalised and on the model's device, the images that are explained.
        labels: int64 ``(N,)``, their classes, for the accuracy; below 0 where unknown.
        measured: ``(B, 3, H, W)``, likewise, the images that running statistics and ``image_share`` are measured on.
    """

    images: Tensor
    labels: Tensor
    measured: Tensor


@dataclass(frozen=True)
class Randomisation:
    """How far the maps of models that are re-initialised stage by stage agree with those of the trained one.

    Attributes:
        kind: whether all stages above stay re-initialised, or one stage is at a time.
        stages: the names of the S stages, from the output down.
        accuracy: float64 ``(1 + S,)``: share of the images that the original classifies correctly, then the mean
            over the draws of each stage; NaN where no label is known.
        image_share: float64 ``(1 + S,)``: how much of the activations depends on the image, see
            ``reinitialise.measure``; of the original, then the lowest of each stage's draws.
        agreement: by statistic, float64 ``(M, D, S, N)``: of each method's map, in D draws, with its map of the original.
        other_image: by statistic, likewise: with the original's map of other images.
        settings: the level of its intervals, and the seed of the draws.
    """

    kind: Randomise
    stages: tuple[str, ...]
    accuracy: np.ndarray
    image_share: np.ndarray
    agreement: dict[str, np.ndarray]
    other_image: dict[str, np.ndarray]
    settings: Settings = field(default_factory=Settings)

    @property
    def draws(self) -> int:
        """How many networks there were at each stage."""
        return int(next(iter(self.agreement.values())).shape[1])

    @property
    def dead(self) -> list[bool]:
        """Whether a network gave nearly the same activations for every image, for each stage."""
        return is_dead(self.image_share)

    def defined(self, statistic: str) -> np.ndarray:
        """How many of the draws' maps have a value, of each method and stage, int64 ``(M, S)``."""
        return np.isfinite(self.agreement[statistic]).sum(axis=(1, 3))

    def means(self, statistic: str) -> np.ndarray:
        """The mean of each method and stage over the draws and images where it is defined, float64 ``(M, S)``."""
        return _nanmean(self.agreement[statistic], (1, 3))

    def controls(self, statistic: str) -> np.ndarray:
        """The same with the original's maps of other images."""
        return _nanmean(self.other_image[statistic], (1, 3))

    def counted(self, statistic: str) -> np.ndarray:
        """The stages that count in each method's area, bool ``(M, S)``."""
        values = self.agreement[statistic]
        return self.defined(statistic) >= ENOUGH * values.shape[1] * values.shape[3]

    def area(self, statistic: str) -> np.ndarray:
        """The mean agreement over the stages that count, each as wide, ``(M, D, N)``: the area under the curve."""
        counted = self.counted(statistic)[:, None, :, None]
        return _nanmean(np.where(counted, self.agreement[statistic], np.nan), axis=2)

    def areas(self, statistic: str) -> list[Summary]:
        """The area of each method over draws and images; its spread is that over the images."""
        found, limits = [], self.settings.statistic(statistic).limits
        for values in self.area(statistic):
            mean, low, high, _ = crossed(values, self.settings.level)
            images = _nanmean(values, axis=0)
            known = images[~np.isnan(images)]
            std = float(known.std()) if len(known) else float("nan")
            undefined = len(images) - len(known)
            summary = Summary(mean, std, len(known), undefined, low=low, high=high)
            found.append(summary.within(*limits))
        return found

    def last_stage(self, statistic: str) -> list[PairedTest]:
        """For each method, the test of its last stage against the control, the original's maps of other images."""
        tests = []
        both = zip(self.agreement[statistic], self.other_image[statistic], strict=True)
        for above in (own[:, -1] - other[:, -1] for own, other in both):
            above[np.abs(above) < 1e-9] = 0  # the same but for rounding, whose direction is no finding
            images = int(np.isfinite(above).any(axis=0).sum())
            lowest = lowest_p(images, two_sided=True) if images else float("nan")
            tests.append(PairedTest(*crossed(above, self.settings.level), lowest))
        adjusted = holm(np.array([each.p for each in tests])).tolist()
        return [replace(test, adjusted=p, tests=len(tests)) for test, p in zip(tests, adjusted, strict=True)]


def is_dead(image_share: np.ndarray) -> list[bool]:
    """Whether the ``image_share`` of each stage is next to nothing beside that of the trained network, the first."""
    return [bool(share < DEAD * image_share[0]) for share in image_share[1:]]


def randomisation_test(
    explain: Callable[[nn.Module], Tensor],
    model: nn.Module,
    inputs: Inputs,
    settings: Settings,
    kind: Randomise = "cascading",
    draws: int = DRAWS,
    progress: Progress = no_progress,
) -> Randomisation:
    """Compare the maps of ``model`` with those of its re-initialised copies.

    Args:
        explain: a model to maps ``(M, N, H, W)`` of the images, for the classes that are explained of the
            original, with the same random draws at every call.
        model: in working order; it is not changed.
        inputs: the images.
        settings: how to compare, and the seed of the weights and of which other images the control takes.
        kind: as in ``reinitialised``.
        draws: how many networks at each stage.
        progress: told how far it is.
    """
    statistics, stages = settings.statistics, list(find_stages(model))

    def prepare(of: nn.Module) -> dict[str, Prepared]:
        maps = explain(of).transpose(0, 1)
        return {each.name: prepare_all(each, maps, settings.top) for each in statistics}

    trained = prepare(model)
    methods = trained[statistics[0].name].tied.shape[1]
    with_itself = torch.arange(methods).expand(2, -1)
    shape = (methods, draws, len(stages), len(inputs.images))
    agreement, other = ({each.name: np.empty(shape) for each in statistics} for _ in range(2))
    accuracies, shares = np.empty((draws, len(stages))), np.empty((draws, len(stages)))
    progress("re-initialising", 0, draws * len(stages))
    for draw in range(draws):
        copies = reinitialised(model, inputs.measured, kind, settings.seed, draw)
        for stage, copied in enumerate(copies):
            drawn = prepare(copied.model)
            for each in statistics:
                pair, at = (drawn[each.name], trained[each.name]), (slice(None), draw, stage)
                agreement[each.name][at] = each.compare_pairs(*pair, with_itself).T.numpy()
                other[each.name][at] = _other_image(each, *pair, with_itself, settings.seed).T.numpy()
            accuracies[draw, stage] = _accuracy(copied.model, inputs)
            shares[draw, stage] = copied.image_share
            progress("re-initialising", draw * len(stages) + stage + 1, draws * len(stages))
    return Randomisation(
        kind,
        tuple(stages),
        np.append(_accuracy(model, inputs), accuracies.mean(axis=0)),
        np.append(measure(model, inputs.measured), shares.min(axis=0)),
        agreement,
        other,
        settings,
    )


def _other_image(
    statistic: Statistic, drawn: Prepared, trained: Prepared, pairs: Tensor, seed: int
) -> Tensor:
    """The statistic of a re-initialised map with the trained one's of other images, see ``other_image``."""
    parts = []
    for start in range(0, len(drawn.tied), BLOCK):
        one, other = (take(each, slice(start, start + BLOCK)) for each in (drawn, trained))
        groups = np.zeros(len(one.tied))
        if statistic.products:
            found = with_every_other(statistic, one, other, pairs, groups)
        else:
            partners = other_images(groups, min(PARTNERS, len(groups) - 1), seed)
            found = with_partners(statistic, one, other, pairs, partners)
        parts.append(torch.stack([other_image(values, balanced=True) for values in found], dim=1))
    return torch.cat(parts)


def _accuracy(model: nn.Module, inputs: Inputs) -> float:
    known = inputs.labels >= 0
    if not known.any():
        return float("nan")
    with torch.no_grad(), unchanged(model) as lent:
        best = torch.cat([lent(part).argmax(dim=1) for part in inputs.images[known].split(MEASURED)])
    return float((best == inputs.labels[known]).double().mean())


def randomise(
    explainer: Explainer,
    images: ImageSource,
    predictions: Predictions,
    settings: Settings,
    kind: Randomise = "cascading",
    draws: int = DRAWS,
    progress: Progress = no_progress,
) -> Randomisation:
    """The randomisation test of a classifier, on images that are chosen already.

    Args:
        explainer: the original and the methods.
        images: what ``predictions`` are of.
        predictions: which images, and which class of each is explained.
        settings: the share of top pixels, and the level of the intervals.
        kind, draws: as in ``randomisation_test``.
        progress: told how far it is.
    """
    engine, methods = explainer.engine, explainer.methods
    one_of("randomise", kind, Randomise)
    draws = whole_number("draws", draws, 1)

    def maps_of(model: nn.Module) -> Tensor:
        copied = engine.again(classifier=replace(engine.classifier, module=model))
        batches = Explainer(copied, methods).again(images, predictions)
        return torch.cat([each.maps for each in batches], dim=1)

    explained = Explainer(engine, methods).context(images, predictions).images[: len(predictions)]
    first = Batch.read(images, np.arange(min(MEASURED, len(images))))
    inputs = Inputs(
        explained,
        torch.from_numpy(predictions.labels).to(engine.device),
        engine.inputs(first.pixels, first.normalised),
    )
    how = Settings(STATISTICS, settings.top, level=settings.level, seed=engine.seed)
    return randomisation_test(maps_of, engine.module, inputs, how, kind, draws, progress)


def _nanmean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    return torch.from_numpy(values).nanmean(dim=axis).numpy()

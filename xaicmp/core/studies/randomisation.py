"""Does a map depend on what the model has learned? The model parameter randomisation test.

Adebayo et al., "Sanity Checks for Saliency Maps", 2018: a map that stays the same when the weights are re-initialised
explains the image and not the model.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from xaicmp.core.agreement.controls import other_image, other_images
from xaicmp.core.agreement.registry import get_statistics
from xaicmp.core.agreement.statistic import Prepared, Statistic, prepare_all
from xaicmp.core.attribution import Method
from xaicmp.core.choices import Randomise
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.models.guard import unchanged
from xaicmp.core.results.intervals import Summary, defined_mean, summarise
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest, paired_test
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explaining import Explainer
from xaicmp.errors import XaicmpError


def find_stages(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The parts of a model that are randomised together, from the output down.

    Modules that hold parameters, in the order in which the model registers them (taken for that of the forward
    pass), are grouped by the first two words of their names: a block such as ``layer4.1`` is a stage, and so is
    ``fc``. A normalisation that is not in a block goes with what is before it: ``conv1+bn1``. Parameters of the
    model itself are the first stage, called ``input``.

    Returns:
        by stage, the names of its modules.

    Raises:
        XaicmpError: the model has no parameters.
    """
    stages: list[tuple[str, list[str]]] = []
    for name, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        stage = ".".join(name.split(".")[:2]) or "input"
        if stages and stages[-1][0].split("+")[-1] == stage:
            stages[-1][1].append(name)
        elif stages and stage == name and _normalises(module):
            before, members = stages.pop()
            stages.append((f"{before}+{stage}", [*members, name]))
        else:
            stages.append((stage, [name]))
    if not stages:
        raise XaicmpError("the model has no parameters, so there is nothing to randomise; choose another")
    return {name: tuple(members) for name, members in reversed(stages)}


def randomised(
    model: nn.Module, kind: Randomise = "cascading", seed: int = 0
) -> Iterator[tuple[str, nn.Module]]:
    """Copies of the model, each with another stage re-initialised, from the output down.

    Args:
        model: not changed.
        kind: ``"cascading"``: the stages above it stay drawn; ``"independent"``: all others stay trained.
        seed: a module's draw depends on this and its name, so that it is the same in both kinds.

    Yields:
        the stage's name, and a copy of the model.
    """
    current = model
    for stage, names in find_stages(model).items():
        current = copy.deepcopy(current if kind == "cascading" else model)
        for name in names:
            redraw(current.get_submodule(name), seed, name)
        yield stage, current


@torch.no_grad()
def redraw(module: nn.Module, seed: int, name: str) -> None:
    """Draw a module's own parameters and statistics anew, in place.

    What has ``reset_parameters`` is drawn by it. It would make a normalisation the identity, the same for every
    seed and far from the scale that the network has learned to work at; other modules' parameters have no
    distribution of their own. Each of these tensors is drawn from a normal distribution fitted to its own
    values, and the running variance from a log-normal one.
    """
    entropy = int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])
    drawn: dict[str, Tensor] = {}
    if hasattr(module, "reset_parameters") and not _normalises(module):
        fresh: Any = copy.deepcopy(module).cpu()  # or the draw would depend on the device
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(entropy)
            fresh.reset_parameters()
        drawn.update(fresh.named_parameters(recurse=False))
    else:
        generator = torch.Generator().manual_seed(entropy)
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            values = tensor.cpu().double()
            if key == "running_var":
                # Below eps the module takes no notice of a variance, and a dead channel's is 0.
                drawn[key] = _fitted(values.clamp_min(getattr(module, "eps", 0)).log(), generator).exp()
            elif tensor.is_floating_point():
                drawn[key] = _fitted(values, generator)
    for key, values in drawn.items():
        getattr(module, key).copy_(values)


def _fitted(values: Tensor, generator: torch.Generator) -> Tensor:
    # Where all values are equal, as in a layer never trained, there is no spread to learn from.
    spread = values.std(correction=0).item() or 0.1
    return values.mean() + spread * torch.randn(values.shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Randomisation:
    """How far the maps of ever less trained models agree with those of the trained one.

    Attributes:
        kind: whether stages were randomised one on top of the other, or one at a time.
        stages: the names of the S stages, from the output down; the original is none of them.
        accuracy: float64 ``(1 + S,)``: share of the images that the original classifies correctly, then each
            randomised model.
        agreement: by statistic, float64 ``(M, S, N)``: of each method's map with its map of the original.
        chance: by statistic, float64 ``(M, N)``: of its map of the original with the original's of other images.
        settings: the level of its intervals, and the seed of their resampling.
    """

    kind: Randomise
    stages: tuple[str, ...]
    accuracy: np.ndarray
    agreement: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]
    settings: Settings = field(default_factory=Settings)

    def means(self, statistic: str) -> np.ndarray:
        """Of each method and stage over the images where it is defined, float64 ``(M, S)``."""
        return np.array([[defined_mean(values) for values in stages] for stages in self.agreement[statistic]])

    def areas(self, statistic: str) -> list[Summary]:
        """Of each method, the area under its curve over the images."""
        settings = self.settings
        return [summarise(each, level=settings.level, seed=settings.seed) for each in self.area(statistic)]

    def last_stage(self, statistic: str) -> list[PairedTest]:
        """Of each method, whether its last stage agrees more than the original's maps of other images."""
        settings = self.settings
        return [
            paired_test(values[-1], chance, two_sided=True, level=settings.level, seed=settings.seed)
            for values, chance in zip(self.agreement[statistic], self.chance[statistic], strict=True)
        ]

    def area(self, statistic: str) -> np.ndarray:
        """The mean agreement over the stages, ``(M, N)``: the area under the curve, each stage as wide."""
        return _nanmean(self.agreement[statistic], axis=1)

    def band(self, statistic: str, level: float = 0.95) -> np.ndarray:
        """Where the middle ``level`` of the images' chance values lie, ``(M, 2)``."""
        values = self.chance[statistic]
        edges = [np.nan, np.nan]
        tails = [(1 - level) / 2, (1 + level) / 2]
        return np.array([np.nanquantile(x, tails) if (x == x).any() else edges for x in values])


def randomisation_test(
    explain: Callable[[nn.Module], Tensor],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    statistics: Sequence[Statistic],
    kind: Randomise = "cascading",
    top: float = 0.2,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress = no_progress,
) -> Randomisation:
    """Compare the maps of ``model`` with those of its randomised copies.

    Args:
        explain: a model to maps ``(M, N, H, W)`` of ``images``, for the classes that are explained of the
            original, with the same random draws at every call.
        model: in working order; it is not changed.
        images: ``(N, 3, H, W)``, normalised, where the model is.
        labels: int64 ``(N,)``: what the accuracy is measured by.
        statistics: how to compare.
        kind: as in ``randomised``.
        top: the share of top pixels, for statistics that take it.
        seed: of the weights, and of which other images chance is measured on.
        batch_size: the most images in one pass, for the accuracy.
        progress: told how far it is.
    """

    def prepare(of: nn.Module) -> dict[str, Prepared]:
        maps = explain(of).transpose(0, 1)
        return {each.name: prepare_all(each, maps, top) for each in statistics}

    original = prepare(model)
    with_itself = torch.arange(original[statistics[0].name].tied.shape[1]).expand(2, -1)
    partners = other_images(np.zeros(len(images)), seed=seed)
    chance = {
        each.name: other_image(each, maps, maps, with_itself, partners).T.numpy()
        for each in statistics
        for maps in [original[each.name]]
    }
    total = len(find_stages(model))
    stages: list[str] = []
    accuracies = [_accuracy(model, images, labels, batch_size)]
    agreement: dict[str, list[np.ndarray]] = {each.name: [] for each in statistics}
    for stage, copied in randomised(model, kind, seed):
        drawn = prepare(copied)
        for each in statistics:
            found = each.compare_pairs(original[each.name], drawn[each.name], with_itself)
            agreement[each.name].append(found.T.numpy())
        accuracies.append(_accuracy(copied, images, labels, batch_size))
        stages.append(stage)
        progress(f"randomising {stage}", len(stages), total)
    return Randomisation(
        kind,
        tuple(stages),
        np.array(accuracies),
        {name: np.stack(values, axis=1) for name, values in agreement.items()},
        chance,
    )


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    with torch.no_grad(), unchanged(model) as lent:
        best = torch.cat([lent(part).argmax(dim=1) for part in images.split(batch_size)])
    return float((best == labels).double().mean())


def randomise(
    engine: Engine,
    images: ImageSource,
    predictions: Predictions,
    methods: Sequence[Method],
    settings: Settings,
    kind: Randomise = "cascading",
    progress: Progress = no_progress,
) -> Randomisation:
    """The randomisation test of an engine's classifier, on images that are chosen already.

    Args:
        engine: the original.
        images: what ``predictions`` are of.
        predictions: which images, and which class of each is explained.
        methods: one or more.
        settings: their share of top pixels.
        kind: as in ``randomised``.
        progress: told how far it is.
    """

    def maps_of(model: nn.Module) -> Tensor:
        copied = engine.again(classifier=replace(engine.classifier, module=model))
        batches = Explainer(copied, methods).again(images, predictions)
        return torch.cat([each.maps for each in batches], dim=1)

    inputs = Explainer(engine, methods).context(images, predictions).images[: len(predictions)]
    found = randomisation_test(
        maps_of,
        engine.module,
        inputs,
        torch.from_numpy(predictions.labels).to(engine.device),
        statistics=get_statistics(("spearman", "ssim", "pearson")),
        kind=kind,
        top=settings.top,
        seed=engine.seed,
        batch_size=engine.room.most,
        progress=progress,
    )
    return replace(found, settings=settings)


def _normalises(module: nn.Module) -> bool:
    return isinstance(module, (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm))


def _nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    return torch.from_numpy(values).nanmean(dim=axis).numpy()

"""From a selection of images to the agreement of their explanations, a batch at a time.

images --> model --> maps --> scores --> summary
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement import IOU, PEARSON, STATISTICS, check_top, count_top, iou, pearson, top_pixels
from xaicmp.core.attribution import Method
from xaicmp.core.attribution.guard import unchanged
from xaicmp.core.devices import Precision, autocast
from xaicmp.core.errors import UsageError, XaicmpError
from xaicmp.core.images import (
    SAMPLE_SIZE,
    ImageSet,
    Progress,
    Selection,
    load_cifar10,
    load_sample,
    no_progress,
)
from xaicmp.core.models import Checkpoint
from xaicmp.core.summary import Summary, summarise

Pair = tuple[str, str]


@dataclass(frozen=True)
class Engine:
    """A checkpoint on a device, and how it is run.

    Attributes:
        checkpoint: the model, moved to ``device``.
        device: where it runs.
        precision: what it computes in.
        batch_size: the most images in one pass through the model.
        seed: of every random draw.
    """

    checkpoint: Checkpoint
    device: torch.device
    precision: Precision = "float32"
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        self.checkpoint.model.to(self.device)

    def inputs(self, pixels: Tensor) -> Tensor:
        """uint8 ``(N, 3, H, W)`` to the model's normalised input on its device."""
        normalised = self.checkpoint.normalise(pixels.to(self.device))
        return normalised.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Chosen:
    """The selected images and what the model says of them.

    Attributes:
        ids: int64 ``(N,)``, rows of the image set.
        labels: int64 ``(N,)``.
        predicted: int64 ``(N,)``, the class with the highest logit.
        confidence: float64 ``(N,)``, the softmax probability of that class.
    """

    ids: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def wrong(self) -> np.ndarray:
        """Bool ``(N,)``: which were taken for something else."""
        return self.predicted != self.labels

    def rows(self, rows: slice) -> Chosen:
        """A part of them."""
        return Chosen(self.ids[rows], self.labels[rows], self.predicted[rows], self.confidence[rows])


@dataclass(frozen=True)
class Explanations:
    """A batch of images with their maps.

    Attributes:
        chosen: which images, and what the model says of them.
        pixels: uint8 ``(N, 3, H, W)``.
        methods: the names of the M methods.
        maps: float32 ``(M, N, H, W)``, on the CPU.
    """

    chosen: Chosen
    pixels: Tensor
    methods: tuple[str, ...]
    maps: Tensor


@dataclass(frozen=True)
class Scores:
    """The statistics of every pair of methods, image by image.

    Attributes:
        values: by statistic and pair, float64 ``(N,)``, NaN where undefined.
        tied: by pair, bool ``(N,)``: whether the top pixels of one of the maps had to be chosen among equals.
    """

    values: dict[str, dict[Pair, np.ndarray]]
    tied: dict[Pair, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """The outcome: which images, how their explanations agree, and where it all comes from."""

    engine: Engine
    images: ImageSet
    methods: tuple[Method, ...]
    top: float
    chosen: Chosen
    scores: Scores

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two methods, in the order of ``methods``."""
        return tuple(combinations((method.name for method in self.methods), 2))

    def summary(self, statistic: str, pair: Pair) -> Summary:
        """One statistic of one pair over the images."""
        tied = self.scores.tied[pair] if statistic == IOU.name else None
        return summarise(self.scores.values[statistic][pair], tied)


def choose(
    engine: Engine, images: ImageSet, selection: Selection, progress: Progress = no_progress
) -> Chosen:
    """The images that ``selection`` means, in its order.

    With ``n``, images are classified in data-set order only until there are enough; there may be fewer.

    Raises:
        UsageError: an id beyond the data set.
        XaicmpError: the model tells other classes apart than the images have.
    """
    if engine.checkpoint.classes != images.classes:
        raise XaicmpError(
            f"checkpoint {engine.checkpoint.path} tells other classes apart than {images.name} has; "
            "use one trained on these"
        )
    if selection.ids is not None:
        if max(selection.ids) >= len(images):
            raise UsageError(
                f"--ids {max(selection.ids)}: {images.name}'s {images.split} set ends at {len(images) - 1}"
            )
        return _classify(engine, images, np.array(selection.ids), progress)
    found: list[Chosen] = []
    count, wanted = 0, selection.n or 0
    for start in range(0, len(images), engine.batch_size):
        batch = _classify(engine, images, np.arange(start, min(start + engine.batch_size, len(images))))
        right = batch.predicted == batch.labels
        keep = np.flatnonzero({"correct": right, "wrong": ~right, "all": right | ~right}[selection.only])
        keep = keep[: wanted - count]
        found.append(
            Chosen(batch.ids[keep], batch.labels[keep], batch.predicted[keep], batch.confidence[keep])
        )
        count += len(keep)
        progress("choosing images", count, wanted)
        if count == wanted:
            break
    return _join(found)


def explain(
    engine: Engine,
    images: ImageSet,
    chosen: Chosen,
    methods: Sequence[Method],
    progress: Progress = no_progress,
) -> Iterator[Explanations]:
    """Explain the predicted class of each chosen image; one batch is in memory at a time."""
    names = tuple(method.name for method in methods)
    for start in range(0, len(chosen), engine.batch_size):
        part = chosen.rows(slice(start, start + engine.batch_size))
        pixels = images.pixels[torch.from_numpy(part.ids)]
        inputs = engine.inputs(pixels)
        targets = torch.from_numpy(part.predicted).to(engine.device)
        maps = []
        for index, method in enumerate(methods):
            with autocast(engine.device, engine.precision):
                maps.append(method.explain(engine.checkpoint.model, inputs, targets).cpu())
            done = start + len(part) * (index + 1) // len(methods)
            progress("explaining", done, len(chosen))
        yield Explanations(part, pixels, names, torch.stack(maps))


def score(explanations: Explanations, top: float) -> Scores:
    """Compare the maps of every two methods."""
    tops = [top_pixels(maps, top) for maps in explanations.maps]
    values: dict[str, dict[Pair, np.ndarray]] = {statistic.name: {} for statistic in STATISTICS}
    tied = {}
    for a, b in combinations(range(len(tops)), 2):
        pair = (explanations.methods[a], explanations.methods[b])
        values[PEARSON.name][pair] = pearson(explanations.maps[a], explanations.maps[b]).numpy()
        values[IOU.name][pair] = iou(tops[a], tops[b]).numpy()
        tied[pair] = (tops[a].tied | tops[b].tied).numpy()
    return Scores(values, tied)


def compare(
    engine: Engine,
    images: ImageSet,
    chosen: Chosen,
    methods: Sequence[Method],
    *,
    top: float = 0.2,
    keep: Callable[[Explanations], None] | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Explain the chosen images with every method and compare the maps pairwise.

    Args:
        engine: the model and how it is run.
        images: what ``chosen`` was chosen from.
        chosen: which images, from ``choose`` or ``find_images``.
        methods: two or more.
        top: the share of pixels that IoU compares.
        keep: called with each batch of explanations, which are otherwise forgotten.
        progress: told how far it is.

    Raises:
        UsageError: fewer than two methods, or ``top`` outside (0, 1) or less than a pixel.
        XaicmpError: no image was chosen, or a method cannot explain this model.
    """
    check_comparable(methods, top)
    count_top(top, images.pixels[0, 0].numel())
    if len(chosen) == 0:
        raise XaicmpError("no image was chosen, so there is nothing to compare; choose others")
    scores = []
    for explanations in explain(engine, images, chosen, methods, progress):
        scores.append(score(explanations, top))
        if keep is not None:
            keep(explanations)
    return Comparison(engine, images, tuple(methods), top, chosen, _concatenate(scores))


def check_comparable(methods: Sequence[Method], top: float) -> None:
    """Raise UsageError for fewer than two methods, or a share of top pixels outside (0, 1)."""
    if len(methods) < 2:
        raise UsageError("--methods names one method; name two or more to compare")
    check_top(top)


def find_images(
    engine: Engine, selection: Selection, data: Path | None = None, progress: Progress = no_progress
) -> tuple[ImageSet, Chosen]:
    """The test images that ``selection`` means: from ``data``, else the sample if it suffices, else the cache.

    Raises:
        UsageError: an id beyond the data set.
        XaicmpError: no such image at all, or more are needed than are at hand.
    """
    if data is None and selection.fits(SAMPLE_SIZE):
        sample = load_sample()
        chosen = choose(engine, sample, selection, progress)
        if selection.ids is not None or len(chosen) == selection.n:
            return sample, chosen
    try:
        images = load_cifar10("test", data, download=data is not None, progress=progress)
    except XaicmpError as error:
        if data is not None:
            raise
        raise XaicmpError(f"this needs more than the {SAMPLE_SIZE:,} images that ship: {error}") from error
    chosen = choose(engine, images, selection, progress)
    if len(chosen) == 0:
        raise XaicmpError(f"{images.name}'s {images.split} set has no image for --only {selection.only}")
    return images, chosen


def _classify(engine: Engine, images: ImageSet, ids: np.ndarray, progress: Progress = no_progress) -> Chosen:
    predicted, confidence = [], []
    for start in range(0, len(ids), engine.batch_size):
        pixels = images.pixels[torch.from_numpy(ids[start : start + engine.batch_size])]
        with (
            unchanged(engine.checkpoint.model) as model,
            torch.inference_mode(),
            autocast(engine.device, engine.precision),
        ):
            logits = model(engine.inputs(pixels))
        best = logits.cpu().double().softmax(dim=1).max(dim=1)
        predicted.append(best.indices.numpy())
        confidence.append(best.values.numpy())
        progress("choosing images", start + len(pixels), len(ids))
    return Chosen(ids, images.labels.numpy()[ids], np.concatenate(predicted), np.concatenate(confidence))


def _join(parts: Sequence[Chosen]) -> Chosen:
    return Chosen(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Chosen.__dataclass_fields__)
    )


def _concatenate(parts: Sequence[Scores]) -> Scores:
    first = parts[0]
    values = {
        name: {pair: np.concatenate([part.values[name][pair] for part in parts]) for pair in pairs}
        for name, pairs in first.values.items()
    }
    return Scores(values, {pair: np.concatenate([part.tied[pair] for part in parts]) for pair in first.tied})

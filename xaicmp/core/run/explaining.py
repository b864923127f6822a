"""From a selection of images to their explanations, one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.attribution import Method
from xaicmp.core.attribution.context import Context, Forward
from xaicmp.core.images.cifar10 import SAMPLE_SIZE, load_cifar10, load_sample
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSet
from xaicmp.core.machine.devices import autocast
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.models.guard import unchanged
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.run.engine import Engine, cam_layer, context_of
from xaicmp.core.run.journal import Journal
from xaicmp.errors import UsageError, XaicmpError

EXPLAINING = "explaining"

Tell = Callable[[int, int, int], None]

"""Told the index of a method, and how much of how much of its work is done."""


def choose(
    engine: Engine,
    images: ImageSet,
    selection: Selection,
    progress: Progress = no_progress,
    *,
    target: str = "predicted",
) -> Predictions:
    """The images that ``selection`` means, in its order.

    ``target`` is the class that is explained: ``"predicted"``, ``"label"``, or the name of a class. With ``n``,
    images are classified in data-set order only until there are enough; there may be fewer.

    Raises:
        UsageError: an id beyond the data set, or an unknown target.
        XaicmpError: the model tells other classes apart than the images have.
    """
    _check(engine, images, selection, target)
    if selection.ids is not None:
        return _classify(engine, images, np.array(selection.ids), target, progress)
    found: list[Predictions] = []
    count, wanted = 0, selection.count
    for start in range(0, len(images), engine.batch_size):
        rows = np.arange(start, min(start + engine.batch_size, len(images)))
        batch = _classify(engine, images, rows, target)
        found.append(batch.rows(_admitted(batch, selection)[: wanted - count]))
        count += len(found[-1])
        progress("choosing images", count, wanted)
        if count == wanted:
            break
    return Predictions.join(found)


def explain(
    engine: Engine,
    images: ImageSet,
    chosen: Predictions,
    methods: Sequence[Method],
    progress: Progress = no_progress,
) -> Iterator[Explanations]:
    """Explain the target of each chosen image; one batch is in memory at a time."""
    layer = engine.layer

    def explained(part: Predictions, pixels: Tensor, tell: Tell, rows: slice) -> Explanations:
        context = context_of(engine, engine.inputs(pixels[rows]), part.rows(rows), layer)
        return _explained(engine, context, part.rows(rows), pixels[rows], methods, tell)

    for start in range(0, len(chosen), engine.batch_size):
        part = chosen.rows(slice(start, start + engine.batch_size))
        pixels = images.pixels[torch.from_numpy(part.ids)]
        layer = layer or cam_layer(engine, engine.inputs(pixels[:2]), methods)
        tell = partial(_report, progress, start, len(part) / len(methods), len(chosen))
        yield Explanations.join(engine.room.run(partial(explained, part, pixels, tell), len(part)))


def explain_selection(
    engine: Engine,
    selection: Selection,
    methods: Sequence[Method],
    *,
    data: Path | ImageSet | None = None,
    target: str = "predicted",
    journal: Journal | None = None,
    processes: Processes = ALONE,
    progress: Progress = no_progress,
) -> Iterator[tuple[ImageSet, Explanations]]:
    """Choose and explain in one: the pass that says which images are meant is the one that explains them.

    ``data`` is where the images are, or an image set; without it, see ``find_images``.
    Several processes take batches of candidates in turn, and each gets the explanations of all, in order.
    ``journal``, which rank 0 alone has, is read as far as it goes and written from there on.

    Yields:
        the image set (the sample in the package, until it ends) and a batch of explanations.

    Raises:
        UsageError: an id beyond the data set, or an unknown target; a journal of other images.
        XaicmpError: no such image at all, or more are needed than are at hand.
    """
    layer, wanted, count, number = engine.layer, selection.count, 0, 0
    candidates = _candidates(engine, selection, data, target, progress)

    def explained(images: ImageSet, every_id: np.ndarray, some: slice) -> Explanations:
        """What the selection admits of some of a batch of candidates."""
        nonlocal layer
        ids = every_id[some]
        pixels = images.pixels[torch.from_numpy(ids)]
        inputs = engine.inputs(pixels)
        layer = layer or cam_layer(engine, inputs, methods)
        with autocast(engine.device, engine.precision):
            forward = Forward(engine.model, inputs, layer, precise=engine.fast)
        every = _judged(images, ids, forward.logits, target)
        rows = _admitted(every, selection)[: wanted - count]
        part, at = every.rows(rows), torch.from_numpy(rows).to(engine.device)
        if len(rows) == 0:
            names = tuple(each.name for each in methods)
            return Explanations(part, pixels[:0], names, torch.empty(len(names), 0, *pixels.shape[2:]))
        context = context_of(engine, inputs[at], part, layer, forward=forward, rows=at)
        share = len(part) * processes.world / len(methods)
        tell = partial(_report, progress, count, share, wanted)
        return _explained(engine, context, part, pixels[torch.from_numpy(rows)], methods, tell)

    def batch(images: ImageSet, ids: np.ndarray) -> Explanations:
        return Explanations.join(engine.room.run(partial(explained, images, ids), len(ids)))

    behind = processes.share(lambda: 0 if journal is None else journal.found)
    while count < wanted and (turn := list(islice(candidates, 1 if number < behind else processes.world))):
        if number < behind:
            parts = [processes.share(partial(_kept, journal, number, *turn[0], methods))]
        else:
            own = turn[processes.rank : processes.rank + 1]
            found = processes.gather(partial(lambda own: [batch(*each) for each in own], own))
            parts = [part for each in found for part in each]
        for (images, ids), part in zip(turn, parts, strict=True):
            part = part.rows(slice(0, wanted - count))
            if journal is not None and number >= behind:
                journal.write(number, images.pixels[torch.from_numpy(ids)], part)
            count, number = count + len(part.predictions), number + 1
            if len(part.predictions):
                yield images, part
        progress(EXPLAINING, count, wanted)
    if count == 0:
        raise XaicmpError(f"{images.name}'s {images.split} set has no image for --only {selection.only}")


def _kept(
    journal: Journal | None, number: int, images: ImageSet, ids: np.ndarray, methods: Sequence[Method]
) -> Explanations:
    assert journal is not None  # for rank 0 alone reads
    return journal.read(number, images, ids, [each.name for each in methods])


def _candidates(
    engine: Engine,
    selection: Selection,
    data: Path | ImageSet | None,
    target: str,
    progress: Progress,
) -> Iterator[tuple[ImageSet, np.ndarray]]:
    """Batches of rows among which the selection's images are: of the sample first, if that may do."""
    start = 0
    if data is None and selection.fits(SAMPLE_SIZE):
        sample = load_sample()
        _check(engine, sample, selection, target)
        yield from ((sample, ids) for ids in _batches(engine, sample, selection, 0))
        if selection.ids is not None:
            return
        start = len(sample)
    images = _load(data, progress)
    _check(engine, images, selection, target)
    yield from ((images, ids) for ids in _batches(engine, images, selection, start))


def _batches(engine: Engine, images: ImageSet, selection: Selection, start: int) -> list[np.ndarray]:
    """The rows from ``start`` that may be meant, in batches no larger than it takes if most are right."""
    rows, size = np.array(selection.ids), engine.batch_size
    if selection.ids is None:
        rows = np.arange(start, len(images))
        if selection.n is not None and selection.only != "wrong":
            size = min(size, selection.n + selection.n // 8 + 1)
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _explained(
    engine: Engine,
    context: Context,
    part: Predictions,
    pixels: Tensor,
    methods: Sequence[Method],
    tell: Tell,
) -> Explanations:
    """The maps of one batch by every method."""
    maps, gaps, grids = [], {}, {}
    for index, method in enumerate(methods):
        context.report = partial(tell, index)
        with autocast(engine.device, engine.precision):
            explanation = method.explain_in(context)
        maps.append(explanation.maps.cpu())
        if explanation.completeness is not None:
            gaps[method.name] = explanation.completeness.cpu().numpy()
        if method.needs_layer and explanation.single and context.at_layer.activations is not None:
            height, width = context.at_layer.activations.shape[2:]
            grids[method.name] = (int(height), int(width))
        tell(index, 1, 1)
    return Explanations(part, pixels, tuple(each.name for each in methods), torch.stack(maps), gaps, grids)


def _report(
    progress: Progress, before: int, share: float, whole: int, index: int, done: int, total: int
) -> None:
    """Tell ``progress`` that ``done`` of ``total`` are done of the method ``index``, each worth ``share`` images."""
    progress(EXPLAINING, int(before + share * (index + done / total) + 1e-9), whole)


def find_images(
    engine: Engine,
    selection: Selection,
    data: Path | None = None,
    progress: Progress = no_progress,
    *,
    target: str = "predicted",
) -> tuple[ImageSet, Predictions]:
    """The test images that ``selection`` means: from ``data``, else the sample if it suffices, else the cache.

    Raises:
        UsageError: an id beyond the data set, or an unknown target.
        XaicmpError: no such image at all, or more are needed than are at hand.
    """
    if data is None and selection.fits(SAMPLE_SIZE):
        sample = load_sample()
        chosen = choose(engine, sample, selection, progress, target=target)
        if selection.ids is not None or len(chosen) == selection.n:
            return sample, chosen
    images = _load(data, progress)
    chosen = choose(engine, images, selection, progress, target=target)
    if len(chosen) == 0:
        raise XaicmpError(f"{images.name}'s {images.split} set has no image for --only {selection.only}")
    return images, chosen


def _load(data: Path | ImageSet | None, progress: Progress) -> ImageSet:
    """The whole test set: ``data`` itself, or from there or the cache."""
    if isinstance(data, ImageSet):
        return data
    try:
        return load_cifar10("test", data, download=data is not None, progress=progress)
    except XaicmpError as error:
        if data is not None:
            raise
        raise XaicmpError(f"this needs more than the {SAMPLE_SIZE:,} images that ship: {error}") from error


def _check(engine: Engine, images: ImageSet, selection: Selection, target: str) -> None:
    """Raise XaicmpError or UsageError unless the images, the model and what is asked for go together."""
    if engine.checkpoint.classes != images.classes:
        raise XaicmpError(
            f"checkpoint {engine.checkpoint.path} tells other classes apart than {images.name} has; "
            "use one trained on these"
        )
    if target not in ("predicted", "label", *images.classes):
        raise UsageError(
            f"--target {target}: no such class; choose predicted, label, {', '.join(images.classes)}"
        )
    if selection.ids is not None and max(selection.ids) >= len(images):
        raise UsageError(
            f"--ids {max(selection.ids)}: {images.name}'s {images.split} set ends at {len(images) - 1}"
        )


def _admitted(batch: Predictions, selection: Selection) -> np.ndarray:
    """The rows of a batch that ``selection`` admits, in order: all, where it names them."""
    if selection.ids is not None:
        return np.arange(len(batch))
    wrong = batch.wrong
    return np.flatnonzero({"correct": ~wrong, "wrong": wrong, "all": wrong | ~wrong}[selection.only])


def _classify(
    engine: Engine, images: ImageSet, ids: np.ndarray, target: str, progress: Progress = no_progress
) -> Predictions:
    def classified(rows: slice) -> Predictions:
        batch = ids[rows]
        pixels = images.pixels[torch.from_numpy(batch)]
        with (
            unchanged(engine.model) as model,
            torch.inference_mode(),
            autocast(engine.device, engine.precision),
        ):
            logits = model(engine.inputs(pixels))
        progress("choosing images", rows.start + len(pixels), len(ids))
        return _judged(images, batch, logits, target)

    return Predictions.join(engine.room.run(classified, len(ids)))


def _judged(images: ImageSet, ids: np.ndarray, logits: Tensor, target: str) -> Predictions:
    """What the logits ``(N, classes)`` say of the images ``ids``."""
    highest = logits.cpu().double().softmax(dim=1).max(dim=1)
    labels, predicted = images.labels.numpy()[ids], highest.indices.numpy()
    targets = {"predicted": predicted, "label": labels}.get(target)
    if targets is None:
        targets = np.full(len(ids), images.classes.index(target))
    return Predictions(ids, labels, predicted, highest.values.numpy(), targets)

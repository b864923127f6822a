"""From a selection of images to the agreement of their explanations, a batch at a time.

images --> model --> maps --> scores --> summary
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xaicmp.core.agreement import check_top
from xaicmp.core.attribution import Method
from xaicmp.core.attribution.context import Context, Forward
from xaicmp.core.attribution.guard import unchanged
from xaicmp.core.attribution.layers import find_layer, last_maps
from xaicmp.core.comparison import Chosen, Comparison, Explanations, Measures, Scores, Source
from xaicmp.core.devices import Precision, autocast, fast_batch
from xaicmp.core.distributed import ALONE, Processes
from xaicmp.core.errors import UsageError, XaicmpError
from xaicmp.core.fusion import fuse
from xaicmp.core.images import (
    SAMPLE_SIZE,
    ImageSet,
    Progress,
    Selection,
    load_cifar10,
    load_sample,
    no_progress,
)
from xaicmp.core.journal import Journal
from xaicmp.core.memory import Room, trim
from xaicmp.core.models import Checkpoint
from xaicmp.core.scoring import BLOCK, score

DEFAULT = Measures()
FAST = {"steps": 8, "rule": "middle", "end": 1 / 32}
"""What ``get_methods`` takes for IG to come near its 32 right steps with a quarter of them."""
EXPLAINING = "explaining"
Tell = Callable[[int, int, int], None]
"""Told the index of a method, and how much of how much of its work is done."""


@dataclass(frozen=True)
class Engine:
    """A checkpoint on a device, and how it is run.

    Attributes:
        checkpoint: the model, moved to ``device``.
        device: where it runs.
        precision: what it computes in.
        batch_size: the most images in one pass through the model; 0 for what is fast on the device.
        seed: of every random draw.
        layer: the name of the layer whose maps the CAMs weigh; None for the last with more than a pixel.
        fast: whether the methods were asked to be quick rather than exact, with ``FAST``; the pass that they share
            is then in float32 all the same, and the caption says that the numbers are approximate.
        remark: told what the user should know.
    """

    checkpoint: Checkpoint
    device: torch.device
    precision: Precision = "float32"
    batch_size: int = 0
    seed: int = 0
    layer: str | None = None
    fast: bool = False
    remark: Callable[[str], None] = lambda message: None

    def __post_init__(self) -> None:
        self.checkpoint.model.to(self.device)
        if not self.batch_size:
            object.__setattr__(self, "batch_size", fast_batch(self.device))

    @cached_property
    def room(self) -> Room:
        """For how many images there is memory at once: ``batch_size`` unless that turns out to be too many."""
        return Room(self.batch_size, self.remark)

    @cached_property
    def model(self) -> nn.Module:
        """The checkpoint's model with its batch normalisations merged: what is run, a tenth faster.

        The CAMs' layer puts out what it does in the checkpoint's model.
        """
        example = self.inputs(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
        layer = self.layer or last_maps(self.checkpoint.model, example)[0]
        return fuse(self.checkpoint.model, example, [] if layer is None else [layer])

    def inputs(self, pixels: Tensor) -> Tensor:
        """uint8 ``(N, 3, H, W)`` to the model's normalised input on its device."""
        normalised = self.checkpoint.normalise(pixels.to(self.device))
        return normalised.contiguous(memory_format=torch.channels_last)


def choose(
    engine: Engine,
    images: ImageSet,
    selection: Selection,
    progress: Progress = no_progress,
    *,
    target: str = "predicted",
) -> Chosen:
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
    found: list[Chosen] = []
    count, wanted = 0, selection.count
    for start in range(0, len(images), engine.batch_size):
        rows = np.arange(start, min(start + engine.batch_size, len(images)))
        batch = _classify(engine, images, rows, target)
        found.append(batch.rows(_admitted(batch, selection)[: wanted - count]))
        count += len(found[-1])
        progress("choosing images", count, wanted)
        if count == wanted:
            break
    return Chosen.join(found)


def explain(
    engine: Engine,
    images: ImageSet,
    chosen: Chosen,
    methods: Sequence[Method],
    progress: Progress = no_progress,
) -> Iterator[Explanations]:
    """Explain the target of each chosen image; one batch is in memory at a time."""
    layer = engine.layer

    def explained(part: Chosen, pixels: Tensor, tell: Tell, rows: slice) -> Explanations:
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
            count, number = count + len(part.chosen), number + 1
            if len(part.chosen):
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


def cam_layer(engine: Engine, inputs: Tensor, methods: Sequence[Method]) -> str | None:
    """The CAMs' layer, if there is one among the methods."""
    if not any(each.family == "cam" for each in methods):
        return None
    return find_layer(engine.checkpoint.model, inputs[:2])


def _explained(
    engine: Engine,
    context: Context,
    part: Chosen,
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
        if method.family == "cam" and explanation.single and context.at_layer.activations is not None:
            height, width = context.at_layer.activations.shape[2:]
            grids[method.name] = (int(height), int(width))
        tell(index, 1, 1)
    return Explanations(part, pixels, tuple(each.name for each in methods), torch.stack(maps), gaps, grids)


def _report(
    progress: Progress, before: int, share: float, whole: int, index: int, done: int, total: int
) -> None:
    """Tell ``progress`` that ``done`` of ``total`` are done of the method ``index``, each worth ``share`` images."""
    progress(EXPLAINING, int(before + share * (index + done / total) + 1e-9), whole)


def context_of(
    engine: Engine,
    inputs: Tensor,
    part: Chosen,
    layer: str | None,
    *,
    forward: Forward | None = None,
    rows: Tensor | None = None,
) -> Context:
    """A batch of the chosen images at the model, ready to be explained."""
    checkpoint = engine.checkpoint
    return Context(
        engine.model,
        inputs,
        torch.from_numpy(part.targets).to(engine.device),
        ids=part.ids,
        seed=engine.seed,
        layer=layer,
        batch_size=engine.room.most,
        mean=checkpoint.mean,
        std=checkpoint.std,
        original=checkpoint.model,
        precise=engine.fast,
        forward=forward,
        rows=rows,
    )


def compare(
    engine: Engine,
    images: ImageSet,
    chosen: Chosen,
    methods: Sequence[Method],
    measures: Measures = DEFAULT,
    *,
    keep: Callable[[Explanations], None] | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Explain the chosen images with every method and compare the maps pairwise.

    Args:
        engine: the model and how it is run.
        images: what ``chosen`` was chosen from.
        chosen: which images, from ``choose`` or ``find_images``.
        methods: two or more.
        measures: what is measured.
        keep: called with each batch of explanations, which are otherwise forgotten.
        progress: told how far it is.

    Raises:
        UsageError: fewer than two methods, or a share of top pixels outside (0, 1) or less than a pixel.
        XaicmpError: no image was chosen, or a method cannot explain this model.
    """
    check_comparable(methods, measures.top)
    measures.check(images.pixels[0, 0].numel())
    if len(chosen) == 0:
        raise XaicmpError("no image was chosen, so there is nothing to compare; choose others")
    stream = ((images, each) for each in explain(engine, images, chosen, methods, progress))
    return _compared(engine, stream, methods, measures, keep)[1]


def compare_selection(
    engine: Engine,
    selection: Selection,
    methods: Sequence[Method],
    measures: Measures = DEFAULT,
    *,
    data: Path | ImageSet | None = None,
    target: str = "predicted",
    keep: Callable[[Explanations], None] | None = None,
    journal: Journal | None = None,
    processes: Processes = ALONE,
    progress: Progress = no_progress,
) -> tuple[ImageSet, Comparison]:
    """Choose, explain and compare in one, see ``explain_selection`` and ``compare``; the image set comes along."""
    check_comparable(methods, measures.top)
    stream = explain_selection(
        engine,
        selection,
        methods,
        data=data,
        target=target,
        journal=journal,
        processes=processes,
        progress=progress,
    )
    return _compared(engine, stream, methods, measures, keep, processes)


def _compared(
    engine: Engine,
    stream: Iterator[tuple[ImageSet, Explanations]],
    methods: Sequence[Method],
    measures: Measures,
    keep: Callable[[Explanations], None] | None,
    processes: Processes = ALONE,
) -> tuple[ImageSet, Comparison]:
    """Score the stream, a block at a time; of several processes, which all see all of it, each in its turn."""
    scores: list[Scores | None] = []
    parts: list[Chosen] = []
    block: list[Explanations] = []

    def finish() -> None:
        mine = len(scores) % processes.world == processes.rank
        scores.append(score(_merged(block), measures) if mine else None)
        block.clear()
        trim()

    for images, explanations in stream:
        pixels = images.pixels[0, 0].numel()
        if not parts:
            measures.check(pixels)
        if keep is not None:
            keep(explanations)
        parts.append(explanations.chosen)
        explanations = replace(explanations, pixels=explanations.pixels.new_empty(0))
        while len(explanations.chosen):  # so that a block does not depend on the batch size
            room = BLOCK - sum(len(each.chosen) for each in block)
            block.append(explanations.rows(slice(0, room)))
            explanations = explanations.rows(slice(room, None))
            if len(block[-1].chosen) == room:
                finish()
    if block:
        finish()
    chosen = Chosen.join(parts)
    of_all = zip(*processes.gather(lambda: scores), strict=True)
    return images, Comparison(
        _source(engine, images, chosen, methods),
        {method.name: method.title for method in methods},
        frozenset(method.name for method in methods if method.family == "floor"),
        measures,
        pixels,
        chosen,
        Scores.join([next(filter(None, each)) for each in of_all]),
    )


def _merged(parts: list[Explanations]) -> Explanations:
    """All of ``parts`` in one; these are let go, so that their maps are not held twice."""
    whole = Explanations.join(parts)
    parts.clear()
    return whole


def _source(engine: Engine, images: ImageSet, chosen: Chosen, methods: Sequence[Method]) -> Source:
    """Which checkpoint, how accurate, on which images, explained how."""
    checkpoint = engine.checkpoint
    accuracy = checkpoint.test_accuracy
    known = "unknown test accuracy" if accuracy is None else f"test accuracy {100 * accuracy:.2f}%"
    where = "sample in the package" if images.sample else f"{images.split} set"
    verified = "" if images.verified else ", checksums not the official ones"
    wrong = int(chosen.wrong.sum())
    marked = f", {wrong} of them classified wrongly" if wrong else ""
    name = f"{checkpoint.path.name}, shipped with xaicmp" if checkpoint.shipped else checkpoint.path
    fast = " Approximate: --fast." if engine.fast else ""
    return Source(
        f"Checkpoint {name} ({known}); {images.name} {where}{verified}{marked}.{fast}",
        {
            "checkpoint": {
                "path": str(checkpoint.path),
                "sha256": checkpoint.sha256,
                "architecture": checkpoint.architecture,
                "test_accuracy": accuracy,
            },
            "data": {
                "name": images.name,
                "split": images.split,
                "verified": images.verified,
                "sample": images.sample,
            },
            "options": {method.name: {"reduce": method.reduction} | method.options for method in methods},
            "layer": engine.layer,
            "seed": engine.seed,
            "device": str(engine.device),
            "precision": engine.precision,
            "fast": engine.fast,
            "batch_size": engine.batch_size,
        },
        images.classes,
    )


def plan_of(
    engine: Engine, selection: Selection, methods: Sequence[Method], target: str = "predicted"
) -> dict[str, Any]:
    """What determines the explanations of a selection, as plain values; the images themselves aside."""
    return {
        "xaicmp": version("xaicmp"),
        "checkpoint": engine.checkpoint.sha256,
        **asdict(selection),
        "methods": {each.name: f"{each.reduction} {each.options}" for each in methods},
        "target": target,
        "layer": engine.layer,
        "seed": engine.seed,
        "device": engine.device.type,
        "precision": engine.precision,
        "batch_size": engine.batch_size,
    }


def check_comparable(methods: Sequence[Method], top: float) -> None:
    """Raise UsageError for fewer than two methods, or a share of top pixels outside (0, 1)."""
    if len(methods) < 2:
        raise UsageError("--methods names one method; name two or more to compare")
    check_top(top)


def find_images(
    engine: Engine,
    selection: Selection,
    data: Path | None = None,
    progress: Progress = no_progress,
    *,
    target: str = "predicted",
) -> tuple[ImageSet, Chosen]:
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


def _admitted(batch: Chosen, selection: Selection) -> np.ndarray:
    """The rows of a batch that ``selection`` admits, in order: all, where it names them."""
    if selection.ids is not None:
        return np.arange(len(batch))
    wrong = batch.wrong
    return np.flatnonzero({"correct": ~wrong, "wrong": wrong, "all": wrong | ~wrong}[selection.only])


def _classify(
    engine: Engine, images: ImageSet, ids: np.ndarray, target: str, progress: Progress = no_progress
) -> Chosen:
    def classified(rows: slice) -> Chosen:
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

    return Chosen.join(engine.room.run(classified, len(ids)))


def _judged(images: ImageSet, ids: np.ndarray, logits: Tensor, target: str) -> Chosen:
    """What the logits ``(N, classes)`` say of the images ``ids``."""
    highest = logits.cpu().double().softmax(dim=1).max(dim=1)
    labels, predicted = images.labels.numpy()[ids], highest.indices.numpy()
    targets = {"predicted": predicted, "label": labels}.get(target)
    if targets is None:
        targets = np.full(len(ids), images.classes.index(target))
    return Chosen(ids, labels, predicted, highest.values.numpy(), targets)

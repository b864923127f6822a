"""From a batch of images to their explanations: the pass that says which are meant is the one that explains them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.attribution import Method
from xaicmp.core.attribution.context import Context, Forward
from xaicmp.core.images.classes import labels_of
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.devices import autocast
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.repeats import unseen
from xaicmp.errors import UsageError, XaicmpError, arg

EXPLAINING = "explaining"
Target = str | int | np.ndarray
"""The class that is explained: ``"predicted"``, ``"label"``, the name or the index of a class, or one index per image."""
Tell = Callable[[float], None]
"""Told the share of the work on a batch that is done."""
Change = Callable[[Tensor, np.ndarray], Tensor]
Once = Callable[[str, Predictions, Tensor, Callable[[], Explanations]], Explanations]
"""Has a method's explanations of some images, or has them made; see ``Journal.once``."""


def made_anew(
    method: str, part: Predictions, pixels: Tensor, make: Callable[[], Explanations]
) -> Explanations:
    """Make them, where nothing is kept: a ``Once``."""
    return make()


@dataclass(frozen=True)
class Batch:
    """Some images on their way through the model.

    Attributes:
        images: what they are of.
        ids: int64 ``(B,)``.
        pixels: uint8 ``(B, 3, H, W)``.
        normalised: the same as the model's input, where the images were given so.
    """

    images: ImageSource
    ids: np.ndarray
    pixels: Tensor
    normalised: Tensor | None

    @staticmethod
    def read(images: ImageSource, ids: np.ndarray) -> Batch:
        """The images ``ids``."""
        return Batch(images, ids, images.pixels(ids), images.normalised(ids))

    @staticmethod
    def readable(images: ImageSource, ids: np.ndarray) -> tuple[Batch, dict[int, str]]:
        """Those of the images ``ids`` that can be read, and by id why others cannot."""
        ids, pixels, reasons = images.readable(ids)
        return Batch(images, ids, pixels, images.normalised(ids)), reasons

    def rows(self, rows: slice) -> Batch:
        """A part of them."""
        normalised = None if self.normalised is None else self.normalised[rows]
        return Batch(self.images, self.ids[rows], self.pixels[rows], normalised)


class Explainer:
    """What explains batches: an engine, methods, and the class that is asked about.

    Args:
        engine: the classifier and how it is run.
        methods: one or more.
        target: which class is explained.
        other_classes: whether the same images are explained for two other classes too, see ``other_classes``.

    Attributes:
        skipped: by id, why an image cannot be read.
    """

    def __init__(
        self,
        engine: Engine,
        methods: Sequence[Method],
        target: Target = "predicted",
        other_classes: bool = False,
    ) -> None:
        self.engine, self.methods = engine, tuple(methods)
        index = isinstance(target, str) and target.isdecimal() and target not in engine.classifier.classes
        self.target: Target = int(target) if index else target
        self.other_classes = other_classes
        self.skipped: dict[int, str] = {}
        self._layer: str | None = None
        self._costs = [each.passes for each in self.methods]  # from the first batch on, what it took

    def admitted(
        self,
        batch: Batch,
        selection: Selection,
        most: int,
        seen: Collection[bytes],
        tell: Callable[[int, int], Tell],
        once: Once,
    ) -> Explanations:
        """Explain those of a batch of candidates that ``selection`` admits, the first ``most`` of them.

        What comes again within the batch may be explained again, where memory takes the batch in parts.

        Args:
            batch: the candidates.
            selection: which of them are meant.
            most: how many are still wanted.
            seen: digests of those that came before, which are left out; see ``unseen``.
            tell: makes what is told of progress, given how many images are behind, and how many are explained at once.
            once: has what is explained already.
        """

        def work(some: slice) -> Explanations:
            part = batch.rows(some)
            inputs = self._inputs(part)
            layer = self._layer
            with autocast(self.engine.device, self.engine.precision):
                forward = Forward(self.engine.model(inputs), inputs, layer, precise=self.engine.fast)
            every = self._judged(part, forward.logits)
            rows = _admitted(every, selection)
            given = part.pixels if part.normalised is None else part.normalised
            new, others = unseen(given[torch.from_numpy(rows)], every.targets[rows], seen, most)
            excluded = tuple(every.ids[np.isnan(every.confidence)].tolist())
            repeated = tuple(every.ids[rows[others]].tolist())
            rows = rows[list(new.values())]
            pixels, at = part.pixels[torch.from_numpy(rows)], torch.from_numpy(rows).to(inputs.device)
            if len(rows) == 0:
                return replace(self._none(every.rows(rows), pixels), excluded=excluded, repeated=repeated)
            context = self._context(inputs[at], every.rows(rows), forward=forward, rows=at)
            found = self._of_classes(context, every.rows(rows), pixels, tell(some.start, len(rows)), once)
            return replace(found, excluded=excluded, repeated=repeated)

        if len(batch.ids) == 0:
            nothing = np.empty(0, dtype=np.int64)
            return self._none(Predictions(nothing, nothing, nothing, np.empty(0), nothing), batch.pixels)
        return Explanations.join(self.engine.room.run(work, len(batch.ids)))

    def again(
        self,
        images: ImageSource,
        predictions: Predictions,
        progress: Progress = no_progress,
        change: Change = lambda inputs, ids: inputs,
    ) -> Iterator[Explanations]:
        """Explain images that are chosen already, for the targets that stand in ``predictions``, batch by batch.

        ``change`` makes of the model's inputs ``(B, 3, H, W)``, of the images with these ids, what is explained.
        """
        if len(predictions) == 0:
            return
        size = settled(self.engine, images, predictions.ids)
        for start in range(0, len(predictions), size):
            part = predictions.rows(slice(start, start + size))
            batch = Batch.read(images, part.ids)
            progress(EXPLAINING, start, len(predictions))

            def work(
                some: slice, batch: Batch = batch, part: Predictions = part, start: int = start
            ) -> Explanations:
                own = part.ids[some]
                tell = partial(report_part, progress, start + some.start, len(own), len(predictions))
                context = self._context(change(self._inputs(batch.rows(some)), own), part.rows(some))
                return self._of_classes(context, part.rows(some), batch.pixels[some], tell)

            yield Explanations.join(self.engine.room.run(work, len(part)))

    def context(self, images: ImageSource, predictions: Predictions) -> Context:
        """Images that are chosen already at the model, ready to be explained."""
        return self._context(self._inputs(Batch.read(images, predictions.ids)), predictions)

    def _inputs(self, batch: Batch) -> Tensor:
        inputs = self.engine.inputs(batch.pixels, batch.normalised)
        self.engine.settle(inputs)
        if self._layer is None:
            self._layer = self.engine.cam_layer(inputs, self.methods)
        return inputs

    def _context(
        self, inputs: Tensor, part: Predictions, *, forward: Forward | None = None, rows: Tensor | None = None
    ) -> Context:
        engine = self.engine
        return Context(
            engine.model(inputs),
            inputs,
            torch.from_numpy(part.targets).to(engine.device),
            ids=part.ids,
            seed=engine.seed,
            layer=self._layer,
            batch_size=engine.room.most,
            mean=engine.classifier.mean,
            std=engine.classifier.std,
            original=engine.module,
            precise=engine.fast,
            forward=forward,
            rows=rows,
        )

    def _of_classes(
        self, context: Context, part: Predictions, pixels: Tensor, tell: Tell, once: Once = made_anew
    ) -> Explanations:
        """The maps of one batch by every method, and those for other classes, if they are wanted."""
        if not self.other_classes:
            return self._explained(context, part, pixels, tell, once)
        forward = context.forward
        logits = context.at_input.logits[: len(part)] if forward is None else forward.logits[context.rows]
        thirds = [partial(_tell_part, tell, before / 3, 1 / 3, total=1) for before in range(3)]
        own = self._explained(context, part, pixels, thirds[0], once)
        if logits.shape[1] < 2:
            return replace(own, other_maps=torch.full_like(torch.stack([own.maps] * 2), torch.nan))
        others, every = [], other_classes(logits, part, self.engine.seed)
        for third, targets in zip(thirds[1:], every, strict=True):
            other = replace(part, targets=targets)
            at = self._context(context.images[: context.count], other)
            others.append(self._explained(at, other, pixels, third, once).maps)
        return replace(own, other_maps=torch.stack(others), other_targets=every)

    def _explained(
        self, context: Context, part: Predictions, pixels: Tensor, tell: Tell, once: Once
    ) -> Explanations:
        """The maps of one batch by every method."""
        found, seconds = [], []

        def make(method: Method) -> Explanations:
            started, gaps, grids = perf_counter(), {}, {}
            with autocast(self.engine.device, self.engine.precision):
                explanation = method.explain_in(context)
            if explanation.completeness is not None:
                gaps[method.name] = explanation.completeness.cpu().numpy()
            if method.needs_layer and explanation.single and context.at_layer.activations is not None:
                height, width = context.at_layer.activations.shape[2:]
                grids[method.name] = (int(height), int(width))
            maps = explanation.maps.cpu()[None]
            seconds.append(perf_counter() - started)
            return Explanations(part, pixels, (method.name,), maps, gaps, grids)

        ends = list(accumulate(self._costs))
        for method, cost, end in zip(self.methods, self._costs, ends, strict=True):
            context.report = partial(_tell_part, tell, (end - cost) / ends[-1], cost / ends[-1])
            found.append(once(method.name, part, pixels, partial(make, method)))
            tell(end / ends[-1])
        if len(seconds) == len(found):  # otherwise some were kept, and cost nothing
            self._costs = seconds
        names = tuple(each.name for each in self.methods)
        gaps = {name: gap for each in found for name, gap in each.completeness.items()}
        grids = {name: grid for each in found for name, grid in each.grids.items()}
        return Explanations(part, pixels, names, torch.cat([each.maps for each in found]), gaps, grids)

    def _none(self, part: Predictions, pixels: Tensor) -> Explanations:
        names = tuple(each.name for each in self.methods)
        return Explanations(part, pixels, names, torch.empty(len(names), 0, *pixels.shape[2:]))

    def _judged(self, batch: Batch, logits: Tensor) -> Predictions:
        """What the logits ``(N, C)`` say of the images; the confidence is NaN where they are not finite."""
        if logits.ndim != 2:
            raise XaicmpError(
                f"the model puts out {tuple(logits.shape)}; it needs logits (N, C), one row per image"
            )
        names = self.engine.classifier.classes
        if names and len(names) != logits.shape[1]:
            raise UsageError(
                f"the model has {logits.shape[1]:,} classes, and {len(names):,} names were given; "
                f"give one name for each with {arg('classes')}"
            )
        highest = logits.cpu().double().softmax(dim=1).max(dim=1)
        predicted, labels = highest.indices.numpy(), labels_of(batch.images, batch.ids, names)
        if not batch.images.classes and labels.max(initial=-1) >= logits.shape[1]:
            raise UsageError(
                f"label {labels.max()}: the model has {logits.shape[1]:,} classes, counted from 0; give others"
            )
        targets = self._targets(batch.ids, labels, predicted, logits.shape[1])
        confidence = highest.values.masked_fill(~logits.isfinite().all(dim=1).cpu(), torch.nan)
        return Predictions(batch.ids, labels, predicted, confidence.numpy(), targets)

    def _targets(self, ids: np.ndarray, labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
        target, classes = self.target, self.engine.classifier.classes
        if isinstance(target, str):
            if target in ("predicted", "label"):
                return predicted if target == "predicted" else labels
            target = classes.index(target)
        targets = target[ids] if isinstance(target, np.ndarray) else np.full(len(ids), target)
        wrong = targets[(targets < 0) | (targets >= count)]
        if len(wrong):
            raise UsageError(
                f"{arg('target')} {wrong[0]}: the model has {count} classes, counted from 0; give another"
            )
        return targets.astype(np.int64)


def other_classes(logits: Tensor, predictions: Predictions, seed: int) -> np.ndarray:
    """For each image another class than its target: a drawn one, and the runner-up, with the highest other logit.

    What is drawn depends on the seed and the image's id, and not on the other images.

    Args:
        logits: ``(N, C)``, of two classes or more.
        predictions: which images, and their targets.
        seed: of the draws.

    Returns:
        int64 ``(2, N)``.
    """
    targets, count = predictions.targets, logits.shape[1]
    rngs = (np.random.default_rng([seed, int(each), count]) for each in predictions.ids)
    drawn = np.array([rng.integers(count - 1) for rng in rngs])
    others = logits.double().cpu().numpy()
    others[np.arange(len(others)), targets] = -np.inf
    return np.stack([drawn + (drawn >= targets), others.argmax(axis=1)])


def settled(engine: Engine, images: ImageSource, ids: np.ndarray) -> int:
    """The batch size for such images as the first of ``ids``."""
    given = images.normalised(ids[:1])
    pixels = torch.zeros(1, 3, *images.size(), dtype=torch.uint8) if given is None else torch.empty(0)
    return engine.settle(engine.inputs(pixels, given))


def _admitted(batch: Predictions, selection: Selection) -> np.ndarray:
    """The rows of a batch that ``selection`` admits, in order: all with finite logits and a class to explain, where it
    names them."""
    finite, known, wrong = ~np.isnan(batch.confidence) & (batch.targets >= 0), batch.labels >= 0, batch.wrong
    only = "all" if selection.ids is not None else selection.only
    return np.flatnonzero(finite & {"correct": known & ~wrong, "wrong": wrong, "all": finite}[only])


def report_part(progress: Progress, before: int, part: int, whole: int, share: float) -> None:
    """Tell ``progress`` that of ``whole`` images ``before`` are done, and of another ``part`` a share."""
    progress(EXPLAINING, min(before + part * share, whole), whole)


def _tell_part(tell: Tell, before: float, part: float, done: float, total: float) -> None:
    tell(before + part * done / total)

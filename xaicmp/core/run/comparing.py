"""From explanations to their comparison, one block of images at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from xaicmp.core.agreement.top_pixels import check_top
from xaicmp.core.attribution import Method
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSet
from xaicmp.core.machine.memory import trim
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explaining import explain, explain_selection
from xaicmp.core.run.journal import Journal
from xaicmp.core.run.provenance import _source
from xaicmp.core.run.scoring import BLOCK, score
from xaicmp.errors import UsageError, XaicmpError

DEFAULT = Settings()


def compare(
    engine: Engine,
    images: ImageSet,
    chosen: Predictions,
    methods: Sequence[Method],
    settings: Settings = DEFAULT,
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
        settings: what is measured.
        keep: called with each batch of explanations, which are otherwise forgotten.
        progress: told how far it is.

    Raises:
        UsageError: fewer than two methods, or a share of top pixels outside (0, 1) or less than a pixel.
        XaicmpError: no image was chosen, or a method cannot explain this model.
    """
    check_comparable(methods, settings.top)
    settings.check(images.pixels[0, 0].numel())
    if len(chosen) == 0:
        raise XaicmpError("no image was chosen, so there is nothing to compare; choose others")
    stream = ((images, each) for each in explain(engine, images, chosen, methods, progress))
    return _compared(engine, stream, methods, settings, keep)[1]


def compare_selection(
    engine: Engine,
    selection: Selection,
    methods: Sequence[Method],
    settings: Settings = DEFAULT,
    *,
    data: Path | ImageSet | None = None,
    target: str = "predicted",
    keep: Callable[[Explanations], None] | None = None,
    journal: Journal | None = None,
    processes: Processes = ALONE,
    progress: Progress = no_progress,
) -> tuple[ImageSet, Comparison]:
    """Choose, explain and compare in one, see ``explain_selection`` and ``compare``; the image set comes along."""
    check_comparable(methods, settings.top)
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
    return _compared(engine, stream, methods, settings, keep, processes)


def _compared(
    engine: Engine,
    stream: Iterator[tuple[ImageSet, Explanations]],
    methods: Sequence[Method],
    settings: Settings,
    keep: Callable[[Explanations], None] | None,
    processes: Processes = ALONE,
) -> tuple[ImageSet, Comparison]:
    """Score the stream, a block at a time; of several processes, which all see all of it, each in its turn."""
    scores: list[Scores | None] = []
    parts: list[Predictions] = []
    block: list[Explanations] = []

    def finish() -> None:
        mine = len(scores) % processes.world == processes.rank
        scores.append(score(_merged(block), settings) if mine else None)
        block.clear()
        trim()

    for images, explanations in stream:
        pixels = images.pixels[0, 0].numel()
        if not parts:
            settings.check(pixels)
        if keep is not None:
            keep(explanations)
        parts.append(explanations.predictions)
        explanations = replace(explanations, pixels=explanations.pixels.new_empty(0))
        while len(explanations.predictions):  # so that a block does not depend on the batch size
            room = BLOCK - sum(len(each.predictions) for each in block)
            block.append(explanations.rows(slice(0, room)))
            explanations = explanations.rows(slice(room, None))
            if len(block[-1].predictions) == room:
                finish()
    if block:
        finish()
    chosen = Predictions.join(parts)
    of_all = zip(*processes.gather(lambda: scores), strict=True)
    return images, Comparison(
        _source(engine, images, chosen, methods),
        {method.name: method.title for method in methods},
        frozenset(method.name for method in methods if method.model_free),
        settings,
        pixels,
        chosen,
        Scores.join([next(filter(None, each)) for each in of_all]),
    )


def _merged(parts: list[Explanations]) -> Explanations:
    """All of ``parts`` in one; these are let go, so that their maps are not held twice."""
    whole = Explanations.join(parts)
    parts.clear()
    return whole


def check_comparable(methods: Sequence[Method], top: float) -> None:
    """Raise UsageError for fewer than two methods, or a share of top pixels outside (0, 1)."""
    if len(methods) < 2:
        raise UsageError("--methods names one method; name two or more to compare")
    check_top(top)

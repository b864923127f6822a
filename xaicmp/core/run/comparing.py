"""From explanations to their comparison, one block of images at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from xaicmp.core.attribution import Method
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.memory import trim
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.provenance import source_of
from xaicmp.core.run.scoring import BLOCK, score
from xaicmp.errors import UsageError, arg

Keep = Callable[[Explanations], None]


def compare_explanations(
    engine: Engine,
    stream: Iterable[tuple[ImageSource, Explanations]],
    methods: Sequence[Method],
    settings: Settings,
    *,
    keep: Keep | None = None,
    processes: Processes = ALONE,
    progress: Progress = no_progress,
) -> tuple[ImageSource, Comparison]:
    """Score explanations one block at a time; of several processes, which all see all of them, each in its turn.

    Args:
        engine, methods: what made the explanations; two methods or more.
        stream: the images and a batch of explanations, from ``explain_selection``; one batch or more.
        settings: how maps are compared.
        keep: called with each batch of explanations, which are otherwise forgotten.
        processes, progress: those that share the work; told how far the comparing is.

    Raises:
        UsageError: fewer than two methods, or a share of top pixels outside (0, 1) or less than one pixel.
    """
    if len(methods) < 2:
        raise UsageError(f"{arg('methods')}: {len(methods)} cannot be compared; name two or more")
    scores: list[Scores | None] = []
    parts: list[Predictions] = []
    block: list[Explanations] = []

    def finish() -> None:
        mine = len(scores) % processes.world == processes.rank
        scores.append(score(_merged(block), settings, progress) if mine else None)
        block.clear()
        trim()

    for source, explanations in stream:
        images, pixels = source, explanations.maps[0, 0].numel()
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
    of_all, predictions = zip(*processes.gather(lambda: scores), strict=True), Predictions.join(parts)
    return images, Comparison(
        source_of(engine, images, predictions, methods),
        {method.name: method.title for method in methods},
        frozenset(method.name for method in methods if method.model_free),
        settings,
        pixels,
        predictions,
        Scores.join([next(filter(None, each)) for each in of_all]),
    )


def _merged(parts: list[Explanations]) -> Explanations:
    """All of ``parts`` in one; these are let go, so that their maps are not held twice."""
    whole = Explanations.join(parts)
    parts.clear()
    return whole

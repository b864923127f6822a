"""The studies that ``metrics`` adds on request: options in, tables out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xaicmp.cli.session import Session, progress_bar
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.run.explaining import Explainer
from xaicmp.core.studies.cost import measure
from xaicmp.core.studies.faithfulness import faithful
from xaicmp.core.studies.randomisation import randomise
from xaicmp.core.studies.stability import repeat
from xaicmp.errors import UsageError
from xaicmp.result import Result
from xaicmp.views.table import Study
from xaicmp.views.tables import studies

if TYPE_CHECKING:
    from xaicmp.cli.metrics import Measuring
    from xaicmp.core.models.checkpoint import Checkpoint


def of_maps(options: Measuring, comparison: Comparison) -> list[Study]:
    """What the scores of the maps answer."""
    found = [studies.differences(comparison)] if options.compare_pairs else []
    return found + [studies.groups(comparison, by) for by in options.by or []]


def load_other(options: Measuring, session: Session) -> Checkpoint | None:
    """The checkpoint of ``--against``, before the work.

    Raises:
        UsageError: there is none, or it knows other classes.
        XaicmpError: it cannot be read.
    """
    from xaicmp.core.models.checkpoint import load_checkpoint

    if options.against is None:
        return None
    if not options.against.is_file():
        raise UsageError(f"--against {options.against}: no such file; `xaicmp train` writes one")
    other = load_checkpoint(options.against)
    if other.classifier.classes != session.checkpoint.classifier.classes:
        raise UsageError(f"--against {options.against}: it tells other classes apart; use one trained alike")
    return other


def of_model(
    options: Measuring,
    session: Session,
    result: Result,
    batches: list[Explanations],
    other: Checkpoint | None,
) -> list[Study]:
    """What takes the model; ``batches`` are the explanations, where they have been kept."""
    assert result.engine is not None and result.images is not None
    found, engine, images, comparison = [], result.engine, result.images, result.comparison
    chosen, settings, methods = comparison.predictions, session.settings, session.methods
    with progress_bar(session.options.quiet) as show:
        first = Explainer(engine, methods)
        if options.rerun:
            second = Explainer(engine.again(seed=engine.seed + 1), methods)
            values = repeat(first, second, images, chosen, settings, show)
            note = "Methods without random draws are bit-identical."
            found.append(studies.repetition(values, "rerun", "Each method under another seed", note))
        if other is not None:
            second = Explainer(engine.again(classifier=other.classifier), methods)
            values = repeat(first, second, images, chosen, settings, show)
            note = f"The same images and classes, explained on {options.against} too."
            found.append(studies.repetition(values, "retrain", "Each method on another checkpoint", note))
        if options.randomise is not None:
            random = randomise(engine, images, chosen, methods, settings, options.randomise, show)
            found.append(studies.randomisation(random, comparison))
        if options.faithfulness:
            maps = torch.cat([each.maps for each in batches], dim=1)
            found.append(studies.faithfulness(faithful(engine, images, chosen, maps, show), comparison))
        if options.cost:
            found.append(studies.costs(measure(engine, images, chosen, methods)))
    return found

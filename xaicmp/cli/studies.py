"""The studies that ``metrics`` adds on request: options in, tables out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from xaicmp.cli.session import Session, progress_bar
from xaicmp.core.images.source import ImageSet
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explaining import explain
from xaicmp.errors import UsageError
from xaicmp.views.table import Study
from xaicmp.views.tables import studies

if TYPE_CHECKING:
    from xaicmp.cli.metrics import Measuring
    from xaicmp.core.choices import Randomise
    from xaicmp.core.models.checkpoint import Checkpoint
    from xaicmp.core.studies.faithfulness import Faithfulness
    from xaicmp.core.studies.stability import Repetition


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
    if other.classes != session.engine.checkpoint.classes:
        raise UsageError(f"--against {options.against}: it tells other classes apart; use one trained alike")
    return other


def of_model(
    options: Measuring,
    session: Session,
    images: ImageSet,
    comparison: Comparison,
    batches: list[Explanations],
    other: Checkpoint | None,
) -> list[Study]:
    """What takes the model; ``batches`` are the explanations, where they have been kept."""
    found, engine = [], session.engine
    if options.rerun:
        second = replace(engine, seed=engine.seed + 1)
        note = "Methods without random draws are the same to the bit."
        values = _repeated(session, second, images, comparison)
        found.append(studies.repetition(values, "rerun", "Each method under another seed", note))
    if other is not None:
        values = _repeated(session, replace(engine, checkpoint=other), images, comparison)
        note = f"The same images and classes, explained on {options.against} too."
        found.append(studies.repetition(values, "retrain", "Each method on another checkpoint", note))
    if options.randomise is not None:
        found.append(_randomised(session, images, comparison, options.randomise))
    if options.faithfulness:
        found.append(_faithful(session, images, comparison, batches))
    if options.cost:
        from xaicmp.core.studies.cost import measure

        found.append(studies.costs(measure(engine, images, comparison.predictions, session.methods)))
    return found


def _repeated(session: Session, second: Engine, images: ImageSet, comparison: Comparison) -> Repetition:
    from xaicmp.core.studies.stability import repeat

    with progress_bar(session.options.quiet) as show:
        return repeat(
            session.engine, second, images, comparison.predictions, session.methods, session.settings, show
        )


def _inputs(session: Session, images: ImageSet, comparison: Comparison) -> torch.Tensor:
    return session.engine.inputs(images.pixels[torch.from_numpy(comparison.predictions.ids)])


def _randomised(session: Session, images: ImageSet, comparison: Comparison, kind: Randomise) -> Study:
    from xaicmp.core.agreement.registry import get_statistics
    from xaicmp.core.studies.randomisation import randomisation_test

    engine, chosen = session.engine, comparison.predictions

    def maps_of(model: torch.nn.Module) -> torch.Tensor:
        drawn = replace(engine, checkpoint=replace(engine.checkpoint, model=model))
        batches = explain(drawn, images, chosen, session.methods)
        return torch.cat([each.maps for each in batches], dim=1)

    with progress_bar(session.options.quiet) as show:
        found = randomisation_test(
            maps_of,
            engine.checkpoint.model,
            _inputs(session, images, comparison),
            torch.from_numpy(chosen.labels).to(engine.device),
            statistics=get_statistics(("spearman", "ssim", "pearson")),
            kind=kind,
            top=session.settings.top,
            seed=engine.seed,
            batch_size=engine.room.most,
            progress=show,
        )
    return studies.randomisation(found, comparison)


def _faithful(
    session: Session, images: ImageSet, comparison: Comparison, batches: list[Explanations]
) -> Study:
    from xaicmp.core.studies.faithfulness import faithfulness

    engine, chosen = session.engine, comparison.predictions
    found: list[Faithfulness] = []
    inputs = _inputs(session, images, comparison)
    maps = torch.cat([each.maps for each in batches], dim=1)
    with progress_bar(session.options.quiet) as show:
        for baseline in studies.BASELINES:
            found.append(
                faithfulness(
                    engine.checkpoint.model,
                    inputs,
                    torch.from_numpy(chosen.targets).to(engine.device),
                    maps,
                    ids=chosen.ids,
                    seed=engine.seed,
                    batch_size=engine.room.most,
                    mean=engine.checkpoint.mean,
                    std=engine.checkpoint.std,
                    baseline=baseline,
                    samples=0 if found else 50,  # infidelity has a baseline of its own
                    report=partial(show, f"removing pixels ({baseline})"),
                )
            )
    return studies.faithfulness(found, comparison)

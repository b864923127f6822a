"""The studies that ``metrics`` adds on request: options in, tables out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xaicmp.cli.progress import progress_bar
from xaicmp.cli.session import Session
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.studies.groups import by_images, by_method
from xaicmp.core.studies.pair_tests import differences
from xaicmp.core.studies.randomisation import DRAWS
from xaicmp.errors import UsageError
from xaicmp.result import Result
from xaicmp.views.table import Table
from xaicmp.views.tables import studies
from xaicmp.views.tables.checkpoints import checkpoints
from xaicmp.views.tables.consensus import clusters, consensus

if TYPE_CHECKING:
    from pathlib import Path

    from xaicmp.cli.options import Measuring
    from xaicmp.core.models.classifier import Classifier


@dataclass(frozen=True)
class Asked:
    """A study: its table, and what was found."""

    table: Table
    found: Any = None


def saved(data: Mapping[str, Any]) -> list[Asked]:
    """The studies that a document holds, which are data alone."""
    return [Asked(Table((), (), data=each, key=key)) for key, each in data.items()]


def of_maps(options: Measuring, comparison: Comparison, batches: Sequence[Explanations]) -> list[Asked]:
    """What the scores of the maps answer, and the maps in ``batches``, where they have been kept."""
    found, result = [], Result(comparison)
    if options.compare_pairs:
        found.append(Asked(studies.differences(differences(comparison), comparison)))
    for by in options.by or []:
        if by == "method":
            found.append(Asked(studies.by_method(by_method(comparison), comparison)))
        else:
            found.append(Asked(studies.groups(by_images(comparison, by), by, comparison)))
    if options.consensus:
        found.append(Asked(clusters(result.clusters(), comparison)))
        if batches:
            found.append(Asked(consensus(result.consensus(joined(batches)))))
    return found


def joined(batches: Sequence[Explanations]) -> Tensor:
    """The maps of all batches; none where these have not been kept."""
    return torch.cat([each.maps for each in batches], dim=1) if batches else torch.empty(0)


def other_files(options: Measuring) -> list[tuple[str, Path]]:
    """The further checkpoints, each with the option that names it."""
    against = [("--against", options.against)] if options.against else []
    return [*against, *(("--checkpoints", path) for path in options.checkpoints or [])]


def load_other(options: Measuring, session: Session, name: str, path: Path) -> Classifier:
    """A further checkpoint, before the work.

    Raises:
        UsageError: there is none, or it knows other classes.
        XaicmpError: it cannot be read.
    """
    from xaicmp.api import load_model

    if not path.is_file():
        raise UsageError(f"{name} {path}: no such file; `xaicmp train` writes one")
    about: dict[str, Any] = {
        "classes": options.classes,
        "input_size": options.input_size,
        "mean": options.mean,
        "std": options.std,
    }
    given = {name: value for name, value in about.items() if value is not None}
    other = load_model(options.model, checkpoint=path, **given)
    if other.classes != session.classifier.classes:
        raise UsageError(f"{name} {path}: it tells other classes apart; use one trained alike")
    return other


def of_model(
    options: Measuring,
    session: Session,
    result: Result,
    batches: list[Explanations],
    others: list[Classifier],
) -> list[Asked]:
    """What takes the model; ``batches`` are the explanations, where they have been kept."""
    found: list[Asked] = []
    comparison, maps = result.comparison, joined(batches)
    with progress_bar(session.options.quiet) as show:
        if options.rerun:
            note = "Methods without random draws are bit-identical."
            values = result.rerun(progress=show)
            found.append(Asked(studies.repetition(values, "rerun", "Each method under another seed", note)))
        if options.against:
            note = f"The same images and classes, explained on {options.against} too."
            values = result.against(others.pop(0), show)
            table = studies.repetition(values, "retrain", "Each method on another checkpoint", note)
            found.append(Asked(table, values))
        if options.checkpoints:
            every = result.checkpoints(others, session.selection.only if options.ids is None else "all", show)
            found.append(Asked(checkpoints(every, comparison)))
        if options.randomise is not None:
            random = result.randomisation(options.randomise, options.draws or DRAWS, show)
            found.append(Asked(studies.randomisation(random, comparison)))
        if options.faithfulness:
            removed = result.faithfulness(maps, show)
            found.append(Asked(studies.faithfulness(removed, comparison)))
        if options.properties:
            found.append(Asked(studies.properties(result.properties(show))))
        if options.masks is not None:
            located = result.localisation(options.masks, maps)
            found.append(Asked(studies.localisation(located), located))
        if options.cost:
            found.append(Asked(studies.costs(result.cost())))
    return found

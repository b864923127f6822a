"""The studies of ``metrics``: from options to tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from xaicmp.cli.progress import progress_bar
from xaicmp.cli.session import Session, described
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

if TYPE_CHECKING:
    from xaicmp.cli.options import Measuring
    from xaicmp.core.models.classifier import Classifier
    from xaicmp.core.studies.stability import Repetition


def of_maps(options: Measuring, comparison: Comparison, batches: Sequence[Explanations]) -> list[Table]:
    """The studies that need the scores alone, or the maps in ``batches``, if they were kept."""
    found, result = [], Result(comparison)
    if options.compare_pairs:
        found.append(studies.differences(differences(comparison), comparison))
    for by in options.by or []:
        if by == "method":
            found.append(studies.by_method(by_method(comparison), comparison))
        else:
            found.append(studies.groups(by_images(comparison, by), by, comparison))
    if options.consensus:
        found.append(result.study_table("clusters"))
        if batches:
            found.append(result.study_table("consensus", joined(batches)))
    return found


def joined(batches: Sequence[Explanations]) -> Tensor:
    """The maps of all batches; none where these have not been kept."""
    return torch.cat([each.maps for each in batches], dim=1) if batches else torch.empty(0)


def check_studies(options: Measuring, session: Session) -> list[Classifier]:
    """Fail before the work if a study cannot be done; load the further checkpoints, that of --against first.

    Raises:
        UsageError: what a study needs is not asked for, or not of this model.
        XaicmpError: a checkpoint or the masks cannot be read.
    """
    if options.consensus:
        from xaicmp.core.studies.clusters import check_tree

        known = [each.name for each in session.methods if not each.model_free]
        check_tree(known, session.settings.controls)
    if options.masks is not None:
        from xaicmp.core.images.masks import check_masks

        images, ids = session.images, session.selection.ids
        wanted = np.arange(len(images)) if ids is None else np.array(ids)
        if wanted.max() < len(images):
            check_masks(images, wanted, options.masks)
    others = [_load_other(options, session, *each) for each in further(options)]
    if options.checkpoints:
        from xaicmp.core.studies.checkpoints import check_different

        check_different([session.classifier, *others[-len(options.checkpoints) :]])
    return others


def check_files(options: Measuring) -> None:
    """Fail before the model is loaded if a file that a study needs is missing, or the masks cannot be read."""
    for name, path in further(options):
        if not path.is_file():
            raise UsageError(f"{name} {path}: no such file; `xaicmp train` writes one")
    if options.masks is not None:
        from xaicmp.core.images.masks import masks_in

        masks_in(options.masks)


def further(options: Measuring) -> list[tuple[str, Path]]:
    """The further checkpoints, each with the option that names it."""
    against = [("--against", options.against)] if options.against else []
    return against + [("--checkpoints", path) for path in options.checkpoints or []]


def _load_other(options: Measuring, session: Session, name: str, path: Path) -> Classifier:
    """Load a further checkpoint, of the same classes."""
    from xaicmp.api import load_model

    other = load_model(options.model, checkpoint=path, **described(options))
    if other.classes and other.classes != session.classifier.classes:
        raise UsageError(f"{name} {path}: it has other classes; use one trained on the same classes")
    return other


def of_model(
    options: Measuring,
    session: Session,
    result: Result,
    batches: Sequence[Explanations],
    others: Sequence[Classifier],
) -> tuple[list[Table], Repetition | None]:
    """The studies that need the model, and the result of --against; ``batches`` are the explanations that were kept."""
    found: list[Table] = []
    against: Repetition | None = None
    comparison, maps, others = result.comparison, joined(batches), list(others)
    with progress_bar(session.options.quiet) as show:
        if options.rerun:
            note = "Methods without random draws are bit-identical."
            rerun = result.rerun(progress=show)
            found.append(studies.repetition(rerun, "rerun", "Each method under another seed", note))
        if options.against:
            note = f"The same images and classes, explained on {options.against} too."
            against = result.against(others.pop(0), show)
            found.append(studies.repetition(against, "retrain", "Each method on another checkpoint", note))
        if options.checkpoints:
            only = session.selection.only if options.ids is None else "all"
            found.append(checkpoints(result.checkpoints(others, only, show), comparison))
        if options.randomise is not None:
            random = result.randomisation(options.randomise, options.draws or DRAWS, show)
            found.append(studies.randomisation(random, comparison))
        if options.faithfulness:
            found.append(result.study_table("faithfulness", maps, show))
        if options.properties:
            found.append(result.study_table("properties", progress=show))
        if options.masks is not None:
            found.append(studies.localisation(result.localisation(options.masks, maps)))
        if options.cost:
            found.append(result.study_table("cost"))
    return found, against

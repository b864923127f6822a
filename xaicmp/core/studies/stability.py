"""Each method against itself: under another seed, or on another checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.results.comparison import OTHER_IMAGE
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores, Values
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.run.scoring import BLOCK, score
from xaicmp.core.studies.measured import Measured


@dataclass(frozen=True)
class Repetition(Measured):
    """How far each method's map agrees with its own of another run, by each statistic.

    The control, if it was taken, is ``OTHER_IMAGE``: the other run's maps of other images.

    Attributes:
        same: by method, whether all maps are bit-identical.
    """

    same: dict[str, bool]

    def limits(self, measure: str) -> tuple[float, float]:
        """Those of the statistic."""
        return self.settings.statistic(measure).limits


def repeat(
    first: Explainer,
    second: Explainer,
    images: ImageSource,
    predictions: Predictions,
    settings: Settings,
    progress: Progress = no_progress,
) -> Repetition:
    """Explain the same targets of the same images twice, and compare each method with itself.

    Args:
        first, second: the same methods on two classifiers, or on one under two seeds.
        images: what ``predictions`` are of.
        predictions: which images, and which class of each is explained, for both.
        settings: what is measured.
        progress: told how far it is.
    """
    names = [method.name for method in first.methods]
    only = replace(settings, controls=tuple({OTHER_IMAGE}.intersection(settings.controls)), curve=False)
    pairs = torch.arange(2 * len(names)).view(2, -1)

    def tell(before: float, stage: str, done: float, total: float) -> None:
        progress(stage, before + done / 2, len(predictions))

    same, scores = np.ones(len(names), dtype=bool), []
    for start in range(0, len(predictions), BLOCK):
        part = predictions.rows(slice(start, start + BLOCK))
        one, other = (
            Explanations.join(list(each.again(images, part, partial(tell, start + turn * len(part) / 2))))
            for turn, each in enumerate((first, second))
        )
        same &= (one.maps == other.maps).flatten(1).all(dim=1).numpy()
        both = replace(one, methods=(*names, *names), maps=torch.cat([one.maps, other.maps]), completeness={})
        scores.append(score(replace(both, other_maps=None), only, pairs=pairs))
    found = Scores.join(scores)

    def by_method(values: Values) -> dict[str, dict[str, np.ndarray]]:
        return {key: {name: each[name, name] for name in names} for key, each in values.items()}

    return Repetition(
        {method.name: method.title for method in first.methods},
        settings,
        by_method(found.values),
        {key: by_method(each) for key, each in found.controls.items()},
        dict(zip(names, same.tolist(), strict=True)),
    )

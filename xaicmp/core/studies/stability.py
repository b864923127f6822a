"""Each method against itself: under another seed, or on another checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.results.intervals import Summary, summarise
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.explaining import Explainer


@dataclass(frozen=True)
class Repetition:
    """How far each method's map agrees with its own of another run.

    Attributes:
        titles: of the methods, by name.
        settings: what was measured.
        values: by statistic and method, float64 ``(N,)``, NaN where undefined.
        same: by method, whether all maps are bit-identical.
    """

    titles: dict[str, str]
    settings: Settings
    values: dict[str, dict[str, np.ndarray]]
    same: dict[str, bool]

    def summary(self, statistic: str, method: str) -> Summary:
        """Mean, spread and interval over the images."""
        settings = self.settings
        return summarise(self.values[statistic][method], level=settings.level, seed=settings.seed)


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
    methods = first.methods
    values: dict[str, dict[str, list[np.ndarray]]] = {
        statistic.name: {method.name: [] for method in methods} for statistic in settings.statistics
    }
    same = {method.name: True for method in methods}
    told = [0.0, 0.0]

    def tell(which: int, stage: str, done: float, total: float) -> None:
        told[which] = done
        progress(stage, sum(told) / 2, total)

    both = zip(
        first.again(images, predictions, partial(tell, 0)),
        second.again(images, predictions, partial(tell, 1)),
        strict=True,
    )
    for one, other in both:
        for index, method in enumerate(methods):
            maps = one.maps[index], other.maps[index]
            same[method.name] &= bool((maps[0] == maps[1]).all())
            for statistic in settings.statistics:
                a, b = (statistic.prepare(each, settings.top) for each in maps)
                values[statistic.name][method.name].append(statistic.compare(a, b).numpy())
    return Repetition(
        {method.name: method.title for method in methods},
        settings,
        {
            statistic: {name: np.concatenate(parts) for name, parts in by_method.items()}
            for statistic, by_method in values.items()
        },
        same,
    )

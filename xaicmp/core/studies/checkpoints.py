"""The same comparison on several checkpoints: what holds for a training run, and not for one outcome of it alone.

Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.attribution import METHODS, Method
from xaicmp.core.choices import Only
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.weights import sha256_of
from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison
from xaicmp.core.results.crossed import crossed, variance_shares
from xaicmp.core.results.intervals import defined_mean
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.comparing import compare_explanations
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.run.explaining import explain_selection
from xaicmp.errors import UsageError, XaicmpError, arg

FEWEST = 3
"""Of fewer checkpoints there is no interval: of two it holds the mean 88 times of 100 where they differ, not 95."""


@dataclass(frozen=True)
class Estimate:
    """One statistic of one pair over D checkpoints and N images.

    Attributes:
        difference: the mean.
        low, high: ends of its interval over checkpoints and images together, see ``crossed``; NaN below ``FEWEST``.
        p: two-sided, of mean 0; NaN likewise.
        means: of each checkpoint.
        shares: of the variance, of checkpoints, images and the rest, see ``variance_shares``.
    """

    difference: float
    low: float
    high: float
    p: float
    means: tuple[float, ...]
    shares: tuple[float, float, float]


@dataclass(frozen=True)
class Checkpoints:
    """The agreement on several checkpoints.

    Attributes:
        names: of the checkpoints.
        ids: of the images, those that every checkpoint admits.
        left_out: how many of the first one's another does not.
        values: by statistic and pair, float64 ``(D, N)``, NaN where undefined.
        above: the same above another image's map; empty without that control.
        settings: the statistics, and the level of the intervals.
    """

    names: tuple[str, ...]
    ids: np.ndarray
    left_out: int
    values: dict[str, dict[Pair, np.ndarray]]
    above: dict[str, dict[Pair, np.ndarray]]
    settings: Settings

    def estimate(self, statistic: str, pair: Pair, above: bool = False) -> Estimate:
        """The mean over checkpoints and images, of what is above another image's map if ``above``."""
        values = (self.above if above else self.values)[statistic][pair]
        mean, low, high, p = crossed(values, self.settings.level)
        if not above:
            low, high = np.clip((low, high), *self.settings.statistic(statistic).limits).tolist()
        if len(values) < FEWEST:
            low = high = p = float("nan")
        return Estimate(mean, low, high, p, tuple(map(defined_mean, values)), variance_shares(values))


def check_different(classifiers: Sequence[Classifier]) -> None:
    """Raise UsageError if two have the same weights, because one would count as two."""
    first: dict[str, str] = {}
    for each in classifiers:
        digest = sha256_of(each.module.state_dict())
        if digest in first:
            raise UsageError(
                f"{arg('checkpoints')}: {each.name} has the weights of {first[digest]}; give each checkpoint once"
            )
        first[digest] = each.name


def over_checkpoints(
    first: Comparison,
    engines: Sequence[Engine],
    methods: Sequence[Method],
    images: ImageSource,
    only: Only = "all",
    progress: Progress = no_progress,
) -> Checkpoints:
    """Compare the same methods on the same images and targets on further checkpoints.

    Args:
        first: the comparison on the first checkpoint.
        engines: of all checkpoints, the first one's first.
        methods: what was compared.
        images: what ``first`` is of.
        only: which images every checkpoint must admit.
        progress: told how far it is.

    Raises:
        UsageError: two checkpoints have the same weights.
        XaicmpError: there is no image that all admit.
    """
    check_different([engine.classifier for engine in engines])
    chosen = first.predictions
    kept = np.ones(len(chosen), dtype=bool)
    for engine in engines[1:]:
        kept &= np.isin(chosen.ids, _admitted(engine, images, chosen, only))
    if not kept.any():
        raise XaicmpError(
            f"no image is one that every checkpoint admits; choose {arg('only')} all, or other images"
        )
    given = first.settings
    settings = replace(given, controls=tuple({OTHER_IMAGE}.intersection(given.controls)), curve=False)
    found = [first.rows(kept).scores]
    for engine in engines[1:]:
        batches = Explainer(engine, methods).again(images, chosen.rows(kept), progress)
        stream = ((images, batch) for batch in batches)
        found.append(compare_explanations(engine, stream, methods, settings, progress=progress)[1].scores)
    values = {
        each.name: {
            pair: np.stack([scores.values[each.name][pair] for scores in found]) for pair in first.pairs
        }
        for each in given.statistics
    }
    above = {
        name: {
            pair: rows - np.stack([scores.controls[OTHER_IMAGE][name][pair] for scores in found])
            for pair, rows in by_pair.items()
        }
        for name, by_pair in (values if settings.controls else {}).items()
    }
    names = tuple(engine.classifier.name for engine in engines)
    return Checkpoints(names, chosen.ids[kept], int((~kept).sum()), values, above, given)


def _admitted(engine: Engine, images: ImageSource, chosen: Predictions, only: Only) -> np.ndarray:
    """The ids of those images of ``chosen`` that are right, wrong, or of which the model says anything finite."""
    targets = np.zeros(len(images), dtype=np.int64)
    targets[chosen.ids] = chosen.targets
    explainer = Explainer(engine, [METHODS["centre"]], targets)
    stream = explain_selection(explainer, images, Selection(ids=tuple(chosen.ids.tolist())))
    found = Predictions.join([batch.predictions for _, batch in stream])
    known = found.labels >= 0
    rows = {"correct": known & ~found.wrong, "wrong": found.wrong, "all": np.ones(len(found), dtype=bool)}[
        only
    ]
    return found.ids[rows]

"""The outcome of a comparison: which images, how far their maps agree, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from xaicmp.core.agreement.controls import SHIFTS, among_highest
from xaicmp.core.agreement.statistic import Pair, Statistic
from xaicmp.core.results.intervals import Summary, defined_mean, summarise, summarise_share
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest, paired_test
from xaicmp.core.results.verdict import Verdict, corrected, verdict


@dataclass(frozen=True)
class Source:
    """Where maps come from.

    Attributes:
        about: in a sentence.
        details: the same and more as plain values, for documents.
        classes: the names of the classes.
        names: of the images, where they have any but their ids.
    """

    about: str
    details: dict[str, Any]
    classes: tuple[str, ...]
    names: tuple[str, ...] = ()

    def name(self, row: int) -> str:
        """The name of an image, empty where it has none but its id."""
        return self.names[row] if self.names else ""


@dataclass(frozen=True)
class Result:
    """One statistic of one pair over the images, beside chance and controls.

    Attributes:
        summary: mean, spread and interval.
        chance: its expected value for two unrelated maps; None where that is not known.
        corrected: (mean - chance) / (1 - chance).
        controls: by control, the mean.
        above: whether the mean is above that of another image's map; None without that control.
        above_shifted: whether each image is in the top 5% of its own shifted maps, undefined where these are too few
            to say; None likewise.
    """

    summary: Summary
    chance: float | None
    corrected: float | None
    controls: dict[str, float]
    above: PairedTest | None
    above_shifted: Summary | None


@dataclass(frozen=True)
class Comparison:
    """Which images, how their explanations agree, and where it all comes from.

    Attributes:
        source: where the maps come from.
        titles: of the methods, by name, in order.
        floors: the names of those that know nothing of the model.
        settings: what was measured.
        pixels: how many a map has.
        predictions: the images.
        scores: image by image.
    """

    source: Source
    titles: dict[str, str]
    floors: frozenset[str]
    settings: Settings
    pixels: int
    predictions: Predictions
    scores: Scores
    _results: dict[tuple[str, Pair], Result] = field(default_factory=dict, compare=False, repr=False)

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """How far two maps agree, in so many ways."""
        return self.settings.statistics

    @property
    def top(self) -> float:
        """The share of top pixels."""
        return self.settings.top

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two methods, in order; those with a floor come last."""
        every = list(combinations(self.titles, 2))
        return tuple(sorted(every, key=lambda pair: bool(self.floors.intersection(pair))))

    @property
    def model_pairs(self) -> tuple[Pair, ...]:
        """The pairs without a model-free method; all pairs, if there are none."""
        return tuple(pair for pair in self.pairs if not self.floors.intersection(pair)) or self.pairs

    def mean_over_pairs(self, statistic: str) -> np.ndarray:
        """``(N,)``: for each image the mean over ``model_pairs``, where they are defined."""
        values = np.array([self.scores.values[statistic][pair] for pair in self.model_pairs])
        return np.array([defined_mean(each) for each in values.T])

    @cached_property
    def identities(self) -> frozenset[Pair]:
        """The pairs whose maps are the same up to scale on every image where one varies, if there is any."""
        same = self.scores.identical.items()
        return frozenset(pair for pair, each in same if (each == 1).any() and not (each == 0).any())

    def result(self, statistic: Statistic, pair: Pair) -> Result:
        """One statistic of one pair over the images."""
        key = (statistic.name, pair)
        if key not in self._results:
            self._results[key] = self._result(statistic, pair)
        return self._results[key]

    def summary(self, statistic: str, pair: Pair) -> Summary:
        """Its mean, spread and interval."""
        return self.result(next(each for each in self.statistics if each.name == statistic), pair).summary

    def verdict(self, pair: Pair) -> Verdict:
        """What the first statistic says of the pair."""
        if pair in self.identities:
            return Verdict.IDENTITY
        first = self.statistics[0]
        result = self.result(first, pair)
        control = result.controls.get("other_image")
        return verdict(result.summary, result.chance, control, result.above, first.higher)

    def known_pairs(self, method: str) -> list[Pair]:
        """The pairs of a method with those that know the model; if there are none, with any."""
        own = [pair for pair in self.pairs if method in pair]
        return [pair for pair in own if not self.floors.intersection(set(pair) - {method})] or own

    def rows(self, rows: np.ndarray) -> Comparison:
        """The comparison over a part of the images."""
        return replace(
            self, predictions=self.predictions.rows(rows), scores=self.scores.rows(rows), _results={}
        )

    def _result(self, statistic: Statistic, pair: Pair) -> Result:
        values, settings = self.scores.values[statistic.name][pair], self.settings
        tied = self.scores.tied[statistic.name][pair] if statistic.uses_top else None
        summary = summarise(values, tied, level=settings.level, seed=settings.seed)
        chance = statistic.chance(self.top, self.pixels)
        controls = {name: each[statistic.name][pair] for name, each in self.scores.controls.items()}
        above = None
        if "other_image" in controls:
            above = paired_test(
                values,
                controls["other_image"],
                two_sided=True,
                level=settings.level,
                seed=settings.seed,
            )
        above_shifted = None
        if (places := self.scores.shifted_p.get(statistic.name, {}).get(pair)) is not None:
            inside = among_highest(places, min(SHIFTS, self.pixels - 1))
            above_shifted = summarise_share(inside, level=settings.level)
        return Result(
            summary,
            chance,
            None if chance is None else corrected(summary.mean, chance),
            {name: defined_mean(each) for name, each in controls.items()},
            above,
            above_shifted,
        )

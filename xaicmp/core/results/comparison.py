"""The outcome of a comparison: which images, how far their maps agree, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from xaicmp.core.agreement.controls import LEVEL, OTHER_CLASS
from xaicmp.core.agreement.rolling import SHIFTS
from xaicmp.core.agreement.statistic import Pair, Statistic
from xaicmp.core.results.intervals import (
    Summary,
    defined_mean,
    summarise,
    summarise_ratio,
    summarise_share,
)
from xaicmp.core.results.place import Place
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.shares import Shares, by_share
from xaicmp.core.results.significance import PairedTest, paired_tests, pairing_of
from xaicmp.core.results.verdict import Verdict, corrected, verdict

OTHER_IMAGE = "other_image"
"""The control that verdicts and rankings are about."""


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

    def signed(self, **more: Any) -> Source:
        """The same with further ``details``."""
        return replace(self, details=self.details | more)

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
        verdict: what it is worth.
        said: the same in words.
        above: whether the mean is above that of another image's map; None without that control.
        above_class: by key of ``OTHER_CLASS``, the same of the same image's map for another class.
        explained: the share of the mean that another image's map explains, over the images where both are defined;
            undefined for a distance, and where the mean is not above 0. Its interval is Fieller's.
        images_above: the share of images that agree more than with the maps of other images; None without that control.
        pairing: p of the permutation test of the pairing; None where the statistic is no product, or without that control.
        above_shifted: whether each image is in the top 5% of its own shifted maps, undefined where these are too few
            to say; None likewise.
    """

    summary: Summary
    chance: float | None
    corrected: float | None
    controls: dict[str, float]
    verdict: Verdict
    said: str
    above: PairedTest | None
    above_class: dict[str, PairedTest]
    explained: Summary
    images_above: Summary | None
    pairing: float | None
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

    @cached_property
    def distinct(self) -> tuple[str, ...]:
        """The methods without those that have the maps of one before, so that in a mean over methods a map counts once."""
        return tuple(
            name for name in self.titles if not any((each, name) in self.identities for each in self.titles)
        )

    @property
    def distinct_pairs(self) -> tuple[Pair, ...]:
        """``model_pairs`` of ``distinct`` methods; if there are none, all of them."""
        found = (pair for pair in self.model_pairs if set(pair) <= set(self.distinct))
        return tuple(found) or self.model_pairs

    def mean_over_pairs(self, statistic: str) -> np.ndarray:
        """``(N,)``: for each image the mean over ``distinct_pairs``, where they are defined."""
        values = np.array([self.scores.values[statistic][pair] for pair in self.distinct_pairs])
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
        return self.result(self.settings.statistic(statistic), pair).summary

    def verdict(self, statistic: Statistic, pair: Pair) -> Verdict:
        """What a statistic says of a pair."""
        return self.result(statistic, pair).verdict

    def said(self, pair: Pair) -> str:
        """What each statistic says of a pair, in words; once if all say the same."""
        said = {each.title(self.top): self.result(each, pair).said for each in self.statistics}
        words = [f"{title}: {each}" for title, each in said.items()]
        return "; ".join(words) if len(set(said.values())) > 1 else next(iter(said.values()))

    def by_share(self, pair: Pair) -> Shares:
        """IoU of a pair by the share of top pixels, where the settings ask for that."""
        if pair not in self._shares:
            self._shares[pair] = by_share(self.scores.curves, pair, self.pixels, self.settings)
        return self._shares[pair]

    def places(self, key: str, statistic: str, pair: Pair) -> list[Place]:
        """Where each image's agreement stands under the control ``key`` that has a null distribution; [] without it."""
        if key not in self.scores.among:
            return []
        found = zip(
            self.scores.p_values[key][statistic][pair], self.scores.among[key][statistic][pair], strict=True
        )
        return [Place(float(p), 0 if np.isnan(p) else int(among)) for p, among in found]

    def known_pairs(self, method: str) -> list[Pair]:
        """The pairs of a method with others of ``distinct`` that know the model; if there are none, with any."""
        own = [pair for pair in self.pairs if method in pair]
        known = [pair for pair in own if not self.floors.intersection(set(pair) - {method})]
        distinct = {method, *self.distinct}
        return (
            [pair for pair in known if distinct.issuperset(pair) and pair not in self.identities]
            or known
            or own
        )

    def rows(self, rows: np.ndarray | slice) -> Comparison:
        """The comparison over a part of the images."""
        names = tuple(np.array(self.source.names)[rows].tolist()) if self.source.names else ()
        return replace(
            self,
            source=replace(self.source, names=names),
            predictions=self.predictions.rows(rows),
            scores=self.scores.rows(rows),
        )

    def _result(self, statistic: Statistic, pair: Pair) -> Result:
        values, settings = self.scores.values[statistic.name][pair], self.settings
        tied = self.scores.tied[statistic.name][pair] if statistic.uses_top else None
        summary = summarise(values, tied, level=settings.level, seed=settings.seed)
        summary = summary.within(*statistic.limits)
        chance = statistic.chance(self.top, self.pixels)
        controls = {name: each[statistic.name][pair] for name, each in self.scores.controls.items()}
        tests = {key: each[self.pairs.index(pair)] for key, each in self._tests_of(statistic).items()}
        unlike, above = tests.pop("chance", None), tests.pop(OTHER_IMAGE, None)
        found = Verdict.IDENTITY if pair in self.identities else verdict(unlike, above, statistic.higher)
        said = found.long
        if found is Verdict.FEW:
            test = next(each for each in (unlike, above) if each and not each.lowest < LEVEL)
            said = f"n = {test.n}: too few for a test (smallest p {test.lowest:.2g})"
        explained, images_above = summarise(np.array([])), None
        if above is not None:
            explained, images_above = self._against(values, controls[OTHER_IMAGE], statistic.higher)
        above_shifted = None
        if (shifted := self.scores.shifted_p.get(statistic.name)) is not None:
            among = 1 + min(SHIFTS, self.pixels - 1)
            above_all = np.array([Place(p, among).above for p in shifted[pair].tolist()])
            above_shifted = summarise_share(above_all, level=settings.level)
        return Result(
            summary,
            chance,
            None if chance is None else corrected(summary.mean, chance),
            {name: defined_mean(each) for name, each in controls.items()},
            found,
            said,
            above,
            tests,
            explained,
            images_above,
            None if (blocks := self.scores.pairing.get(statistic.name)) is None else pairing_of(blocks[pair]),
            above_shifted,
        )

    @cached_property
    def _results(self) -> dict[tuple[str, Pair], Result]:
        return {}

    @cached_property
    def _shares(self) -> dict[Pair, Shares]:
        return {}

    @cached_property
    def _tests(self) -> dict[str, dict[str, list[PairedTest]]]:
        return {}

    def _tests_of(self, statistic: Statistic) -> dict[str, list[PairedTest]]:
        """The tests of all pairs against ``chance``, another image and other classes, as far as these are known.

        Their flips have a seed of their own, so that a verdict depends on the maps alone.
        """
        name, settings = statistic.name, self.settings
        if name not in self._tests:
            values = np.array([self.scores.values[name][pair] for pair in self.pairs])
            chance = statistic.chance(self.top, self.pixels)
            tests, controls = {}, self.scores.controls
            if chance is not None:
                tests["chance"] = paired_tests(values, np.full_like(values, chance), level=None)
            for key in (each for each in (OTHER_IMAGE, *OTHER_CLASS) if each in controls):
                others = np.array([controls[key][name][pair] for pair in self.pairs])
                margin = settings.margin_of(statistic)
                tests[key] = paired_tests(values, others, level=settings.level, margin=margin)
            self._tests[name] = tests
        return self._tests[name]

    def _against(self, values: np.ndarray, other: np.ndarray, higher: bool) -> tuple[Summary, Summary]:
        """The share of the mean that another image explains, and the share of images above it."""
        differences = values - other
        known = ~np.isnan(differences)
        level, comparable = self.settings.level, known & higher  # a distance has no share
        explained = summarise_ratio(other[comparable], values[comparable], level=level)
        more = np.where(known, differences > 0 if higher else differences < 0, np.nan)
        return explained, summarise_share(more, level=level)

"""The outcome of a comparison: which images, how far their maps agree, and what that is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.agreement import DEFAULT_STATISTICS, Statistic, count_top, get_statistics
from xaicmp.core.controls import SHIFTS, among_highest, corrected, verdict
from xaicmp.core.summary import PairedTest, Summary, defined_mean, paired_test, summarise

Pair = tuple[str, str]
Values = dict[str, dict[Pair, np.ndarray]]
"""By statistic and pair, float64 ``(N,)``, NaN where undefined."""
UNKNOWN = "unknown"
"""The class of images of which nobody said, and the group of those that fall into none."""


@dataclass(frozen=True)
class Chosen:
    """The selected images and what the model says of them.

    Attributes:
        ids: int64 ``(N,)``, rows of the image set.
        labels: int64 ``(N,)``.
        predicted: int64 ``(N,)``, the class with the highest logit.
        confidence: float64 ``(N,)``, the softmax probability of that class.
        targets: int64 ``(N,)``, the class that is explained.
    """

    ids: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def wrong(self) -> np.ndarray:
        """Bool ``(N,)``: which were taken for something else."""
        return self.predicted != self.labels

    def rows(self, rows: slice | np.ndarray) -> Chosen:
        """A part of them."""
        return Chosen(*(getattr(self, name)[rows] for name in Chosen.__dataclass_fields__))

    @staticmethod
    def join(parts: Sequence[Chosen]) -> Chosen:
        """All of several."""
        names = Chosen.__dataclass_fields__
        return Chosen(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Explanations:
    """A batch of images with their maps.

    Attributes:
        chosen: which images, and what the model says of them.
        pixels: uint8 ``(N, 3, H, W)``.
        methods: the names of the M methods.
        maps: float32 ``(M, N, H, W)``, on the CPU.
        completeness: by method that promises it, the gap ``(N,)``, see ``attribution.Explanation``.
        grids: by method whose maps are coarser than the image, their true height and width.
    """

    chosen: Chosen
    pixels: Tensor
    methods: tuple[str, ...]
    maps: Tensor
    completeness: dict[str, np.ndarray] = field(default_factory=dict)
    grids: dict[str, tuple[int, int]] = field(default_factory=dict)

    def rows(self, rows: slice) -> Explanations:
        """Those of a part of the images."""
        gaps = {name: gap[rows] for name, gap in self.completeness.items()}
        chosen, pixels, maps = self.chosen.rows(rows), self.pixels[rows], self.maps[:, rows]
        return replace(self, chosen=chosen, pixels=pixels, maps=maps, completeness=gaps)

    @staticmethod
    def join(parts: Sequence[Explanations]) -> Explanations:
        """All of several, which are of the same methods; of those without an image, nothing but that."""
        parts = [part for part in parts if len(part.chosen)] or parts[:1]
        gaps = parts[0].completeness
        return replace(
            parts[0],
            chosen=Chosen.join([part.chosen for part in parts]),
            pixels=torch.cat([part.pixels for part in parts]),
            maps=torch.cat([part.maps for part in parts], dim=1),
            completeness={name: np.concatenate([part.completeness[name] for part in parts]) for name in gaps},
        )


@dataclass(frozen=True)
class Measures:
    """What is measured of the maps.

    Attributes:
        statistics: how far two maps agree.
        top: the share of top pixels, for the statistics that have none of their own.
        controls: what it is held against, names in ``scoring.CONTROLS``.
        level: of the confidence intervals.
        seed: of the controls' draws and the intervals' resampling.
        curve: whether IoU is measured at many shares too, see ``curve.iou_curves``.
    """

    statistics: tuple[Statistic, ...] = get_statistics(DEFAULT_STATISTICS)
    top: float = 0.2
    controls: tuple[str, ...] = ("other_image", "other_image_same_class", "shifted")
    level: float = 0.95
    seed: int = 0
    curve: bool = False

    def check(self, pixels: int) -> None:
        """Raise UsageError if a share of top pixels is outside (0, 1), or less than one of so many pixels."""
        for top in (self.top, *(each.top for each in self.statistics if each.top is not None)):
            count_top(top, pixels)


@dataclass(frozen=True)
class Scores:
    """The statistics of every pair of methods, image by image.

    Attributes:
        values: of the two maps of the same image.
        tied: by statistic that looks at top pixels, and pair, bool ``(N,)``: whether those of one of the maps had to
            be chosen among equals.
        identical: by pair, float64 ``(N,)``: 1 where the maps are the same up to scale, 0 where not, NaN where
            neither varies.
        controls: by control (``other_image``, ``other_image_same_class``, ``shifted``, ``pooled``), what the
            statistics are where the maps have been parted, shifted or pooled.
        shifted_p: the place of the observed value among those of shifted maps, see ``controls.Shifted``.
        completeness: by method that promises it, float64 ``(N,)``, see ``attribution.Explanation``.
        curves: of ``curve.iou_curves``, if asked for.
    """

    values: Values
    tied: Values
    identical: dict[Pair, np.ndarray]
    controls: dict[str, Values]
    shifted_p: Values
    completeness: dict[str, np.ndarray]
    curves: Values = field(default_factory=dict)

    def rows(self, rows: np.ndarray) -> Scores:
        """Those of a part of the images."""
        return _each(lambda part: part[rows], self)

    @staticmethod
    def join(parts: Sequence[Scores]) -> Scores:
        """Those of all images, from those of some each."""
        return _each(lambda *arrays: np.concatenate(arrays), *parts)


def _each(function: Any, first: Any, *others: Any) -> Any:
    """``function`` of the arrays at the same place in each of several nested dicts or ``Scores``."""
    if isinstance(first, np.ndarray):
        return function(first, *others)
    if isinstance(first, dict):
        return {key: _each(function, first[key], *(other[key] for other in others)) for key in first}
    names = first.__dataclass_fields__
    return replace(
        first,
        **{name: _each(function, *(getattr(each, name) for each in (first, *others))) for name in names},
    )


@dataclass(frozen=True)
class Source:
    """Where maps come from.

    Attributes:
        about: in a sentence.
        details: the same and more as plain values, for documents.
        classes: the names of the classes.
    """

    about: str
    details: dict[str, Any]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """One statistic of one pair over the images, beside what it would be for no good reason.

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
        measures: what was measured.
        pixels: how many a map has.
        chosen: the images.
        scores: image by image.
    """

    source: Source
    titles: dict[str, str]
    floors: frozenset[str]
    measures: Measures
    pixels: int
    chosen: Chosen
    scores: Scores
    _results: dict[tuple[str, Pair], Result] = field(default_factory=dict, compare=False, repr=False)

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """How far two maps agree, in so many ways."""
        return self.measures.statistics

    @property
    def top(self) -> float:
        """The share of top pixels."""
        return self.measures.top

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two methods, in order; those with a floor come last."""
        every = list(combinations(self.titles, 2))
        return tuple(sorted(every, key=lambda pair: bool(self.floors.intersection(pair))))

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

    def verdict(self, pair: Pair) -> str:
        """What the first statistic says of the pair, in plain words."""
        if pair in self.identities:
            return "the same map on this model: an identity, not a finding"
        first = self.statistics[0]
        result = self.result(first, pair)
        floor = result.controls.get("other_image")
        return verdict(result.summary, result.chance, floor, result.above, first.higher)

    def rows(self, rows: np.ndarray) -> Comparison:
        """The comparison over a part of the images."""
        return replace(self, chosen=self.chosen.rows(rows), scores=self.scores.rows(rows), _results={})

    def groups(self, by: str) -> Iterator[tuple[str, Comparison]]:
        """The comparison over the images of each class, right or wrong ones, or each quartile of confidence.

        Images of which that is not known are a group of their own, the last.

        Args:
            by: ``"class"``, ``"correct"`` or ``"confidence"``.
        """
        chosen = self.chosen
        if by == "class":
            parts = [(name, chosen.labels == index) for index, name in enumerate(self.source.classes)]
        elif by == "correct":
            names = np.array(self.source.classes)
            known = (names[chosen.labels] != UNKNOWN) & (names[chosen.predicted] != UNKNOWN)
            parts = [("right", known & ~chosen.wrong), ("wrong", known & chosen.wrong), (UNKNOWN, ~known)]
        else:
            values, known = chosen.confidence, ~np.isnan(chosen.confidence)
            edges = np.quantile(values[known], [0.25, 0.5, 0.75]) if known.any() else []
            quartile = np.where(known, np.searchsorted(edges, values, side="left"), -1)
            parts = [
                (f"{values[held].min():.3f} to {values[held].max():.3f}", held)
                for held in (quartile == index for index in range(4))
                if held.any()
            ]
            parts.append((UNKNOWN, ~known))
        for name, held in parts:
            if held.any():
                yield name, self.rows(held)

    def _result(self, statistic: Statistic, pair: Pair) -> Result:
        values, measures = self.scores.values[statistic.name][pair], self.measures
        tied = self.scores.tied[statistic.name][pair] if statistic.uses_top else None
        summary = summarise(values, tied, level=measures.level, seed=measures.seed)
        chance = statistic.chance(self.top, self.pixels)
        controls = {name: each[statistic.name][pair] for name, each in self.scores.controls.items()}
        above = None
        if "other_image" in controls:
            above = paired_test(
                values,
                controls["other_image"],
                two_sided=True,
                level=measures.level,
                seed=measures.seed,
            )
        above_shifted = None
        if (places := self.scores.shifted_p.get(statistic.name, {}).get(pair)) is not None:
            inside = among_highest(places, min(SHIFTS, self.pixels - 1))
            above_shifted = summarise(inside, level=measures.level, seed=measures.seed)
        return Result(
            summary,
            chance,
            None if chance is None else corrected(summary.mean, chance),
            {name: defined_mean(each) for name, each in controls.items()},
            above,
            above_shifted,
        )

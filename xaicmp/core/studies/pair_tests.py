"""Do the pairs of methods differ? Paired tests of every two, corrected for their number, letters, and a ranking."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_letters
from typing import Generic, TypeVar

import numpy as np

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison
from xaicmp.core.results.intervals import RESAMPLES, SEVERAL, defined_mean, student
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import flip_signs, holm, lowest_p

UNTOLD = "-"
"""What stands for a letter where so few images cannot show a difference."""

LETTERS = 15
"""Of more pairs than that, letters are no longer read."""

Key = TypeVar("Key", bound=Hashable)
"""What is compared: a pair of methods, or a method."""


@dataclass(frozen=True)
class PairTest(Generic[Key]):
    """Whether two means over the same images differ.

    Attributes:
        a, b: what they are the means of.
        difference: the mean over the images of a's value minus b's, where both are defined.
        low, high: ends of its confidence interval, Student's, which is that of this comparison alone.
        p: two-sided, NaN without such images.
        adjusted: the same after Holm's correction for all comparisons.
        lowest: the lowest adjusted p that so many images can give.
    """

    a: Key
    b: Key
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    lowest: float = 0


@dataclass(frozen=True)
class Ranked:
    """A pair among all pairs.

    Attributes:
        pair: the two methods.
        mean: their agreement.
        compared: what it is ranked by, see ``PairTests``.
        higher, lower: the nearest ranks above and below, counted from 1, that are told apart from it; None for none.
    """

    pair: Pair
    mean: float
    compared: float
    higher: int | None
    lower: int | None


@dataclass(frozen=True)
class PairTests:
    """Which pairs differ.

    Attributes:
        above: whether it is the agreement above another image's map that is compared; else, without that control,
            the agreement itself.
        tests: by statistic, of every two pairs.
        letters: by statistic and pair: pairs that share one are not told apart; none for more than ``LETTERS`` pairs.
        ranking: by statistic, from the highest down.
    """

    above: bool
    tests: dict[str, list[PairTest[Pair]]]
    letters: dict[str, dict[Pair, str]]
    ranking: dict[str, list[Ranked]]


def differences(comparison: Comparison) -> PairTests:
    """Test every two pairs of a comparison against each other, by each statistic."""
    settings, tests, ranking = comparison.settings, {}, {}
    shared: dict[str, dict[Pair, str]] = {}
    control = comparison.scores.controls.get(OTHER_IMAGE)
    for statistic in comparison.statistics:
        name, values = statistic.name, comparison.scores.values[statistic.name]
        if control is not None:
            values = {pair: each - control[name][pair] for pair, each in values.items()}
        tests[name] = compare_pairs(values, level=settings.level)
        shared[name] = told_apart(values, tests[name]) if len(values) <= LETTERS else {}
        ranking[name] = _ranked(values, comparison.scores.values[name], tests[name], statistic.higher)
    return PairTests(control is not None, tests, shared, ranking)


def compare_methods(
    values: Mapping[str, np.ndarray], settings: Settings
) -> tuple[list[PairTest[str]], dict[str, str]]:
    """Test every two methods against each other by values ``(N,)`` over the same images.

    Returns:
        the tests, Holm-corrected, and by method its letters, see ``told_apart``.
    """
    tests = compare_pairs(values, level=settings.level)
    return tests, told_apart(values, tests)


def compare_pairs(values: Mapping[Key, np.ndarray], *, level: float = 0.95) -> list[PairTest[Key]]:
    """Test every two means against each other over the same images.

    The signs are flipped alike whatever the seed of a run, so that what is told apart depends on the values alone.
    A thousand tests have fewer flips, because only those below their p can count.

    Args:
        values: by pair of methods, or by method, float64 ``(N,)``, NaN where undefined.
        level: of the confidence intervals.
    """
    compared = list(combinations(values, 2))
    if not compared:
        return []
    apart = np.stack([values[a] - values[b] for a, b in compared])
    p = flip_signs(apart, two_sided=True, flips=RESAMPLES if len(compared) < 1000 else SEVERAL)
    counts = (~np.isnan(apart)).sum(axis=1)
    tests = int((counts > 0).sum())
    means = [defined_mean(row) for row in apart]
    lowest = [min(1.0, tests * lowest_p(count, two_sided=True)) for count in counts.tolist()]
    numbers = np.array([means, *student(apart, level), p, holm(p), lowest]).T.tolist()
    return [PairTest(a, b, *row) for (a, b), row in zip(compared, numbers, strict=True)]


def told_apart(values: Mapping[Key, np.ndarray], tests: Sequence[PairTest[Key]]) -> dict[Key, str]:
    """The ``letters`` of each; ``UNTOLD`` where so few images cannot show a difference."""
    if tests and not any(each.lowest < LEVEL for each in tests):
        return dict.fromkeys(values, UNTOLD)
    return letters(values, tests)


def letters(
    values: Mapping[Key, np.ndarray], tests: Sequence[PairTest[Key]], alpha: float = LEVEL
) -> dict[Key, str]:
    """Compact letter display: two share a letter exactly if the tests do not tell them apart.

    Insert and absorb (Piepho, 2004): one letter for all; each test that tells two apart splits every letter that
    both have; a letter whose bearers are a part of another's goes.

    Args:
        values: as for ``compare_pairs``.
        tests: from ``compare_pairs``.
        alpha: adjusted p-values below it tell apart.

    Returns:
        by key, its letters, "a" for the highest mean.
    """
    means = {key: np.nan_to_num(defined_mean(row), nan=-np.inf) for key, row in values.items()}
    ranked = sorted(values, key=lambda key: -means[key])
    groups = [frozenset(ranked)]
    for test in tests:
        if test.adjusted < alpha:
            both = {test.a, test.b}
            split = {
                part
                for group in groups
                for part in ((group - {test.a}, group - {test.b}) if both <= group else (group,))
            }
            groups = [group for group in split if not any(group < other for other in split)]
    groups.sort(key=lambda group: [ranked.index(key) for key in ranked if key in group])
    names = [
        ascii_letters[index] if index < len(ascii_letters) else f"({index + 1})"
        for index in range(len(groups))
    ]
    return {
        key: "".join(name for name, group in zip(names, groups, strict=True) if key in group)
        for key in values
    }


def _ranked(
    values: Mapping[Pair, np.ndarray],
    raw: Mapping[Pair, np.ndarray],
    tests: Sequence[PairTest[Pair]],
    higher: bool,
) -> list[Ranked]:
    """The pairs from the one that agrees most down; those that are defined nowhere come last."""
    means = {pair: defined_mean(each) for pair, each in values.items()}
    order = sorted(means, key=lambda pair: np.nan_to_num(-means[pair] if higher else means[pair], nan=np.inf))
    place = {pair: index for index, pair in enumerate(order)}
    apart: list[list[int]] = [[] for _ in order]
    for test in tests:
        if test.adjusted < LEVEL:
            one, other = place[test.a], place[test.b]
            apart[one].append(1 + other)
            apart[other].append(1 + one)
    return [
        Ranked(
            pair,
            defined_mean(raw[pair]),
            means[pair],
            max((each for each in apart[index] if each <= index), default=None),
            min((each for each in apart[index] if each > index), default=None),
        )
        for pair, index in place.items()
    ]

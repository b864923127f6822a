"""Do the pairs of methods differ? Paired tests of every two pairs, letters, and a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison
from xaicmp.core.results.intervals import defined_mean
from xaicmp.core.results.pair_tests import PairTest, compare_pairs, letters

UNTOLD = "-"
"""What stands for a letter where so few images cannot show a difference."""

LETTERS = 15
"""Of more pairs than that, letters are no longer read."""


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
    tests: dict[str, list[PairTest]]
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
        found = compare_pairs(values, level=settings.level, seed=settings.seed)
        can_tell = not found or any(each.lowest < LEVEL for each in found)
        tests[name], shared[name] = found, {}
        if len(values) <= LETTERS:
            shared[name] = letters(values, found) if can_tell else dict.fromkeys(values, UNTOLD)
        ranking[name] = _ranked(values, comparison.scores.values[name], found, statistic.higher)
    return PairTests(control is not None, tests, shared, ranking)


def _ranked(
    values: Mapping[Pair, np.ndarray], raw: Mapping[Pair, np.ndarray], tests: Sequence[PairTest], higher: bool
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

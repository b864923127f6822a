"""Do the pairs of methods differ? Paired tests of every two pairs, and letters."""

from __future__ import annotations

from dataclasses import dataclass

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.pair_tests import PairTest, compare_pairs, letters

UNTOLD = "-"
"""What stands for a letter where so few images cannot show a difference."""


@dataclass(frozen=True)
class PairTests:
    """Which pairs differ.

    Attributes:
        tests: by statistic, of every two pairs.
        letters: by statistic and pair: pairs that share one are not told apart.
    """

    tests: dict[str, list[PairTest]]
    letters: dict[str, dict[Pair, str]]


def differences(comparison: Comparison) -> PairTests:
    """Test every two pairs of a comparison against each other, by each statistic."""
    settings, tests, shared = comparison.settings, {}, {}
    for statistic in comparison.statistics:
        values = comparison.scores.values[statistic.name]
        found = compare_pairs(values, level=settings.level, seed=settings.seed)
        can_tell = not found or any(each.lowest < LEVEL for each in found)
        tests[statistic.name] = found
        shared[statistic.name] = letters(values, found) if can_tell else dict.fromkeys(values, UNTOLD)
    return PairTests(tests, shared)

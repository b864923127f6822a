"""Whether pairs of methods differ from each other, corrected for many tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_letters

import numpy as np

from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.intervals import RESAMPLES, SEVERAL, defined_mean, student
from xaicmp.core.results.significance import flip_signs, holm, lowest_p


@dataclass(frozen=True)
class PairTest:
    """Whether two pairs of methods agree equally well.

    Attributes:
        a, b: the pairs.
        difference: the mean over the images of a's value minus b's, where both are defined.
        low, high: ends of its confidence interval, Student's, which is that of this comparison alone.
        p: two-sided, NaN without such images.
        adjusted: the same after Holm's correction for all comparisons.
        lowest: the lowest adjusted p that so many images can give.
    """

    a: Pair
    b: Pair
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    lowest: float = 0


def compare_pairs(values: Mapping[Pair, np.ndarray], *, level: float = 0.95, seed: int = 0) -> list[PairTest]:
    """Test every two pairs of methods against each other over the same images.

    Args:
        values: by pair, one statistic, float64 ``(N,)``, NaN where undefined.
        level: of the confidence intervals.
        seed: of the sign flips, which are fewer for a thousand tests, of which only those below their p can count.
    """
    compared = list(combinations(values, 2))
    if not compared:
        return []
    differences = np.stack([values[a] - values[b] for a, b in compared])
    p = flip_signs(
        differences, two_sided=True, seed=seed, flips=RESAMPLES if len(compared) < 1000 else SEVERAL
    )
    counts = (~np.isnan(differences)).sum(axis=1)
    tests = int((counts > 0).sum())
    means = [defined_mean(row) for row in differences]
    numbers = np.array([means, *student(differences, level), p, holm(p)]).T.tolist()
    lowest = [min(1.0, tests * lowest_p(count, two_sided=True)) for count in counts.tolist()]
    rows = zip(compared, numbers, lowest, strict=True)
    return [
        PairTest(a, b, mean, low, high, own, adjusted, least)
        for (a, b), (mean, low, high, own, adjusted), least in rows
    ]


def letters(
    values: Mapping[Pair, np.ndarray], tests: Sequence[PairTest], alpha: float = 0.05
) -> dict[Pair, str]:
    """Compact letter display: two pairs share a letter exactly if the tests do not tell them apart.

    Insert and absorb (Piepho, 2004): one letter for all; each test that tells two apart splits every letter that
    both have; a letter whose bearers are a part of another's goes.

    Args:
        values: as for ``compare_pairs``.
        tests: from ``compare_pairs``.
        alpha: adjusted p-values below it tell apart.

    Returns:
        by pair, its letters, "a" for the highest mean.
    """
    means = {
        pair: np.mean(row[~np.isnan(row)]) if not np.isnan(row).all() else -np.inf
        for pair, row in values.items()
    }
    ranked = sorted(values, key=lambda pair: -means[pair])
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
    groups.sort(key=lambda group: [ranked.index(pair) for pair in ranked if pair in group])
    names = [
        ascii_letters[index] if index < len(ascii_letters) else f"({index + 1})"
        for index in range(len(groups))
    ]
    return {
        pair: "".join(name for name, group in zip(names, groups, strict=True) if pair in group)
        for pair in values
    }

"""Which methods belong together: a tree of methods by their agreement above another image's map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison
from xaicmp.errors import UsageError, arg

RESAMPLES = 999
"""Of the images, for the support of a branch (Felsenstein, 1985)."""

FEW = 6
"""Below so many images, resampling them says nothing."""


@dataclass(frozen=True)
class Tree:
    """Methods joined step by step, those that agree most first (average linkage; Sokal and Michener, 1958).

    Attributes:
        methods: the leaves, by name.
        joins: int ``(M - 1, 2)``, what each step joins: a leaf, or from M on the branch of an earlier step.
        agreement: float64 ``(M - 1,)``, mean over the pairs that a step brings together, above another image's map; of a
            distance, how far below it.
        support: float64 ``(M - 1,)``, the share of resamples of the images whose tree has a branch of the same methods;
            NaN below ``FEW`` images.
        left_out: methods that are undefined beside another on every image.
    """

    methods: tuple[str, ...]
    joins: np.ndarray
    agreement: np.ndarray
    support: np.ndarray
    left_out: tuple[str, ...]

    @property
    def members(self) -> list[frozenset[int]]:
        """The leaves of each leaf and each branch."""
        return _members(self.joins, len(self.methods))


def clusters(comparison: Comparison) -> dict[str, Tree]:
    """By statistic, the tree of the methods.

    Raises:
        UsageError: there are fewer than three methods, or no control of another image.
    """
    check_tree(list(comparison.titles), comparison.settings.controls)
    return {each.name: _tree(comparison, each.name, each.higher) for each in comparison.statistics}


def check_tree(methods: Sequence[str], controls: Sequence[str]) -> None:
    """Raise UsageError for fewer than three methods, or without the control that a tree goes by."""
    if len(methods) < 3:
        raise UsageError(
            f"{arg('methods')}: {len(methods)} make no tree or consensus; take three or more that know the model"
        )
    if OTHER_IMAGE not in controls:
        raise UsageError(f"{arg('controls')}: the tree of the methods needs other-image; take it too")


def _tree(comparison: Comparison, statistic: str, higher: bool) -> Tree:
    from scipy.cluster.hierarchy import linkage  # here, because it takes most of a second to import

    values, control = comparison.scores.values[statistic], comparison.scores.controls[OTHER_IMAGE][statistic]
    names, left_out = list(comparison.titles), []
    above = {pair: (1 if higher else -1) * (values[pair] - control[pair]) for pair in values}
    nowhere = {frozenset(pair) for pair, each in above.items() if np.isnan(each).all()}
    while missing := [name for name in names if any({name, other} in nowhere for other in names)]:
        worst = max(missing, key=lambda name: sum({name, other} in nowhere for other in names))
        names.remove(worst)
        left_out.append(worst)
    pairs = list(combinations(names, 2))
    if len(names) < 2:
        return Tree(tuple(names), np.empty((0, 2), dtype=int), np.empty(0), np.empty(0), tuple(left_out))
    rows = np.stack([above[pair] for pair in pairs])
    means = np.nanmean(rows, axis=1)
    found = linkage(means.max() - means, "average")
    joins, count = found[:, :2].astype(int), rows.shape[1]
    support = np.full(len(joins), np.nan)
    if count >= FEW:
        rng, known = np.random.default_rng(comparison.settings.seed), ~np.isnan(rows)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)
        defined = weights @ known.T
        drawn = weights @ np.nan_to_num(rows).T / np.maximum(defined, 1)
        drawn = np.where(defined > 0, drawn, means)
        branches = _members(joins, len(names))[len(names) :]
        seen = np.zeros(len(joins))
        for each in drawn:
            others = linkage(each.max() - each, "average")[:, :2].astype(int)
            held = set(_members(others, len(names)))
            seen += [branch in held for branch in branches]
        support = seen / RESAMPLES
    return Tree(tuple(names), joins, means.max() - found[:, 2], support, tuple(left_out))


def _members(joins: np.ndarray, leaves: int) -> list[frozenset[int]]:
    found = [frozenset([index]) for index in range(leaves)]
    for a, b in joins.tolist():
        found.append(found[a] | found[b])
    return found

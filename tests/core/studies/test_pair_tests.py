"""Whether pairs of methods, or methods, differ from each other, and their letters."""

from __future__ import annotations

import math
import string
from itertools import combinations, product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from xaicmp.core.results.significance import holm
from xaicmp.core.studies.pair_tests import PairTest, compare_pairs, letters


def three_pairs(n: int = 100) -> dict[tuple[str, str], np.ndarray]:
    """Two that agree alike, and one that agrees more."""
    rng = np.random.default_rng(8)
    image = rng.normal(0, 0.3, n)
    return {
        ("a", "b"): image + rng.normal(0.2, 0.1, n),
        ("a", "c"): image + rng.normal(0.2, 0.1, n),
        ("b", "c"): image + rng.normal(0.4, 0.1, n),
    }


def test_pairs_are_compared_over_the_images_where_both_are_defined() -> None:
    values = three_pairs()
    values[("a", "b")][:10] = np.nan
    values[("b", "c")][5:30] = np.nan
    tests = compare_pairs(values)
    assert [(test.a, test.b) for test in tests] == list(combinations(values, 2))
    p = []
    for test in tests:
        differences = values[test.a] - values[test.b]
        differences = differences[~np.isnan(differences)]
        assert test.difference == pytest.approx(differences.mean(), abs=1e-15)
        ends = scipy.stats.t.interval(
            0.95, len(differences) - 1, differences.mean(), scipy.stats.sem(differences)
        )
        assert (test.low, test.high) == pytest.approx(ends, rel=1e-9)
        p.append(scipy.stats.ttest_1samp(differences, 0).pvalue)
        assert test.p == pytest.approx(p[-1], rel=0.1, abs=1e-4)
    assert [test.adjusted for test in tests] == holm(np.array([test.p for test in tests])).tolist()
    assert [test.adjusted < 0.05 for test in tests] == [False, True, True]
    assert letters(values, tests) == {("a", "b"): "b", ("a", "c"): "b", ("b", "c"): "a"}


@pytest.mark.filterwarnings("error")
def test_a_pair_that_is_defined_nowhere_is_told_apart_from_none() -> None:
    values = three_pairs() | {("a", "d"): np.full(100, np.nan)}
    tests = compare_pairs(values)
    undefined = [test for test in tests if ("a", "d") in (test.a, test.b)]
    assert len(undefined) == 3
    assert all(
        math.isnan(each) for test in undefined for each in (test.p, test.adjusted, test.difference, test.low)
    )
    without = compare_pairs(three_pairs())
    assert [test for test in tests if test not in undefined] == without
    assert letters(values, tests)[("a", "d")] == "ab"


def test_the_lowest_adjusted_p_counts_the_comparisons() -> None:
    values = {("a", name): np.full(7, 2.0**row) for row, name in enumerate("bcd")}
    for test in compare_pairs(values):
        assert test.lowest == test.adjusted == pytest.approx(3 * 2 / 2**7)


def test_fewer_flips_for_many_tests_find_the_same_differences() -> None:
    rng = np.random.default_rng(10)
    values = {("a", str(row)): rng.normal(row // 15, 1, 60) for row in range(46)}  # 1,035 tests
    many = compare_pairs(values)
    some = compare_pairs(dict(list(values.items())[:45]))  # 990 tests
    found = {(test.a, test.b): test for test in many}
    for test in some:
        other = found[test.a, test.b]
        assert (test.low, test.high) == (other.low, other.high)
        assert test.p == pytest.approx(other.p, abs=0.06)
        assert test.adjusted > 0.005 or other.adjusted < 0.05
        assert test.adjusted < 0.5 or other.adjusted > 0.05
    assert 300 < sum(test.adjusted < 0.005 for test in some) < 700


def test_one_pair_has_nothing_to_be_compared_with() -> None:
    values = {("a", "b"): np.arange(3.0)}
    assert compare_pairs(values) == []
    assert letters(values, []) == {("a", "b"): "a"}


def told_apart(names: list[str], apart: set[tuple[str, str]]) -> tuple[dict, list[PairTest]]:
    """Values in falling order of ``names``, and tests that tell ``apart``."""
    pairs = [(name, "z") for name in names]
    values = {pair: np.array([-float(index)]) for index, pair in enumerate(pairs)}
    p = {True: 0.01, False: 0.5}
    tests = [PairTest(a, b, 0.0, 0.0, 0.0, 0.0, p[(a[0], b[0]) in apart]) for a, b in combinations(pairs, 2)]
    return values, tests


def test_letters_worked_out_on_paper() -> None:
    # abcd, split by 1-3 into abd|bcd, by 1-4 into ab|bd|bcd of which bd goes, by 2-4 into ab|cd|bc.
    values, tests = told_apart(list("1234"), {("1", "3"), ("1", "4"), ("2", "4")})
    assert list(letters(values, tests).values()) == ["a", "ab", "bc", "c"]
    values, tests = told_apart(list("123"), {("1", "2")})
    assert list(letters(values, tests).values()) == ["a", "b", "ab"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_pairs_share_a_letter_exactly_if_they_are_not_told_apart(data: st.DataObject) -> None:
    names = list(string.ascii_lowercase[: data.draw(st.integers(1, 8))])
    every = list(combinations(names, 2))
    apart = set(data.draw(st.lists(st.sampled_from(every), unique=True))) if every else set()
    values, tests = told_apart(names, apart)
    found = {pair[0]: set(given) for pair, given in letters(values, tests).items()}
    for a, b in every:
        assert bool(found[a] & found[b]) == ((a, b) not in apart)
    assert all(found.values())
    assert found[names[0]] >= {"a"}
    bearers = [{name for name in names if letter in found[name]} for letter in set().union(*found.values())]
    assert not any(one < other for one, other in product(bearers, bearers)), (
        "a letter that another makes needless"
    )
    assert set().union(*found.values()) == set(string.ascii_letters[: len(bearers)])


def test_letters_do_not_run_out() -> None:
    names = [str(index) for index in range(60)]
    values, tests = told_apart(names, set(combinations(names, 2)))
    found = list(letters(values, tests).values())
    assert found[:2] + found[50:54] == ["a", "b", "Y", "Z", "(53)", "(54)"]
    assert len(set(found)) == 60

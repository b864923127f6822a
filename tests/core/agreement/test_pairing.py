from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from xaicmp.core.agreement.pairing import EXACT, PERMUTATIONS, pairing_p
from xaicmp.core.results.significance import pairing_of


def test_four_images_worked_out_on_paper() -> None:
    # Of the 24 permutations the identity has 8; so has the one that exchanges the last two; all others have less.
    values = np.array([[3.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    assert pairing_p(values) == 2 / 24
    assert pairing_p(-values, higher=False) == 2 / 24
    # With the pairing turned round everything else is as good or better: (1 2)(3 4) is worst of all.
    assert (
        pairing_p(values[[1, 0, 3, 2]])
        == sum(sum(values[[1, 0, 3, 2]][range(4), p]) >= 2 for p in permutations(range(4))) / 24
    )
    assert pairing_p(np.full((4, 4), 0.3)) == 1
    assert pairing_p(np.eye(4)) == 1 / 24


def test_the_random_permutations_give_nearly_what_all_do() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(EXACT + 1, EXACT + 1)) + 1.3 * np.eye(EXACT + 1)
    sums = np.array([values[range(EXACT + 1), p].sum() for p in permutations(range(EXACT + 1))])
    exact = (sums >= values.trace() - 1e-9).mean()
    assert 0.01 < exact < 0.2
    assert pairing_p(values) == pytest.approx(exact, abs=4 * np.sqrt(exact / PERMUTATIONS))
    assert pairing_p(values) == pairing_p(values, seed=0) != pairing_p(values, seed=1)
    assert pairing_p(100 * np.eye(20)) == 1 / (1 + PERMUTATIONS)


@pytest.mark.parametrize("images", [12, 30])
def test_no_random_permutation_as_high_gives_the_lowest_p_and_all_as_high_give_one(images: int) -> None:
    assert pairing_p(np.eye(images), higher=True, seed=0) == 1 / (1 + PERMUTATIONS)
    assert pairing_p(np.zeros((images, images)), higher=True, seed=0) == 1


def test_images_without_a_value_take_no_part() -> None:
    values = np.random.default_rng(1).normal(size=(7, 7))
    values[2] = values[:, 5] = np.nan
    kept = [0, 1, 3, 4, 6]
    assert pairing_p(values) == pairing_p(values[np.ix_(kept, kept)])
    assert np.isnan(pairing_p(values[:1, :1]))
    assert np.isnan(pairing_p(np.full((3, 3), np.nan)))


def test_p_is_no_lower_than_it_says_where_the_pairing_says_nothing() -> None:
    rng = np.random.default_rng(2)
    for images in (6, 12):
        # Images differ in level and maps in what they have in common: s(a_i, b_j) = u_i + v_j + noise.
        p = np.array(
            [
                pairing_p(sum(rng.normal(size=s) for s in ((images, 1), (1, images), (images, images))))
                for _ in range(300)
            ]
        )
        for level in (0.05, 0.2, 0.5):
            assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / len(p))
            assert (p <= level).mean() >= level - 3 * np.sqrt(level * (1 - level) / len(p)) - 1 / 720


def test_blocks_of_images_are_combined_by_their_normal_scores() -> None:
    assert pairing_of(np.array([[0.03, 40.0]])) == 0.03
    # z of 0.05 is 1.645: two alike give 1.645 * sqrt(2) = 2.326, which is that of 0.0100.
    assert pairing_of(np.array([[0.05, 9.0], [0.05, 9.0]])) == pytest.approx(0.0100, abs=5e-5)
    assert pairing_of(np.array([[0.05, 9.0], [np.nan, 1.0]])) == 0.05
    assert np.isnan(pairing_of(np.empty((0, 2))))

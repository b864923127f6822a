from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from xaicmp.core.summary import summarise


@pytest.mark.parametrize("n", [1, 2, 3, 100])
def test_mean_and_population_standard_deviation(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    summary = summarise(values)
    assert summary.mean == pytest.approx(statistics.fmean(values), abs=1e-12)
    assert summary.std == pytest.approx(statistics.pstdev(values), abs=1e-12)
    assert (summary.n, summary.undefined, summary.tied) == (n, 0, None)


def test_worked_out_on_paper() -> None:
    summary = summarise(np.array([1.0, np.nan, 3.0, np.nan, 5.0]), np.array([True, False, True, True, False]))
    assert summary.mean == 3
    assert summary.std == pytest.approx(math.sqrt(8 / 3))
    assert (summary.n, summary.undefined, summary.tied) == (3, 2, 3)


@pytest.mark.parametrize("values", [np.full(4, np.nan), np.empty(0)])
@pytest.mark.filterwarnings("error")
def test_what_is_defined_nowhere_has_no_mean(values: np.ndarray) -> None:
    summary = summarise(values)
    assert math.isnan(summary.mean)
    assert math.isnan(summary.std)
    assert (summary.n, summary.undefined) == (0, len(values))


def test_undefined_values_do_not_move_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    holes = np.insert(values, rng.integers(0, 50, 9), np.nan)
    full, holed = summarise(values), summarise(holes)
    assert (holed.mean, holed.std, holed.n, holed.undefined) == (full.mean, full.std, 50, 9)

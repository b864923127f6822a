"""Intervals of few images, in every study: they end where the values do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest, holm
from xaicmp.core.studies.checkpoints import Checkpoints
from xaicmp.core.studies.consensus import Consensus
from xaicmp.core.studies.faithfulness import CURVES, OUTPUTS, Faithfulness
from xaicmp.core.studies.localisation import MEASURES, Localisation
from xaicmp.core.studies.measured import Measured
from xaicmp.core.studies.properties import PROPERTIES, Properties
from xaicmp.core.studies.randomisation import Randomisation
from xaicmp.core.studies.stability import Repetition
from xaicmp.views.text import difference

HOW = Settings(["pearson", "iou"])
CORRELATIONS = {"pearson", "other_class", "other_class_runner_up", "consensus"}


def studies(values: np.ndarray) -> list[Measured]:
    """One of each kind, all of whose measures have these values."""

    def of(*names: str) -> dict[str, dict[str, np.ndarray]]:
        return {name: {"a": values} for name in names}

    given = ({"a": "A"}, HOW)
    return [
        Properties(*given, of(*PROPERTIES), {}),
        Localisation(*given, of(*MEASURES), {}, 0),
        Consensus(*given, of("kendall_w", "consensus"), {}, np.zeros((1, 1, 1))),
        Repetition(*given, of("pearson", "iou"), {}, {}),
    ]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=4))
def test_no_interval_goes_further_than_the_values_can(few: list[float]) -> None:
    values = np.array(few)
    for study in studies(values):
        for measure in study.values:
            summary = study.summary(measure, "a")
            lowest = -1 if measure in CORRELATIONS else 0
            highest = math.inf if measure == "max_sensitivity" else 1
            assert lowest <= summary.low <= summary.mean + 1e-9
            assert summary.mean - 1e-9 <= summary.high <= highest
    draws = np.tile(values[:, None], (1, 2))
    pair, names = ("a", "b"), ("one", "two", "three", "four")[: len(draws)]
    both = {name: {pair: draws} for name in ("pearson", "iou")}
    several = Checkpoints(names, np.arange(2), 0, both, both, HOW)
    again = dict.fromkeys(("pearson", "iou"), draws.T[None, :, None])
    random = Randomisation("cascading", ("fc",), np.ones(2), np.ones(2), again, again, HOW)
    for name, lowest in (("pearson", -1), ("iou", 0)):
        found = [random.areas(name)[0]] + [several.estimate(name, pair)] * (len(draws) > 2)
        assert all(lowest <= each.low <= each.high <= 1 for each in found)


def test_two_images_reach_both_ends() -> None:
    """Student's interval of 0.2 and 0.9 is -3.9 to 5.0."""
    for study in studies(np.array([0.2, 0.9])):
        for measure in set(study.values) - {"max_sensitivity", "pointing"}:
            summary = study.summary(measure, "a")
            assert (summary.low, summary.high) == (-1 if measure in CORRELATIONS else 0, 1)


def test_a_probability_ends_at_one_and_a_logit_does_not() -> None:
    flat = np.broadcast_to(np.array([0.2, 0.9])[:, None], (3, 2, 2, 5))  # areas of 0.2 and 0.9
    curves = dict.fromkeys(OUTPUTS, flat)
    found = Faithfulness("zero", np.linspace(0, 1, 5), curves, np.array([[0.1, 9.0]]), HOW).summaries(0)
    for curve in CURVES:
        assert (found[f"probability_{curve}"].low, found[f"probability_{curve}"].high) == (0, 1)
        assert found[f"logit_{curve}"].low < 0 < 1 < found[f"logit_{curve}"].high
    assert found["infidelity"].low == 0
    assert found["infidelity"].high == pytest.approx(4.55 + 12.706 * 4.45, rel=1e-3)


def test_of_many_methods_the_adjusted_p_decides_in_every_study() -> None:
    """Noise of 12 methods, one of which is above its control by luck: alone it has a star, among twelve none."""
    rng = np.random.default_rng(3)
    other, own = rng.normal(size=(2, 12, 30))
    own[0] = other[0] + rng.normal(0.6, 1, 30)
    names = [f"m{each}" for each in range(12)]

    def above(rows: list[str]) -> list[PairedTest]:
        values = {"pearson": dict(zip(rows, own, strict=False))}
        controls = {"other_image": {"pearson": dict(zip(rows, other, strict=False))}}
        study = Repetition({each: each for each in rows}, HOW, values, controls, {})
        return list(study.above("pearson", "other_image").values())

    gains = np.stack([own, own * 0], axis=1)[..., ::-1, :]  # insertion minus deletion
    curves = dict.fromkeys(OUTPUTS, np.repeat(np.concatenate([gains, gains[:2] * 0])[..., None], 2, axis=3))
    faithful = Faithfulness("zero", np.array([0.0, 1.0]), curves, np.empty((12, 0)), HOW).above("random")
    stages = [each[:, None, None] for each in (own, other)]
    random = Randomisation("cascading", ("fc",), *np.ones((2, 2)), *({"iou": each} for each in stages), HOW)
    for many in (above(names), faithful, random.last_stage("iou")):
        np.testing.assert_allclose(
            [each.adjusted for each in many], holm(np.array([each.p for each in many]))
        )
        assert [each.decides for each in many] == [each.adjusted for each in many]
    (alone,), many = above(names[:1]), above(names)
    assert alone.p == many[0].p < 0.05 < many[0].adjusted
    assert [difference(each).endswith("*") for each in (alone, many[0])] == [True, False]

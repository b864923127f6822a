"""The outcome of a comparison: made by hand from values, so that each figure is known."""

from __future__ import annotations

import dataclasses
import math
import pkgutil
import warnings
from importlib import import_module
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

import xaicmp.core.results
from xaicmp.core.results.comparison import Comparison, Source
from xaicmp.core.results.intervals import summarise, summarise_share
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest, paired_tests
from xaicmp.core.results.verdict import Verdict, verdict
from xaicmp.core.studies.groups import parts as parts_of

NAN = float("nan")
AB = ("a", "b")


def comparison_of(
    values: list[float],
    *,
    floor: list[float] | None = None,
    places: list[float] | None = None,
    identical: list[float] | None = None,
    labels: list[int] | None = None,
    predicted: list[int] | None = None,
    confidence: list[float] | None = None,
) -> Comparison:
    """Two methods, a and b, whose Pearson correlations are ``values``; IoU is half of that, and tied at the end."""
    count = len(values)
    zeros, pearson = np.zeros(count, dtype=np.int64), np.array(values)
    chosen = Predictions(
        10 + np.arange(count),
        np.array(labels) if labels else zeros,
        np.array(predicted) if predicted else zeros,
        np.array(confidence) if confidence else np.full(count, 0.5),
        zeros,
    )
    floors = {"pearson": {AB: np.array(floor)}, "iou": {AB: np.array(floor) / 2}} if floor else {}
    ties = np.arange(count) == count - 1
    scores = Scores(
        {"pearson": {AB: pearson}, "iou": {AB: pearson / 2}},
        {"iou": {AB: ties}},
        {AB: np.array(identical) if identical else np.zeros(count, dtype=bool)},
        {"other_image": floors} if floor else {},
        {"shifted": {"pearson": {AB: np.array(places)}}} if places else {},
        {},
    )
    source = Source("By hand.", {}, ("cat", "dog", "ship"))
    return Comparison(source, {"a": "A", "b": "B"}, frozenset(), Settings(), 1024, chosen, scores)


def parts(comparison: Comparison, by: str) -> dict[str, list[int]]:
    found = list(parts_of(comparison, by))
    assert len({name for name, _ in found}) == len(found)
    return {name: (part.predictions.ids - 10).tolist() for name, part in found}


def test_a_result_is_the_summary_beside_its_floors() -> None:
    values, floor = [0.5, 0.75, NAN, 0.25], [0.25, 0.25, 0.5, NAN]
    comparison = comparison_of(values, floor=floor, places=[0.05, 0.1, NAN, 0.3])
    pearson, iou = comparison.statistics
    result = comparison.result(pearson, AB)
    assert (result.summary.mean, result.summary.n, result.summary.undefined) == (0.5, 3, 1)
    assert result.summary == summarise(np.array(values), level=0.95, seed=0).within(-1, 1)
    assert result.summary.tied is None
    assert (result.chance, result.corrected) == (0, 0.5)
    assert result.controls == {"other_image": pytest.approx(1 / 3)}
    (alone,) = paired_tests(np.array([values]), np.array([floor]))
    assert result.above is not None
    assert (result.above.p, result.above.low, result.above.high) == (alone.p, alone.low, alone.high)
    assert result.above.difference == pytest.approx(0.375)
    assert result.above_shifted == summarise_share(np.array([1, 0, NAN, 0]))
    small = dataclasses.replace(comparison, pixels=19).result(pearson, AB).above_shifted
    assert small is not None
    assert (small.n, small.undefined) == (0, 4)
    assert np.isnan([small.mean, small.low, small.high]).all()
    overlap = comparison.result(iou, AB)
    assert overlap.summary.tied == 1
    assert overlap.chance == pytest.approx(0.2 / 1.8, abs=2e-3)
    assert overlap.chance is not None
    assert overlap.corrected == pytest.approx((0.25 - overlap.chance) / (1 - overlap.chance))
    assert overlap.above_shifted is None
    assert comparison.summary("iou", AB) == overlap.summary


def test_without_controls_there_is_nothing_to_be_above() -> None:
    result = comparison_of([0.5, 0.75]).result(Settings().statistics[0], AB)
    assert (result.controls, result.above, result.above_shifted) == ({}, None, None)


def test_what_is_undefined_everywhere_stays_so_and_warns_of_nothing() -> None:
    comparison = comparison_of([NAN, NAN], floor=[NAN, NAN], places=[NAN, NAN])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = comparison.result(Settings().statistics[0], AB)
        assert comparison.verdict(comparison.statistics[0], AB) is Verdict.FEW
    assert np.isnan([result.summary.mean, result.corrected, result.controls["other_image"]]).all()
    assert result.above_shifted is not None
    assert np.isnan(result.above_shifted.mean)
    assert result.above is not None
    assert np.isnan(result.above.p)


def test_a_result_is_worked_out_once() -> None:
    comparison = comparison_of([0.5, 0.75, 0.25])
    statistic = comparison.statistics[0]
    assert comparison.result(statistic, AB) is comparison.result(statistic, AB)
    part = comparison.rows(np.array([0]))
    assert part.result(statistic, AB).summary.mean == 0.5
    assert comparison.result(statistic, AB).summary.n == 3


NOISE = np.random.default_rng(0).normal(0, 0.05, 40)


@pytest.mark.parametrize(
    ("level", "floor", "words"),
    [
        (-0.5, 0.0, "less than chance"),
        (0.0, 0.0, "not told apart from chance"),
        (0.5, None, "more than chance"),
        (0.5, 0.1, "more than with another image's map"),
        (0.5, 0.5, "about equal to that with another image's map"),
        (0.5, 0.8, "less than with another image's map"),
    ],
)
def test_the_verdict_of_each_statistic_is_said(level: float, floor: float | None, words: str) -> None:
    values = (level + NOISE - NOISE.mean()).tolist()
    floors = None if floor is None else (floor + NOISE[::-1] - NOISE.mean()).tolist()
    comparison = comparison_of(values, floor=floors)
    pearson, iou = comparison.statistics
    assert comparison.verdict(pearson, AB).long == comparison.result(pearson, AB).said == words
    # IoU is half of Pearson: what is 0.05 to the one is by chance 0.11 to the other.
    assert comparison.said(AB) == (
        words
        if comparison.verdict(iou, AB).long == words
        else f"Pearson: {words}; IoU@20%: {comparison.verdict(iou, AB).long}"
    )


@pytest.mark.parametrize(
    ("chance", "other", "found"),
    [
        ({"p": 0.05}, {}, Verdict.CHANCE),
        ({"lowest": 0.05}, {}, Verdict.FEW),
        ({}, {"lowest": 0.05}, Verdict.FEW),
        ({}, {"p": 0.05}, Verdict.UNTOLD),
        ({}, {"p": 0.05, "equal": 0.05}, Verdict.UNTOLD),
        ({}, {"p": 0.05, "equal": 0.0499}, Verdict.EQUAL),
        ({}, {"p": 0.0499}, Verdict.MORE),
    ],
)
def test_a_p_of_the_level_itself_shows_nothing(
    chance: dict[str, float], other: dict[str, float], found: Verdict
) -> None:
    tests = (
        PairedTest(**{"difference": 0.1, "low": 0, "high": 1, "p": 0.01, "lowest": 0.001, "n": 9} | each)
        for each in (chance, other)
    )
    assert verdict(*tests) is found


def test_what_was_found_cannot_be_changed() -> None:
    names = [
        f"{xaicmp.core.results.__name__}.{each.name}"
        for each in pkgutil.iter_modules(xaicmp.core.results.__path__)
    ]
    kinds = [
        each
        for name in names
        for each in vars(import_module(name)).values()
        if isinstance(each, type) and dataclasses.is_dataclass(each)
    ]
    assert {each.__name__ for each in kinds} >= {
        "Scores",
        "Predictions",
        "Comparison",
        "Explanations",
        "Summary",
    }
    assert all(each.__dataclass_params__.frozen for each in kinds)


def test_each_statistic_has_its_own_verdict_whatever_their_order() -> None:
    values, floor = [0.1 + each for each in NOISE], [0.0] * 40
    one = comparison_of(values, floor=floor)
    other = dataclasses.replace(one, settings=Settings(["iou", "pearson"]))
    for comparison in (one, other):
        found = {each.name: comparison.verdict(each, AB) for each in comparison.statistics}
        assert found == {"pearson": Verdict.MORE, "iou": Verdict.BELOW_CHANCE}
    assert one.said(AB) == "Pearson: more than with another image's map; IoU@20%: less than chance"
    assert other.said(AB) == "IoU@20%: less than chance; Pearson: more than with another image's map"


@pytest.mark.parametrize(("n", "p"), [(1, "1"), (2, "0.5"), (3, "0.25"), (5, "0.062"), (6, None)])
def test_of_fewer_than_six_images_there_is_no_verdict(n: int, p: str | None) -> None:
    for sign in (1, -1):
        values = [sign * (0.5 + 0.01 * each) for each in range(n)]
        comparison = comparison_of(values, floor=[0.0] * n if n > 1 else [NAN])
        said = comparison.result(comparison.statistics[0], AB).said
        if p:
            assert said == f"n = {n}: too few for a test (smallest p {p})"
        else:
            assert said == {1: "more than with another image's map", -1: "less than chance"}[sign]


@pytest.mark.parametrize("n", [2, 3, 4])
def test_of_few_images_the_interval_stays_in_the_range_of_the_statistic(n: int) -> None:
    values = [-0.6, 0.9, 0.95, 0.1][:n]
    low, high = scipy.stats.t.interval(0.95, n - 1, np.mean(values), scipy.stats.sem(values))
    comparison = comparison_of(values)
    pearson, iou = (comparison.result(each, AB).summary for each in comparison.statistics)
    assert high > 1
    assert (pearson.low, pearson.high) == (pytest.approx(max(low, -1)), 1)
    assert (iou.low, iou.high) == (0, pytest.approx(min(high / 2, 1)))  # IoU is half of Pearson
    one = comparison_of(values[:1]).result(comparison.statistics[0], AB).summary
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_no_verdict_depends_on_the_seed() -> None:
    one = comparison_of((0.1 + NOISE).tolist(), floor=(0.08 + NOISE[::-1]).tolist())
    other = dataclasses.replace(one, settings=Settings(seed=5))
    for statistic in one.statistics:
        found, again = (each.result(statistic, AB) for each in (one, other))
        assert (found.above, found.verdict) == (again.above, again.verdict)
        assert found.summary.low != again.summary.low


def test_how_much_another_image_explains_and_how_many_images_are_above_it() -> None:
    comparison = comparison_of([0.5, 0.4, NAN, 0.1, 0.2], floor=[0.2, 0.2, 0.9, 0.2, NAN])
    result = comparison.result(comparison.statistics[0], AB)
    assert result.explained.mean == pytest.approx(0.6 / 1.0)
    assert result.images_above == summarise_share(np.array([1, 1, NAN, 0, NAN]))
    assert result.above is not None
    each = np.array([0.3, 0.2, -0.1])
    assert result.above.d_z == pytest.approx(each.mean() / each.std(ddof=1))
    nothing = comparison_of([-0.5, -0.4], floor=[0.2, 0.2])
    assert np.isnan(nothing.result(nothing.statistics[0], AB).explained.mean)


def test_verdicts_of_many_pairs_go_by_adjusted_p() -> None:
    """One pair that differs a little: enough alone and among ten, not among eleven."""
    made = comparison_of(list(NOISE))
    rng = np.random.default_rng(1)
    for count, found in ((5, Verdict.MORE), (6, Verdict.UNTOLD)):
        titles = {name: name for name in "abcdef"[:count]}
        pairs = list(combinations(titles, 2))
        noise = {pair: rng.normal(0, 0.3, 40) for pair in pairs}
        noise = {pair: each - each.mean() for pair, each in noise.items()}
        values = {pair: 0.5 + each for pair, each in noise.items()}
        values[AB] = values[AB] + 2.4 * 0.3 / np.sqrt(40)
        scores = dataclasses.replace(
            made.scores,
            values={"pearson": values},
            identical={pair: np.zeros(40) for pair in pairs},
            controls={"other_image": {"pearson": {pair: np.full(40, 0.5) for pair in pairs}}},
        )
        comparison = dataclasses.replace(made, titles=titles, settings=Settings(["pearson"]), scores=scores)
        above = comparison.result(comparison.statistics[0], AB).above
        assert above is not None
        assert above.p < 0.05 < above.adjusted
        assert above.tests == len(pairs)
        assert comparison.verdict(comparison.statistics[0], AB) is found


def test_a_pair_is_an_identity_if_its_maps_are_the_same_on_every_image() -> None:
    same, nearly = (comparison_of([1.0] * 3, identical=[True, True, each]) for each in (True, False))
    assert same.identities == {AB}
    assert same.verdict(same.statistics[1], AB) is Verdict.IDENTITY
    assert same.said(AB) == Verdict.IDENTITY.long
    assert nearly.identities == frozenset()
    assert nearly.verdict(nearly.statistics[0], AB) is not Verdict.IDENTITY
    assert nearly.rows(np.array([0, 1])).identities == {AB}
    somewhere, nowhere = (comparison_of([1.0] * 3, identical=[NAN, NAN, each]) for each in (1, NAN))
    assert somewhere.identities == {AB}
    assert nowhere.identities == frozenset()
    assert same.rows(np.array([], dtype=np.int64)).identities == frozenset()


def test_pairs_come_in_order_and_those_with_a_floor_last() -> None:
    made = comparison_of([0.5])
    titles = {name: name.title() for name in ("edge", "b", "random", "a")}
    comparison = Comparison(
        made.source, titles, frozenset({"edge", "random"}), made.settings, 1024, made.predictions, made.scores
    )
    assert comparison.pairs == (
        ("b", "a"),
        ("edge", "b"),
        ("edge", "random"),
        ("edge", "a"),
        ("b", "random"),
        ("random", "a"),
    )


def test_rows_take_everything_along() -> None:
    comparison = comparison_of(
        [0.1, 0.2, 0.3], floor=[0.4, 0.5, 0.6], labels=[0, 1, 2], predicted=[0, 2, 2], places=[0.1, 0.2, 0.3]
    )
    part = comparison.rows(np.array([2, 1]))
    assert part.predictions.ids.tolist() == [12, 11]
    assert part.predictions.wrong.tolist() == [False, True]
    assert part.scores.values["pearson"][AB].tolist() == [0.3, 0.2]
    assert part.scores.controls["other_image"]["pearson"][AB].tolist() == [0.6, 0.5]
    assert part.scores.shifted_p["pearson"][AB].tolist() == [0.3, 0.2]
    assert part.scores.tied["iou"][AB].tolist() == [True, False]
    assert len(comparison.predictions) == 3


def test_groups_of_class_and_of_right_and_wrong_leave_out_the_empty() -> None:
    comparison = comparison_of([0.1, 0.2, 0.3, 0.4], labels=[2, 0, 2, 0], predicted=[2, 1, 0, 0])
    assert parts(comparison, "class") == {"cat": [1, 3], "ship": [0, 2]}
    assert parts(comparison, "correct") == {"right": [0, 3], "wrong": [1, 2]}
    assert parts(comparison.rows(np.array([0, 3])), "correct") == {"right": [0, 3]}
    means = {name: part.summary("pearson", AB).mean for name, part in parts_of(comparison, "class")}
    assert means == pytest.approx({"cat": 0.3, "ship": 0.2})


def test_groups_of_confidence_are_quartiles_from_the_least_confident_on() -> None:
    confidence = np.random.default_rng(1).permutation(100) / 100
    comparison = comparison_of([0.5] * 100, confidence=confidence.tolist())
    found = parts(comparison, "confidence")
    assert list(found) == ["0.000 to 0.240", "0.250 to 0.490", "0.500 to 0.740", "0.750 to 0.990"]
    order = np.argsort(confidence)
    for index, ids in enumerate(found.values()):
        assert sorted(order[25 * index : 25 * index + 25].tolist()) == ids


@pytest.mark.parametrize(
    ("confidence", "sizes"),
    [
        ([1.0] * 6, [6]),
        ([0.2] * 3 + [1.0] * 3, [3, 3]),
        ([0.2] + [1.0] * 9, [10]),
        ([0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [2, 1, 1, 1]),
        ([0.7], [1]),
    ],
)
def test_equally_confident_images_stay_together(confidence: list[float], sizes: list[int]) -> None:
    found = list(parts_of(comparison_of([0.5] * len(confidence), confidence=confidence), "confidence"))
    held = [set(part.predictions.confidence) for _, part in found]
    assert [len(part.predictions) for _, part in found] == sizes
    assert sum(len(each) for each in held) == len(set(confidence))


def test_images_of_unknown_confidence_are_a_group_of_their_own() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        some = comparison_of([0.5] * 6, confidence=[NAN, 0.1, 0.2, NAN, 0.3, 0.4])
        assert parts(some, "confidence") == {
            "0.100 to 0.100": [1],
            "0.200 to 0.200": [2],
            "0.300 to 0.300": [4],
            "0.400 to 0.400": [5],
            "unknown": [0, 3],
        }
        assert parts(comparison_of([0.5] * 3, confidence=[NAN] * 3), "confidence") == {"unknown": [0, 1, 2]}


@pytest.mark.parametrize("by", ["class", "correct", "confidence"])
def test_every_image_is_in_one_group(by: str) -> None:
    rng = np.random.default_rng(3)
    for count in (1, 2, 5, 33):
        comparison = comparison_of(
            rng.random(count).tolist(),
            labels=rng.integers(3, size=count).tolist(),
            predicted=rng.integers(3, size=count).tolist(),
            confidence=rng.choice([0.1, 0.5, 0.9, 1.0, NAN], count).tolist(),
        )
        ids = [each for _, part in parts_of(comparison, by) for each in part.predictions.ids.tolist()]
        assert sorted(ids) == (10 + np.arange(count)).tolist()


def test_iou_by_share_is_summarised_once_within_its_range() -> None:
    made = comparison_of([0.5] * 3)
    observed = np.linspace([0, 0.1, 0.2], [1, 1, 1], 50).T
    scores = dataclasses.replace(made.scores, curves={"observed": {AB: observed}})
    comparison = dataclasses.replace(made, scores=scores)
    found = comparison.by_share(AB)
    assert found is comparison.by_share(AB)
    assert found.shares == pytest.approx(np.arange(1, 51) / 100)
    assert found.other_image == []
    assert found.chance[19] == pytest.approx(0.111, abs=1e-3)
    assert found.observed[0].mean == pytest.approx(0.1)
    assert [each.n for each in found.observed] == [3] * 50
    assert all(0 <= each.low <= each.mean <= each.high <= 1 for each in found.observed)
    scores = dataclasses.replace(scores, curves=scores.curves | {"other_image": {AB: observed / 2}})
    assert dataclasses.replace(comparison, scores=scores).by_share(AB).other_image[0] == pytest.approx(0.05)

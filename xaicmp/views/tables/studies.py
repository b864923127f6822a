"""What ``metrics`` adds to the pairs on request, each as one table that every format can show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import Summary, defined_mean, summarise
from xaicmp.core.results.pair_tests import compare_pairs, letters
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest, paired_test
from xaicmp.core.studies.cost import Cost
from xaicmp.core.studies.faithfulness import CURVES, OUTPUTS, RANDOM, Faithfulness
from xaicmp.core.studies.randomisation import Randomisation
from xaicmp.core.studies.stability import Repetition
from xaicmp.views.document import above, ends, number
from xaicmp.views.figures.faithfulness import faithfulness_figure
from xaicmp.views.figures.randomisation import randomisation_figure
from xaicmp.views.table import Study
from xaicmp.views.text import decimals, estimate, interval, known_pairs, level_title, name_pair

UNCHANGED = 0.999

"""Agreement above which a map is called the same as before."""


def differences(comparison: Comparison) -> Study:
    """Whether the pairs differ: which share a letter, and the paired tests behind it."""
    names = {pair: name_pair(comparison, pair) for pair in comparison.pairs}
    rows: list[list[str]] = [[name] for name in names.values()]
    data: dict[str, Any] = {}
    for statistic in comparison.statistics:
        values = comparison.scores.values[statistic.name]
        tests = compare_pairs(values, level=comparison.settings.level, seed=comparison.settings.seed)
        can_tell = not tests or any(test.lowest < LEVEL for test in tests)
        shared = letters(values, tests) if can_tell else dict.fromkeys(names, "-")
        for row, pair in zip(rows, names, strict=True):
            row.append(f"{decimals(comparison.summary(statistic.name, pair).mean)} {shared[pair]}")
        data[statistic.name] = [
            {
                "a": "|".join(test.a),
                "b": "|".join(test.b),
                "difference": number(test.difference),
                "ci": ends(test),
                "p": number(test.p),
                "adjusted": number(test.adjusted),
            }
            for test in tests
        ]
    return Study(
        "compare_pairs",
        "Do the pairs differ?",
        ("Pair", *(each.title(comparison.top) for each in comparison.statistics)),
        rows,
        "Pairs that share a letter do not differ at 5% (paired over images, Holm-corrected); a dash stands where "
        "so few images cannot show a difference.",
        data,
    )


def groups(comparison: Comparison, by: str) -> Study:
    """Agreement by class, right or wrong prediction, confidence, or method."""
    if by == "method":
        return _by_method(comparison)
    rows: list[list[str]] = []
    data = []
    for name, part in comparison.groups(by):
        rows.append([f"{name}, n = {len(part.predictions)}", *[""] * len(part.statistics)])
        for pair in part.pairs:
            summaries = [part.summary(each.name, pair) for each in part.statistics]
            rows.append([f"  {name_pair(part, pair)}", *map(estimate, summaries)])
            data.append(
                {"group": name, "n": len(part.predictions), "a": pair[0], "b": pair[1]}
                | _plain(part, summaries)
            )
    columns = (by.capitalize(), *(each.title(comparison.top) for each in comparison.statistics))
    note = f"Mean ± std (and {level_title(comparison.settings)}) over the images of each group."
    return Study(f"by_{by}", f"Agreement by {by}", columns, rows, note, data)


def _by_method(comparison: Comparison) -> Study:
    """How far each method agrees with the others that know the model, on average."""
    rows, data = [], []
    for name, title in comparison.titles.items():
        pairs = known_pairs(comparison, name)
        summaries = []
        for statistic in comparison.statistics:
            values = np.array([comparison.scores.values[statistic.name][pair] for pair in pairs])
            summaries.append(_summarise(values.mean(axis=0), comparison.settings))
        rows.append([title, *map(estimate, summaries)])
        data.append({"method": name} | _plain(comparison, summaries))
    columns = ("Method", *(each.title(comparison.top) for each in comparison.statistics))
    note = (
        f"Mean ± std (and {level_title(comparison.settings)}) over images of each one's mean over the pairs "
        "with the other methods; floors are left out."
    )
    return Study("by_method", "Agreement with the other methods", columns, rows, note, data)


def repetition(found: Repetition, key: str, title: str, note: str) -> Study:
    """How far each method agrees with itself."""
    rows, data = [], []
    for name, method in found.titles.items():
        summaries = [
            _summarise(found.values[each.name][name], found.settings) for each in found.settings.statistics
        ]
        rows.append([method, "yes" if found.same[name] else "no", *map(estimate, summaries)])
        plain = {
            statistic.name: _summary(summary)
            for statistic, summary in zip(found.settings.statistics, summaries, strict=True)
        }
        data.append({"method": name, "same": found.same[name]} | plain)
    columns = ("Method", "Same", *(each.title(found.settings.top) for each in found.settings.statistics))
    about = f"Mean ± std (and {level_title(found.settings)}). {note}"
    return Study(key, title, columns, rows, about, data)


def costs(found: Sequence[Cost]) -> Study:
    """What each method takes."""
    rows, data = [], []
    for cost in found:
        memory = "-" if cost.memory is None else f"{cost.memory / 2**20:.0f}"
        rows.append([cost.title, f"{cost.seconds:.3f}", f"{cost.passes:.1f}", memory])
        data.append(
            {"title": cost.title, "seconds": cost.seconds, "passes": cost.passes, "memory": cost.memory}
        )
    return Study(
        "cost",
        f"Cost on {found[0].images} images",
        ("Method", "Seconds", "Passes an image", "Memory (MiB)"),
        rows,
        "Passes forward and backward count one each. Memory is the peak over what was in use before. "
        "All together, the methods share one pass.",
        data,
    )


def randomisation(found: Randomisation, comparison: Comparison) -> Study:
    """How far the maps of ever less trained models agree with the original's, by stage."""
    titles, settings = comparison.titles, comparison.settings
    rows: list[list[str]] = []
    data: dict[str, Any] = {
        "kind": found.kind,
        "stages": list(found.stages),
        "accuracy": list(found.accuracy),
    }
    for name, agreement in found.agreement.items():
        means = np.array([[defined_mean(values) for values in by_stage] for by_stage in agreement])
        for index, stage in enumerate(found.stages):
            accuracy = f" ({100 * found.accuracy[1 + index]:.0f}%)"
            rows.append([f"{name}: {stage}{accuracy}", *map(decimals, means[:, index])])
        areas = [_summarise(values, settings) for values in found.area(name)]
        tests = [
            paired_test(values[-1], chance, two_sided=True, level=settings.level, seed=settings.seed)
            for values, chance in zip(agreement, found.chance[name], strict=True)
        ]
        band = found.band(name)
        rows.append([f"{name}: area", *(decimals(area.mean) for area in areas)])
        rows.append([f"{name}: {level_title(settings)}", *map(interval, areas)])
        rows.append([f"{name}: chance", *(decimals(defined_mean(values)) for values in found.chance[name])])
        rows.append([f"{name}: last stage", *map(_place, means[:, -1], tests)])
        data[name] = [
            {
                "method": method,
                "stages": [number(value) for value in means[index]],
                "defined": [int(np.isfinite(values).sum()) for values in agreement[index]],
                "area": _summary(areas[index]),
                "chance": number(defined_mean(found.chance[name][index])),
                "chance_band": [number(edge) for edge in band[index]],
                "last_above_chance": above(tests[index]),
            }
            for index, method in enumerate(titles)
        ]
    return Study(
        "randomisation",
        f"Agreement with the trained model's map, {found.kind} randomisation",
        ("Stage drawn anew", *titles.values()),
        rows,
        f"In brackets the accuracy that is left of {100 * found.accuracy[0]:.0f}%. Area: mean over the stages, "
        "without the original, and its interval. Chance: the original's map against its map of another image. A method that is "
        "above chance or unchanged at the last stage shows more than what the model has learned.",
        data,
        partial(randomisation_figure, found, comparison),
    )


def faithfulness(found: Sequence[Faithfulness], comparison: Comparison) -> Study:
    """What becomes of the target's probability as pixels are taken away in each method's order."""
    rows, data = [], []
    for each in found:
        areas = {f"{output} {curve}": each.auc(output, curve) for output in OUTPUTS for curve in CURVES} | {
            f"{output} gain": each.gain(output) for output in OUTPUTS
        }
        rows.append([f"{each.baseline} baseline", *[""] * 4])
        for index, name in enumerate([*comparison.titles, RANDOM]):
            summaries = {key: _summarise(values[index], comparison.settings) for key, values in areas.items()}
            known = index < len(each.infidelity) and not np.isnan(each.infidelity).all()
            infidelity = _summarise(each.infidelity[index], comparison.settings) if known else None
            gain = summaries["probability gain"]
            rows.append(
                [
                    f"  {comparison.titles.get(name, 'random order')}",
                    decimals(summaries["probability deletion"].mean),
                    decimals(summaries["probability insertion"].mean),
                    f"{decimals(gain.mean)} ({interval(gain)})",
                    decimals(infidelity.mean if infidelity else None),
                ]
            )
            values = {key.replace(" ", "_"): _summary(summary) for key, summary in summaries.items()}
            if infidelity:
                values["infidelity"] = _summary(infidelity)
            data.append({"baseline": each.baseline, "method": name} | values)
    return Study(
        "faithfulness",
        "Does the map point at what the model uses?",
        ("Method", "Deletion", "Insertion", "Gain", "Infidelity"),
        rows,
        "Areas under the target's probability as pixels are removed, most relevant first (deletion, low is good) "
        "or least (insertion, high is good); gain is their difference (and its "
        f"{level_title(comparison.settings)}), 0 for a random order.",
        data,
        partial(faithfulness_figure, found, comparison),
    )


def _summarise(values: np.ndarray, settings: Settings) -> Summary:
    return summarise(values, level=settings.level, seed=settings.seed)


def _place(mean: float, test: PairedTest) -> str:
    """Where the last stage is, in words; with so few images no test can tell."""
    if mean > UNCHANGED:
        return "unchanged"
    if not test.lowest < LEVEL:
        return "too few"
    if not test.p < LEVEL:
        return "as chance"
    return "above chance" if test.difference > 0 else "below chance"


def _plain(comparison: Comparison, summaries: Sequence[Summary]) -> dict[str, Any]:
    return {
        statistic.name: _summary(summary)
        for statistic, summary in zip(comparison.statistics, summaries, strict=True)
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "mean": number(summary.mean),
        "std": number(summary.std),
        "ci": ends(summary),
        "n": summary.n,
        "undefined": summary.undefined,
    }

"""What is asked beside the comparison, each study as one table that every format can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import Summary, defined_mean
from xaicmp.core.results.significance import PairedTest
from xaicmp.core.studies.cost import Cost
from xaicmp.core.studies.faithfulness import CONTROLS, Faithfulness
from xaicmp.core.studies.groups import Group
from xaicmp.core.studies.localisation import MEASURES, Localisation
from xaicmp.core.studies.pair_tests import PairTests
from xaicmp.core.studies.properties import PROPERTIES, RADIUS, Properties
from xaicmp.core.studies.randomisation import Randomisation
from xaicmp.core.studies.stability import Repetition
from xaicmp.views.document import above, ends, number, pair_key
from xaicmp.views.table import Table
from xaicmp.views.text import decimals, estimate, interval, level_title, name_pair, spread

UNCHANGED = 0.999
"""Agreement above which a map is called the same as before."""

CONTROL_TITLES = {"random": "random order", "centre": "from the centre"}
"""What the controls of faithfulness are called in its rows."""


def differences(found: PairTests, comparison: Comparison) -> Table:
    """Whether the pairs differ: which share a letter, or their ranking if they are many, and the tests behind it."""
    data: dict[str, Any] = {
        name: [
            {
                "a": pair_key(test.a),
                "b": pair_key(test.b),
                "difference": number(test.difference),
                "ci": ends(test),
                "p": number(test.p),
                "adjusted": number(test.adjusted),
            }
            for test in tests
        ]
        for name, tests in found.tests.items()
    }
    data["above_other_image"] = found.above
    data["ranking"] = {
        name: [
            {
                "pair": pair_key(each.pair),
                "mean": number(each.mean),
                "compared": number(each.compared),
                "letters": found.letters[name].get(each.pair),
                "higher": each.higher,
                "lower": each.lower,
            }
            for each in ranking
        ]
        for name, ranking in found.ranking.items()
    }
    many = not all(found.letters.values())
    columns, rows, sections = (_ranking if many else _lettered)(found, comparison)
    what = "the agreement above another image's map" if found.above else "the agreement"
    told = (
        "Higher, lower: the nearest ranks that are told apart at 5%"
        if many
        else "Pairs that share a letter are not told apart at 5%"
    )
    note = f"Compared is {what}. {told} (paired over images, Holm-corrected). A dash stands where there is nothing to tell."
    title = "Do the pairs differ?"
    return Table(columns, rows, title, note, sections=sections, data=data, key="compare_pairs")


def _lettered(found: PairTests, comparison: Comparison) -> tuple[list[str], list[list[str]], dict[int, str]]:
    """One row per pair: by each statistic its mean, what is compared, and its letters."""
    columns, rows = ["Pair"], [[name_pair(comparison, pair)] for pair in comparison.pairs]
    for title, (name, ranking) in zip(_titles(comparison), found.ranking.items(), strict=True):
        columns += [title, "Above\nother"] if found.above else [title]
        of = {each.pair: each for each in ranking}
        for row, pair in zip(rows, comparison.pairs, strict=True):
            means = [of[pair].mean, of[pair].compared][: 1 + found.above]
            *cells, last = map(decimals, means)
            row += [*cells, f"{last} {found.letters[name][pair]}"]
    return columns, rows, {}


def _ranking(found: PairTests, comparison: Comparison) -> tuple[list[str], list[list[str]], dict[int, str]]:
    """By each statistic the pairs from the highest down."""
    rows: list[list[str]] = []
    sections = {}
    for title, ranking in zip(_titles(comparison), found.ranking.values(), strict=True):
        sections[len(rows)] = title
        for rank, each in enumerate(ranking, 1):
            places = ["-" if place is None else str(place) for place in (each.higher, each.lower)]
            means = [each.mean, each.compared][: 1 + found.above]
            rows.append([f"{rank} {name_pair(comparison, each.pair)}", *map(decimals, means), *places])
    return ["Rank", "Mean", *["Above\nother"] * found.above, "Higher", "Lower"], rows, sections


def groups(found: Sequence[Group], by: str, comparison: Comparison) -> Table:
    """Agreement by class, right or wrong prediction, or confidence."""
    rows: list[list[str]] = []
    data = []
    for group in found:
        rows.append([f"{group.name}, n = {group.n}", *[""] * len(comparison.statistics)])
        for pair, summaries in group.summaries.items():
            rows.append([f"  {name_pair(comparison, pair)}", *map(estimate, summaries.values())])
            data.append({"group": group.name, "n": group.n, "a": pair[0], "b": pair[1]} | _plain(summaries))
    columns = (by.capitalize(), *_titles(comparison))
    note = f"Mean ± std (and {level_title(comparison.settings)}) over the images of each group."
    return Table(columns, rows, f"Agreement by {by}", note, data=data, key=f"by_{by}")


def by_method(found: Mapping[str, Mapping[str, Summary]], comparison: Comparison) -> Table:
    """How far each method agrees with the others that know the model, on average."""
    rows = [[comparison.titles[name], *map(estimate, each.values())] for name, each in found.items()]
    data = [{"method": name} | _plain(each) for name, each in found.items()]
    note = (
        f"Mean ± std (and {level_title(comparison.settings)}) over images of each one's mean over the pairs "
        "with the other methods; model-free methods are left out."
    )
    columns = ("Method", *_titles(comparison))
    return Table(columns, rows, "Agreement with the other methods", note, data=data, key="by_method")


def repetition(found: Repetition, key: str, title: str, note: str) -> Table:
    """How far each method agrees with itself."""
    settings, statistics = found.settings, found.settings.statistics
    columns, beneath = ["Method", "Same"], []
    rows = [[title, "yes" if found.same[name] else "no"] for name, title in found.titles.items()]
    data: list[dict[str, Any]] = [{"method": name, "same": found.same[name]} for name in found.titles]
    for each in statistics:
        tests = found.above(each.name)
        columns += [each.title(settings.top), level_title(settings)]
        beneath.append(len(columns) - 1)
        columns += ["Other image", "Above it"] if tests else []
        for row, entry, name in zip(rows, data, found.titles, strict=True):
            summary = found.summary(each.name, name)
            row += [spread(summary), interval(summary)]
            entry |= _plain({each.name: summary})
            if tests:
                other = defined_mean(found.other[each.name][name])
                row += [decimals(other), _difference(tests[name])]
                entry[each.name] |= {"other_image": number(other), "above_other_image": above(tests[name])}
    control = (
        "Other image: the other run's map of another image; * where that is told apart (p < 0.05). "
        * bool(found.other)
    )
    about = f"Mean ± std (and {level_title(settings)}). {control}{note}"
    return Table(columns, rows, title, about, beneath=beneath, data=data, key=key)


def properties(found: Properties) -> Table:
    """What each method's maps are like, each property with its interval beneath."""
    columns, rows, data = ["Method"], [[title] for title in found.titles.values()], []
    for name, title in PROPERTIES.items():
        columns += [title, level_title(found.settings)]
        for method, row in zip(found.titles, rows, strict=True):
            row += [decimals((summary := found.summary(name, method)).mean), interval(summary)]
    for method in found.titles:
        data.append({"method": method} | _plain({name: found.summary(name, method) for name in PROPERTIES}))
    note = (
        "Means over the images. Gini, entropy, area: how unequally |attribution| is spread over the pixels; 0, 1 and 1 "
        "if evenly, near 1, 0 and 0 for one pixel. Max sensitivity: how far the map moves at most under noise of up to "
        f"{RADIUS:g} in the model's input, relative to the map. Other class, runner-up: Pearson with the method's own map for "
        "another class, drawn or next in the logits; 1: the class does not matter. Centre, edges: squared Pearson with a Gaussian at "
        "the centre and with the image's edges."
    )
    under = range(2, len(columns), 2)
    return Table(
        columns, rows, "What each method's maps are like", note, beneath=under, data=data, key="properties"
    )


def costs(found: Sequence[Cost]) -> Table:
    """What each method takes."""
    rows, data = [], []
    for cost in found:
        memory = "-" if cost.memory is None else f"{cost.memory / 2**20:.0f}"
        rows.append([cost.title, f"{cost.seconds:.3f}", f"{cost.passes:.1f}", memory])
        data.append(
            {"title": cost.title, "seconds": cost.seconds, "passes": cost.passes, "memory": cost.memory}
        )
    return Table(
        ("Method", "Seconds", "Passes per image", "Memory (MiB)"),
        rows,
        f"Cost on {found[0].images} images",
        "Passes forward and backward count one each. Memory is the peak over what was in use before. "
        "All together, the methods share one pass.",
        data=data,
        key="cost",
    )


def randomisation(found: Randomisation, comparison: Comparison) -> Table:
    """How far the maps of ever less trained models agree with the original's, by stage."""
    titles, level = comparison.titles, level_title(comparison.settings)
    rows: list[list[str]] = []
    data: dict[str, Any] = {
        "kind": found.kind,
        "draws": found.draws,
        "stages": list(found.stages),
        "accuracy": [number(value) for value in found.accuracy],
        "image_share": [number(value) for value in found.image_share],
    }
    networks = [
        [_percent(accuracy), f"{decimals(share)}{' (dead)' * dead}"]
        for accuracy, share, dead in zip(found.accuracy[1:], found.image_share[1:], found.dead, strict=True)
    ]
    for name in found.agreement:
        means, controls, areas = found.means(name), found.controls(name), found.areas(name)
        tests, defined, counted = found.last_stage(name), found.defined(name), found.counted(name)
        for index, stage in enumerate(found.stages):
            rows.append([f"{name}: {stage}", *networks[index], *map(decimals, means[:, index])])
        words = ["dead model"] * len(tests) if found.dead[-1] else map(_place, means[:, -1], tests)
        for title, cells in (
            ("area", map(_area, areas, counted.sum(axis=1), [len(found.stages)] * len(areas))),
            (level, map(interval, areas)),
            ("other image", map(decimals, controls[:, -1])),
            ("last stage", words),
        ):
            rows.append([f"{name}: {title}", "", "", *cells])
        data[name] = [
            {
                "method": method,
                "stages": [number(value) for value in means[index]],
                "other_image": [number(value) for value in controls[index]],
                "defined": defined[index].tolist(),
                "area": _summary(areas[index]),
                "area_stages": int(counted[index].sum()),
                "last_above_other_image": above(tests[index]),
            }
            for index, method in enumerate(titles)
        ]
    accuracy = f"Accuracy {_percent(found.accuracy[0])}, varies" if found.accuracy[0] >= 0 else "Varies"
    note = (
        f"Each value: mean over {found.draws} re-initialised models and the images. {accuracy} "
        f"{decimals(found.image_share[0])} before. Varies: the share of the activations' power that depends on the "
        "image, the lowest of all stages and models; dead: below a hundredth of the trained model's, so that its maps "
        "say nothing of a method. Area: mean over the stages where at least half of the maps are defined, and its "
        "interval over models and images. Other image: the re-initialised model's map against the trained one's of another "
        "image, at the last stage, which is tested against it (p < 0.05)."
    )
    title = f"Agreement with the trained model's map, {found.kind} randomisation"
    columns = ("Re-initialised stage", "Accuracy", "Varies", *titles.values())
    return Table(columns, rows, title, note, data=data, key="randomisation")


def faithfulness(found: Sequence[Faithfulness], comparison: Comparison) -> Table:
    """What becomes of the target's probability as pixels are taken away in each method's order."""
    names, rows, data = list(comparison.titles), [], []
    for each in found:
        rows.append([f"{each.baseline} baseline", *[""] * 6])
        tests, letters = each.differences(names)
        floors = {control: each.above(control) for control in CONTROLS}
        for index, name in enumerate([*names, *CONTROLS]):
            if index >= len(names) and name == "centre" in names:
                continue
            summaries, own = each.summaries(index), index < len(names)
            gain, infidelity = summaries["probability_gain"], summaries.get("infidelity")
            aboves = [floor[index] for floor in floors.values()] if own else []
            rows.append(
                [
                    f"  {comparison.titles[name] if own else CONTROL_TITLES[name]}",
                    decimals(summaries["probability_deletion"].mean),
                    decimals(summaries["probability_insertion"].mean),
                    f"{decimals(gain.mean)} ({interval(gain)}){f' {letters[index]}' if own else ''}",
                    *([_difference(test) for test in aboves] or ["", ""]),
                    decimals(infidelity.mean if infidelity else None),
                ]
            )
            entry: dict[str, Any] = {"baseline": each.baseline, "method": name} | _plain(summaries)
            entry["removed"] = each.removed.tolist()
            for curve, means in each.mean_curves(index).items():
                entry[f"{curve}_curve"] = [number(mean) for mean in means]
            if own:
                entry |= {
                    f"above_{control}": above(test) for control, test in zip(CONTROLS, aboves, strict=True)
                }
                entry["above_methods"] = {
                    test.b[0]: above(test) | {"adjusted": number(test.adjusted)}
                    for test in tests
                    if test.a[0] == name
                }
            data.append(entry)
    note = (
        "Areas under the target's probability as pixels are removed, most relevant first (deletion, low is good) "
        f"or least (insertion, high is good), and their difference (and its {level_title(comparison.settings)}), 0 for an "
        "order that says nothing. Methods that share a letter are not told apart at 5% (paired over images, "
        "Holm-corrected). Above random, centre: the same minus that of a random order, and of a Gaussian at the "
        "centre; * where that is told apart from 0 (p < 0.05)."
    )
    columns = (
        "Method",
        "Deletion",
        "Insertion",
        "Insertion minus deletion",
        "Above random",
        "Above centre",
        "Infidelity",
    )
    return Table(
        columns, rows, "Does the map point at what the model uses?", note, data=data, key="faithfulness"
    )


def localisation(found: Localisation) -> Table:
    """How each method's maps lie on the masks."""
    rows: list[list[str]] = []
    sections = {}
    data: dict[str, dict[str, Any]] = {name: {"method": name} for name in found.titles}
    level = level_title(found.settings)
    for measure, title in MEASURES.items():
        chance, tests = (
            found.chance[measure],
            [found.above(measure, name) for name in ("other", "centre", "chance")],
        )
        sections[len(rows)] = f"{title} (chance {decimals(defined_mean(chance))})"
        for name, method in found.titles.items():
            summary, controlled = found.summary(measure, name), [each[name] for each in tests]
            cells = [_difference(test) for test in controlled]
            rows.append([f"  {method}", decimals(summary.mean), interval(summary), *cells])
            above_controls = zip(("other_mask", "centre", "chance"), controlled, strict=True)
            entry = _summary(summary) | {f"above_{key}": above(test) for key, test in above_controls}
            data[name] |= {measure: entry | {"chance": number(defined_mean(chance))}}
    note = (
        f"Means over the images. Chance: a map that has nothing to do with the mask. Above other mask, centre, chance: "
        "the same minus that with the masks of the other images, of a Gaussian at the centre, and by chance; * where that is "
        f"told apart from 0 (p < 0.05). IoU takes the top {100 * found.settings.top:g}%. Undefined: constant maps, and "
        f"{found.empty} masks that are missing, empty, cropped away or everything."
    )
    columns = ("Method", "Mean", level, "Above\nother mask", "Above\ncentre", "Above\nchance")
    table = Table(columns, rows, "Do the maps point at the object?", note, sections=sections)
    return replace(table, data=list(data.values()), key="localisation")


def _difference(test: PairedTest) -> str:
    return f"{decimals(test.difference)}{' *' if test.p < LEVEL else ''}"


def _titles(comparison: Comparison) -> list[str]:
    return [each.title(comparison.top) for each in comparison.statistics]


def _area(area: Summary, defined: int, stages: int) -> str:
    return decimals(area.mean) + (f" ({defined} of {stages} stages)" if 0 < defined < stages else "")


def _place(mean: float, test: PairedTest) -> str:
    """Where the last stage is, in words; with so few images no test can tell."""
    if mean > UNCHANGED:
        return "unchanged"
    if not test.lowest < LEVEL:
        return "too few"
    if not test.p < LEVEL:
        return "as other image"
    return "above other image" if test.difference > 0 else "below other image"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.0f}%"


def _plain(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    return {name: _summary(summary) for name, summary in summaries.items()}


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "mean": number(summary.mean),
        "std": number(summary.std),
        "ci": ends(summary),
        "n": summary.n,
        "undefined": summary.undefined,
    }

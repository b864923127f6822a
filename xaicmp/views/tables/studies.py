"""What is asked beside the comparison, each study as one table that every format can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.agreement.statistic import STATISTICS
from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.significance import PairedTest
from xaicmp.core.studies.cost import Cost
from xaicmp.core.studies.faithfulness import CONTROLS, Faithfulness
from xaicmp.core.studies.groups import Group
from xaicmp.core.studies.localisation import CONTROLS as MASK_CONTROLS
from xaicmp.core.studies.localisation import MEASURES, Localisation
from xaicmp.core.studies.pair_tests import PairTest, PairTests
from xaicmp.core.studies.properties import PROPERTIES, RADIUS, Properties
from xaicmp.core.studies.randomisation import Randomisation
from xaicmp.core.studies.stability import Repetition
from xaicmp.views.document import above, adjusted, number, pair_key, plain
from xaicmp.views.table import Table
from xaicmp.views.text import (
    decimals,
    difference,
    interval,
    level_title,
    name_pair,
    percent,
    spread,
    titles_of,
)

UNCHANGED = 0.999
"""Agreement above which a map is called the same as before."""

CONTROL_TITLES = {"random": "random order", "centre": "from the centre"}
"""What the controls of faithfulness are called in its rows."""

STAR = (
    "*: told apart from 0 (p < 0.05, Holm-adjusted for more than 10 methods; fewer than 6 images cannot be)."
)
LETTERS = "Methods that share a letter are not told apart at 5% (paired over images, Holm-corrected); a dash: too few images to tell."


def differences(found: PairTests, comparison: Comparison) -> Table:
    """Whether the pairs differ: which share a letter, or their ranking if they are many, and the tests behind it."""
    data: dict[str, Any] = {
        name: [{"a": pair_key(test.a), "b": pair_key(test.b)} | adjusted(test) for test in tests]
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
    few = not any(test.lowest < LEVEL for tests in found.tests.values() for test in tests)
    told = (
        "Higher, lower: the nearest ranks above and below that are told apart at 5%; a dash: "
        f"{'too few images to tell' if few else 'there is none'}."
        if many
        else "Pairs that share a letter are not told apart at 5%; a dash: too few images to tell."
    )
    note = f"The tests are of {what}, paired over the images and Holm-corrected. {told}"
    title = "Do the pairs differ?"
    return Table(columns, rows, title, note, sections=sections, data=data, key="compare_pairs")


def _lettered(found: PairTests, comparison: Comparison) -> tuple[list[str], list[list[str]], dict[int, str]]:
    """One row per pair: by each statistic its mean, what is compared, and its letters."""
    columns, rows = ["Pair"], [[name_pair(comparison, pair)] for pair in comparison.pairs]
    for title, (name, ranking) in zip(titles_of(comparison), found.ranking.items(), strict=True):
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
    for title, ranking in zip(titles_of(comparison), found.ranking.values(), strict=True):
        sections[len(rows)] = title
        for rank, each in enumerate(ranking, 1):
            places = ["-" if place is None else str(place) for place in (each.higher, each.lower)]
            means = [each.mean, each.compared][: 1 + found.above]
            rows.append([f"{rank} {name_pair(comparison, each.pair)}", *map(decimals, means), *places])
    return ["Rank", "Mean", *["Above\nother"] * found.above, "Higher", "Lower"], rows, sections


def groups(found: Sequence[Group], by: str, comparison: Comparison) -> Table:
    """Agreement by class, right or wrong prediction, or confidence."""
    rows: list[list[str]] = []
    data, sections = [], {}
    for group in found:
        sections[len(rows)] = f"{group.name}, n = {group.n}"
        for pair, summaries in group.summaries.items():
            rows.append([f"  {name_pair(comparison, pair)}", *_with_intervals(summaries)])
            data.append({"group": group.name, "n": group.n, "a": pair[0], "b": pair[1]} | _each(summaries))
    columns, under = _interval_columns(by.capitalize(), comparison)
    note, title = "Mean ± std over the images of each group.", f"Agreement by {by}"
    return Table(columns, rows, title, note, sections=sections, beneath=under, data=data, key=f"by_{by}")


def by_method(found: Mapping[str, Mapping[str, Summary]], comparison: Comparison) -> Table:
    """How far each method agrees with the others that know the model, on average."""
    rows = [[comparison.titles[name], *_with_intervals(each)] for name, each in found.items()]
    data = [{"method": name} | _each(each) for name, each in found.items()]
    columns, under = _interval_columns("Method", comparison)
    note = (
        "Each image has its mean over the method's pairs with the other methods. Mean ± std over the images; model-free "
        "methods are left out."
    )
    if again := [comparison.titles[name] for name in comparison.titles if name not in comparison.distinct]:
        note += f" So are the pairs with those that have the maps of one before: {', '.join(again)}."
    title = "Agreement with the other methods"
    return Table(columns, rows, title, note, beneath=under, data=data, key="by_method")


def _interval_columns(first: str, comparison: Comparison) -> tuple[list[str], range]:
    """The statistics, each with its interval beneath."""
    level = level_title(comparison.settings)
    columns = [first, *(each for title in titles_of(comparison) for each in (title, level))]
    return columns, range(2, len(columns), 2)


def _with_intervals(summaries: Mapping[str, Summary]) -> list[str]:
    return [cell for each in summaries.values() for cell in (spread(each), interval(each))]


def repetition(found: Repetition, key: str, title: str, note: str) -> Table:
    """How far each method agrees with itself."""
    level, columns, beneath = level_title(found.settings), ["Method", "Same"], []
    rows = [[title, "yes" if found.same[name] else "no"] for name, title in found.titles.items()]
    data: list[dict[str, Any]] = [{"method": name, "same": found.same[name]} for name in found.titles]
    for each in found.settings.statistics:
        tests = found.above(each.name, OTHER_IMAGE)
        columns += [each.title(found.settings.top), level]
        beneath.append(len(columns) - 1)
        if tests:
            columns += ["Other image", "Above it"]
            beneath.append(len(columns) - 1)
        for row, entry, name in zip(rows, data, found.titles, strict=True):
            summary = found.summary(each.name, name)
            row += [spread(summary), interval(summary)]
            entry[each.name] = plain(summary)
            if tests:
                other = found.control(each.name, name, OTHER_IMAGE)
                row += [decimals(other), difference(tests[name])]
                entry[each.name] |= {"other_image": number(other), "above_other_image": above(tests[name])}
    control = (
        f"Other image: with the other run's map of another image. Above it: the mean minus that. {STAR} "
    )
    about = f"Mean ± std. {control * bool(found.controls)}{note}"
    return Table(columns, rows, title, about, beneath=beneath, data=data, key=key)


def properties(found: Properties) -> Table:
    """The properties of each method's maps, each with its interval and letters."""
    columns, rows = ["Method"], [[title] for title in found.titles.values()]
    data: list[dict[str, Any]] = [{"method": name} for name in found.titles]
    for name, title in PROPERTIES.items():
        columns += [title, level_title(found.settings)]
        tests, letters = found.differences(name)
        for method, row, entry in zip(found.titles, rows, data, strict=True):
            summary = found.summary(name, method)
            row += [f"{decimals(summary.mean)} {letters[method]}", interval(summary)]
            entry[name] = plain(summary) | {"above_methods": _above_methods(tests, method)}
    note = (
        f"Means over the images. {LETTERS} Gini, entropy, area: how evenly |attribution| is spread over the pixels; 0, 1 "
        "and 1 if evenly; near 1, 0 and 0 if on one pixel. Max sensitivity: the largest change of the map under noise of up to "
        f"{RADIUS:g} in the model's input, relative to the map. Other class, runner-up class: Pearson with the method's map for a "
        "drawn class, and for the class with the next logit; 1 if the class does not matter. Centre, edges: squared Pearson with a "
        "Gaussian at the centre, and with the image's edges."
    )
    under = range(2, len(columns), 2)
    title = "Properties of each method's maps"
    return Table(columns, rows, title, note, beneath=under, data=data, key="properties")


def costs(found: Sequence[Cost]) -> Table:
    """Seconds, passes and memory of each method."""
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
        "A forward and a backward pass count one each. Memory: the peak minus what was in use before. "
        "All together, the methods share one pass.",
        data=data,
        key="cost",
    )


def randomisation(found: Randomisation, comparison: Comparison) -> Table:
    """How far the maps of re-initialised models agree with the trained one's, by stage."""
    titles, level = comparison.titles, level_title(comparison.settings)
    rows: list[list[str]] = []
    sections = {}
    data: dict[str, Any] = {
        "kind": found.kind,
        "draws": found.draws,
        "stages": list(found.stages),
        "accuracy": [number(value) for value in found.accuracy],
        "image_share": [number(value) for value in found.image_share],
    }
    networks = [
        [percent(accuracy), f"{decimals(share)}{' (dead)' * dead}"]
        for accuracy, share, dead in zip(found.accuracy[1:], found.image_share[1:], found.dead, strict=True)
    ]
    for name in found.agreement:
        means, controls, areas = found.means(name), found.controls(name), found.areas(name)
        tests, defined, counted = found.last_stage(name), found.defined(name), found.counted(name)
        sections[len(rows)] = STATISTICS[name].title(found.settings.top)
        rows += [
            [f"  {stage}", *network, *map(decimals, of)]
            for stage, network, of in zip(found.stages, networks, means.T, strict=True)
        ]
        words = ["dead model"] * len(tests) if found.dead[-1] else map(_place, means[:, -1], tests)
        for title, cells in (
            ("area", map(_area, areas, counted.sum(axis=1), [len(found.stages)] * len(areas))),
            (level, map(interval, areas)),
            ("other image", map(decimals, controls[:, -1])),
            ("last stage", words),
        ):
            rows.append([f"  {title}", "", "", *cells])
        data[name] = [
            {
                "method": method,
                "stages": [number(value) for value in means[index]],
                "other_image": [number(value) for value in controls[index]],
                "defined": defined[index].tolist(),
                "area": plain(areas[index]),
                "area_stages": int(counted[index].sum()),
                "last_above_other_image": above(tests[index]),
            }
            for index, method in enumerate(titles)
        ]
    accuracy = f"Accuracy {percent(found.accuracy[0])}, varies" if found.accuracy[0] >= 0 else "Varies"
    note = (
        f"Means over {found.draws} re-initialised models and the images. {accuracy} {decimals(found.image_share[0])} "
        "before. Varies: the share of the activations' power that depends on the image, the lowest of all stages and models. "
        "Dead: below a hundredth of the trained model's, so that the maps say nothing of a method. Area: the mean over the stages "
        "where at least half of the maps are defined, with its interval over models and images. Other image: the re-initialised "
        "model's map with the trained model's map of another image, at the last stage. The last stage is tested against it (p < 0.05)."
    )
    title = f"Agreement with the trained model's map, {found.kind} randomisation"
    columns = ("Re-initialised stage", "Accuracy", "Varies", *titles.values())
    return Table(columns, rows, title, note, sections=sections, data=data, key="randomisation")


def faithfulness(found: Sequence[Faithfulness], comparison: Comparison) -> Table:
    """How the target's probability changes as pixels are removed in each method's order."""
    rows: list[list[str]] = []
    names, data, sections = list(comparison.titles), [], {}
    for each in found:
        sections[len(rows)] = f"{each.baseline} baseline"
        tests, letters = each.differences(names)
        floors = {f"above_{control}": each.above(control) for control in CONTROLS}
        for index, name in enumerate([*names, *CONTROLS]):
            if index >= len(names) and name == "centre" in names:
                continue
            own, summaries = index < len(names), each.summaries(index)
            gain, infidelity = summaries["probability_gain"], summaries.get("infidelity")
            aboves = {key: floor[index] for key, floor in floors.items()} if own else {}
            rows.append(
                [
                    f"  {comparison.titles[name] if own else CONTROL_TITLES[name]}",
                    decimals(summaries["probability_deletion"].mean),
                    decimals(summaries["probability_insertion"].mean),
                    f"{decimals(gain.mean)} {letters[name] if own else ''}".strip(),
                    interval(gain),
                    *([difference(test) for test in aboves.values()] or ["", ""]),
                    decimals(infidelity.mean if infidelity else None),
                ]
            )
            entry: dict[str, Any] = {"baseline": each.baseline, "method": name} | _each(summaries)
            entry["removed"] = each.removed.tolist()
            for curve, means in each.mean_curves(index).items():
                entry[f"{curve}_curve"] = [number(mean) for mean in means]
            if own:
                entry |= {key: above(test) for key, test in aboves.items()}
                entry["above_methods"] = _above_methods(tests, name)
            data.append(entry)
    note = (
        "Areas under the target's probability as pixels are removed: the most relevant first (deletion, low is good), or the "
        f"least relevant first (insertion, high is good). Their difference is 0 for an order that says nothing. {LETTERS} "
        f"Above random, above centre: the difference minus that of a random order, and of a Gaussian at the centre. {STAR}"
    )
    both, level = "Insertion\nminus deletion", level_title(comparison.settings)
    columns = ("Method", "Deletion", "Insertion", both, level, "Above\nrandom", "Above\ncentre", "Infidelity")
    title, under = "Does the map point at what the model uses?", (2, 4)
    return Table(columns, rows, title, note, sections=sections, beneath=under, data=data, key="faithfulness")


def localisation(found: Localisation) -> Table:
    """How far each method's maps point at the masks."""
    rows: list[list[str]] = []
    sections = {}
    data: dict[str, dict[str, Any]] = {name: {"method": name} for name in found.titles}
    for measure, title in MEASURES.items():
        chance = found.control(measure, next(iter(found.titles)), "chance")
        tests = {name: found.above(measure, name) for name in MASK_CONTROLS}
        sections[len(rows)] = f"{title} (chance {decimals(chance)})"
        for name, method in found.titles.items():
            summary, own = found.summary(measure, name), {key: each[name] for key, each in tests.items()}
            cells = map(difference, own.values())
            rows.append([f"  {method}", decimals(summary.mean), interval(summary), *cells])
            aboves = {f"above_{key}": above(test) for key, test in own.items()}
            data[name][measure] = plain(summary) | aboves | {"chance": number(chance)}
    note = (
        "Means over the images. Chance: a map that has nothing to do with the mask. Above other mask, centre, chance: the mean "
        f"minus that with the masks of the other images, of a Gaussian at the centre, and by chance. {STAR} IoU takes the top "
        f"{100 * found.settings.top:g}% of the pixels. Undefined: constant maps, and masks that are missing, empty, cropped away or "
        f"everything ({found.empty})."
    )
    columns = ("Method", "Mean", level_title(found.settings), *MASK_CONTROLS.values())
    title, values = "Do the maps point at the object?", list(data.values())
    return Table(columns, rows, title, note, sections=sections, data=values, key="localisation")


def _above_methods(tests: Sequence[PairTest[str]], method: str) -> dict[str, Any]:
    """The tests of a method against those that come after it."""
    return {test.b: adjusted(test) for test in tests if test.a == method}


def _area(area: Summary, defined: int, stages: int) -> str:
    return decimals(area.mean) + (f" ({defined} of {stages} stages)" if 0 < defined < stages else "")


def _place(mean: float, test: PairedTest) -> str:
    """Where the last stage is, in words; with so few images no test can tell."""
    if mean > UNCHANGED:
        return "unchanged"
    if not test.lowest < LEVEL:
        return "too few"
    if not test.decides < LEVEL:
        return "not told apart"
    return "above other image" if test.difference > 0 else "below other image"


def _each(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    return {name: plain(summary) for name, summary in summaries.items()}

"""A comparison as plain values, for JSON and the formats that follow from it, and back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xaicmp.core.agreement.curve import curve_shares
from xaicmp.core.agreement.registry import get_statistics
from xaicmp.core.agreement.statistic import Pair, Statistic
from xaicmp.core.machine.storage import contents
from xaicmp.core.results.comparison import Comparison, Source
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.pair_tests import PairTest
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores, Values
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest
from xaicmp.errors import UsageError, XaicmpError

if TYPE_CHECKING:
    from xaicmp.views.table import Table

SCHEMA = 2
"""Of documents: raised when a key changes its meaning. Documents without one are of version 1."""
OWN = ("schema", "xaicmp", "n", "methods", "top", "ci", "pairs", "images", "comparison", "scores")
"""The keys of every document. The others are those of ``Source.details``, and of studies."""
MOST_PIXELS = 10**8
"""A document that says more is damaged."""


def document(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as plain values; what is undefined is None."""
    return {
        "schema": SCHEMA,
        "xaicmp": version("xaicmp"),
        **comparison.source.details,
        "n": len(comparison.predictions),
        "methods": list(comparison.titles),
        "top": comparison.top,
        "ci": comparison.settings.level,
        "pairs": [_pair(comparison, pair) for pair in comparison.pairs],
    } | _values(comparison)


def _values(comparison: Comparison) -> dict[str, Any]:
    """What is measured of each image, and what a reader needs to make the comparison again."""
    origin, chosen, scores = comparison.source, comparison.predictions, comparison.scores
    settings, places = comparison.settings, scores.shifted_p

    def by_pair(values: dict[Pair, np.ndarray], row: int) -> dict[str, float | None]:
        return {pair_key(pair): number(values[pair][row]) for pair in comparison.pairs}

    return {
        "images": [
            {
                "id": int(chosen.ids[row]),
                **({"file": name} if (name := origin.name(row)) else {}),
                "label": origin.classes[chosen.labels[row]],
                "predicted": origin.classes[chosen.predicted[row]],
                "target": origin.classes[chosen.targets[row]],
                "confidence": number(chosen.confidence[row]),
                "completeness": {name: number(gaps[row]) for name, gaps in scores.completeness.items()},
            }
            | {each.name: by_pair(scores.values[each.name], row) for each in comparison.statistics}
            | ({"shifted_p": {name: by_pair(p, row) for name, p in places.items()}} if places else {})
            for row in range(len(chosen))
        ],
        "comparison": {
            "about": origin.about,
            "details": [key for key in origin.details if key not in OWN],
            "classes": list(origin.classes),
            "files": list(origin.names),
            "titles": comparison.titles,
            "model_free": sorted(comparison.floors),
            "statistics": [{"name": each.name, "top": each.top} for each in comparison.statistics],
            "controls": list(settings.controls),
            "seed": settings.seed,
            "curve": settings.curve,
            "pixels": comparison.pixels,
            **{name: getattr(chosen, name).tolist() for name in ("labels", "predicted", "targets")},
        },
        "scores": {
            name: _plain(getattr(scores, name))
            for name in ("tied", "identical", "controls", "p_values", "curves")
        },
    }


def _plain(values: Any) -> Any:
    """Nested dicts of arrays as plain values, a pair as ``a|b``."""
    if isinstance(values, dict):
        return {
            pair_key(key) if isinstance(key, tuple) else key: _plain(each) for key, each in values.items()
        }
    if isinstance(values, np.ndarray):
        return [_plain(each) for each in values]
    return bool(values) if isinstance(values, np.bool_) else number(values)


def _pair(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "a": pair[0],
        "b": pair[1],
        "identity": pair in comparison.identities,
        "verdict": comparison.verdict(pair).long,
    }
    for statistic in comparison.statistics:
        result = comparison.result(statistic, pair)
        summary = result.summary
        values: dict[str, Any] = {
            "mean": number(summary.mean),
            "std": number(summary.std),
            "ci": ends(summary),
            "n": summary.n,
            "undefined": summary.undefined,
            "chance": result.chance,
            "corrected": number(result.corrected),
        }
        if summary.tied is not None:
            values["tied"] = summary.tied
        values |= {name: number(mean) for name, mean in result.controls.items()}
        if result.above is not None:
            values["above_other_image"] = above(result.above)
        if result.above_shifted is not None:
            share = result.above_shifted
            values |= {"above_shifted": number(share.mean), "above_shifted_ci": ends(share)}
        entry[statistic.name] = values
    return entry


def pair_key(pair: Pair) -> str:
    """``a|b``; a bar or backslash in a name has a backslash before it, so that no two pairs have one key."""
    return "|".join(re.sub(r"([\\|])", r"\\\1", name) for name in pair)


def above(test: PairedTest | PairTest) -> dict[str, Any]:
    """How far one mean is above another."""
    return {"difference": number(test.difference), "ci": ends(test), "p": number(test.p)}


def ends(of: Summary | PairedTest | PairTest) -> list[float | None]:
    """Those of its interval."""
    return [number(of.low), number(of.high)]


def number(value: float | None) -> float | None:
    """The value, or None where it is undefined, which JSON has no word for."""
    return float(value) if value is not None and math.isfinite(value) else None


def to_json(comparison: Comparison, studies: Sequence[Table] = ()) -> str:
    """The document and the studies' data, indented."""
    whole = document(comparison) | {study.key: study.data for study in studies}
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def from_json(path: Path) -> tuple[Comparison, dict[str, Any]]:
    """The comparison that ``to_json`` wrote into ``path``, with every value of every image, and its studies' data.

    Raises:
        XaicmpError: the file cannot be read, is no such document, is damaged, or is of another version.
    """
    another = "`xaicmp metrics --output result.json` writes one"
    try:
        whole = json.loads(contents(path))
    except OSError as error:
        raise XaicmpError(f"cannot read {path}: {error.strerror or error}; {another}") from error
    except (ValueError, RecursionError) as error:
        raise XaicmpError(f"{path} is no JSON document; {another}") from error
    if not (isinstance(whole, dict) and {"xaicmp", "pairs", "images"} <= set(whole)):
        raise XaicmpError(f"{path} holds no comparison; {another}")
    schema = whole.get("schema", 1)
    if isinstance(schema, int) and schema > SCHEMA:
        raise XaicmpError(f"{path} was written by a newer xaicmp; upgrade to read it")
    if schema != SCHEMA or not {"comparison", "scores"} <= set(whole):
        raise XaicmpError(f"{path} was written by an older xaicmp and lacks some values; compare again")
    try:
        comparison = _comparison(whole)
        if not _covers(whole, _values(comparison)):
            raise ValueError("a value is of the wrong type")
    except (UsageError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else f"{error}"
        raise XaicmpError(f"{path} is damaged ({reason}); write it again") from error
    known = {*OWN, *comparison.source.details}
    return comparison, {key: value for key, value in whole.items() if key not in known}


def _comparison(whole: dict[str, Any]) -> Comparison:
    """That of a document; raises whatever it is that is wrong with it."""
    made, count = whole["comparison"], len(whole["images"])
    details = {key: whole[key] for key in ("xaicmp", *made["details"])}
    titles = {name: made["titles"][name] for name in whole["methods"]}
    classes, files, floors = made["classes"], made["files"], made["model_free"]
    texts = [*titles.values(), *classes, *files, details["xaicmp"], made["about"]]
    settings = Settings(
        [_statistic(each["name"], each["top"]) for each in made["statistics"]],
        *(whole["top"], made["controls"], whole["ci"], made["seed"], made["curve"]),
    )
    ids, confidence = ([each[name] for each in whole["images"]] for name in ("id", "confidence"))
    chosen = Predictions(
        _column(ids, high=2**63, kind=np.int64),
        _column(made["labels"], low=-1, high=len(classes) - 1, kind=np.int64),
        _column(made["predicted"], high=len(classes) - 1, kind=np.int64),
        _column(confidence),
        _column(made["targets"], high=len(classes) - 1, kind=np.int64),
    )
    for what, holds in {
        "text": all(isinstance(each, str) for each in texts),
        "methods": len(titles) > 1 and set(floors) <= titles.keys(),
        "pixels or seed": 1 < made["pixels"] <= MOST_PIXELS and 0 <= made["seed"] < 2**64,
        "checkpoint or data": isinstance(details["checkpoint"], dict)
        and {"name", "split", "verified"} <= details["data"].keys(),
        "n": {whole["n"], len(chosen.labels), len(chosen.predicted), len(chosen.targets), len(set(ids))}
        == {count},
        "files": len(files) in (0, count),
    }.items():
        if not holds:
            raise ValueError(f"{what}")
    settings.check(made["pixels"])
    source, scores = Source(made["about"], details, tuple(classes), tuple(files)), _scores(whole, settings)
    return Comparison(source, titles, frozenset(floors), settings, made["pixels"], chosen, scores)


def _statistic(name: str, top: float | None) -> Statistic:
    (found,) = get_statistics([name if top is None else name.split("@")[0]])
    return found if top is None else found.at(top)


def _scores(whole: dict[str, Any], settings: Settings) -> Scores:
    images, found = whole["images"], whole["scores"]
    pairs = {pair_key(pair): pair for pair in combinations(whole["methods"], 2)}
    curve = len(curve_shares(whole["comparison"]["pixels"]))

    def by_pair(values: Any, *shape: int, **limits: Any) -> dict[Pair, np.ndarray]:
        columns = {pair: _column(values[key], **limits) for key, pair in pairs.items()}
        if any(each.shape != (len(images), *shape) for each in columns.values()):
            raise ValueError("the number of values")
        return columns

    def by_statistic(values: Any, wider: float = 0) -> Values:
        """Within the range of each statistic, made wider by so many times its width."""
        ends = {
            each.name: (each.low, each.high, wider * (each.high - each.low)) for each in settings.statistics
        }
        return {
            name: by_pair(values[name], low=low - more, high=high + more)
            for name, (low, high, more) in ends.items()
        }

    names = [each.name for each in settings.statistics]
    own = {name: {key: [image[name][key] for image in images] for key in pairs} for name in names}
    return Scores(
        by_statistic(own),
        {
            each.name: by_pair(found["tied"][each.name], kind=bool)
            for each in settings.statistics
            if each.uses_top
        },
        by_pair(found["identical"]),
        # The mean over other images is that of a row plus that of a column, minus that of all.
        {key: by_statistic(found["controls"][key], wider=1) for key in settings.controls},
        {key: {name: by_pair(p[name]) for name in names} for key, p in found["p_values"].items()},
        {
            name: _column([image["completeness"][name] for image in images], low=-np.inf, high=np.inf)
            for name in images[0]["completeness"]
        },
        {name: by_pair(values, curve) for name, values in found["curves"].items()},
    )


def _column(values: Any, *, low: float = 0, high: float = 1, kind: Any = float) -> np.ndarray:
    """An array of numbers in a range, NaN for None."""
    array = np.array(values, dtype=kind)
    if array.ndim < 1 or (np.isinf(array) | (array < low) | (array > high)).any():
        raise ValueError("a value is out of range")
    return array


def _covers(whole: Any, part: Any) -> bool:
    """Whether all of ``part`` is in ``whole``, which may have more keys."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and _covers(whole[key], each) for key, each in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(_covers, whole, part))
    return bool(whole == part)


def flat(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    """Nested values as one row: ``ci`` becomes ``ci_low`` and ``ci_high``."""
    row: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            row |= flat(f"{prefix}_{key}", value)
        elif isinstance(value, list):
            row |= {f"{prefix}_{key}_low": value[0], f"{prefix}_{key}_high": value[1]}
        else:
            row[f"{prefix}_{key}"] = value
    return row


def source(comparison: Comparison) -> dict[str, Any]:
    """Where it comes from, for each row of a CSV file."""
    details = comparison.source.details
    data = details["data"]
    return {
        "checkpoint_sha256": details["checkpoint"].get("sha256"),
        "data": data["name"],
        "split": data["split"],
        "verified": data["verified"],
    }

"""A comparison as plain values, for JSON and the formats that follow from it, and back."""

from __future__ import annotations

import functools
import json
import math
import operator
import re
from collections.abc import Collection, Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from xaicmp.core.agreement.curve import curve_shares
from xaicmp.core.agreement.registry import get_statistics
from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.machine.storage import contents
from xaicmp.core.results.comparison import Comparison, Source
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.scores import Scores
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest
from xaicmp.core.run.scoring import BLOCK
from xaicmp.core.studies.checkpoints import Estimate
from xaicmp.core.studies.pair_tests import PairTest
from xaicmp.errors import UsageError, XaicmpError
from xaicmp.views.table import Table, data_of

Difference = PairedTest | PairTest[Any] | Estimate
SCHEMA = 2
"""The version of documents, raised when a key changes its meaning. Documents without one are of version 1."""
OWN = ("schema", "xaicmp", "n", "methods", "top", "ci", "pairs", "images", "comparison", "scores")
"""The keys of every document. The others are those of ``Source.details``, and of studies."""
SCORES = ("tied", "identical", "controls", "p_values", "curves", "among", "pairing", "other_classes")
"""The fields of ``Scores`` that do not stand with each image."""
IMAGE = {"id", "file", "label", "predicted", "target", "confidence", "completeness"}
"""What is said of each image before its statistics."""
RANKS = {"rank_among_others": "other_image", "rank_among_shifts": "shifted"}
"""Of each image, by the key of the control that has them."""
LATER = ("among", "pairing", "other_classes")
"""Those that older documents of this version, and comparisons without that control, do not have."""
MOST, MOST_PIXELS = 1e100, 10**8
"""A document with more is damaged."""


def document(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as plain values; what is undefined is None."""
    origin, predictions, scores = comparison.source, comparison.predictions, comparison.scores
    settings, places, ranks = comparison.settings, scores.shifted_p, _ranks(comparison)

    def by_pair(values: dict[Pair, np.ndarray], row: int) -> dict[str, float | None]:
        return {pair_key(pair): number(values[pair][row]) for pair in comparison.pairs}

    return {
        "schema": SCHEMA,
        "xaicmp": version("xaicmp"),
        **origin.details,
        "n": len(predictions),
        "methods": list(comparison.titles),
        "top": comparison.top,
        "ci": settings.level,
        "pairs": [_pair(comparison, pair) for pair in comparison.pairs],
        "images": [
            {
                "id": int(predictions.ids[row]),
                **({"file": name} if (name := origin.name(row)) else {}),
                "label": origin.classes[predictions.labels[row]],
                "predicted": origin.classes[predictions.predicted[row]],
                "target": origin.classes[predictions.targets[row]],
                "confidence": number(predictions.confidence[row]),
                "completeness": {name: number(gaps[row]) for name, gaps in scores.completeness.items()},
            }
            | {each.name: by_pair(scores.values[each.name], row) for each in comparison.statistics}
            | ({"shifted_p": {name: by_pair(p, row) for name, p in places.items()}} if places else {})
            | {key: origin.classes[int(each[row])] for key, each in scores.other_classes.items()}
            | ranks[row]
            for row in range(len(predictions))
        ],
        "comparison": {
            "about": origin.about,
            "details": [key for key in origin.details if key not in OWN],
            "classes": list(origin.classes),
            "titles": comparison.titles,
            "model_free": sorted(comparison.floors),
            "statistics": [{"name": each.name, "top": each.top} for each in comparison.statistics],
            "controls": list(settings.controls),
            "seed": settings.seed,
            "curve": settings.curve,
            "margin": settings.margin,
            "pixels": comparison.pixels,
            **{name: getattr(predictions, name).tolist() for name in ("labels", "predicted", "targets")},
        },
        "scores": {
            name: _arrays(getattr(scores, name))
            for name in SCORES
            if name not in LATER or getattr(scores, name)
        },
    }


def _ranks(comparison: Comparison) -> list[dict[str, Any]]:
    """Of each image, where its agreement stands among those of other images' maps and of shifted ones."""
    found: list[dict[str, Any]] = [{} for _ in comparison.predictions.ids]
    for name, key in RANKS.items():
        for statistic in comparison.statistics:
            for pair in comparison.pairs:
                for image, at in zip(found, comparison.places(key, statistic.name, pair), strict=False):
                    entry = {"rank": at.rank, "of": at.among, "p": number(at.p), "verdict": at.said}
                    image.setdefault(name, {}).setdefault(statistic.name, {})[pair_key(pair)] = entry
    return found


def _arrays(values: Any) -> Any:
    """Nested dicts of arrays as plain values, a pair as ``a|b``."""
    if isinstance(values, dict):
        return {
            pair_key(key) if isinstance(key, tuple) else key: _arrays(each) for key, each in values.items()
        }
    if isinstance(values, np.ndarray):
        return [_arrays(each) for each in values]
    return bool(values) if isinstance(values, np.bool_) else number(values)


def _pair(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "a": pair[0],
        "b": pair[1],
        "identity": pair in comparison.identities,
        "verdict": comparison.said(pair),
    }
    for statistic in comparison.statistics:
        result = comparison.result(statistic, pair)
        summary = result.summary
        values = plain(summary) | {
            "chance": result.chance,
            "corrected": number(result.corrected),
            "verdict": result.said,
        }
        if summary.tied is not None:
            values["tied"] = summary.tied
        values |= {name: number(mean) for name, mean in result.controls.items()}
        if result.above is not None:
            values["above_other_image"] = adjusted(result.above) | {
                "equal_p": number(result.above.equal),
                "margin": comparison.settings.margin_of(statistic),
                "d_z": number(result.above.d_z),
            }
        if result.pairing is not None:
            values["pairing_permutation_p"] = number(result.pairing)
        for key, test in result.above_class.items():
            values[f"above_{key}"] = adjusted(test) | {"n": test.n}
        shares = {
            "explained_by_other_image": None if result.above is None else result.explained,
            "images_above_other": result.images_above,
            "above_shifted": result.above_shifted,
        }
        for key, share in shares.items():
            if share is not None:
                values |= {key: number(share.mean), f"{key}_ci": ends(share)}
        entry[statistic.name] = values
    return entry


def pair_key(pair: Pair) -> str:
    """``a|b``; a bar or backslash in a name has a backslash before it, so that no two pairs have one key."""
    return "|".join(re.sub(r"([\\|])", r"\\\1", name) for name in pair)


def above(test: Difference) -> dict[str, Any]:
    """The difference of two means, its interval and its p-value."""
    return {"difference": number(test.difference), "ci": ends(test), "p": number(test.p)}


def adjusted(test: PairedTest | PairTest[Any]) -> dict[str, Any]:
    """The same, and its p-value corrected for the number of tests."""
    return above(test) | {"adjusted": number(test.adjusted)}


def plain(summary: Summary) -> dict[str, Any]:
    """A mean, its spread and interval, and of how many images it is."""
    return {
        "mean": number(summary.mean),
        "std": number(summary.std),
        "ci": ends(summary),
        "n": summary.n,
        "undefined": summary.undefined,
    }


def ends(of: Summary | Difference) -> list[float | None]:
    """Both ends of an interval."""
    return [number(of.low), number(of.high)]


def number(value: float | None) -> float | None:
    """The value, or None where it is undefined, which JSON has no word for."""
    return float(value) if value is not None and math.isfinite(value) else None


def to_json(comparison: Comparison, studies: Sequence[Table] = ()) -> str:
    """The document and the studies, as text."""
    return dumped(with_studies(comparison, studies))


def with_studies(comparison: Comparison, studies: Sequence[Table]) -> dict[str, Any]:
    """The document, and of the studies their data and tables."""
    shown = {study.key: _shown(study) for study in studies if study.columns}
    return document(comparison) | data_of(studies) | ({"tables": shown} if shown else {})


def without_controls(whole: dict[str, Any], comparison: Comparison, rows: Collection[int]) -> dict[str, Any]:
    """A document with what each image is, and of those in ``rows`` the statistics too."""
    names = {each.name for each in comparison.statistics}
    images = [
        {key: image[key] for key in image if key in (IMAGE | names if row in rows else IMAGE)}
        for row, image in enumerate(whole["images"])
    ]
    return {key: images if key == "images" else value for key, value in whole.items() if key != "scores"}


def dumped(whole: dict[str, Any]) -> str:
    """A document as text, indented."""
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def _shown(table: Table) -> dict[str, Any]:
    """A table as plain values, for ``_table``."""
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
        "note": table.note,
        "left": table.left,
        "sections": [list(each) for each in table.sections.items()],
        "beneath": list(table.beneath),
    }


def _table(key: str, data: Any, shown: dict[str, Any] | None) -> Table:
    """The table of a study that a document holds, or without it the data alone."""
    if shown is None:
        return Table((), (), data=data, key=key)
    columns, rows, left, beneath = (shown[each] for each in ("columns", "rows", "left", "beneath"))
    count = len(columns)
    if not (
        0 < left <= count and all(len(row) == count for row in rows) and set(beneath) <= set(range(1, count))
    ):
        raise ValueError(f"the table of {key}")
    texts = [[each if isinstance(each, int | float | None) else str(each) for each in row] for row in rows]
    sections = {int(at): str(heading) for at, heading in shown["sections"]}
    title, note = str(shown["title"]), str(shown["note"])
    return Table([*map(str, columns)], texts, title, note, left, sections, beneath, data=data, key=key)


def from_json(path: Path) -> tuple[Comparison, list[Table]]:
    """The comparison that ``to_json`` wrote into ``path``, with every value of every image, and its studies.

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
        raise XaicmpError(f"{path} lacks some values: it is of an older xaicmp, or of a page; {another}")
    try:
        comparison = _comparison(whole)
        # Making a document of it again looks at every value, and shows which has changed.
        again = document(comparison) | {"pairs": whole["pairs"]}
        source(comparison)
        if not _covers(whole, again):
            raise ValueError("a value is of the wrong type")
        shown, data = whole.get("tables", {}), whole.keys() - again.keys() - {"tables"}
        studies = [_table(key, whole[key], shown.get(key)) for key in whole if key in data]
    except (UsageError, LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else f"{error}".splitlines()[0]
        raise XaicmpError(f"{path} is damaged ({reason}); write it again") from error
    return comparison, studies


def _comparison(whole: dict[str, Any]) -> Comparison:
    """Make the comparison that a document describes, or raise what is wrong with it."""
    made, found, images = whole["comparison"], whole["scores"], whole["images"]
    titles = {name: made["titles"][name] for name in whole["methods"]}
    pairs = {pair_key(pair): pair for pair in combinations(titles, 2)}
    statistics = []
    for each in made["statistics"]:
        (statistic,) = get_statistics([each["name"].split("@")[0] if each["top"] else each["name"]])
        statistics.append(statistic.at(each["top"]) if each["top"] else statistic)
    pixels, names = made["pixels"], tuple(image.get("file", "") for image in images)
    texts = (*titles.values(), *made["classes"], *names, made["about"])
    if not (pairs and 1 < pixels <= MOST_PIXELS):
        raise ValueError("the number of methods or pixels")
    if not all(isinstance(each, str) for each in (*texts, whole["xaicmp"])):
        raise ValueError("a name is no text")
    given = {name: made[name] for name in ("controls", "seed", "curve", "margin")}
    settings = Settings(statistics, whole["top"], level=whole["ci"], **given)
    settings.check(pixels)
    usual = [(len(images),), (len(images), len(curve_shares(pixels)))]
    sizes = dict.fromkeys(SCORES, usual) | {"pairing": [(n, 2) for n in range(1, 2 + len(images) // BLOCK)]}

    def arrays(values: Any, sizes: Sequence[tuple[int, ...]] = usual) -> Any:
        if isinstance(values, dict):
            return {pairs.get(key, key): arrays(each, sizes) for key, each in values.items()}
        array = np.array(values)
        array = array if array.dtype.kind in "bi" else array.astype(float)  # None to NaN
        if array.shape not in sizes or (np.abs(array) > MOST).any():
            raise ValueError("the number or size of values")
        return array

    def of_images(*keys: str) -> Any:
        return arrays([functools.reduce(operator.getitem, keys, image) for image in images])

    scores = Scores(
        {each.name: {pair: of_images(each.name, key) for key, pair in pairs.items()} for each in statistics},
        completeness={name: of_images("completeness", name) for name in images[0]["completeness"]},
        **{
            name: arrays(found.get(name, {}) if name in LATER else found[name], sizes[name])
            for name in SCORES
        },
    )
    _check_scores(scores, set(pairs.values()))
    labels, predicted, targets = (arrays(made[name]) for name in ("labels", "predicted", "targets"))
    return Comparison(
        Source(
            made["about"],
            {key: whole[key] for key in ("xaicmp", *made["details"])},
            tuple(made["classes"]),
            names if any(names) else (),
        ),
        titles,
        frozenset(made["model_free"]),
        settings,
        pixels,
        Predictions(of_images("id"), labels, predicted, of_images("confidence"), targets),
        scores,
    )


def _check_scores(scores: Scores, pairs: set[Pair]) -> None:
    """Raise ValueError for pairs or p-values that cannot be."""
    if any(each.keys() != pairs for each in (*scores.curves.values(), *scores.pairing.values())):
        raise ValueError("the pairs of the curves")
    blocks = [each for by_pair in scores.pairing.values() for each in by_pair.values()]
    if any((each < (0, 0)).any() or (each > (1, BLOCK)).any() for each in blocks):
        raise ValueError("a p-value of the pairing")


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
    """The origin of a comparison, for each row of a CSV file."""
    details = comparison.source.details
    data = details["data"]
    return {
        "checkpoint_sha256": details["checkpoint"].get("sha256"),
        "data": data["name"],
        "split": data["split"],
        "verified": data["verified"],
    }

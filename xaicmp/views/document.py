"""A comparison as plain values, for JSON and the formats that follow from it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.pair_tests import PairTest
from xaicmp.core.results.significance import PairedTest

if TYPE_CHECKING:
    from xaicmp.views.table import Table

SCHEMA = 2
"""Of documents: raised when a key changes its meaning. Documents without one are of version 1."""


def document(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as plain values; what is undefined is None."""
    origin, chosen, scores = comparison.source, comparison.predictions, comparison.scores
    places = scores.shifted_p

    def by_pair(values: dict[Pair, np.ndarray], row: int) -> dict[str, float | None]:
        return {pair_key(pair): number(values[pair][row]) for pair in comparison.pairs}

    return {
        "schema": SCHEMA,
        "xaicmp": version("xaicmp"),
        **origin.details,
        "n": len(chosen),
        "methods": list(comparison.titles),
        "top": comparison.top,
        "ci": comparison.settings.level,
        "pairs": [_pair(comparison, pair) for pair in comparison.pairs],
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
    }


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
        "verified": str(data["verified"]).lower(),
    }

"""A comparison as JSON, CSV or Markdown, and explanations as an .npz file."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xaicmp.core.comparison import Comparison, Measures, Pair
from xaicmp.core.images import ImageSet
from xaicmp.core.journal import Journal
from xaicmp.core.storage import check_suffix, replacing
from xaicmp.core.summary import PairedTest, PairTest, Summary
from xaicmp.core.training import Epoch

if TYPE_CHECKING:
    from xaicmp.views.studies import Study

CONTROL_TITLES = {
    "other_image": "another image's map",
    "other_image_same_class": "another of its class",
    "shifted": "shifted map",
    "pooled": "at the coarser grid",
}
CORRECTED = "chance-corrected"


def document(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as plain values; what is undefined is None."""
    source, chosen, scores = comparison.source, comparison.chosen, comparison.scores
    places = scores.shifted_p

    def by_pair(values: dict[Pair, np.ndarray], row: int) -> dict[str, float | None]:
        return {"|".join(pair): number(values[pair][row]) for pair in comparison.pairs}

    return {
        "xaicmp": version("xaicmp"),
        **source.details,
        "n": len(chosen),
        "methods": list(comparison.titles),
        "top": comparison.top,
        "ci": comparison.measures.level,
        "pairs": [_pair(comparison, pair) for pair in comparison.pairs],
        "images": [
            {
                "id": int(chosen.ids[row]),
                "label": source.classes[chosen.labels[row]],
                "predicted": source.classes[chosen.predicted[row]],
                "target": source.classes[chosen.targets[row]],
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
        "verdict": comparison.verdict(pair),
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


def above(test: PairedTest) -> dict[str, Any]:
    """How far one mean is above another."""
    return {"difference": number(test.difference), "ci": ends(test), "p": number(test.p)}


def ends(of: Summary | PairedTest | PairTest) -> list[float | None]:
    """Those of its interval."""
    return [number(of.low), number(of.high)]


def number(value: float | None) -> float | None:
    """The value, or None where it is undefined, which JSON has no word for."""
    return float(value) if value is not None and math.isfinite(value) else None


def to_json(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """The document and the studies' data, indented."""
    whole = document(comparison) | {study.key: study.data for study in studies}
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def pairs_csv(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """A row a pair; empty where undefined. The studies are left out."""
    rows = []
    for pair in document(comparison)["pairs"]:
        row = {"a": pair["a"], "b": pair["b"], "n": len(comparison.chosen)}
        for statistic in comparison.statistics:
            row |= _flat(statistic.name, pair[statistic.name])
        row |= {"identity": str(pair["identity"]).lower(), "verdict": pair["verdict"]}
        rows.append(row | {"top": comparison.top} | _source(comparison))
    return csv_table(rows)


def _flat(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    """Nested values as one row: ``ci`` becomes ``ci_low`` and ``ci_high``."""
    row: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            row |= _flat(f"{prefix}_{key}", value)
        elif isinstance(value, list):
            row |= {f"{prefix}_{key}_low": value[0], f"{prefix}_{key}_high": value[1]}
        else:
            row[f"{prefix}_{key}"] = value
    return row


def images_csv(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """A row an image; empty where undefined."""
    rows = []
    for image in document(comparison)["images"]:
        row = {key: image[key] for key in ("id", "label", "predicted", "confidence")}
        for statistic in comparison.statistics:
            row |= {f"{statistic.name} {pair}": value for pair, value in image[statistic.name].items()}
        rows.append(row | {"top": comparison.top} | _source(comparison))
    return csv_table(rows)


def _source(comparison: Comparison) -> dict[str, Any]:
    details = comparison.source.details
    data = details["data"]
    return {
        "checkpoint_sha256": details["checkpoint"].get("sha256"),
        "data": data["name"],
        "split": data["split"],
        "verified": str(data["verified"]).lower(),
    }


def csv_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows, under the keys of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def pairs_markdown(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """The published table with what it is worth, and its caption."""
    header, rows = ["Pair"], [[name_pair(comparison, pair)] for pair in comparison.pairs]
    for statistic in comparison.statistics:
        header += [statistic.title(comparison.top), level_title(comparison.measures)]
        for row, pair in zip(rows, comparison.pairs, strict=True):
            result = comparison.result(statistic, pair)
            row += [spread(result.summary), interval(result.summary)]
            row += map(decimals, (*result.controls.values(), result.chance, result.corrected))
        header += [*(CONTROL_TITLES[name] for name in comparison.scores.controls), "chance", CORRECTED]
    for row, pair in zip(rows, comparison.pairs, strict=True):
        row.append(comparison.verdict(pair))
    table = markdown_table([*header, "Verdict"], rows) + f"\n{caption(comparison)}\n"
    return table + "".join(study.markdown() for study in studies)


def images_markdown(comparison: Comparison, studies: Sequence[Study] = ()) -> str:
    """A row an image, each pair's values one after another."""
    header = [
        "id",
        "label",
        "predicted",
        "confidence",
        *(name_pair(comparison, pair) for pair in comparison.pairs),
    ]
    rows = [
        [
            str(image["id"]),
            image["label"],
            image["predicted"],
            decimals(image["confidence"]),
            *(
                " / ".join(
                    decimals(image[statistic.name]["|".join(pair)]) for statistic in comparison.statistics
                )
                for pair in comparison.pairs
            ),
        ]
        for image in document(comparison)["images"]
    ]
    return markdown_table(header, rows) + f"\n{caption(comparison)}\n"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def name_pair(comparison: Comparison, pair: Pair) -> str:
    """``Grad-CAM vs Saliency``."""
    return " vs ".join(comparison.titles[name] for name in pair)


def known_pairs(comparison: Comparison, method: str) -> list[Pair]:
    """The pairs of a method with those that know the model; if there are none, with any."""
    own = [pair for pair in comparison.pairs if method in pair]
    return [pair for pair in own if not comparison.floors.intersection(set(pair) - {method})] or own


def spread(summary: Summary) -> str:
    """``0.221 ± 0.192``."""
    return f"{decimals(summary.mean)} ± {decimals(summary.std)}"


def level_title(measures: Measures) -> str:
    """``95% interval``."""
    return f"{100 * measures.level:g}% interval"


def interval(summary: Summary) -> str:
    """``0.184 to 0.259``."""
    return f"{decimals(summary.low)} to {decimals(summary.high)}"


def estimate(summary: Summary) -> str:
    """``0.221 ± 0.192 (0.184 to 0.259)``."""
    return f"{spread(summary)} ({interval(summary)})"


def decimals(value: float | None) -> str:
    """Three decimals, of 0 without a sign, or a dash for what is undefined."""
    return "-" if value is None or math.isnan(value) else f"{round(value, 3) + 0.0:.3f}"


def caption(comparison: Comparison) -> str:
    """Where the numbers come from and what they would be by chance, in a few sentences."""
    counts, chances, ties = [], [], []
    for statistic in comparison.statistics:
        results = [comparison.result(statistic, pair) for pair in comparison.pairs]
        title = statistic.title(comparison.top)
        counts.append(f"{title} {sum(each.summary.undefined for each in results)}")
        if statistic.uses_top:
            ties.append(f"{title} {sum(each.summary.tied or 0 for each in results)}")
        if (chance := results[0].chance) is not None:
            chances.append(f"{title} {chance:.3f}")
    by_chance = f"By chance: {', '.join(chances)}. " if chances else ""
    tied = f"; tied: {', '.join(ties)}" if ties else ""
    return (
        f"Mean ± std over n = {len(comparison.chosen)} images. {comparison.source.about} "
        f"{by_chance}Undefined: {', '.join(counts)}{tied} (over all pairs)."
    )


Writer = Callable[[Comparison, "Sequence[Study]"], str]
WRITERS: dict[str, tuple[Writer, Writer]] = {
    "json": (to_json, to_json),
    "csv": (pairs_csv, images_csv),
    "markdown": (pairs_markdown, images_markdown),
}
SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown"}


def format_of(path: Path) -> str:
    """The format that a file's suffix names.

    Raises:
        UsageError: an unknown suffix.
    """
    check_suffix(path, SUFFIXES)
    return SUFFIXES[path.suffix.lower()]


def write(path: Path, text: str, inside: Path | None = None) -> None:
    """Write ``text``, replacing ``path`` only once it is complete; for ``inside`` see ``replacing``."""
    with replacing(path, inside) as temporary:
        temporary.write_text(text, encoding="utf-8")


def history_text(history: Sequence[Epoch], suffix: str) -> str:
    """A training's epochs as JSON (``".json"``) or CSV."""
    rows = [asdict(epoch) for epoch in history]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n" if suffix == ".json" else csv_table(rows)


def write_maps(path: Path, journal: Journal, images: ImageSet, methods: Sequence[str]) -> None:
    """Put the explanations in a journal into an .npz file, an array at a time.

    It holds, readable with ``allow_pickle=False``: ``ids`` int64 (N,), ``labels``, ``predicted`` and ``targets``
    strings (N,), ``confidence`` float64 (N,), ``images`` uint8 (N, H, W, 3), ``methods`` strings (M,),
    ``maps`` float32 (M, N, H, W), ``grids`` int64 (M, 2) (height and width that the maps truly have),
    ``completeness`` float64 (M, N) (NaN for methods that promise none), ``data`` string and ``verified`` bool.

    Args:
        path: the file.
        journal: of one image or more.
        images: the set that they are of.
        methods: the names of the M methods.

    Raises:
        XaicmpError: the file cannot be written.
    """
    chosen, classes = journal.chosen, np.array(images.classes)
    size = next(journal.column(f"map {methods[0]}")).shape[1:]
    with replacing(path, journal.folder) as target, zipfile.ZipFile(target, "w") as archive:
        with archive.open("maps.npy", "w", force_zip64=True) as entry:
            shape = (len(methods), len(chosen), *size)
            np.lib.format.write_array_header_1_0(
                entry, {"descr": "<f4", "fortran_order": False, "shape": shape}
            )
            for name in methods:
                for part in journal.column(f"map {name}"):
                    entry.write(part.astype("<f4", copy=False).tobytes())
        none = np.full(len(chosen), np.nan)
        gaps = [np.concatenate(list(journal.column(f"gap {name}")) or [none]) for name in methods]
        for name, array in {
            "ids": chosen.ids,
            "labels": classes[chosen.labels],
            "predicted": classes[chosen.predicted],
            "targets": classes[chosen.targets],
            "confidence": chosen.confidence,
            "images": images.pixels.numpy()[chosen.ids].transpose(0, 2, 3, 1),
            "methods": np.array(methods),
            "grids": np.array([next(journal.column(f"grid {name}"), size) for name in methods]),
            "completeness": np.array(gaps),
            "data": np.array(f"{images.name} {images.split}"),
            "verified": np.array(images.verified),
        }.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)

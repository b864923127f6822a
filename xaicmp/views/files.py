"""A comparison as JSON, CSV or Markdown, and explanations as an .npz file."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xaicmp import __version__
from xaicmp.core.agreement import IOU, STATISTICS
from xaicmp.core.attribution import METHODS
from xaicmp.core.images import ImageSet
from xaicmp.core.pipeline import Chosen, Comparison, Explanations, Pair
from xaicmp.core.storage import check_suffix, replacing
from xaicmp.core.training import Epoch


def document(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as plain values; what is undefined is None."""
    engine, images, chosen = comparison.engine, comparison.images, comparison.chosen
    checkpoint = engine.checkpoint
    return {
        "xaicmp": __version__,
        "checkpoint": {
            "path": str(checkpoint.path),
            "sha256": checkpoint.sha256,
            "architecture": checkpoint.architecture,
            "test_accuracy": checkpoint.test_accuracy,
        },
        "data": {
            "name": images.name,
            "split": images.split,
            "verified": images.verified,
            "sample": images.sample,
        },
        "n": len(chosen),
        "methods": [method.name for method in comparison.methods],
        "options": {method.name: method.options for method in comparison.methods},
        "top": comparison.top,
        "seed": engine.seed,
        "device": str(engine.device),
        "precision": engine.precision,
        "batch_size": engine.batch_size,
        "pairs": [_pair(comparison, pair) for pair in comparison.pairs],
        "images": [
            {
                "id": int(chosen.ids[row]),
                "label": images.classes[chosen.labels[row]],
                "predicted": images.classes[chosen.predicted[row]],
                "confidence": _number(chosen.confidence[row]),
            }
            | {
                statistic.name: {
                    "|".join(pair): _number(comparison.scores.values[statistic.name][pair][row])
                    for pair in comparison.pairs
                }
                for statistic in STATISTICS
            }
            for row in range(len(chosen))
        ],
    }


def _pair(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    entry: dict[str, Any] = {"a": pair[0], "b": pair[1]}
    for statistic in STATISTICS:
        summary = comparison.summary(statistic.name, pair)
        entry[statistic.name] = {
            "mean": _number(summary.mean),
            "std": _number(summary.std),
            "undefined": summary.undefined,
            "chance": statistic.chance(comparison.top),
        }
        if summary.tied is not None:
            entry[statistic.name]["tied"] = summary.tied
    return entry


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def to_json(comparison: Comparison) -> str:
    """The document, indented."""
    return json.dumps(document(comparison), indent=2, allow_nan=False) + "\n"


def pairs_csv(comparison: Comparison) -> str:
    """A row a pair; empty where undefined."""
    rows = []
    for pair in document(comparison)["pairs"]:
        row = {"a": pair["a"], "b": pair["b"], "n": len(comparison.chosen)}
        for statistic in STATISTICS:
            row |= {f"{statistic.name}_{key}": value for key, value in pair[statistic.name].items()}
        rows.append(row | {"top": comparison.top} | _source(comparison))
    return _csv(rows)


def images_csv(comparison: Comparison) -> str:
    """A row an image; empty where undefined."""
    rows = []
    for image in document(comparison)["images"]:
        row = {key: image[key] for key in ("id", "label", "predicted", "confidence")}
        for statistic in STATISTICS:
            row |= {f"{statistic.name} {pair}": value for pair, value in image[statistic.name].items()}
        rows.append(row | {"top": comparison.top} | _source(comparison))
    return _csv(rows)


def _source(comparison: Comparison) -> dict[str, Any]:
    return {
        "checkpoint_sha256": comparison.engine.checkpoint.sha256,
        "data": comparison.images.name,
        "split": comparison.images.split,
        "verified": str(comparison.images.verified).lower(),
    }


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def pairs_markdown(comparison: Comparison) -> str:
    """The published table, with its caption."""
    titles = [statistic.title(comparison.top) for statistic in STATISTICS]
    rows = [
        [name_pair(pair), *(spread(comparison, statistic.name, pair) for statistic in STATISTICS)]
        for pair in comparison.pairs
    ]
    return _markdown(["Pair", *titles], rows) + f"\n{caption(comparison)}\n"


def images_markdown(comparison: Comparison) -> str:
    """A row an image, each pair's values one after another."""
    header = ["id", "label", "predicted", "confidence", *(name_pair(pair) for pair in comparison.pairs)]
    rows = [
        [
            str(image["id"]),
            image["label"],
            image["predicted"],
            decimals(image["confidence"]),
            *(
                " / ".join(decimals(image[statistic.name]["|".join(pair)]) for statistic in STATISTICS)
                for pair in comparison.pairs
            ),
        ]
        for image in document(comparison)["images"]
    ]
    return _markdown(header, rows) + f"\n{caption(comparison)}\n"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def name_pair(pair: Pair) -> str:
    """``Grad-CAM vs Saliency``."""
    return " vs ".join(METHODS[name].title for name in pair)


def spread(comparison: Comparison, statistic: str, pair: Pair) -> str:
    """``0.221 ± 0.192``."""
    summary = comparison.summary(statistic, pair)
    return f"{decimals(summary.mean)} ± {decimals(summary.std)}"


def decimals(value: float | None) -> str:
    """Three decimals, or a dash for what is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def caption(comparison: Comparison) -> str:
    """Where the numbers come from and what they would be by chance, in a few sentences."""
    counts = []
    for statistic in STATISTICS:
        summaries = [comparison.summary(statistic.name, pair) for pair in comparison.pairs]
        counts.append(f"{statistic.title(comparison.top)} {sum(each.undefined for each in summaries)}")
        if statistic is IOU:
            tied = sum(each.tied or 0 for each in summaries)
    chance = ", ".join(
        f"{statistic.title(comparison.top)} {statistic.chance(comparison.top):.3f}"
        for statistic in STATISTICS
    )
    return (
        f"Mean ± std over n = {len(comparison.chosen)} images. {provenance(comparison)} "
        f"By chance: {chance}. Undefined: {', '.join(counts)}; tied: {tied} (over all pairs)."
    )


def provenance(comparison: Comparison) -> str:
    """Which checkpoint, how accurate, on which images."""
    checkpoint, images = comparison.engine.checkpoint, comparison.images
    accuracy = checkpoint.test_accuracy
    known = "unknown test accuracy" if accuracy is None else f"test accuracy {100 * accuracy:.2f}%"
    where = "sample in the package" if images.sample else f"{images.split} set"
    verified = "" if images.verified else ", checksums not the official ones"
    wrong = int(comparison.chosen.wrong.sum())
    marked = f", {wrong} of them classified wrongly" if wrong else ""
    name = f"{checkpoint.path.name}, shipped with xaicmp" if checkpoint.shipped else checkpoint.path
    return f"Checkpoint {name} ({known}); {images.name} {where}{verified}{marked}."


WRITERS: dict[str, tuple[Callable[[Comparison], str], Callable[[Comparison], str]]] = {
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


def write(path: Path, text: str) -> None:
    """Write ``text``, replacing ``path`` only once it is complete."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def history_text(history: Sequence[Epoch], suffix: str) -> str:
    """A training's epochs as JSON (``".json"``) or CSV."""
    rows = [asdict(epoch) for epoch in history]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n" if suffix == ".json" else _csv(rows)


@contextmanager
def maps_file(
    path: Path, images: ImageSet, chosen: Chosen, methods: Sequence[str]
) -> Iterator[Callable[[Explanations], None]]:
    """An .npz file that grows on disk with each batch of explanations, and appears once it is complete.

    It holds, readable with ``allow_pickle=False``: ``ids`` int64 (N,), ``labels`` and ``predicted``
    strings (N,), ``confidence`` float64 (N,), ``images`` uint8 (N, H, W, 3), ``methods`` strings (M,),
    ``maps`` float32 (M, N, H, W), ``data`` string and ``verified`` bool.

    Args:
        path: the file.
        images: what ``chosen`` was chosen from.
        chosen: every image that will come, in order.
        methods: the names of the M methods.

    Raises:
        XaicmpError: the file cannot be written.
    """
    count, (height, width) = len(chosen), images.pixels.shape[-2:]
    classes = np.array(images.classes)
    with ExitStack() as stack:
        target = stack.enter_context(replacing(path))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=path.parent, prefix=".maps-")))
        shape = (len(methods), count, height, width)
        maps = stack.enter_context((folder / "maps.npy").open("wb"))
        # Written rather than mapped into memory, where a full disk kills the process.
        np.lib.format.write_array_header_1_0(maps, {"descr": "<f4", "fortran_order": False, "shape": shape})
        start, done = maps.tell(), 0

        def keep(explanations: Explanations) -> None:
            nonlocal done
            for index, part in enumerate(explanations.maps.numpy().astype("<f4", copy=False)):
                maps.seek(start + 4 * height * width * (index * count + done))
                maps.write(part.tobytes())
            done += len(explanations.chosen)

        yield keep
        maps.flush()
        with zipfile.ZipFile(target, "w") as archive:
            archive.write(folder / "maps.npy", "maps.npy")
            for name, array in {
                "ids": chosen.ids,
                "labels": classes[chosen.labels],
                "predicted": classes[chosen.predicted],
                "confidence": chosen.confidence,
                "images": images.pixels.numpy()[chosen.ids].transpose(0, 2, 3, 1),
                "methods": np.array(list(methods)),
                "data": np.array(f"{images.name} {images.split}"),
                "verified": np.array(images.verified),
            }.items():
                with archive.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)

"""Agreement over several checkpoints."""

from __future__ import annotations

from typing import Any

from xaicmp.core.results.comparison import Comparison
from xaicmp.core.studies.checkpoints import FEWEST, Checkpoints
from xaicmp.views.document import above, ends, number
from xaicmp.views.table import Table
from xaicmp.views.text import decimals, interval, level_title, name_pair, percent

SOURCES = ("checkpoint", "image", "rest")


def checkpoints(found: Checkpoints, comparison: Comparison) -> Table:
    """One row per statistic and pair: the mean, what is above another image's map, and where the variance lies."""
    rows: list[list[str]] = []
    sections: dict[int, str] = {}
    data: dict[str, Any] = {
        "names": list(found.names),
        "images": found.ids.tolist(),
        "left_out": found.left_out,
    }
    for statistic in comparison.statistics:
        sections[len(rows)] = statistic.title(comparison.top)
        data[statistic.name] = []
        for pair in comparison.pairs:
            estimate = found.estimate(statistic.name, pair)
            shares = dict(zip(SOURCES, estimate.shares, strict=True))
            entry: dict[str, Any] = {
                "a": pair[0],
                "b": pair[1],
                "mean": number(estimate.difference),
                "ci": ends(estimate),
                "checkpoints": [number(mean) for mean in estimate.means],
                "variance": {name: number(share) for name, share in shares.items()},
            }
            shown = [estimate]
            if found.above:
                shown.append(found.estimate(statistic.name, pair, above=True))
                entry["above_other_image"] = above(shown[1])
            cells = [cell for each in shown for cell in (decimals(each.difference), interval(each))]
            rows.append([name_pair(comparison, pair), *cells, *map(percent, estimate.shares)])
            data[statistic.name].append(entry)
    level = level_title(comparison.settings)
    heads = ["Mean", level] + (["Above other", level] if found.above else [])
    columns, title = (
        ["Pair", *heads, "Check-\npoint", "Image", "Rest"],
        f"Over {len(found.names)} checkpoints",
    )
    under, note = range(2, 1 + len(heads), 2), _note(found)
    return Table(columns, rows, title, note, sections=sections, beneath=under, data=data, key="checkpoints")


def _note(found: Checkpoints) -> str:
    count = len(found.names)
    said = f"n = {len(found.ids)} images that every checkpoint admits ({found.left_out} left out). "
    if count < FEWEST:
        said += f"{count} checkpoints have no interval, because it would be too short if they differ. "
    else:
        said += "Intervals are over checkpoints and images together; they are wide if checkpoints are few and differ. "
    return said + (
        "Checkpoint, image, rest: their shares of the variance of single values. Each image is explained for the class "
        "that the first checkpoint explains."
    )

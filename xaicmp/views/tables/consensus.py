"""What many methods have in common: the tree of the methods, and their consensus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xaicmp.core.agreement.controls import LEVEL
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.studies.clusters import Tree
from xaicmp.core.studies.consensus import Consensus
from xaicmp.views.document import above, ends, number
from xaicmp.views.table import Table
from xaicmp.views.text import decimals, interval, level_title, percent, spread


def clusters(found: Mapping[str, Tree], comparison: Comparison) -> Table:
    """One row per branch, from the methods that agree most on."""
    rows: list[list[str]] = []
    sections: dict[int, str] = {}
    data: dict[str, Any] = {}
    for statistic in comparison.statistics:
        tree = found[statistic.name]
        sections[len(rows)] = statistic.title(comparison.top)
        names = [comparison.titles[name] for name in tree.methods]
        names += [f"branch {index + 1}" for index in range(len(tree.joins))]
        for index, (a, b) in enumerate(tree.joins.tolist()):
            cells = decimals(tree.agreement[index]), percent(tree.support[index])
            rows.append([f"branch {index + 1}", f"{names[a]} + {names[b]}", *cells])
        data[statistic.name] = {
            "methods": list(tree.methods),
            "left_out": list(tree.left_out),
            "branches": [
                {
                    "joins": join,
                    "members": [tree.methods[leaf] for leaf in sorted(members)],
                    "agreement": number(agreement),
                    "support": number(support),
                }
                for join, members, agreement, support in zip(
                    tree.joins.tolist(),
                    tree.members[len(tree.methods) :],
                    tree.agreement,
                    tree.support,
                    strict=True,
                )
            ],
        }
    out = sorted({comparison.titles[name] for tree in found.values() for name in tree.left_out})
    note = (
        "Above other: mean agreement above another image's map of the pairs that a branch brings together (average "
        "linkage). Support: the share of 999 resamples of the images with a branch of the same methods; the last is all of them."
        + (f" Left out, because undefined beside another: {', '.join(out)}." if out else "")
    )
    columns = ("Branch", "Joins", "Above other", "Support")
    return Table(
        columns,
        rows,
        "Which methods belong together",
        note,
        left=2,
        sections=sections,
        data=data,
        key="clusters",
    )


def consensus(found: Consensus) -> Table:
    """Kendall's W over all methods, and each method with the consensus of the others."""
    rows, entries = [], []
    for method in (None, *found.titles):
        summary, test, other = found.summary(method), found.above(method), found.other(method)
        title = "All methods: Kendall's W" if method is None else found.titles[method]
        told = " *" if test.p < LEVEL else ""
        rows.append(
            [title, spread(summary), interval(summary), decimals(other), decimals(test.difference) + told]
        )
        entries.append(
            {
                "mean": number(summary.mean),
                "std": number(summary.std),
                "ci": ends(summary),
                "n": summary.n,
                "undefined": summary.undefined,
                "other_image": number(other),
                "above_other_image": above(test),
            }
        )
    data: dict[str, Any] = {"kendall_w": entries[0] | {"images": [number(value) for value in found.w]}}
    data["methods"] = [
        {"method": name} | entry | {"distance": number(1 - found.summary(name).mean)}
        for name, entry in zip(found.titles, entries[1:], strict=True)
    ]
    note = (
        "Kendall's W: 1 where all methods rank the pixels alike, 1 / methods where they have nothing in common. Below: "
        "Spearman's correlation of each method's map with the mean rank of the others. Above: what is above that with other "
        "images' maps, * where told apart from 0 (p < 0.05). Model-free methods are left out."
    )
    columns = ("Method", "Mean ± std", level_title(found.settings), "Other image", "Above")
    title = "What all methods have in common"
    sections = {1: "With the consensus of the others:"}
    return Table(columns, rows, title, note, sections=sections, data=data, key="consensus")

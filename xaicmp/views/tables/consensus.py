"""What many methods have in common: the tree of the methods, and their consensus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison
from xaicmp.core.studies.clusters import Tree
from xaicmp.core.studies.consensus import ALL, Consensus
from xaicmp.views.document import above, number, plain
from xaicmp.views.table import Table
from xaicmp.views.tables.studies import STAR
from xaicmp.views.text import decimals, difference, interval, level_title, percent, spread


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
        branches = tree.members[len(tree.methods) :]
        data[statistic.name] = {
            "methods": list(tree.methods),
            "left_out": list(tree.left_out),
            "branches": [
                {
                    "joins": tree.joins[index].tolist(),
                    "members": [tree.methods[leaf] for leaf in sorted(members)],
                    "agreement": number(tree.agreement[index]),
                    "support": number(tree.support[index]),
                }
                for index, members in enumerate(branches)
            ],
        }
    out = sorted({comparison.titles[name] for tree in found.values() for name in tree.left_out})
    note = (
        "Above other: the mean agreement above another image's map, over the pairs that a branch joins (average linkage). "
        "Support: the share of 999 resamples of the images that have a branch of the same methods. The last branch has all of them."
        + (f" Left out, because undefined with another: {', '.join(out)}." if out else "")
    )
    columns, title = ("Branch", "Joins", "Above other", "Support"), "Which methods belong together"
    return Table(columns, rows, title, note, left=2, sections=sections, data=data, key="clusters")


def consensus(found: Consensus) -> Table:
    """Kendall's W over all methods, and each method with the consensus of the others."""
    rows, entries = [], []
    for measure, of in found.values.items():
        tests = found.above(measure, OTHER_IMAGE)
        for name in of:
            summary, other = found.summary(measure, name), found.control(measure, name, OTHER_IMAGE)
            title = found.titles.get(name, "All methods: Kendall's W")
            rows.append([title, spread(summary), interval(summary), decimals(other), difference(tests[name])])
            entries.append(
                plain(summary) | {"other_image": number(other), "above_other_image": above(tests[name])}
            )
    data: dict[str, Any] = {
        "kendall_w": entries[0] | {"images": [number(value) for value in found.values["kendall_w"][ALL]]},
        "methods": [
            {"method": name} | entry | {"distance": number(1 - found.summary("consensus", name).mean)}
            for name, entry in zip(found.titles, entries[1:], strict=True)
        ],
    }
    note = (
        "Kendall's W: 1 if all methods rank the pixels alike, 1 / methods if they have nothing in common. Below it: "
        "Spearman's correlation of each method's map with the mean rank of the others. Above it: the mean minus that with other "
        f"images' maps. {STAR} Model-free methods are left out."
    )
    if found.left_out:
        note += f" So are methods that have the maps of one before: {', '.join(found.left_out)}."
    columns = ("Method", "Mean ± std", level_title(found.settings), "Other image", "Above it")
    title = "What all methods have in common"
    sections = {1: "With the consensus of the others:"}
    return Table(columns, rows, title, note, sections=sections, data=data, key="consensus")

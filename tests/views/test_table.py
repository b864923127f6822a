"""A table in each format: nothing is cut, text from outside stays text, and every pair has its row."""

from __future__ import annotations

import csv
import io
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.verdict import Verdict
from xaicmp.core.run.maps_file import compare_maps
from xaicmp.views.document import document, pair_key
from xaicmp.views.table import Table, printable, to_csv, to_latex, to_markdown, to_text
from xaicmp.views.tables.comparison import pairs_records, pairs_table
from xaicmp.views.tables.images import images_table
from xaicmp.views.text import decimals

ABOUT = "Checkpoint resnet18-cifar10.pt, shipped with xaicmp (test accuracy 92.77%); CIFAR-10 sample in the package."
WIDTHS = [40, 80, 120, 200]
NUMBER = re.compile(r"-?\d\.\d+")
ODD = ["IG[black]", "IG[/x]", ":smile:", "a|b", "=1+1", "x" * 100]


def comparison_of(folder: Path, names: list[str], settings: Settings | None = None) -> Comparison:
    maps = np.random.default_rng(0).random((len(names), 6, 12, 12))
    maps[:, :, :4, :4] += 0.3
    np.savez(folder / "maps.npz", methods=names, maps=maps)
    return compare_maps(folder / "maps.npz", settings or Settings(controls=["other-image"]))


def named(count: int) -> list[str]:
    return [f"Method number {index:02d}" for index in range(count)]


@given(st.text("ab \n\N{CJK UNIFIED IDEOGRAPH-4E00}", max_size=40), st.integers(8, 20))
def test_no_line_of_text_is_too_long_or_ends_in_a_space(text: str, width: int) -> None:
    text = "\n".join(line.strip() for line in text.split("\n"))
    shown = to_text(Table(("Pair", "n"), [["a", 1]], title=text, note=text, sections={0: text}), width)
    for line in shown.splitlines():
        assert line == line.rstrip()
        assert cell_len(line) <= width
    words = "".join(text.split())
    assert "".join(shown.split()) == f"{words}Pairn{'─' * 7}{words}a1{words}"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize("names", [named(3), ODD, named(10), [*ODD, "z"]], ids=["3", "odd", "10", "odd7"])
def test_no_line_is_too_long_and_no_character_is_lost(
    names: list[str], details: bool, width: int, tmp_path: Path
) -> None:
    comparison = comparison_of(tmp_path, names)
    table = pairs_table(comparison, details)
    for each in (table, images_table(comparison)):
        text = to_text(each, width)
        assert "…" not in text
        assert max(map(cell_len, text.splitlines())) <= width
        cells = [str(cell) for row in each.rows for cell in row[each.left :]]
        numbers = [number for cell in cells for number in NUMBER.findall(cell)]
        assert sorted(NUMBER.findall(to_text(replace(each, note="", sections={}), width))) == sorted(numbers)
    words = [word for name in names for word in name.split() if len(word) < 20]
    assert all(word in to_text(table, width) for word in words)


@pytest.mark.parametrize(("width", "most"), [(80, 16), (120, 13)])
def test_three_pairs_fit_one_screen_with_mean_interval_control_and_verdict_in_one_row(
    width: int, most: int, tmp_path: Path
) -> None:
    comparison = comparison_of(tmp_path, ["Grad-CAM", "Saliency", "IG"])
    comparison = replace(comparison, source=replace(comparison.source, about=ABOUT))
    text = to_text(pairs_table(comparison), width)
    lines = text.splitlines()
    assert len(lines) <= most
    assert text.count("Pair") == 1
    for pair in comparison.pairs:
        found = re.search(rf"(?m)^{pair[0]} vs( {pair[1]} .*$|  .*\n{pair[1]} )", text)
        assert found
        row = found[0].splitlines()[0]
        for name in ("pearson", "iou"):
            summary = comparison.summary(name, pair)
            assert f"{decimals(summary.mean)} ± {decimals(summary.std)}" in row
            assert f"{decimals(summary.low)} to {decimals(summary.high)}" in text
        assert decimals(comparison.result(comparison.statistics[1], pair).controls["other_image"]) in row
    if width == 120:
        caption = lines[lines.index("") + 1 :]
        assert caption[0].startswith(f"n = 6 images, seed 0. {ABOUT[:60]}")
        assert len(caption) <= 3


@pytest.mark.parametrize("statistics", [["pearson", "iou"], ["pearson"], ["pearson", "iou", "cosine"]])
def test_of_seven_methods_every_mean_stands_where_its_row_and_column_say(
    statistics: list[str], tmp_path: Path
) -> None:
    names = named(7)
    comparison = comparison_of(tmp_path, names, Settings(statistics))
    table = pairs_table(comparison)
    assert len(table.rows) == 7 * -(-len(statistics) // 2)
    for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
        for number, name in enumerate(statistics):
            row, column = (i, j) if number % 2 == 0 else (j, i)
            mean = comparison.summary(name, (a, b)).mean
            assert table.rows[7 * (number // 2) + row][1 + column] == f"{mean:.2f}"
    assert "21 pairs. Pearson: " in table.note
    detailed = pairs_table(comparison, details=True)
    assert len(detailed.rows) == 21 * len(statistics)
    assert len(detailed.sections) == 21


def test_more_than_two_statistics_have_a_row_each_under_the_pair(tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path, named(3), Settings(["pearson", "iou", "cosine"]))
    table = pairs_table(comparison)
    assert [row[0] for row in table.rows[:3]] == ["  Pearson", "  IoU@20%", "  Cosine"]
    assert list(table.sections) == [0, 3, 6]
    for heading, pair in zip(table.sections.values(), comparison.pairs, strict=True):
        assert heading == " vs ".join(pair)
    for row, (pair, statistic) in zip(
        table.rows, itertools.product(comparison.pairs, comparison.statistics), strict=True
    ):
        assert row[-1] == comparison.verdict(statistic, pair).short


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("count", [2, 6, 7])
def test_every_verdict_can_be_shown(
    verdict: Verdict, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = comparison_of(tmp_path, named(count), Settings(["cosine"], controls=["none"]))
    made = Comparison._result
    given = {"verdict": verdict, "said": verdict.long}
    monkeypatch.setattr(Comparison, "_result", lambda *which: replace(made(*which), **given))
    assert verdict.short in to_text(pairs_table(comparison), 120)
    assert verdict.long in to_text(pairs_table(comparison, details=True), 120)
    assert verdict.long in to_csv(pairs_records(comparison))
    assert 1 <= len(verdict.short.split()) <= 3


def test_what_may_stand_beneath_does_so_only_where_the_table_is_too_wide() -> None:
    table = Table(("Name", "mean", "interval", "more"), [["row", "1.0", "2.0 to 3.0", "4.0"]], beneath=[2])
    assert to_text(table, 40).splitlines()[-1].split() == ["row", "1.0", "2.0", "to", "3.0", "4.0"]
    assert [line.split() for line in to_text(table, 24).splitlines()] == [
        ["mean"],
        ["Name", "interval", "more"],
        ["─" * 22],
        ["row", "1.0", "4.0"],
        ["2.0", "to", "3.0"],
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_name_is_wrapped_whole_and_leaves_room_for_its_numbers(width: int) -> None:
    table = Table(("Name", "a", "b"), [["x" * 300, "1.234", "5.678"]])
    text = to_text(table, width)
    assert text.count("x") in (300, 600)
    assert (text.count("1.234"), text.count("5.678")) == (1, 1)


def test_markup_emoji_and_control_characters_are_text() -> None:
    table = Table(("[bold]x[/]", "n"), [["[red]a[/b]", ":smile:"], ["\x1b[31mz", 1]], "[t]", "[/n] :tada:")
    for text in (to_text(table, 80), to_markdown(table)):
        for part in ("[bold]x[/]", "[red]a[/b]", ":smile:", "[t]", "[/n] :tada:"):
            assert part in text
    assert "\x1b" not in to_text(table, 80)


def test_markdown_escapes_pipes_and_line_breaks() -> None:
    table = Table(("a\nb", "n"), [["x|y\nz", None], ["back\\|slash", 2]], sections={1: "s|t"})
    assert to_markdown(table).splitlines() == [
        "| a b | n |",
        "| --- | --- |",
        "| x\\|y z |  |",
        "| s\\|t |  |",
        "| back\\\\\\|slash | 2 |",
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_csv_has_no_formula_from_outside_and_leaves_numbers_alone(start: str) -> None:
    table = Table(("name", f"{start}h"), [[f"{start}1+1", -0.5], ["safe=", None]])
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    shown = printable(start)
    assert rows == [["name", f"'{shown}h"], [f"'{shown}1+1", "-0.5"], ["safe=", ""]]


NAMES = st.text(st.sampled_from("ab|\\\n\r<[]()`\x1b\x9b\u202e\u0085 ="), min_size=1, max_size=6)


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
@example(("a|b", "c"), ("a", "b|c"))
@example(("a\\", "c"), ("a", "\\c"))
@example(("a\\|b", "c"), ("a\\", "b|c"))
def test_no_two_pairs_have_one_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (pair_key(one) == pair_key(other)) == (one == other)
    assert pair_key(("grad-cam", "saliency:sum")) == "grad-cam|saliency:sum"


@given(NAMES)
def test_any_name_is_one_cell_and_steers_nothing(name: str) -> None:
    table = Table((name, "n"), [[name, 1.0], ["x", name]], sections={1: name})
    lines = to_markdown(table).splitlines()
    assert len(lines) == 5
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3
        assert not re.search(r"(?<!\\)(?:\\\\)*<", line)
    assert len(list(csv.reader(io.StringIO(to_csv(table))))) == 3
    for text in (to_csv(table), to_markdown(table), to_text(table, 80)):
        assert not [each for each in text if not each.isprintable() and each != "\n"]


def test_pairs_whose_names_hold_bars_keep_their_values(tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path, ["a|b", "c", "a", "b|c"])
    whole = document(comparison)
    for row, image in enumerate(whole["images"]):
        assert len(image["pearson"]) == len(comparison.pairs) == 6
        for pair in comparison.pairs:
            assert image["pearson"][pair_key(pair)] == comparison.scores.values["pearson"][pair][row]
    for text in (to_markdown(pairs_table(comparison)), to_markdown(images_table(comparison))):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
        assert len(bars) == 1


@pytest.mark.parametrize("cell", ["-1", "+3", "-0.25", "-1e-5", "-7.", "1", "cat", "a=b", "", " =1"])
def test_numbers_and_plain_text_are_never_protected_in_csv(cell: str) -> None:
    (row,) = list(csv.reader(io.StringIO(to_csv(Table(("x",), [[cell]])))))[1:] or [[""]]
    assert (row or [""])[0] == cell


@pytest.mark.parametrize("cell", ["=1+1", "-1+1", "+cmd|x", "@x", "-", "--1", "-x", "-1e", "\t=1", "-1\n=1"])
def test_formulas_are_protected_in_csv_in_cells_and_headings(cell: str) -> None:
    assert [row[0] for row in csv.reader(io.StringIO(to_csv(Table((cell,), [[cell]]))))] == [
        f"'{printable(cell)}"
    ] * 2


@pytest.mark.parametrize(
    ("cell", "text"), [(-1.5, "-1.5"), (-7, "-7"), (True, "true"), (False, "false"), (None, "")]
)
def test_values_in_csv_are_written_as_they_are(cell: float | None, text: str) -> None:
    assert to_csv(Table(("x", "y"), [["a", cell]])) == f"x,y\na,{text}\n"


def test_a_table_for_a_paper_is_the_one_worked_out_by_hand() -> None:
    table = Table(
        ("Pair", "Mean ± std", "Other\nimage"),
        [["A_1 vs B&B", "-0.012 ± 0.100", "-"], ["x", "0.5", "-0.1 to 0.2"]],
        title="50% of {it}",
        note="Grad-CAM, τ < 1.",
        sections={1: "All #2:"},
    )
    assert (
        to_latex(table)
        == r"""\begin{table}
\centering\footnotesize\setlength{\tabcolsep}{4pt}
\caption{50\% of \{it\} Grad-CAM, $\tau$ $<$ 1.}
\begin{tabular}{lrr}
\toprule
Pair & Mean $\pm$ std & Other image \\
\midrule
A\_1 vs B\&B & $-$0.012 $\pm$ 0.100 & -- \\
\multicolumn{3}{l}{All \#2:} \\
x & 0.5 & $-$0.1 to 0.2 \\
\bottomrule
\end{tabular}
\end{table}
"""
    )


def test_what_stands_beneath_on_a_terminal_stands_beneath_in_a_paper() -> None:
    table = Table(("a", "b", "c", "d"), [[1, 2, 3, 4]], beneath=(2,))
    lines = to_latex(table).splitlines()
    assert lines[3] == r"\begin{tabular}{lrr}"
    assert lines[5:10] == [r"a & b & d \\", r" & c &  \\", r"\midrule", r"1 & 2 & 4 \\", r" & 3 &  \\"]


COMMANDS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    **{f"${each}$": each for each in "<>|-"},
    "{[}": "[",
    **{rf"\{each}": each for each in "&%$#_{}"},
}


@given(st.text(st.sampled_from("\\&%$#_{}~^<>|-019aB é=[]"), max_size=30))
def test_text_in_latex_is_the_same_text_read_back(text: str) -> None:
    """Read by a scanner that knows the commands and stops at any other special character."""
    cell = to_latex(Table(("x",), [[text]])).splitlines()[7].removesuffix(r" \\")
    found, rest = "", "-" if cell == "--" and text.strip() == "-" else cell
    while rest:
        command = next((each for each in COMMANDS if rest.startswith(each)), None)
        assert command or rest[0] not in "\\&%$#_{}~^<>|["
        found, rest = found + COMMANDS.get(command or "", rest[0]), rest[len(command or " ") :]
    assert found == " ".join(text.split())

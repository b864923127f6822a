"""The registry as a table and as documents."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
import torch
from rich.console import Console
from small import registered

from xaicmp.cli import run
from xaicmp.cli.options import formats
from xaicmp.core.attribution import METHODS
from xaicmp.core.models.checkpoint import shipped_checkpoint
from xaicmp.views.tables.methods import COLUMNS, methods_table, methods_text


def table(width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(methods_table())
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_says_of_each_method_what_it_needs_and_costs_under_its_family(width: int) -> None:
    text = table(width)
    assert "…" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    family = ""
    seen = []
    for line in lines[2:]:
        first = line.split()[0] if line[:1].strip() else ""
        if first in {method.family for method in METHODS.values()} and line.strip() == first:
            family = first
        elif first in METHODS:
            method = METHODS[first]
            assert method.family == family
            assert method.cost.split()[0] in line.split()
            seen.append(first)
    assert seen == list(METHODS)
    assert text.count("Cost:") == 1


def test_at_80_columns_papers_are_names_and_years(width: int = 80) -> None:
    text = table(width)
    assert '"' not in text
    said = re.sub(r"\s+", " ", text)
    assert "Fu et al., 2020" in said
    for method in METHODS.values():
        year = re.search(r"\d{4}", method.paper)
        assert year and year[0] in said


def test_every_format_has_the_same_rows() -> None:
    rows = json.loads(methods_text("json"))
    assert [tuple(row) for row in rows] == [COLUMNS] * len(rows)
    assert {row["name"]: row["paper"] for row in rows} == {
        name: method.paper for name, method in METHODS.items()
    }
    assert list(csv.DictReader(io.StringIO(methods_text("csv")))) == rows
    lines = methods_text("markdown").splitlines()
    assert [line.strip("| ").split(" | ") for line in (lines[0],)] == [list(COLUMNS)]
    for line, row in zip(lines[2:], rows, strict=True):
        assert line == f"| {' | '.join(row.values())} |"


def test_a_method_added_to_the_registry_is_listed_everywhere() -> None:
    def noise(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return images

    with registered("added-here", noise):
        assert "added-here" in table(80)
        assert all("added-here" in methods_text(each) for each in formats())
    assert "added-here" not in table(80)


def test_for_a_model_each_method_says_whether_it_is_for_it_and_why_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["explain", "--list-methods", "--checkpoint", str(shipped_checkpoint())]
    assert run([*line, "--format", "json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert [*rows] == list(METHODS)
    for name, row in rows.items():
        attends = METHODS[name].family == "attention"
        assert row["for_this_model"].startswith("no, it computes no attention between" if attends else "yes")
    against = dict.fromkeys(METHODS, "it has a rather long reason, which is told whole, whatever the width")
    said = " ".join(methods_text("table", against).split())
    assert said.count("no, it has a") == len(METHODS)
    assert "…" not in said

"""docs/statistics.md has a section for each statistic and control that says what the registry says."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from xaicmp.core.agreement.controls import CONTROLS, KEYS
from xaicmp.core.agreement.partners import DRAWS
from xaicmp.core.agreement.registry import STATISTICS, agreement
from xaicmp.core.agreement.rolling import SHIFTS

PAGE = (Path(__file__).parents[1] / "docs" / "statistics.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([\w-]+)`\n(.*?)(?=^##)", PAGE, flags=re.MULTILINE | re.DOTALL))
PARTS = ("Range", "Assumes", "Chance", "Source")
A, B = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 3], [2, 4]])


def part(name: str, of: str) -> str:
    """What a section says under a heading of its list."""
    (found,) = re.findall(rf"^- {of}: (.*(?:\n  .*)*)", SECTIONS[name], flags=re.MULTILINE)
    return str(found)


def test_each_statistic_and_control_has_its_section_and_no_other_has() -> None:
    assert list(SECTIONS) == [*STATISTICS, *CONTROLS]


@pytest.mark.parametrize("name", [*STATISTICS, *CONTROLS])
def test_a_section_has_two_sentences_a_formula_and_every_part(name: str) -> None:
    about, formula, _ = SECTIONS[name].split("```", 2)
    assert len(re.findall(r"[.](?:\s|$)", about)) == 2, about
    assert formula.startswith("text\n")
    assert "=" in formula
    assert all(part(name, of) for of in PARTS)


@pytest.mark.parametrize("name", STATISTICS)
def test_range_chance_and_source_are_those_of_the_registry(name: str) -> None:
    statistic = STATISTICS[name]
    better = "higher" if statistic.higher else "lower"
    assert part(name, "Range") == f"{statistic.low:g} to {statistic.high:g}; {better} is more agreement."
    chance, said = statistic.chance(0.2, 1024), part(name, "Chance")
    assert said.startswith("depends on the maps" if chance is None else f"{chance:.3f}")
    for year in re.findall(r"\b(?:19|20)\d\d\b", statistic.source):
        assert year in part(name, "Source")
    for function in re.findall(r"scipy[\w.]+", statistic.source):
        assert f"`{function}`" in part(name, "Source")


@pytest.mark.parametrize("name", STATISTICS)
def test_the_example_is_true(name: str) -> None:
    value = float(agreement(name, A, B, 0.5))
    assert part(name, "Example") == ("undefined." if math.isnan(value) else f"{value:.3f}.")


def test_the_controls_draw_as_often_as_the_page_says() -> None:
    assert f"mean over {DRAWS} images" in SECTIONS["other-image"]
    assert f"mean over {SHIFTS} offsets" in SECTIONS["shift"]
    assert f"/ {SHIFTS + 1}\n" in SECTIONS["shift"]
    for control in CONTROLS.values():
        if len(control.keys) > 1 or control.name == "resolution":
            assert all(f"`{key.name}`" in SECTIONS[control.name] for key in control.keys)
    assert set(KEYS) == {key.name for control in CONTROLS.values() for key in control.keys}

"""``--config`` and ``--show-config``: what a run prints of itself makes it again, and what wins."""

from __future__ import annotations

import inspect
import json
import math
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xaicmp.cli import app
from xaicmp.cli.config import kind_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Xaicmp = Callable[..., Any]
COMMANDS = ("train", "explain", "metrics", "figure")
GROUP: Any = typer.main.get_command(app)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
SPECIAL = {"format": st.sampled_from(["json", "csv"]), "by": st.sampled_from(["class", "method"])}


def choices(annotation: Any) -> tuple[str, ...]:
    """Those of a Literal, wherever in an annotation."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next(filter(None, map(choices, get_args(annotation))), ())


@st.composite
def command_lines(draw: Any) -> tuple[str, dict[str, Any], list[str]]:
    """A command, the values of some of its options, and the words that give them."""
    name = draw(st.sampled_from(COMMANDS))
    command = GROUP.commands[name]
    hints = {each.name: each.annotation for each in inspect.signature(command.callback).parameters.values()}
    options = [
        each for each in command.params if each.name in hints and not {"config", "show_config"} & {each.name}
    ]
    values, words = {}, []
    for option in draw(st.lists(st.sampled_from(options), max_size=6, unique_by=lambda each: each.name)):
        several, kind = kind_of(hints[option.name])
        key, low = max(option.opts, key=len), option.min or 0
        top = option.max or low + 90
        value = {
            bool: st.just(True),
            int: st.integers(math.ceil(low), math.floor(top)),
            float: st.floats(low, top),
            str: st.sampled_from(choices(hints[option.name])) if choices(hints[option.name]) else TEXT,
        }[kind]
        each = draw(SPECIAL.get(option.name, value))
        every = [each, *draw(st.lists(SPECIAL.get(option.name, value), max_size=2))] if several else [each]
        values[key.removeprefix("--")] = every if several else each
        words += [key] if kind is bool else [f"{key}={part}" for part in every]
    return name, values, words


@given(command_lines())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_shown_makes_the_run_again(
    xaicmp: Xaicmp, line: tuple[str, dict[str, Any], list[str]]
) -> None:
    name, values, words = line
    shown = xaicmp(name, *words, "--show-config")
    assert shown.status == 0, (words, shown.err)
    read = tomllib.loads(shown.out)
    assert {key: read[key] for key in values} == values
    Path("run.toml").write_text(shown.out, encoding="utf-8")
    again = xaicmp(name, "--config", "run.toml", "--show-config")
    assert (again.status, again.out, again.err) == (0, shown.out, "")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    xaicmp: Xaicmp, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("run.toml").write_text('n = 5\nseed = 5\nci = 0.5\nmethods = ["lrp"]\nfast = true\nig-steps = 9\n')
    monkeypatch.setenv("XAICMP_METRICS_SEED", "6")
    monkeypatch.setenv("XAICMP_METRICS_CI", "0.6")
    monkeypatch.setenv("XAICMP_METRICS_METHODS", "edge random")
    outcome = xaicmp("metrics", "--config", "run.toml", "--ci", "0.7", "--show-config")
    found = tomllib.loads(outcome.out)
    assert (found["n"], found["seed"], found["ci"]) == (5, 6, 0.7)
    assert found["methods"] == ["edge", "random"]
    assert found["fast"] is True
    monkeypatch.setenv("XAICMP_METRICS_CONFIG", "run.toml")
    assert tomllib.loads(xaicmp("metrics", "--show-config").out)["ig-steps"] == 9
    monkeypatch.setenv("XAICMP_METRICS_N", "many")
    outcome = xaicmp("metrics")
    assert outcome.status == 2 and outcome.err.startswith("xaicmp: XAICMP_METRICS_N: ")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('n = "5"', 'n = "5" is of the wrong type; give a whole number'),
        ("n = true", "n = true"),
        ("n = 5.0", "n = 5.0"),
        ("fast = 1", "give true or false"),
        ("top = 0.5", "give a list, each a number"),
        ("top = [0.5, true]", "top = [0.5, true]"),
        ("checkpoint = 3", "give text"),
        ("n = -3", "--n"),
        ('only = "right"', "--only"),
        ('by = ["x"]', "--by"),
        ("ig_steps = 3", "no option 'ig_steps'; did you mean ig-steps?"),
        ("show-config = true", "no option 'show-config'"),
        ("[metrics]\nn = 3", "no option 'metrics'"),
        ("n = ", "is no TOML file"),
        ('n = "\udcff"', "is no TOML file"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_name(xaicmp: Xaicmp, text: str, part: str) -> None:
    Path("run.toml").write_bytes(text.encode(errors="surrogateescape"))
    outcome = xaicmp("metrics", "--config", "run.toml")
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert outcome.err.startswith("xaicmp: run.toml") and part in outcome.err


def test_a_file_that_is_not_there_is_named(xaicmp: Xaicmp) -> None:
    outcome = xaicmp("train", "--config", "none.toml")
    assert outcome.status == 2 and "--config none.toml: No such file" in outcome.err


def test_a_document_carries_versions_the_command_and_the_options(xaicmp: Xaicmp) -> None:
    words = ("--n", 2, "--methods", "saliency", "edge", "--controls", "none", "-q", "--output", "a b.json")
    outcome = xaicmp("metrics", *words, "--format", "json")
    found = json.loads(outcome.out)
    assert found["versions"] == {
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: version(name) for name in ("torch", "captum", "xaicmp")},
    }
    line = "xaicmp metrics --n 2 --methods saliency edge --controls none -q --output 'a b.json' --format json"
    assert found["command"] == line
    assert found["config"] == xaicmp(*shlex.split(line)[1:], "--show-config").out
    again = json.loads(xaicmp("metrics", "--from", "a b.json", "--format", "json").out)
    assert again == found  # a document that is shown again says what made it

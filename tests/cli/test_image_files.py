"""Photographs from the command line: a list on stdin, names that are hard to print, labels of no class."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

METHODS = ("--methods", "saliency", "input-x-gradient")
MODEL = """
from torch import nn
import xaicmp

def make():
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return xaicmp.Classifier(nn.Sequential(*layers), classes=("cat", "dog"), input_size=(12, 12))
"""


@pytest.fixture
def photos(alone):
    Path("pictured.py").write_text(MODEL)
    for index, name in enumerate(("cat/one.png", "dog/two words.PNG", "dog/\udcff.png", "tiger/three.jpg")):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        Path("photos", name).write_bytes(buffer.getvalue())
    return Path("photos")


def explained(xaicmp, *words):
    done = xaicmp(
        "explain", "--model", "pictured:make", *METHODS, "--only", "all", "--n", 9, "--format", "csv", *words
    )
    assert done.status == 0, done.err
    return [row.split(",")[1:3] for row in done.out.splitlines()[1:]], done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--images nobody.jpg", "--images nobody.jpg: no such file or folder"),
        ("--classes nobody.txt", "cannot read nobody.txt"),
        ("--against nobody.pt", "--against nobody.pt: no such file"),
        ("--checkpoints nobody.pt other.pt", "--checkpoints nobody.pt: no such file"),
        ("--masks nobody", "cannot read --masks nobody"),
        ("--methods nobody edge", "nobody"),
        ("--statistics nobody", "nobody"),
        ("--device nobody", "nobody"),
    ],
)
def test_what_is_named_is_looked_for_before_the_weights_are_read(xaicmp, alone, words, said):
    done = xaicmp("metrics", "--checkpoint", "nowhere.pt", *words.split())
    assert done.status in (1, 2)
    assert said in done.err
    assert "nowhere.pt" not in done.err


def test_other_images_are_looked_for_before_the_weights_are_read(xaicmp, alone):
    done = xaicmp("explain", "--checkpoint", "nowhere.pt", "--reference", "nobody.jpg")
    assert done.err.startswith("xaicmp: --reference nobody.jpg: no such file or folder")


def test_a_list_on_stdin(xaicmp, photos, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("photos/cat/one.png\nphotos/dog/two words.PNG\n"))
    rows, _ = explained(xaicmp, "--images", "-")
    assert [name for name, _ in rows] == ["cat/one.png", "dog/two words.PNG"]


def test_names_of_any_bytes_and_labels_of_no_class(xaicmp, photos):
    rows, said = explained(xaicmp, "--images", photos)
    assert [label for _, label in rows] == ["cat", "dog", "dog", "unknown"]
    assert "photos: classes that are none of the model's (tiger); their labels count as unknown" in said
    Path("labels.csv").write_text("cat/one.png,dog\n")
    Path("labels.csv").rename("photos/labels.csv")
    rows, said = explained(xaicmp, "--images", photos, "--labels", "photos/labels.csv")
    assert rows == [["cat/one.png", "dog"]]
    assert "none of the model's" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "taken at 224 x 224, from 0 to 1, not normalised. Give --input-size, --mean and --std"),
        ("--input-size 20", "taken from 0 to 1, not normalised. Give --mean and --std"),
        ("--mean 0.5 --std 0.5", "taken at 224 x 224. Give --input-size"),
        ("--mean 0 --std 1 --input-size 20", None),
    ],
)
def test_what_a_network_does_not_say_of_its_images_is_told(xaicmp, photos, words, said):
    Path("bare.py").write_text(MODEL.replace(", input_size=(12, 12)", ""))
    done = xaicmp("explain", "--model", "bare:make", *METHODS, "--images", photos, "--n", 1, *words.split())
    assert done.status == 0, done.err
    lines = [line for line in done.err.splitlines() if "how images are prepared" in line]
    assert lines == ([f"xaicmp: Sequential does not say how images are prepared; {said}"] if said else [])

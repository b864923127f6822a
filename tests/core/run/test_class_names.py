"""Models that do not name their classes, on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import xaicmp
from xaicmp.cli import run
from xaicmp.core.run.class_names import with_class_names
from xaicmp.errors import UsageError
from xaicmp.views.tables.images import images_table

METHODS = ["saliency", "edge"]


class Reds(nn.Module):
    """Takes an image for the class that its red says: 20 grey levels each."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.arange(classes) * 20.0)

    def forward(self, images: Tensor) -> Tensor:
        return -(255 * images[:, :1].mean(dim=(2, 3)) - self.centres).square()


def reds(classes: str = "3") -> nn.Module:
    return Reds(int(classes))


def folder(root: Path, names: Sequence[str], reds: Sequence[int]) -> Path:
    """A folder of images, one in a folder of each name, each of the class that its red says."""
    rng = np.random.default_rng(0)
    for name, red in zip(names, reds, strict=True):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        pixels[..., 0] = 20 * red
        (root / name).mkdir(parents=True)
        Image.fromarray(pixels).save(root / name / "a.png")
    return root


def compared(root: Path, classes: int, **options: str) -> tuple[xaicmp.Result, list[str]]:
    said: list[str] = []
    model = xaicmp.Classifier(Reds(classes), input_size=(16, 16))
    images = xaicmp.load_images(root, model=model)
    running = xaicmp.Running(remark=said.append)
    select = xaicmp.Selection(n=3, only="all")
    return xaicmp.compare(model, images, methods=METHODS, select=select, running=running, **options), said


def test_as_many_classes_are_taken_in_their_order_and_it_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "fruit", ["apple", "banana", "cherry"], [0, 2, 2])
    result, said = compared(root, 3)
    chosen = result.comparison.predictions
    assert result.comparison.source.classes == ("apple", "banana", "cherry")
    assert chosen.labels.tolist() == [0, 1, 2]
    assert chosen.predicted.tolist() == [0, 2, 2]
    assert said == [
        "Reds does not name its 3 classes; taken in the order of those of fruit: apple, banana, cherry. "
        "Give others with classes"
    ]
    named = xaicmp.Classifier(Reds(), ("apple", "banana", "cherry"), input_size=(16, 16))
    images = xaicmp.load_images(root, model=named)
    same = xaicmp.compare(named, images, methods=METHODS, select=xaicmp.Selection(n=3, only="all"))
    assert same.comparison.predictions.labels.tolist() == chosen.labels.tolist()
    assert result.against(Reds()) is not None


def test_another_number_of_classes_leaves_labels_unknown(tmp_path: Path) -> None:
    result, said = compared(folder(tmp_path / "fruit", ["apple", "banana"], [1, 2]), 4)
    assert result.comparison.predictions.labels.tolist() == [-1, -1]
    assert result.comparison.predictions.predicted.tolist() == [1, 2]
    assert said == [
        "fruit: classes that are none of the model's (apple, banana); their labels count as unknown"
    ]
    assert result.comparison.source.classes == ("0", "1", "2", "3", "unknown")


def test_numbers_are_the_models_own_whatever_their_rank(tmp_path: Path) -> None:
    result, _ = compared(folder(tmp_path / "fruit", ["1", "3", "9"], [1, 4, 4]), 5)
    chosen = result.comparison.predictions
    assert chosen.labels.tolist() == [1, 3, -1]
    assert result.comparison.source.classes[:5] == ("0", "1", "2", "3", "4")
    assert [result.comparison.source.classes[each] for each in chosen.predicted] == ["1", "4", "4"]


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("kind", ["table", "csv", "json"])
def test_from_the_shell(
    kind: str,
    classes: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder(tmp_path / "fruit", ["apple", "banana", "cherry"], [0, 2, 2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    line = f"explain --model test_class_names:reds?classes={classes} --input-size 16 --images fruit --format {kind}"
    assert run([*line.split(), "--methods", *METHODS, "--controls", "none"]) == 0
    out, err = capsys.readouterr()
    if classes == 3:  # of which two are right, and only these are taken
        assert "apple" in out and "cherry" in out and "banana/a.png" not in out
        assert (
            "taken in the order of those of fruit: apple, banana, cherry. Give others with --classes" in err
        )
    else:
        assert (
            "fruit: no labels that are classes of the model, so all images count, as with --only all" in err
        )
        assert "banana/a.png" in out


def test_labels_beyond_what_is_predicted_are_named() -> None:
    images = torch.rand(4, 3, 16, 16) * 0.01  # all are taken for the first class
    result = xaicmp.compare(Reds(6), xaicmp.TensorImages(images, labels=[5, 0, 1, 2]), methods=METHODS)
    assert result.comparison.source.classes[5] == "5"
    shown = images_table(result.comparison)
    assert "5" in [cell for row in shown.rows for cell in row]


def test_a_label_that_is_no_class_of_the_model_is_refused() -> None:
    images = xaicmp.TensorImages(torch.rand(2, 3, 16, 16), labels=[0, 6])
    with pytest.raises(UsageError, match="label 6: the model has 6 classes, counted from 0; give others"):
        xaicmp.compare(Reds(6), images, methods=METHODS)


def test_what_needs_no_names_is_left_alone(tmp_path: Path) -> None:
    images = xaicmp.load_images(folder(tmp_path / "fruit", ["apple", "banana"], [0, 1]))
    named = xaicmp.Classifier(nn.Identity(), ("a", "b"))
    assert with_class_names(named, images) is named
    bare = replace(named, classes=())
    images.labels = None
    assert with_class_names(bare, images) is bare

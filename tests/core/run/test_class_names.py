"""Models that do not name their classes, on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import xaicmp
from xaicmp.cli import run
from xaicmp.core.images.classes import match_classes
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


def compared(root: Path, classes: int, **options: Any) -> tuple[xaicmp.Result, list[str]]:
    said: list[str] = []
    model = xaicmp.Classifier(Reds(classes), input_size=(16, 16))
    images = xaicmp.load_images(root, model=model)
    running = xaicmp.Running(remark=said.append)
    options = {"select": xaicmp.Selection(n=3, only="all")} | options
    return xaicmp.compare(model, images, methods=METHODS, running=running, **options), said


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


def test_numbers_with_zeros_before_them_are_indices_too_and_it_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path, [f"{index:02}" for index in range(12)], [*range(11), 3])
    result, said = compared(root, 12, select=xaicmp.Selection(n=12, only="all"))
    assert result.comparison.predictions.labels.tolist() == list(range(12))
    assert result.comparison.predictions.wrong.tolist() == [False] * 11 + [True]
    assert "does not name its classes" in said[0] and "taken as their indices" in said[0]


def test_an_image_of_unknown_label_is_not_explained_for_its_label(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", ["apple", "cherry", "zebra"], [0, 2, 1])
    model = xaicmp.Classifier(Reds(3), ("apple", "banana", "cherry"), input_size=(16, 16))
    said: list[str] = []
    result = xaicmp.compare(model, str(root), "label", METHODS, running=xaicmp.Running(remark=said.append))
    assert result.comparison.predictions.targets.tolist() == [0, 2]
    assert any("1 of the images have no known label" in line for line in said)


def test_an_unknown_label_stays_unknown_beside_class_names() -> None:
    images = xaicmp.TensorImages(torch.rand(3, 3, 16, 16), labels=[0, -1, 1], classes=("a", "b"))
    model = xaicmp.Classifier(Reds(3), ("b", "c", "a"))
    assert xaicmp.compare(model, images, methods=METHODS).comparison.predictions.labels.tolist() == [2, -1, 0]
    images = xaicmp.TensorImages(torch.rand(3, 3, 16, 16), labels=[0, 5, 1], classes=("a", "b"))
    with pytest.raises(UsageError, match=r"label 5: .* has 2 classes"):
        xaicmp.compare(model, images, methods=METHODS)


def of_a_dict(output: dict[str, Tensor]) -> Tensor:
    return output["boxes"].sum(dim=(1, 2))


class Detector(Reds):
    def forward(self, images: Tensor) -> Tensor:
        return {"boxes": super().forward(images)[:, None, :]}  # type: ignore[return-value]


def detector() -> nn.Module:
    return Detector()


def test_a_score_of_labelled_images_counts_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "photos", ["apple", "cherry"], [0, 2])
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    line = ["explain", "--methods", *METHODS, "--input-size", "16", "--images", str(root)]
    score = [f"{Path(__file__).stem}:{name}" for name in ("detector", "of_a_dict")]
    assert run([*line, "--model", score[0], "--target", score[1]]) == 0
    shown, said = capsys.readouterr()
    assert "apple/a.png" in shown and "cherry/a.png" in shown
    assert "all images count" in said and "none of the model's" not in said


@pytest.mark.parametrize(("target", "index"), [("1", 1), ("cherry", 2)])
def test_a_class_is_named_by_its_index_too(target: str, index: int) -> None:
    images = torch.rand(2, 3, 16, 16)
    names = ("apple", "banana", "cherry")
    for classes in (names, ()) if target == "1" else (names,):
        model = xaicmp.Classifier(Reds(3), classes)
        assert (
            xaicmp.compare(model, images, target, METHODS).comparison.predictions.targets.tolist()
            == [index] * 2
        )


def test_a_name_of_two_classes_is_none_to_explain() -> None:
    model = xaicmp.Classifier(Reds(3), ("crane", "hen", "crane"))
    with pytest.raises(UsageError, match="crane: 2 classes are called so"):
        xaicmp.compare(model, torch.rand(1, 3, 16, 16), "crane", METHODS)
    assert match_classes(["hen", "crane"], model.classes).tolist() == [1, -1]
    assert match_classes(["cardigan", "Cardigan", "CARDIGAN"], ["Cardigan", "cardigan"]).tolist() == [
        1,
        0,
        -1,
    ]


@pytest.mark.parametrize("wrong", [[0.5, 1.0], [[1, 0], [0, 1]], ["a", "b"], None])
def test_labels_and_targets_are_whole_numbers(wrong: object) -> None:
    images = torch.rand(2, 3, 16, 16)
    with pytest.raises(UsageError, match=r"targets .* whole numbers"):
        xaicmp.compare(Reds(3), images, wrong, METHODS)  # type: ignore[arg-type]
    if wrong is not None:
        with pytest.raises(UsageError, match=r"labels .* whole numbers"):
            xaicmp.TensorImages(images, labels=wrong)  # type: ignore[arg-type]

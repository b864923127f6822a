"""``xaicmp train`` on images and networks of one's own: digits from the prompt, fine-tuning, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR100
from torchvision.models import mobilenet_v3_small

from xaicmp import load_images, load_model
from xaicmp.core.images import cifar100
from xaicmp.core.models.checkpoint import load_checkpoint
from xaicmp.core.training.recipe import RECIPES

NETWORK = """
from torch import nn

def make(num_classes=10, width=32):
    def block(before, after):
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
    return nn.Sequential(
        block(3, width), block(width, 2 * width), nn.MaxPool2d(2), block(2 * width, 2 * width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, num_classes),
    )

def ten():
    return make()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """scikit-learn's digits as a folder of class folders."""
    root = tmp_path_factory.mktemp("data") / "digits"
    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = root / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(path)
    return root


@pytest.fixture
def digits(written, alone):
    """The folder from here, and beside it the code of a network."""
    Path("own.py").write_text(NETWORK)
    Path("digits").symlink_to(written)
    return Path("digits")


@pytest.fixture
def few(digits):
    """Six images each of three classes, in ``train`` and ``val``."""
    for label in ("0", "1", "2"):
        for index, path in enumerate(sorted((digits / label).iterdir())[:6]):
            place = (
                Path("few") / ("val" if index < 2 else "train") / {"0": "zero", "1": "one", "2": "two"}[label]
            )
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    return Path("few")


def refused(outcome, status, *words):
    """One line on stderr that has these words, and nothing done."""
    assert outcome.status == status, outcome.err
    assert outcome.err.startswith("xaicmp: ") and outcome.err.count("\n") == 1, outcome.err
    for word in words:
        assert word in outcome.err
    assert outcome.out == ""
    assert not list(Path().glob("*.pt"))


def test_digits_are_learnt_and_compared_from_the_prompt(xaicmp, digits):
    own = ("--model", "own:make", "--checkpoint", "digits.pt")
    words = ("--data", digits, "--input-size", 8, "--flip", "none", "--epochs", 8, "--precision", "float32")
    done = xaicmp("train", *words, *own, "--n", 20)
    assert done.status == 0, done.err
    shares = [float(each) for each in re.findall(r"(\d+\.\d+)% +\d+\.\d+ +\d+ *$", done.out, re.MULTILINE)]
    assert len(shares) == 8
    assert shares[-1] > 97
    assert "n = 20 images" in done.out and "digits test set" in done.out
    metadata = load_checkpoint(Path("digits.pt"), architecture="own:make").metadata
    assert metadata["classes"] == [str(each) for each in range(10)]
    assert (metadata["input_size"], metadata["architecture"]) == ([8, 8], "own:make")
    assert metadata["recipe"] | {"crop": 1, "flip": "none"} == vars(RECIPES["adamw"]) | {
        "crop": 1,
        "flip": "none",
    }
    assert 178 <= metadata["data"]["test_images"] <= 182
    again = xaicmp(
        "metrics",
        *own,
        "--images",
        digits,
        "--n",
        200,
        "--methods",
        "saliency",
        "grad-cam",
        "--format",
        "json",
    )
    assert again.status == 0, again.err
    assert again.err == ""  # classes, size and normalisation are in the file, and labels are matched by name
    model = load_model("own:make", checkpoint="digits.pt")
    images = load_images(digits, model=model)
    ids = np.arange(0, len(images), 9)
    logits = model.module(model.normalise(images.pixels(ids))).detach()
    names = np.array(model.classes)[logits.argmax(dim=1)]
    assert (names == np.array(images.classes)[images.labels[ids]]).mean() > 0.97
    refused_code = xaicmp("metrics", "--checkpoint", "digits.pt", "--images", digits)
    assert refused_code.status == 1 and "--model" in refused_code.err


def test_trained_weights_are_kept_but_for_the_head(xaicmp, few):
    torch.manual_seed(0)
    options = ("--model", "torchvision:mobilenet_v3_small", "--input-size", 32, "--epochs", 1, "--quiet")
    options = ("train", "--data", few, *options, "--checkpoint", "a.pt", "--n", 0)
    trained = mobilenet_v3_small()
    torch.save(trained.state_dict(), "trained.pth")
    done = xaicmp(*options, "--weights", "trained.pth", "--lr", 0)
    assert done.status == 0, done.err
    checkpoint = load_checkpoint(Path("a.pt"))
    kept, before = checkpoint.classifier.module.state_dict(), trained.state_dict()
    other = [name for name, value in kept.items() if not torch.equal(value, before[name])]
    parameters = {name for name, _ in trained.named_parameters()}
    assert sorted(parameters & set(other)) == ["classifier.3.bias", "classifier.3.weight"]
    metadata = checkpoint.metadata
    assert metadata["recipe"] == vars(RECIPES["finetune"]) | {"lr": 0.0}
    assert metadata["started_from"] == hashlib.sha256(Path("trained.pth").read_bytes()).hexdigest()
    assert (checkpoint.classifier.classes, checkpoint.classifier.input_size) == (
        ("one", "two", "zero"),
        (32, 32),
    )
    assert checkpoint.classifier.mean == pytest.approx((0.485, 0.456, 0.406))
    # All that metrics needs is in the file.
    assert (
        xaicmp(
            "metrics", "--checkpoint", "a.pt", "--images", few / "val", "--only", "all", "--n", 2, "-q"
        ).status
        == 0
    )
    resumed = xaicmp(*options, "--weights", "trained.pth", "--lr", 0, "--resume")
    assert resumed.status == 0, resumed.err
    other = xaicmp(*options, "--resume")
    assert other.status == 2 and "started_from" in other.err


@pytest.mark.parametrize("share", [None, 0.5])
def test_the_images_that_it_was_tested_on_are_those_of_the_data(xaicmp, few, share):
    data = few if share is None else few / "train"
    split = () if share is None else ("--split", share)
    own = ("--model", "torchvision:mobilenet_v3_small", "--input-size", 32, "--seed", 3)
    compared = ("--n", 3, "--only", "all")
    done = xaicmp("train", "--data", data, *split, *own, "--epochs", 1, "--checkpoint", "a.pt", *compared)
    assert done.status == 0, done.err
    again = xaicmp("metrics", "--checkpoint", "a.pt", "--data", data, "--seed", 3, *compared)
    assert again.status == 0, again.err

    def numbers(text):
        return re.findall(r"-?\d\.\d+ ± \d\.\d+", text)

    assert numbers(again.out) == numbers(done.out)[-len(numbers(again.out)) :] != []
    files = load_checkpoint(Path("a.pt")).classifier.test_files
    assert len(files) == 6
    model = load_model("a.pt")
    images = load_images(data, model=model, held_out=True)
    assert tuple(images.names(np.arange(len(images)))) == files
    assert {name.split("/")[0] for name in files} == set(images.classes) == set(model.classes)
    told = xaicmp("metrics", "--checkpoint", "a.pt", "--verbose", "--data", data, *compared)
    assert f"6: {files[0]}, ..." in told.out + told.err
    unnamed = xaicmp("metrics", "--checkpoint", "a.pt")
    assert unnamed.status == 2 and "was tested on 6 files; name the folder" in unnamed.err
    elsewhere = xaicmp("metrics", "--checkpoint", "a.pt", "--data", "digits")
    assert (
        elsewhere.status == 1 and "of the 6 files that the network was tested on, 6 are not" in elsewhere.err
    )


def test_two_processes_train_on_a_folder(few, forks, alone):
    words = (
        "train --data few --model own:make --input-size 8 "
        "--epochs 1 --batch-size 4 --n 2 --only all --precision float32 --checkpoint a.pt"
    )
    assert forks.run(alone, 2, command=words.split()) == [0, 0], Path("err-0.txt").read_text()
    assert [Path(f"out-{rank}.txt").read_text().count("Grad-CAM vs Saliency") for rank in (0, 1)] == [1, 0]
    metadata = load_checkpoint(Path("a.pt"), architecture="own:make").metadata
    assert (metadata["processes"], len(metadata["test_files"])) == (2, 6)


@pytest.mark.parametrize(
    "words, status, named",
    [
        (["--data", "none", "--model", "own:make"], 1, ["--data none: no images there"]),
        (["--data", "few/val/zero"], 1, ["is in no folder of a class"]),
        (["--data", "one"], 1, ["one class, zero"]),
        (["--data", "few", "--split", "0.2"], 2, ["--split 0.2", "val holds"]),
        (["--data", "few/train", "--split", "1"], 2, ["--split 1"]),
        (["--data", "few/train", "--split", "0.9"], 1, ["class one has 4 images"]),
        (["--data", "broken"], 1, ["broken/two/bad.png", "no image in a format that is known"]),
        (["--data", "strange"], 1, ["the class three"]),
        (["--data", "few", "--model", "timm:absent"], 2, ["timm has no such model"]),
        (["--data", "few", "--model", "absent:make"], 1, ["cannot be imported"]),
        (["--data", "few", "--model", "own:ten"], 1, ["3 and no num_classes"]),
        (["--data", "few", "--model", "own:make", "--weights", "own.py"], 1, ["own.py"]),
        (["--data", "few", "--model", "torchvision:vit_b_16", "--input-size", "30"], 1, ["30 x 30"]),
        (["--data", "few", "--model", "own:make", "--input-size", "4", "--crop", "4"], 2, ["--crop 4"]),
        (["--data", "empty", "--model", "own:make"], 1, ["--data empty: no images there"]),
        (["--data", "loop", "--model", "own:make"], 1, ["--data loop: no images there"]),
        (["--dataset", "folder"], 2, ["--data"]),
        (["--dataset", "cifar100", "--data", "few"], 1, ["no CIFAR-100 in few"]),
        (["--input-size", "64"], 2, ["--input-size", "folder of images"]),
        (["--model", "resnet18-cifar", "--weights", "none.pt"], 1, ["none.pt"]),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_work(xaicmp, few, monkeypatch, words, status, named):
    monkeypatch.setattr("xaicmp.core.images.download.fetch", lambda *a: pytest.fail("it downloads"))
    monkeypatch.setattr("xaicmp.core.images.archive.fetch", lambda *a: pytest.fail("it downloads"))
    shutil.copytree(few / "train", "broken")
    Path("broken/two/bad.png").write_bytes(b"no picture")
    shutil.copytree(few, "strange")
    Path("strange/val/two").rename("strange/val/three")
    shutil.copytree(few / "train" / "zero", "one/zero")
    Path("empty").mkdir()
    Path("loop").symlink_to("loop")
    refused(xaicmp("train", "--checkpoint", "a.pt", "--n", 0, *words), status, *named)


def test_a_single_image_left_over_is_named(xaicmp, few):
    done = xaicmp(
        "train",
        "--data",
        few,
        "--model",
        "torchvision:mobilenet_v3_small",
        "--input-size",
        32,
        "--batch-size",
        11,
        "--checkpoint",
        "a.pt",
        "--n",
        0,
    )
    assert done.status == 1
    assert "the last batch of an epoch has one image" in done.err and "--batch-size" in done.err


def test_cifar100_is_read_and_trained_on(xaicmp, alone, monkeypatch):
    folder = Path("data") / cifar100.OFFICIAL.folder
    folder.mkdir(parents=True)
    names = [f"class {index}" for index in range(100)]
    for name in ("train", "test"):
        data = np.random.default_rng(0).integers(0, 256, (8, 3072), dtype=np.uint8)
        content = {"data": data, "fine_labels": list(range(90, 98)), "coarse_labels": [0] * 8}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))

    def md5(name):
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5("train")]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5("test")]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": md5("meta")})
    Path("own.py").write_text(NETWORK)
    done = xaicmp(
        "train",
        "--data",
        "data",
        "--model",
        "own:make?width=2",
        "--epochs",
        1,
        "--n",
        2,
        "--only",
        "all",
        "--checkpoint",
        "a.pt",
    )
    assert done.status == 0, done.err
    assert "CIFAR-100 test set" in done.out
    assert load_checkpoint(Path("a.pt"), architecture="own:make?width=2").metadata["classes"] == names
    images = load_images("cifar100:data")
    assert (images.classes, images.labels.tolist()) == (tuple(names), list(range(90, 98)))

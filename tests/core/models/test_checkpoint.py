"""Checkpoints: what is written is read back, and nothing else is."""

from __future__ import annotations

import hashlib
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from xaicmp.core.models.architectures import ARCHITECTURES, resnet18_cifar
from xaicmp.core.models.checkpoint import (
    DEFAULT,
    default_checkpoint,
    load_checkpoint,
    save_checkpoint,
    shipped_checkpoint,
)
from xaicmp.core.models.loading import load_network
from xaicmp.core.models.weights import FORMAT
from xaicmp.errors import XaicmpError

METADATA = {"architecture": "resnet18-cifar", "test_accuracy": 0.5, "seed": 3, "data": {"verified": False}}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    made = resnet18_cifar().eval()
    for buffer in made.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return made


@pytest.fixture(scope="module")
def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """In half precision, so that files are small."""
    return {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


def test_the_network_is_torchvisions_but_for_the_stem(model: nn.Module) -> None:
    theirs = {name: value.shape for name, value in resnet18(num_classes=10).state_dict().items()}
    ours = {name: value.shape for name, value in model.state_dict().items()}
    assert theirs | {"conv1.weight": (64, 3, 3, 3)} == ours
    shapes = {}
    handles = [
        layer.register_forward_hook(lambda module, given, out, name=name: shapes.update({name: out.shape}))
        for name, layer in model.named_children()
    ]
    with torch.no_grad():
        logits = model(torch.zeros(2, 3, 32, 32))
    for handle in handles:
        handle.remove()
    assert shapes["conv1"] == shapes["maxpool"] == (2, 64, 32, 32)
    assert shapes["layer4"] == (2, 512, 4, 4)
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_is_read_back_as_it_was_written(
    tmp_path: Path, model: nn.Module, dtype: torch.dtype
) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(path, model, METADATA, dtype=dtype, training={"epoch": 2})
    read = load_checkpoint(path)
    for name, value in model.state_dict().items():
        expected = value.to(dtype).float() if value.is_floating_point() else value
        assert torch.equal(read.classifier.module.state_dict()[name], expected), name
    assert read.metadata == METADATA
    assert read.test_accuracy == 0.5
    assert read.training == {"epoch": 2}
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "shipped" not in read.classifier.name
    assert not any(module.training for module in read.classifier.module.modules())
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_bare_state_dict_is_read_with_cifars_classes(
    tmp_path: Path, weights: dict[str, torch.Tensor], prefix: str
) -> None:
    path = tmp_path / "resnet18_cifar10.pth"
    torch.save({prefix + name: value for name, value in weights.items()}, path)
    read = load_checkpoint(path)
    assert torch.equal(
        read.classifier.module.state_dict()["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"].float()
    )
    assert (read.test_accuracy, read.training, read.metadata) == (None, None, {})
    assert read.classifier.classes[3] == "cat"


def test_every_weight_comes_from_the_file_and_none_from_chance(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    torch.save(weights, tmp_path / "a.pth")
    torch.manual_seed(1)
    first = load_checkpoint(tmp_path / "a.pth").classifier.module.state_dict()
    torch.manual_seed(2)
    second = load_checkpoint(tmp_path / "a.pth").classifier.module.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pixels_are_normalised_as_the_checkpoint_says(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    metadata = METADATA | {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 0.125]}
    torch.save({"format": FORMAT, "state_dict": weights, "metadata": metadata}, tmp_path / "a.pt")
    pixels = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    got = load_checkpoint(tmp_path / "a.pt").classifier.normalise(pixels).numpy()
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 0.125)]):
        expected = (pixels[:, channel].numpy().astype(np.float64) / 255 - mean) / std
        np.testing.assert_allclose(got[:, channel], expected, rtol=1e-5, atol=1e-6)


def test_the_newest_that_the_user_trained_comes_before_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, torch.Tensor]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_checkpoint() == shipped_checkpoint()
    DEFAULT.parent.mkdir()
    torch.save(weights, DEFAULT)
    assert default_checkpoint() == load_checkpoint().path == DEFAULT
    assert "shipped" not in load_checkpoint().classifier.name


def test_the_shipped_checkpoint_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = load_checkpoint()
    assert shipped.classifier.name == "resnet18-cifar10.pt, shipped with xaicmp"
    assert shipped.test_accuracy is not None
    assert 0.7 < shipped.test_accuracy < 1
    assert shipped_checkpoint().stat().st_size < 23e6  # half precision


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.mark, "unpickled")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap", [lambda evil: evil, lambda evil: {"format": FORMAT, "metadata": {"seed": evil}}]
)
def test_a_malicious_checkpoint_is_refused_and_not_executed(
    tmp_path: Path, legacy: bool, wrap: Callable[[Any], Any]
) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "mark"
    torch.save(wrap(Malicious(mark)), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(XaicmpError, match=r"refused checkpoint .*evil.pt: it holds more than tensors"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(XaicmpError, match=r"refused checkpoint"):
        load_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"no checkpoint\n", b"PK\x03\x04", bytes(1000), b"\x89PNG\r\n\x1a\n" + bytes(99)],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(XaicmpError, match=r"refused checkpoint .*a.pt: .*; use one that `xaicmp train`"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor], share: float
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"format": FORMAT, "state_dict": weights, "metadata": METADATA}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(XaicmpError, match=r"refused checkpoint"):
        load_checkpoint(path)


def test_a_missing_checkpoint_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(XaicmpError, match=r"cannot read checkpoint .*none.pt: No such file.*xaicmp train"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(XaicmpError, match=r"Is a directory"):
        load_checkpoint(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_program_is_refused_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    torch.jit.script(nn.Linear(1, 1)).save(str(tmp_path / "a.pt"))
    recwarn.clear()
    with pytest.raises(XaicmpError, match=r"refused checkpoint"):
        load_checkpoint(tmp_path / "a.pt")
    assert [str(warning.message) for warning in recwarn] == []


FOREIGN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "holds a list": lambda weights: [1, 2],
    "holds a Tensor": lambda weights: torch.ones(3),
    "conv1.weight is missing": lambda weights: {},
    "fc.bias is missing": lambda weights: {k: v for k, v in weights.items() if k != "fc.bias"},
    "fc.bias has shape": lambda weights: weights | {"fc.bias": torch.zeros(100)},
    "it also holds fc2.bias": lambda weights: weights | {"fc2.bias": torch.zeros(1)},
    "values in fc.bias that are not finite": lambda weights: (
        weights | {"fc.bias": torch.full((10,), torch.nan)}
    ),
    "fc.bias in a form other": lambda weights: weights | {"fc.bias": torch.zeros(10).to_sparse()},
    "fc.bias in a form other than plain": lambda weights: (
        weights | {"fc.bias": torch.zeros(10, dtype=torch.complex64)}
    ),
    "written by a newer xaicmp": lambda weights: {"format": "xaicmp checkpoint 9", "state_dict": weights},
    "weights that are all 0": lambda weights: {k: v * 0 for k, v in weights.items()},
    "lacks its weights or metadata": lambda weights: {"format": FORMAT, "state_dict": weights},
    "lacks its weights": lambda weights: {"format": FORMAT, "state_dict": [1], "metadata": {}},
}


@pytest.mark.parametrize(("message", "change"), FOREIGN.items(), ids=FOREIGN.keys())
def test_a_foreign_checkpoint_is_refused_with_what_is_wrong(
    tmp_path: Path,
    weights: dict[str, Any],
    message: str,
    change: Callable[[dict[str, Any]], Any],
) -> None:
    torch.save(change(weights), tmp_path / "a.pt")
    with pytest.raises(XaicmpError, match=message) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert "a.pt" in str(caught.value)


def nested(deep: int) -> list[Any]:
    return [nested(deep - 1)] if deep else []


UNSOUND = [
    ("architecture", "vgg11"),
    ("architecture", ["resnet18-cifar"]),
    ("classes", 10),
    ("classes", []),
    ("classes", [1] * 10),
    ("mean", [0.1]),
    ("mean", "abc"),
    ("std", [0.0, 1.0, 1.0]),
    ("std", [float("nan")] * 3),
    ("test_accuracy", "high"),
    ("test_accuracy", 92.0),
    ("test_accuracy", torch.ones(2)),
    ("mean", [10**400, 1, 1]),
    ("mean", {0.1: 1, 0.2: 2, 0.3: 3}),
    ("classes", "abcdefghij"),
    ("history", [{}]),
    ("history", [3]),
    ("history", {"test_accuracy": 1}),
    ("history", [{"test_accuracy": "high"}]),
    ("seed", 10**600),
    ("seed", torch.ones(2)),
    ("recipe", {"lr": [torch.ones(1)]}),
    ("recipe", nested(50)),
]


@pytest.mark.parametrize(("name", "value"), UNSOUND)
def test_metadata_of_the_wrong_kind_is_named(
    tmp_path: Path, weights: dict[str, Any], name: str, value: Any
) -> None:
    document = {"format": FORMAT, "state_dict": weights, "metadata": METADATA | {name: value}}
    torch.save(document, tmp_path / "a.pt")
    with pytest.raises(XaicmpError, match=name):
        load_checkpoint(tmp_path / "a.pt")


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, model: nn.Module) -> None:
    path = tmp_path / "a.pt"
    path.write_text("old")
    with pytest.raises(AttributeError):
        save_checkpoint(path, model, {"seed": lambda: None})
    with pytest.raises(XaicmpError, match=r"does not exist; create it"):
        save_checkpoint(path / "below.pt", model, METADATA)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of ours of a few kilobytes."""
    monkeypatch.setitem(ARCHITECTURES, "toy", lambda classes: nn.Sequential(nn.Conv2d(3, classes, 5)))
    torch.manual_seed(0)
    path = tmp_path / "toy.pt"
    save_checkpoint(path, ARCHITECTURES["toy"](10), METADATA | {"architecture": "toy"})
    return path


def test_any_flipped_bit_is_refused_or_harmless(toy: Path) -> None:
    whole, content, rng = load_checkpoint(toy), toy.read_bytes(), random.Random(0)
    weights, refusals = whole.classifier.module.state_dict(), 0
    with zipfile.ZipFile(toy) as archive:
        # The weights themselves, every part of the records around them, and anywhere.
        info = next(each for each in archive.infolist() if each.filename.endswith("data/0"))
    start = content.index(weights["0.weight"].numpy().tobytes())
    places = [start + rng.randrange(info.file_size) for _ in range(100)]
    places += [rng.randrange(len(content)) for _ in range(200)]
    for number, place in enumerate(places):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        toy.write_bytes(damaged)
        try:
            read = load_checkpoint(toy)
        except XaicmpError as error:
            refusals += 1
            assert "\n" not in str(error)
            continue
        assert number >= 100
        assert read.metadata == whole.metadata
        found = read.classifier.module.state_dict()
        assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert refusals > 150


def test_weights_that_are_not_those_that_were_written_are_refused(toy: Path) -> None:
    document = torch.load(toy, weights_only=True)
    assert len(document["sha256"]) == 64
    for change in ("value", "name", "shape", "kind"):
        weights = dict(document["state_dict"])
        if change == "value":
            weights["0.bias"] = weights["0.bias"] * (1 + 1e-6)
        elif change == "name":
            weights = {f"module.{name}": value for name, value in weights.items()}
        elif change == "shape":
            weights["0.bias"] = weights["0.bias"].repeat(2)
        else:
            weights["0.bias"] = weights["0.bias"].double()
        torch.save(document | {"state_dict": weights}, toy)
        with pytest.raises(XaicmpError, match="not those that were written"):
            load_checkpoint(toy)
        with pytest.raises(XaicmpError, match="not those that were written"):  # however it is asked for
            load_network(document["metadata"]["architecture"], toy, lambda message: None)
    del document["sha256"]  # as all were once
    torch.save(document, toy)
    load_checkpoint(toy)


def test_what_unpacks_to_more_than_the_file_is_refused_unread(toy: Path) -> None:
    with zipfile.ZipFile(toy) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(toy, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, entry in entries.items():
            archive.writestr(name, bytes(10**7) if name.endswith("data/0") else entry)
    with pytest.raises(XaicmpError, match=r"refused checkpoint .*damaged or no checkpoint"):
        load_checkpoint(toy)


def test_the_shipped_file_is_known_by_its_sum(monkeypatch: pytest.MonkeyPatch, toy: Path) -> None:
    monkeypatch.setattr("xaicmp.core.models.checkpoint.shipped_checkpoint", lambda: toy)
    with pytest.raises(XaicmpError, match="is not the one that ships: it is damaged; install xaicmp again"):
        load_checkpoint(toy)


def test_parameters_in_the_place_of_buffers_are_plain_values(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    import copy

    floats = {name: value for name, value in weights.items() if value.is_floating_point()}
    torch.save(weights | {name: nn.Parameter(each) for name, each in floats.items()}, tmp_path / "a.pth")
    module = copy.deepcopy(load_checkpoint(tmp_path / "a.pth").classifier.module)
    assert not any(buffer.requires_grad for buffer in module.buffers())

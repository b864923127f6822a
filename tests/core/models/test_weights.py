"""Weights in every form that people keep them in fit the network, or the message says how far."""

from __future__ import annotations

import argparse
import datetime
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from architectures import slim_cifar
from safetensors.torch import save_file
from torch import Tensor, nn

import xaicmp
from xaicmp.core.models import loading
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import shipped_checkpoint
from xaicmp.core.models.weights import WeightsFile, best_fit, sha256_of
from xaicmp.errors import UsageError, XaicmpError


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Weights of the network that ships, which is an eighth as wide here."""
    monkeypatch.setitem(ARCHITECTURES, "resnet18-cifar", slim_cifar)
    torch.manual_seed(3)
    return slim_cifar().state_dict()


def prefixed(prefix: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


def nested(*keys: str) -> Callable[[dict[str, Tensor]], Any]:
    def nest(weights: dict[str, Tensor]) -> Any:
        for key in reversed(keys):
            weights = {key: weights, "epoch": 3}  # type: ignore[dict-item]
        return weights

    return nest


def of_cifar_code_base(weights: dict[str, Tensor]) -> Any:
    names = {
        name: "module." + name.replace("downsample", "shortcut").replace("fc.", "linear.") for name in weights
    }
    return {"net": {names[name]: value for name, value in weights.items()}, "acc": 95.4, "epoch": 199}


def of_lightning(weights: dict[str, Tensor]) -> Any:
    return {
        "state_dict": prefixed("model.")(weights) | {"criterion.weight": torch.ones(10)},
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [{"state": {}}],
    }


HALVES = {"half": torch.float16, "bfloat16": torch.bfloat16}


def in_numbers(kind: str) -> Callable[[dict[str, Tensor]], Any]:
    def cast(weights: dict[str, Tensor]) -> Any:
        return {
            name: each.to(HALVES[kind]) if each.is_floating_point() else each
            for name, each in weights.items()
        }

    return cast


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": dict,
    **{key: nested(key) for key in ("state_dict", "model", "net", "model_state_dict", "ema", "model_ema")},
    "two deep": nested("model", "state_dict"),
    "three deep": nested("model", "ema", "state_dict"),
    "a key of one's own": nested("best_network"),
    **{key: prefixed(key) for key in ("module.", "_orig_mod.", "model.", "backbone.", "network.")},
    "two prefixes": prefixed("module._orig_mod."),
    "prefixes of one's own": prefixed("classifier.encoder."),
    "with what normalises before it": lambda weights: prefixed("1.")(weights) | {"0.mean": torch.zeros(3)},
    "nested and prefixed": lambda weights: nested("model")(prefixed("module.")(weights)),
    **{kind: in_numbers(kind) for kind in HALVES},
    "counted operations": lambda weights: weights | {"layer1.total_ops": torch.zeros(1)},
    "no counters": lambda weights: {
        name: each for name, each in weights.items() if "num_batches" not in name
    },
    "CIFAR code base": of_cifar_code_base,
    "Lightning": of_lightning,
    "with arguments": lambda weights: {
        "model": weights,
        "args": argparse.Namespace(lr=0.1, output=Path("out"), device=torch.device("cpu")),
    },
    "with numbers of NumPy": lambda weights: {
        "state_dict": weights,
        "best": np.float64(0.9),
        "epoch": np.int64(3),
        "done": np.bool_(True),
        "history": np.ones((2, 3), dtype=np.float32),
    },
    "with what it resumes from": lambda weights: {
        "model": weights,
        "optimizer": {
            "state": {0: {"momentum_buffer": weights["conv1.weight"]}},
            "param_groups": [{"lr": 1}],
        },
        "scheduler": {"milestones": Counter([3, 6])},
        "history": defaultdict(list, {"loss": [1.0]}),
        "date": datetime.datetime(2026, 1, 1),
    },
    "renamed throughout": lambda weights: {
        f"layer_{index}.{name.rpartition('.')[2]}": each for index, (name, each) in enumerate(weights.items())
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", [None, "resnet18-cifar"])
def test_every_form_gives_the_same_network(
    trained: dict[str, Tensor], tmp_path: Path, form: str, model: str | None
) -> None:
    torch.save(FORMS[form](trained), tmp_path / "a.pth")
    said: list[str] = []
    found = xaicmp.load_model(model, checkpoint=tmp_path / "a.pth", remark=said.append)
    for name, value in found.module.state_dict().items():
        if "num_batches" not in name or form not in ("no counters", "renamed throughout"):
            expected = trained[name].to(HALVES[form]).float() if form in HALVES else trained[name]
            assert torch.equal(value, expected), name
    assert not found.module.training
    assert any("does not say how images are normalised" in line for line in said)
    assert found.std[0] == (0.2023 if form == "CIFAR code base" else 0.2470)


def test_safetensors_give_the_same_network(trained: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: value.contiguous() for name, value in trained.items()}, tmp_path / "a.safetensors")
    found = xaicmp.load_model("resnet18-cifar", weights=tmp_path / "a.safetensors")
    assert torch.equal(found.module.state_dict()["fc.weight"], trained["fc.weight"])
    save_file(prefixed("module.")(trained), tmp_path / "no_suffix")
    found = xaicmp.load_model("resnet18-cifar", weights=tmp_path / "no_suffix")
    assert torch.equal(found.module.state_dict()["fc.weight"], trained["fc.weight"])
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:1000])
    with pytest.raises(XaicmpError, match="no safetensors file"):
        xaicmp.load_model("resnet18-cifar", checkpoint=tmp_path / "b.safetensors")


def test_another_number_of_classes_is_read_from_the_weights(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), tmp_path / "a.pth")
    found = xaicmp.load_model(
        "torchvision:resnet18",
        checkpoint=tmp_path / "a.pth",
        classes=list("abcdefg"),
        mean=(0.5,),
        std=(0.5,),
    )
    assert found.module(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert (found.classes, found.mean, found.input_size) == (tuple("abcdefg"), (0.5,), (224, 224))
    named = xaicmp.load_model("resnet18", checkpoint=tmp_path / "a.pth")
    assert named.classes == ()  # ImageNet's would be wrong


def test_where_two_places_fit_it_says_which_is_taken(trained: dict[str, Tensor], tmp_path: Path) -> None:
    other = {name: 2 * value for name, value in trained.items()}
    twins = prefixed("student.")(trained) | prefixed("teacher.")(other)
    for document, taken, left in (
        ({"model_ema": other, "state_dict": trained}, "state_dict", "model_ema"),
        (twins, "student", "teacher"),
    ):
        torch.save(document, tmp_path / "a.pth")
        said: list[str] = []
        found = xaicmp.load_model(checkpoint=tmp_path / "a.pth", remark=said.append)
        assert torch.equal(found.module.state_dict()["fc.weight"], trained["fc.weight"])
        assert f"weights under {taken!r} taken; those under {left!r} fit too" in said[0]


def test_another_number_of_classes_of_several_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("heads.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes=10):\n"
        "        super().__init__()\n"
        "        self.body = nn.Conv2d(3, 4, 3)\n"
        "        self.head, self.aux, self.last = (nn.Linear(4, num_classes) for _ in range(3))\n"
    )
    made = xaicmp.load_model("heads:Net?num_classes=7").module
    torch.save(made.state_dict(), "a.pth")
    found = xaicmp.load_model("heads:Net", checkpoint="a.pth")
    assert found.module.aux.weight.shape == (7, 4)


def test_metadata_of_others_are_none_of_ours(trained: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": trained, "metadata": {"classes": 3, "mean": torch.ones(3)}}, tmp_path / "a.pth")
    assert len(xaicmp.load_model(checkpoint=tmp_path / "a.pth").classes) == 10


def test_a_misfit_says_how_far_it_fits_and_what_would(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "a.pth")
    with pytest.raises(XaicmpError) as caught:
        xaicmp.load_model("torchvision:resnet18", checkpoint=tmp_path / "a.pth")
    text = str(caught.value)
    assert "102 of 102 tensors fit" in text or "tensors fit" in text
    assert "try model resnet34" in text
    assert "\n" not in text
    torch.save(torchvision.models.densenet121(num_classes=5).state_dict(), tmp_path / "a.pth")
    with pytest.raises(XaicmpError, match="try model densenet121 with 5 classes"):
        xaicmp.load_model(checkpoint=tmp_path / "a.pth")


def test_a_network_is_looked_for_if_the_file_has_as_many_tensors_as_the_smallest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        shapes = {
            name: value.shape
            for name, value in torchvision.models.alexnet(num_classes=7).state_dict().items()
        }
    weights = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    torch.save({"net": weights}, tmp_path / "a.pth")
    with pytest.raises(XaicmpError, match="try model alexnet with 7 classes"):
        xaicmp.load_model(checkpoint=tmp_path / "a.pth")
    monkeypatch.setattr(loading, "find_source", None)  # what a search begins with
    del weights["classifier.6.bias"]
    file = WeightsFile(tmp_path / "a.pth", "", {"net": weights})
    assert loading.relative("resnet18-cifar", file, best_fit(nn.Linear(2, 2), weights)) == ""


def test_no_file_runs_code(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18(), tmp_path / "whole.pt")
    with pytest.raises(XaicmpError, match=r"more than tensors .*ResNet.*state_dict"):
        xaicmp.load_model("torchvision:resnet18", checkpoint=tmp_path / "whole.pt")
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")  # type: ignore[no-untyped-call]
    deep = nn.Sequential(*(nn.ReLU() for _ in range(100)))  # whose code is packed
    torch.jit.script(deep).save(tmp_path / "deep.pt")  # type: ignore[no-untyped-call]
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), tmp_path / "exported.pt2")
    for name in ("script.pt", "deep.pt", "exported.pt2"):
        for spec, options in (
            ("torchvision:resnet18", {"checkpoint": tmp_path / name}),
            (str(tmp_path / name), {}),
        ):
            with pytest.raises(XaicmpError, match=r"compiled program.*give the network's own code") as caught:
                xaicmp.load_model(spec, **options)
            assert "\n" not in str(caught.value)


def test_a_checkpoint_cannot_name_a_module_to_run(trained: dict[str, Tensor], tmp_path: Path) -> None:
    document = {
        "format": "xaicmp checkpoint 1",
        "state_dict": trained,
        "metadata": {"architecture": "os:getcwd"},
    }
    torch.save(document, tmp_path / "a.pt")
    with pytest.raises(XaicmpError, match="unknown architecture"):
        xaicmp.load_model(checkpoint=tmp_path / "a.pt")


def test_the_accuracy_of_a_checkpoint_is_known_under_the_name_of_its_network_too(tmp_path: Path) -> None:
    model = xaicmp.load_model("resnet18-cifar", checkpoint=shipped_checkpoint())
    assert model.provenance["test_accuracy"] == xaicmp.load_model().provenance["test_accuracy"] == 0.9277


def test_order_alone_is_not_enough() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    swapped = {
        "a.bias": torch.ones(3),
        "a.weight": torch.ones(3, 2),
        "b.weight": torch.ones(2, 3),
        "b.bias": torch.ones(2),
    }
    assert not best_fit(model, swapped).complete
    straight = {name: swapped[name] for name in ("a.weight", "a.bias", "b.weight", "b.bias")}
    assert best_fit(model, straight).complete


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet5O",), "no such model; choose .*resnet50"),
        (("torchvision:resnet5O",), "torchvision has no such model"),
        (("timm:resnet5O",), "timm has no such model"),
        (("torchvision:resnet18", None, "IMAGENET"), "resnet18 has IMAGENET1K_V1, DEFAULT"),
        (("timm:resnet18", None, "V2"), "part of the model's name"),
        (("no_such_module:build",), "cannot be imported"),
        (("json:nothing",), "cannot be imported"),
        (("json:dumps?obj=1",), "returned a str"),
        (("torch:pi",), "cannot be called"),
        (("torchvision.models:resnet18?width",), "is no argument"),
        (("torchvision.models:resnet18?nonsense=1",), "cannot be built: TypeError"),
        ((None, None, "DEFAULT"), "weights go with the name"),
        ((nn.Linear(2, 2), "a.pt"), "weights go with the name"),
        (("none.pt",), "cannot read checkpoint none.pt"),
    ],
)
def test_what_cannot_be_had_is_one_line(arguments: tuple[Any, ...], message: str) -> None:
    model, checkpoint, weights = (*arguments, None, None)[:3]
    with pytest.raises((UsageError, XaicmpError), match=message) as caught:
        xaicmp.load_model(model, checkpoint=checkpoint, weights=weights)
    assert "\n" not in str(caught.value)


def test_a_factory_takes_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_factory.py").write_text(
        "import torch\n"
        "def net(width=1, deep=False, num_classes=4):\n"
        "    print('building')\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(num_classes * width if deep else 1))\n"
    )
    found = xaicmp.load_model("my_factory:net?width=2&deep=True")
    assert found.module(torch.zeros(1, 3, 8, 8)).shape == (1, 8)


def test_untrained_weights_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    found = xaicmp.load_model("torchvision:resnet18", weights="none")
    assert torch.equal(torch.get_rng_state(), before)
    assert len(found.classes) == 1000
    assert found.name == "torchvision:resnet18 with random weights"
    assert found.crop_pct == pytest.approx(224 / 256)


class Storing(nn.Module):
    """Stores more than dense tensors."""

    def __init__(self, extra: Any, mask: float = 1.0) -> None:
        super().__init__()
        self.extra = extra
        self.register_buffer("mask", (mask * torch.eye(2)).to_sparse())
        self.register_buffer("row", torch.eye(2).to_sparse_csr())
        self.register_buffer("whole", torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8))

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:.*quantize_per_tensor")
def test_the_sum_of_weights_is_of_all_that_is_stored_and_can_be_written() -> None:
    def digest(*given: Any) -> str:
        return sha256_of(Storing(*given).state_dict())

    assert digest({"a": 1}) == digest({"a": 1})
    assert len({digest({"a": 1}), digest({"a": 2}), digest({"a": 1}, 2.0), digest(None)}) == 4
    assert digest(lambda: 1) == digest(lambda: 2)


def test_names_of_classes(tmp_path: Path) -> None:
    files = {
        "a.txt": "cat\ndog\n",
        "a.json": '["cat", "dog"]',
        "b.json": '{"0": ["n01", "cat"], "1": ["n02", "dog"]}',
        "config.json": '{"id2label": {"0": "cat", "1": "dog"}}',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        found = xaicmp.load_model(nn.Linear(2, 2), classes=tmp_path / name)
        assert found.classes == ("cat", "dog"), name
    for text in ("cat\ncat\n", "\n", "[1, 2]"):
        (tmp_path / "a.txt").write_text(text)
        if text != "[1, 2]":
            with pytest.raises(XaicmpError):
                xaicmp.load_model(nn.Linear(2, 2), classes=tmp_path / "a.txt")
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(XaicmpError, match="class name"):
        xaicmp.load_model(nn.Linear(2, 2), classes=tmp_path / "a.json")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {},
            "how images are normalised and what its classes are called; taken .* and std .*; 10 classes. Give",
        ),
        (
            {"mean": 0.5, "std": 0.5},
            "does not say what its classes are called; taken as for .*: 10 classes. Give",
        ),
        (
            {"classes": [str(each) for each in range(10)]},
            "does not say how images are normalised; taken as for",
        ),
        ({"mean": 0.5, "std": 0.5, "classes": [str(each) for each in range(10)]}, ""),
    ],
)
@pytest.mark.parametrize("spec", [None, "resnet18-cifar"])
def test_only_what_nobody_has_said_is_assumed(
    spec: str | None, given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    torch.save(xaicmp.resnet18_cifar().state_dict(), tmp_path / "bare.pth")
    told: list[str] = []
    xaicmp.load_model(spec, checkpoint=tmp_path / "bare.pth", remark=told.append, **given)
    assert len(told) == bool(said)
    assert re.search(said, "".join(told))

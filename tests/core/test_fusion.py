from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torchvision
from small import SmallNet, state
from test_gradient import close, images_of
from test_propagation import seeded
from torch import Tensor, nn

from xaicmp.core.errors import XaicmpError
from xaicmp.core.fusion import fuse
from xaicmp.core.models import resnet18_cifar

ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18_cifar": (resnet18_cifar, 0),
    "resnet18": (torchvision.models.resnet18, 0),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, 0),
    "shufflenet": (torchvision.models.shufflenet_v2_x0_5, 0),
    # Its blocks normalise what is concatenated, and first.
    "densenet121": (torchvision.models.densenet121, 62),
    "small": (SmallNet, 0),
}


def norms(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_merged_networks_compute_the_same_with_the_same_names(kind: str) -> None:
    make, left = ARCHITECTURES[kind]
    model, images = seeded(make).train(), images_of(2, 3, 32, 32)
    fused = fuse(model, images_of(2, 3, 32, 32, seed=1))
    assert all(module.training for module in model.modules())
    assert [name for name, _ in fused.named_modules()] == [name for name, _ in model.named_modules()]
    assert not any(module.training for module in fused.modules())
    assert len(norms(fused)) == left < len(norms(model))
    with torch.no_grad():
        close(fused(images), model.eval()(images))


def test_the_model_stays_as_it_was_and_only_what_changes_takes_memory() -> None:
    model = seeded(SmallNet).train()
    before = state(model)
    fused = fuse(model, images_of(2, 3, 8, 8))
    assert state(model) == before
    assert fused.fc.weight is model.fc.weight
    assert fused.layer1[0].weight is not model.layer1[0].weight
    assert isinstance(fused.layer1[1], nn.Identity)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_gets_tensors_that_can_have_them(
    mode: Callable[[], torch.no_grad],
) -> None:
    model, images = seeded(SmallNet), images_of(2, 3, 8, 8)
    with mode():
        fused = fuse(model, images * 1)
    assert not norms(fused)
    fused(images.requires_grad_()).sum().backward()
    assert images.grad.abs().max() > 0


class Branching(nn.Module):
    """By ``kind``: what keeps a normalisation from being merged."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3, track_running_stats=kind != "no statistics")
        self.other = nn.BatchNorm2d(3)
        if kind == "hooked":
            self.conv.register_forward_hook(lambda module, inputs, output: output * 2)
        if kind == "weight norm":
            nn.utils.parametrizations.weight_norm(self.conv)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        match self.kind:
            case "used twice":
                y = self.norm(x) + x
            case "two norms":
                y = self.norm(x) + self.other(x)
            case "in between":
                y = self.norm(x.relu())
            case "in place":
                y = self.norm(x.relu_())
            case "convolved again":
                y = self.norm(self.conv(x))
            case "normalised again":
                y = self.norm(self.norm(x))
            case _:
                y = self.norm(x)
        return y.relu().mean(dim=(2, 3))


@pytest.mark.parametrize(
    "kind",
    [
        "used twice",
        "two norms",
        "in between",
        "in place",
        "convolved again",
        "normalised again",
        "no statistics",
        "hooked",
        "weight norm",
    ],
)
def test_what_cannot_be_merged_stays(kind: str) -> None:
    model, images = seeded(lambda: Branching(kind)), images_of(2, 3, 8, 8)
    fused = fuse(model, images)
    assert norms(fused) == norms(model)
    with torch.no_grad():
        close(fused(images), model(images))


def test_it_can_be_imported_by_itself() -> None:
    command = [sys.executable, "-c", "from xaicmp.core.fusion import fuse"]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_what_can_be_merged_is() -> None:
    fused = fuse(seeded(lambda: Branching("plain")), images_of(2, 3, 8, 8))
    assert norms(fused) == ["other"]


def test_a_normalisation_under_two_names_is_merged_under_both() -> None:
    model = seeded(lambda: Branching("plain"))
    model.again = model.norm
    fused = fuse(model, images_of(2, 3, 8, 8))
    assert isinstance(fused.norm, nn.Identity)
    assert isinstance(fused.again, nn.Identity)


def test_a_copy_that_computes_something_else_is_refused() -> None:
    class Looking(Branching):
        """Takes its normalisation's statistics by itself."""

        def forward(self, images: Tensor) -> Tensor:
            shift = 0 if isinstance(self.norm, nn.Identity) else 1
            return super().forward(images) + shift

    with pytest.raises(XaicmpError, match="changed its logits"):
        fuse(seeded(lambda: Looking("plain")), images_of(2, 3, 8, 8))

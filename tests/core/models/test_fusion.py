from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torchvision
from architectures import seeded, slim
from captum.attr import LayerGradCam
from gradients import close, images_of
from small import SmallNet, choose, explain, small_classifier, small_engine, state
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.resnet import BasicBlock, ResNet

import xaicmp
from xaicmp.core.attribution import METHODS, get_methods
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.models.fusion import fuse
from xaicmp.core.models.layers import find_layer
from xaicmp.core.run.engine import Engine
from xaicmp.core.studies.cost import measure
from xaicmp.errors import UsageError, XaicmpError

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
            case "for nothing":
                self.norm(x)
                y = x
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
        "for nothing",
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


def test_what_can_be_merged_is() -> None:
    fused = fuse(seeded(lambda: Branching("plain")), images_of(2, 3, 8, 8))
    assert norms(fused) == ["other"]


def test_a_normalisation_under_two_names_is_merged_under_both() -> None:
    model = seeded(lambda: Branching("plain"))
    model.again = model.norm
    fused = fuse(model, images_of(2, 3, 8, 8))
    assert isinstance(fused.norm, nn.Identity)
    assert isinstance(fused.again, nn.Identity)


class Looking(Branching):
    """Asks what its normalisation is."""

    def forward(self, images: Tensor) -> Tensor:
        shift = 0 if isinstance(self.norm, nn.Identity) else 1
        return super().forward(images) + shift


def test_a_model_whose_copy_would_compute_something_else_is_left_as_it_is() -> None:
    model = seeded(lambda: Looking("plain")).train()
    before = state(model)
    assert fuse(model, images_of(2, 3, 8, 8)) is model
    assert state(model) == before


def test_such_a_model_is_explained_unmerged_and_its_passes_count_once(sample: ImageSet) -> None:
    model = seeded(lambda: Looking("plain"))
    engine = Engine(small_classifier(model, classes=()))
    chosen = choose(engine, sample, Selection(ids=(3, 7), only="all"))
    methods = get_methods(["saliency"])
    (found,) = explain(engine, sample, chosen, methods)
    images = engine.inputs(found.pixels)
    expected = METHODS["saliency"].explain(model, images, torch.from_numpy(chosen.targets))
    close(found.maps[0], expected)
    assert measure(engine, sample, chosen, methods)[0].passes == 2


class Nested(nn.Module):
    """Convolutions that are the last of what has a name, before normalisations in other places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(True), nn.Sequential(nn.Conv2d(8, 8, 3), nn.Identity())
        )
        self.alias = self.stem[2]
        self.after = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 8, 3, bias=False)
        self.head = nn.Sequential(
            nn.BatchNorm2d(8), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.last(self.after(self.stem(images)).relu_()))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "small": (SmallNet, 32),
    "nested": (Nested, 32),
    "resnet": (lambda: slim(lambda: ResNet(BasicBlock, [1, 2, 1, 1], num_classes=10)), 64),
}


def maps_of(model: nn.Module, images: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
    """What those of the layers put out that are called once and put out maps of more than a pixel."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    copied = deepcopy(model)
    for name, each in found.items():
        copied.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, each=each: each.append(output.clone())
        )
    with torch.no_grad():
        copied(images)
    return {
        name: each[0]
        for name, each in found.items()
        if len(each) == 1 and each[0].ndim == 4 and each[0][0, 0].numel() > 1
    }


class Cloned(nn.Module):
    """A layer whose output nothing can change in place."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.layer(*inputs).clone()


def by_captum(model: nn.Module, name: str, images: Tensor, targets: Tensor) -> Tensor:
    copied = deepcopy(model)
    layer = copied.get_submodule(name)
    for parent in list(copied.modules()):
        for key, child in parent._modules.items():
            if child is layer:
                parent._modules[key] = Cloned(layer)
    maps = LayerGradCam(copied, layer).attribute(images, targets, relu_attributions=True)
    return interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)[:, 0].detach()


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_layer_that_can_be_named_is_explained_as_in_the_model_itself(
    kind: str, sample: ImageSet
) -> None:
    make, side = NETWORKS[kind]
    model = seeded(make)
    ids, methods = (3, 7), get_methods(["grad-cam"])
    pixels = interpolate(sample.tensor[:8].float(), (side, side), mode="nearest").byte()
    images = replace(sample, tensor=pixels, labels=sample.labels[:8])
    chosen = choose(small_engine(model), images, Selection(ids=ids, only="all"))
    inputs, targets = small_engine(model).inputs(pixels[list(ids)]), torch.from_numpy(chosen.targets)
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    expected, drawn = maps_of(model, inputs, names), 0
    for name, activations in expected.items():
        engine = small_engine(model, layer=name)
        close(maps_of(engine.model(inputs), inputs, [name])[name], activations)
        (found,) = explain(engine, images, chosen, methods)
        wanted = by_captum(model, name, inputs, targets)
        scale = float(wanted.abs().max())
        torch.testing.assert_close(found.maps[0], wanted, rtol=1e-3, atol=1e-4 * scale)
        drawn += scale > 0
    assert drawn > len(expected) / 2 > 2


def test_a_layer_that_no_one_named_is_found_and_explained_in_the_model_itself(sample: ImageSet) -> None:
    model = seeded(Nested)
    assert find_layer(model, images_of(2, 3, 32, 32)) == "last"
    maps = {}
    for layer in (None, "last"):
        engine = small_engine(model, layer=layer)
        chosen = choose(engine, sample, Selection(ids=(3, 7), only="all"))
        (found,) = explain(engine, sample, chosen, get_methods(["grad-cam"]))
        maps[layer] = found.maps
    torch.testing.assert_close(maps[None], maps["last"], rtol=0, atol=0)


def test_only_the_convolution_that_is_named_stays_unmerged() -> None:
    model = seeded(torchvision.models.resnet18)
    fused = fuse(model, images_of(2, 3, 64, 64), ["layer4.1.conv2"])
    assert norms(fused) == ["layer4.1.bn2"]
    assert norms(fuse(model, images_of(2, 3, 64, 64), ["layer4.1.bn2", "layer4", "fc"])) == []


def test_a_layer_that_no_logit_hangs_on_puts_out_the_same() -> None:
    class Probed(Branching):
        """Pools what its convolution puts out, for nothing."""

        def __init__(self) -> None:
            super().__init__("plain")
            self.probe = nn.AvgPool2d(2)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            self.probe(maps)
            return self.norm(maps).relu().mean(dim=(2, 3))

    model, images = seeded(Probed), images_of(2, 3, 8, 8)
    close(
        maps_of(fuse(model, images, ["probe"]), images, ["probe"])["probe"],
        maps_of(model, images, ["probe"])["probe"],
    )


def test_a_name_to_keep_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no such layer"):
        fuse(SmallNet(), images_of(2, 3, 8, 8), ["layer9"])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_model_that_cannot_be_copied_is_explained_as_it_is() -> None:
    """The weights under torch's old ``weight_norm`` are results, which have no copy."""

    def network(normed: Callable[[nn.Module], nn.Module]) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(normed(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))

    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    old, new = network(nn.utils.weight_norm), network(nn.utils.parametrizations.weight_norm)
    assert fuse(old, images) is old
    methods = ["grad-cam", "saliency", "lrp"]
    found, expected = (xaicmp.explain(each, images, methods=methods).maps for each in (old, new))
    torch.testing.assert_close(found, expected)
    with pytest.raises(XaicmpError, match="the model cannot be copied, which this needs: RuntimeError: "):
        xaicmp.compare(old, images, methods=methods).randomisation(draws=1)

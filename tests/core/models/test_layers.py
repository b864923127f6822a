"""Which layer the CAMs weigh, in networks as they are built elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import SmallNet, state
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.context import Context
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.models.layers import find_layer, get_layer, substitute, to_maps, watch
from xaicmp.errors import XaicmpError

TARGETS = torch.tensor([3, 1])
CAMS = ("grad-cam", "grad-cam++", "hirescam", "layercam", "xgrad-cam", "eigen-cam")


def vgg16(classes: int = 10) -> nn.Module:
    """torchvision's VGG-16 with one linear layer at the end, not three that hold 120 million weights."""
    with torch.device("meta"):
        model = models.vgg16()
    model.features = model.features.to_empty(device="cpu")
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    model.classifier = nn.Linear(512 * 49, classes)
    return model


def swin() -> nn.Module:
    return models.SwinTransformer([2, 2], 12, [1, 1], [2, 2], [4, 4], num_classes=10)


# By network: how to make it, and its layer for images of 32x32 and of 64x64.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "CIFAR ResNet-18": (resnet18_cifar, "layer4", "layer4"),
    "ResNet-18": (lambda: models.resnet18(num_classes=10), "layer3", "layer4"),
    # The first convolution of layer4 still has 2x2 pixels, but a skip connection goes past it.
    "ResNet-50": (lambda: models.resnet50(num_classes=10), "layer3", "layer4"),
    # Its features are 1x1 at 32, and avgpool makes 7x7 of whatever it is given.
    "VGG-16": (vgg16, "features.29", "features"),
    "MobileNet-V3": (lambda: models.mobilenet_v3_large(num_classes=10), "features.12", "features"),
    "DenseNet-121": (lambda: models.densenet121(num_classes=10), "features.denseblock3", "features"),
    # Inside its blocks, maps are (N, h, w, K).
    "ConvNeXt-tiny": (lambda: models.convnext_tiny(num_classes=10), "features.5", "features"),
    # Its maps are (N, h, w, K) nearly to the end.
    "Swin": (swin, "permute", "permute"),
}


def images_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, str, str]:
    make, *layers = NETWORKS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval(), *layers


def test_the_layer_of_networks_as_torchvision_makes_them(network: tuple[nn.Module, str, str]) -> None:
    model, at_32, at_64 = network
    assert find_layer(model, torch.zeros(2, 3, 32, 32)) == at_32
    assert find_layer(model, torch.zeros(2, 3, 64, 64)) == at_64


@pytest.mark.parametrize("size", [32, 64])
def test_cams_of_networks_as_torchvision_makes_them(network: tuple[nn.Module, str, str], size: int) -> None:
    model, images = network[0], images_of(2, 3, size, size)
    context = Context(model, images, TARGETS)
    seen: list[Tensor] = []
    copy = model.get_submodule(context.layer).register_forward_hook(
        lambda module, inputs, output: seen.append(output.clone())
    )
    logits = model(images)
    copy.remove()
    maps = {name: METHODS[name].explain_in(context).maps for name in CAMS}
    if size == 32 and len(seen[0][0]) <= 512:
        maps["ablation-cam"] = METHODS["ablation-cam"].explain_in(context).maps
    # What later layers did to them in place does not show.
    assert context.at_layer.activations is not None
    torch.testing.assert_close(context.at_layer.activations, seen[0].detach())
    torch.testing.assert_close(context.at_layer.logits, logits.detach(), rtol=1e-4, atol=1e-4)
    (gradients,) = torch.autograd.grad(
        model_from(model, context.layer, seen[0], images)[[0, 1], TARGETS].sum(), seen[0]
    )
    small = (gradients.mean(dim=(2, 3), keepdim=True) * seen[0]).sum(dim=1, keepdim=True).relu().detach()
    expected = interpolate(small, (size, size), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(maps["grad-cam"], expected, rtol=1e-3, atol=1e-4 * small.max().item())
    # Where every feature speaks against the class, some are rightly zero.
    assert all(each.shape == (2, size, size) and each.isfinite().all() for each in maps.values())
    assert sum(float(each.std()) > 0 for each in maps.values()) >= 3


def model_from(model: nn.Module, layer: str, maps: Tensor, images: Tensor) -> Tensor:
    """The logits, if ``layer`` puts out ``maps``."""
    with substitute(model, layer, maps):
        return model(torch.zeros_like(images))


def test_the_same_layer_whatever_the_images(network: tuple[nn.Module, str, str]) -> None:
    model, at_32, _ = network
    for images in (torch.zeros(2, 3, 32, 32), torch.full((2, 3, 32, 32), 1e6), images_of(2, 3, 32, 32)):
        assert Context(model, images, TARGETS).layer == at_32


def test_vgg_at_its_own_size_keeps_the_features_where_pooling_changes_nothing() -> None:
    assert find_layer(vgg16(), torch.zeros(1, 3, 224, 224)) == "features"


def transformer() -> nn.Module:
    return VisionTransformer(
        32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=10
    ).eval()


def test_tokens_of_a_vision_transformer_are_maps_without_the_class_token() -> None:
    model, images = transformer(), images_of(2, 3, 32, 32)
    nn.init.normal_(model.heads.head.weight)
    # The last block hands on only what the class token takes from it.
    assert find_layer(model, images) == "encoder.layers.encoder_layer_1.ln_1"
    for layer in (None, "conv_proj", "encoder.layers.encoder_layer_0"):
        maps = METHODS["grad-cam"].explain(model, images, TARGETS, layer=layer)
        assert maps.shape == (2, 32, 32)
        assert maps.amax() > 0
    assert not METHODS["grad-cam"].explain(model, images, TARGETS, layer="encoder").any()


def test_a_sequence_that_is_no_grid_is_refused_unless_a_layer_is_named() -> None:
    class Lines(Steps):
        """Attends between the lines of the image."""

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.b(self.a(images).movedim(2, 1).flatten(2)).mean(dim=1)[:, :3])

    model, images = Lines(a=conv(1), b=nn.Linear(60, 60)), images_of(2, 3, 34, 20)
    with pytest.raises(
        XaicmpError, match=r"after a the model.* sequence of tokens.* layer a, or leave the CAMs out"
    ) as caught:
        METHODS["grad-cam"].explain(model, images, TARGETS)
    assert "\n" not in str(caught.value)
    assert METHODS["grad-cam"].explain(model, images, TARGETS, layer="a").shape == (2, 34, 20)
    with pytest.raises(XaicmpError, match=r"layer b puts out \(2, 34, 60\), which has no spatial extent"):
        METHODS["grad-cam"].explain(model, images, TARGETS, layer="b")


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (224, 224), (21, 14), (64, 16)])
@pytest.mark.parametrize("patch", [1, 4, 7, 8])
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_every_form_of_a_grid_gives_the_same_maps(size: tuple[int, int], patch: int, extra: int) -> None:
    h, w = (side // patch for side in size)
    if [h * patch, w * patch] != [*size] or h * w == 1 or min(h, w) < 3:
        pytest.skip("the patches do not cover the image, or are too few to tell other tokens from")
    maps = images_of(2, 11, h, w)
    tokens = torch.cat([torch.full((2, extra, 11), torch.nan), maps.flatten(2).mT], dim=1)
    for form in (maps, maps.permute(0, 2, 3, 1), tokens):
        found = to_maps(form, size)
        assert found is not None
        assert torch.equal(found, maps)
        assert found.data_ptr() - form.data_ptr() == (4 * 11 * extra if form is tokens else 0)  # a view


@pytest.mark.parametrize(
    "shape", [(2, 10), (2, 46, 6), (2, 3, 1, 1), (2, 1, 1, 3), (2, 1, 6), (2, 3, 4, 5, 6), (2, 9)]
)
def test_what_is_no_grid(shape: tuple[int, ...]) -> None:
    assert to_maps(torch.zeros(shape), (24, 24)) is None


class Steps(nn.Module):
    """Modules one after another, named, then the mean of each map and a linear head."""

    def __init__(self, **steps: nn.Module) -> None:
        super().__init__()
        self.steps = list(steps)
        for name, step in steps.items():
            self.add_module(name, step)
        self.fc = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        for name in self.steps:
            images = getattr(self, name)(images)
        return self.fc(images.mean(dim=(2, 3)))


def conv(stride: int = 2) -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, stride=stride, padding=1)


class Spread(nn.Module):
    """Each map's mean, at the map's size."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3), keepdim=True).expand_as(maps)


class Reused(nn.Module):
    """torchvision's habit: one ReLU for all."""

    def __init__(self) -> None:
        super().__init__()
        self.convs, self.act, self.fc = nn.ModuleList([conv(), conv()]), nn.ReLU(), nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.convs[1](self.act(self.convs[0](images))))
        return self.fc(maps.mean(dim=(2, 3)))


class Nested(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (Steps(a=conv(), b=conv(), pool=nn.AdaptiveAvgPool2d(1)), "b"),
        (Steps(a=conv(), b=conv(), up=nn.Upsample(scale_factor=2)), "b"),
        (Steps(a=conv(), b=conv(), pool=nn.AdaptiveAvgPool2d(7)), "b"),
        (Steps(a=conv(), b=conv(), pool=nn.AdaptiveAvgPool2d(4)), "b"),
        (Steps(a=conv(), b=conv(), spread=Spread()), "b"),
        (Steps(a=conv(), b=conv(), same=nn.Identity(), drop=nn.Dropout()), "b"),
        (Steps(drop=nn.Dropout(), a=conv(), same=nn.Identity()), "a"),  # the first layer copies the images
        (Steps(a=nn.Sequential(nn.Identity(), nn.Sequential(nn.Identity())), b=conv()), "b"),
        (Steps(a=conv(), b=conv(), act=nn.ReLU()), "act"),
        (Steps(a=conv(), b=conv(), act=nn.ReLU(inplace=True)), "act"),
        (Steps(a=conv(), b=nn.Sequential(conv(), nn.Sequential(conv(1), nn.ReLU(inplace=True)))), "b"),
        (Steps(a=conv(), b=nn.Sequential(conv(1), nn.AdaptiveAvgPool2d(1)), c=nn.Identity()), "a"),
        (Nested(Steps(a=conv(), b=nn.Sequential(conv(), nn.ReLU()))), "inner.b"),
        (Steps(a=conv(), b=nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1))), "b.0"),
        (Steps(a=conv(), b=nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (8, 8))), c=conv()), "c"),
        (Reused(), "convs.1"),
    ],
)
def test_the_last_and_outermost_layer_that_adds_something(model: nn.Module, layer: str) -> None:
    assert find_layer(model, torch.zeros(2, 3, 16, 16)) == layer


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 10)),
        Steps(a=nn.AdaptiveAvgPool2d(1), b=nn.Conv2d(3, 3, 1)),
        Steps(a=nn.AdaptiveAvgPool2d(1), b=nn.Upsample(scale_factor=8)),
    ],
)
def test_a_model_without_maps_is_refused(model: nn.Module) -> None:
    with pytest.raises(XaicmpError, match="no feature map of more than one pixel; use larger images, or"):
        METHODS["grad-cam"].explain(model, images_of(2, 3, 8, 8), TARGETS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer5", "layer layer5: the model has no such layer; choose layer4, layer1"),
        ("layer4.2", r"no such layer; choose layer4\.1, layer4\.0"),
        ("Layer4", "no such layer; choose layer4"),
        ("zzz", "no such layer; choose layer1, layer4, dropout, fc or another of its modules"),
    ],
)
def test_an_unknown_layer_is_answered_with_those_there_are(name: str, message: str) -> None:
    with pytest.raises(XaicmpError, match=message):
        METHODS["grad-cam"].explain(SmallNet(), images_of(2, 3, 32, 32), TARGETS, layer=name)


class Odd(nn.Module):
    """Layers of which no map can be had."""

    def __init__(self) -> None:
        super().__init__()
        self.several, self.never, self.one_pixel = conv(1), conv(), nn.AdaptiveAvgPool2d(1)
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)
        self.fc = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.one_pixel(relu(self.several(relu(self.several(images))))).flatten(1)[:, None]
        return self.fc(self.attention(maps, maps, maps)[0][:, 0])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("several", "several is called several times in one pass; choose the layer around it"),
        ("never", "never takes no part in the model's forward pass; choose another"),
        (
            "one_pixel",
            r"one_pixel puts out \(2, 3, 1, 1\).* would be constant; choose an earlier layer or larger",
        ),
        ("attention", "attention puts out tuple"),
        ("fc", r"fc puts out \(2, 10\)"),
        ("", r" puts out \(2, 10\)"),
    ],
)
@pytest.mark.parametrize("name", ["grad-cam", "score-cam", "ablation-cam"])
def test_a_layer_that_will_not_do_is_refused_and_leaves_no_trace(name: str, layer: str, message: str) -> None:
    model = Odd().train()
    before = state(model)
    with pytest.raises(XaicmpError, match=f"layer {message}") as caught:
        METHODS[name].explain(model, images_of(2, 3, 8, 8), TARGETS, layer=layer)
    assert "\n" not in str(caught.value)
    assert state(model) == before


def test_hooks_are_gone_whatever_happens_meanwhile() -> None:
    model = SmallNet()
    before = state(model)
    for lent in (watch(model, "layer4", (32, 32)), substitute(model, "layer4", torch.zeros(2, 16, 4, 4))):
        with pytest.raises(ZeroDivisionError), lent:
            assert state(model) != before
            raise ZeroDivisionError
        assert state(model) == before


def test_finding_a_layer_changes_neither_the_model_nor_the_random_state() -> None:
    model = SmallNet().train()
    before, drawn = state(model), torch.get_rng_state()
    find_layer(model, torch.zeros(2, 3, 32, 32))
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), drawn)


def test_what_is_put_in_a_layers_place_is_safe_from_changes_in_place() -> None:
    model: Any = nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    maps = -torch.ones(2, 2, 4, 4)
    with substitute(model, "0", maps), torch.no_grad():
        assert torch.equal(model(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 2))
    assert torch.equal(maps, -torch.ones(2, 2, 4, 4))
    assert get_layer(model, "0") is model[0]


class Aside(nn.Module):
    """A layer that is run and then left."""

    def __init__(self) -> None:
        super().__init__()
        self.aside, self.fc = conv(), nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        self.aside(images)
        return self.fc(images.mean(dim=(2, 3)))


def test_a_layer_that_the_score_does_not_hang_on_gives_zero() -> None:
    maps = METHODS["grad-cam"].explain(Aside(), images_of(2, 3, 8, 8), TARGETS, layer="aside")
    assert torch.equal(maps, torch.zeros(2, 8, 8))


class Timid(nn.Module):
    """Its last layer's maps are dead unless the image is brighter than noise is."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late, self.relu = (
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.early(images)
        bright = (images.mean(dim=(1, 2, 3), keepdim=True) > 1).to(maps)
        return self.relu(self.late(maps) * bright - 1 + bright).mean(dim=(2, 3))


def test_a_layer_that_is_dead_for_noise_is_found_by_images() -> None:
    torch.manual_seed(0)
    model, noise = Timid(), images_of(2, 3, 8, 8)
    assert find_layer(model, noise - noise.mean()) == "late"
    assert find_layer(model, noise - noise.mean() + 2) == "relu"


def test_a_transformer_is_searched_in_one_pass_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformer()
    passes = []

    def counted(*given: Any, **options: Any) -> Any:
        passes.append(given)
        return grad(*given, **options)

    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", counted)
    with pytest.raises(
        XaicmpError, match="logits are the same for every image, as where its last layer is all 0"
    ):
        find_layer(model, images_of(2, 3, 32, 32))
    assert len(passes) == 1
    nn.init.normal_(model.heads.head.weight)
    assert find_layer(model, images_of(2, 3, 32, 32)) == "encoder.layers.encoder_layer_1.ln_1"
    assert len(passes) == 2

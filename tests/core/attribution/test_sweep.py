"""Every method on every kind of classifier, small and with random weights: finite, the same alone, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from architectures import convnext, mobilenet, seeded, vit
from small import quick
from test_architectures import left_behind
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.applicability import why_not
from xaicmp.core.attribution.context import Context
from xaicmp.errors import XaicmpError

TARGETS = torch.tensor([2, 7, 2])
CLASSES = [
    *(
        "captum:Saliency",
        "captum:IntegratedGradients:n_steps=4",
        "captum:LayerGradientXActivation",
        "captum:DeepLift",
    ),
    *("pytorch_grad_cam:GradCAM", "pytorch_grad_cam:EigenCAM"),
]


def vgg() -> nn.Module:
    model = VGG(make_layers([8, "M", 16, "M", 16], batch_norm=True), num_classes=10)
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(2), nn.Sequential(nn.Linear(64, 10))
    return model


def resnet() -> nn.Module:
    """Without its two widest stages, whose channels Score-CAM would take one by one."""
    model = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10, width_per_group=8)
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(512, 10)
    return model


def by_timm(name: str, **sizes: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = pytest.importorskip("timm").create_model(name, num_classes=10, **sizes)
        for parameter in model.parameters():
            if (
                parameter.ndim > 1 and not parameter.any()
            ):  # a head that says nothing, a convolution that is left out
                nn.init.normal_(parameter, std=0.1)
        return model

    return make


TOKENS = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet": resnet,
    "VGG": vgg,
    "DenseNet": lambda: DenseNet(8, (2, 2), 16, num_classes=10),
    "MobileNet-V3": mobilenet,
    "ConvNeXt": convnext,
    "ViT": vit,
    "Swin": lambda: torchvision.models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=10),
    "timm ResNet": by_timm("resnet10t", channels=(16, 32, 64, 96)),
    "timm MobileNet-V2": by_timm("mobilenetv2_035"),
    "timm ConvNeXt": by_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
    "timm ViT": by_timm("vit_tiny_patch16_224", **TOKENS),
    "timm ViT, registers": by_timm("vit_tiny_patch16_224", reg_tokens=4, **TOKENS),
    "timm DeiT": by_timm("deit_tiny_distilled_patch16_224", **TOKENS),
    "timm Swin": by_timm(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=4,
        embed_dim=8,
        depths=(1, 1),
        num_heads=(1, 2),
    ),
    "timm DaViT": by_timm("davit_tiny", embed_dims=(8, 16), depths=(1, 1), num_heads=(1, 2), window_size=4),
}
RULED = {"deeplift", "deeplift-shap", "lrp", "captum:DeepLift"}
RELU = {"guided-backprop", "deconvolution", "guided-grad-cam"}
ATTENTION = {"attention-rollout", "generic-attention"}
ATTENDS = ("ViT", "Swin", "timm ViT", "timm ViT, registers", "timm DeiT", "timm Swin", "timm DaViT")


@cache
def network(name: str) -> nn.Module:
    """The network, with logits that differ between images by more than rounding."""
    model = seeded(NETWORKS[name])
    heads = [each for each in model.modules() if isinstance(each, nn.Linear) and each.out_features == 10]
    with torch.no_grad():
        spread = model(images_of(8)).std(dim=0).mean()
        for head in heads:
            head.weight.div_(spread)
    return model


def images_of(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_method_that_applies_is_finite_the_same_alone_and_leaves_the_model(kind: str) -> None:
    model, images = network(kind), images_of()
    before, values = left_behind(model), {key: value.clone() for key, value in model.state_dict().items()}
    alone = Context(model, images[1:2], TARGETS[1:2], ids=[1], batch_size=64)
    among, refused, constant = Context(model, images, TARGETS, batch_size=64), set(), set()
    for method in quick([*METHODS, *CLASSES], steps=2, samples=8):
        if why_not(method, alone):
            refused.add(method.name)
            with pytest.raises(XaicmpError):
                method.explain_in(among)
            continue
        alone.report = lambda done, total: None
        maps, single = method.explain_in(among).maps, method.explain_in(alone).maps
        assert maps.shape == images[:, 0].shape, method.name
        assert maps.isfinite().all(), method.name
        scale = maps[1].abs().max().item()
        assert (single[0] - maps[1]).abs().max().item() <= 1e-3 * scale, method.name
        if not maps.any():
            constant.add(method.name)
    assert left_behind(model) == before
    assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())
    assert refused - {"captum:DeepLift"} <= RULED | RELU | ATTENTION
    assert (refused >= ATTENTION) == (kind not in ("ViT", "timm ViT", "timm ViT, registers", "timm DeiT"))
    assert ({"lrp", "deeplift"} <= refused) == (kind in ATTENDS)
    # Where every feature speaks against the class, a CAM is rightly zero; and few samples may say nothing.
    assert not [
        name for name in constant & METHODS.keys() if METHODS[name].family in ("gradient", "attention")
    ]
    assert len(constant) < 12

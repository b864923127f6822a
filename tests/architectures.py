"""torchvision's classifiers with random weights, each small enough to be explained in a moment at 32x32."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torchvision
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

from xaicmp.core.models.architectures import resnet18_cifar


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network in eval mode, whose normalisations do something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    return model


def slim(make: Callable[[], nn.Module], by: int = 8) -> nn.Module:
    """A network of plain convolutions with a part of its channels: the same modules under the same names."""
    with torch.device("meta"):
        model = make()
    for layer in model.modules():
        match layer:
            case nn.Conv2d(groups=1, bias=None):
                ins, outs = max(layer.in_channels // by, 3), layer.out_channels // by
                layer.__init__(ins, outs, layer.kernel_size, layer.stride, layer.padding, bias=False)
                nn.init.kaiming_normal_(layer.weight)
            case nn.BatchNorm2d():
                layer.__init__(layer.num_features // by)
            case nn.Linear():
                layer.__init__(layer.in_features // by, layer.out_features)
    return model


def slim_cifar(classes: int = 10) -> nn.Module:
    """The network that ships, an eighth as wide: 0.7 MB of weights instead of 45."""
    return slim(lambda: resnet18_cifar(classes))


def vgg16() -> nn.Module:
    """Its features and a classifier a hundredth of the size."""
    with torch.device("meta"):
        model = torchvision.models.vgg16(num_classes=10, init_weights=False)
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Sequential(
            nn.Linear(512, 64),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(64, 64),
            nn.ReLU(True),
            nn.Linear(64, 10),
        )
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
        else:
            nn.init.uniform_(parameter, -0.1, 0.1)
    return model


def convnext() -> nn.Module:
    """Two blocks a stage, a quarter as wide; with biases, or zero would be a singular point of its norms."""
    blocks = [CNBlockConfig(24, 48, 2), CNBlockConfig(48, 96, 2), CNBlockConfig(96, None, 2)]
    model = ConvNeXt(blocks, num_classes=10, layer_scale=0.5)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.1)
    return model


def vit() -> nn.Module:
    """Two layers, 16 tokens and the class's."""
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=10)
    nn.init.normal_(model.heads.head.weight)
    return model


def mobilenet() -> nn.Module:
    """A block of each kind, as MobileNet-V3 has them; with biases, or all that reaches its head is one."""
    blocks = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(16, 3, 48, 24, False, "RE", 2, 1, 1.0),
        InvertedResidualConfig(24, 5, 64, 32, True, "HS", 2, 1, 1.0),
        InvertedResidualConfig(32, 5, 96, 32, True, "HS", 1, 1, 1.0),
    ]
    model = MobileNetV3(blocks, 128, num_classes=10)
    nn.init.normal_(model.classifier[3].weight)
    return model


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "resnet50": lambda: slim(lambda: torchvision.models.resnet50(num_classes=10), 4),
    "vgg16": vgg16,
    "mobilenet_v3_small": mobilenet,
    "densenet121": lambda: slim(lambda: torchvision.models.densenet121(num_classes=10), 4),
    "convnext": convnext,
    "vit": vit,
}


@cache
def architecture(name: str) -> nn.Module:
    """The network of that name, made once."""
    return seeded(ARCHITECTURES[name])

"""Architectures that checkpoints name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def resnet18_cifar(classes: int = 10) -> nn.Module:
    """torchvision's ResNet-18 (He et al., 2016) for 32x32 images: a 3x3 stride-1 stem, no max-pooling.

    Its last feature map, ``layer4``, is ``(N, 512, 4, 4)`` for images of 32x32.
    """
    from torchvision.models import resnet18

    model = resnet18(weights=None, num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


BARE = "resnet18-cifar"
"""The network that a file is taken for if it does not name one."""

ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {"resnet18-cifar": resnet18_cifar}

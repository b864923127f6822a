"""Deep 3x3 convolutions in bfloat16 on a CPU with a matrix unit (AMX), as matrix products.

Where a layer has many channels and few pixels, as ResNet-18's ``layer4`` on CIFAR-10 has (512 channels, 4x4),
laying out the patches and multiplying matrices takes a third of the time that torch's convolution takes there;
on a CPU without such a unit it takes longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.grad import conv2d_input

from xaicmp.core.machine.devices import cpu_has

FEWEST_CHANNELS = 512

"""Output channels from which on the matrix product wins."""


class _MatrixConvolution(torch.autograd.Function):
    """A 3x3 convolution with padding 1, in bfloat16; sums are kept in float32 by the matrix product."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        images, filters = images.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(images, filters)
        ctx.stride = stride
        maps = _patches(images, stride) @ filters.permute(0, 2, 3, 1).reshape(len(filters), -1).t()
        return _as_images(maps, len(images), images.shape[2] // stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        images, filters = ctx.saved_tensors
        stride, (filters_out, channels) = ctx.stride, filters.shape[:2]
        gradient = gradients[0].bfloat16().contiguous(memory_format=torch.channels_last)
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, filters_out)
        by_weight = (
            (rows.t() @ _patches(images, stride)).view(filters_out, 3, 3, channels).permute(0, 3, 1, 2)
        )
        if stride == 1:
            flipped = filters.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, channels)
            by_image = _as_images(_patches(gradient, 1) @ flipped, len(images), images.shape[2])
        else:
            by_image = conv2d_input(images.shape, filters, gradient, stride, padding=1)
        return by_image, by_weight.float(), None


@contextmanager
def matrix_convolutions(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let the deep square 3x3 convolutions of ``model`` run as matrix products under bfloat16 autocast on a CPU.

    Nothing changes on other devices, without a matrix unit, or without autocast; afterwards the model is what it
    was.
    """
    changed = [module for module in model.modules() if isinstance(module, nn.Conv2d) and _is_deep(module)]
    if device.type != "cpu" or not cpu_has("amx_bf16"):
        changed = []
    for module in changed:
        module.forward = _forward(module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _is_deep(module: nn.Conv2d) -> bool:
    return (
        module.out_channels >= FEWEST_CHANNELS
        and (module.kernel_size, module.padding, module.dilation) == ((3, 3), (1, 1), (1, 1))
        and module.stride in ((1, 1), (2, 2))
        and (module.groups, module.bias, module.padding_mode) == (1, None, "zeros")
    )


def _forward(module: nn.Conv2d) -> Any:
    def forward(images: Tensor) -> Tensor:
        stride = int(module.stride[0])
        square = images.shape[2] == images.shape[3] and images.shape[2] % stride == 0
        if torch.is_autocast_enabled("cpu") and square:
            return _MatrixConvolution.apply(images, module.weight, stride)
        return nn.Conv2d.forward(module, images)

    return forward


def _patches(images: Tensor, stride: int) -> Tensor:
    """``(N, C, S, S)`` to a row an output pixel, ``(N * (S // stride)**2, 9 * C)``."""
    count, channels, size = images.shape[:3]
    padded = pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    across, down, right, _ = padded.stride()
    outputs = size // stride
    windows = padded.as_strided(
        (count, outputs, outputs, 3, 3, channels), (across, stride * down, stride * right, down, right, 1)
    )
    return windows.reshape(count * outputs * outputs, 9 * channels)


def _as_images(rows: Tensor, count: int, size: int) -> Tensor:
    """A row a pixel to ``(count, C, size, size)``, channels last in memory."""
    return rows.view(count, size, size, -1).permute(0, 3, 1, 2)

"""Maps that know nothing of the model. A method that does must surpass them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.method import method

model_free = partial(
    method, family="model-free", reduction="sum", needs="no model", model_free=True, cost="0"
)

LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""


@model_free(
    "random",
    title="Random",
    paper='Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has Learned", 2017',
)
def random(context: Context) -> Tensor:
    """Each pixel drawn from the uniform distribution on [0, 1)."""
    drawn = [torch.rand(context.images.shape[2:], generator=each) for each in context.generators("random")]
    return torch.stack(drawn).to(context.images.device)


@model_free(
    "edge",
    title="Edges",
    paper='Sobel & Feldman, 1968; as a control: Adebayo et al., "Sanity Checks for Saliency Maps", 2018',
)
def edge(context: Context) -> Tensor:
    """sqrt(gx^2 + gy^2), gx and gy the Sobel derivatives of the luminance, in which the border is repeated."""
    colours = context.images * context.std + context.mean
    luminance = (colours * colours.new_tensor(LUMINANCE).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    padded = pad(luminance, (1, 1, 1, 1), mode="replicate")[:, 0]
    # The difference first: where the image is constant, it is exactly zero.
    across, down = padded[..., 2:] - padded[..., :-2], padded[:, 2:] - padded[:, :-2]
    across = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return torch.hypot(across, down)


@model_free(
    "centre",
    title="Centre",
    paper='Judd et al., "A Benchmark of Computational Models of Saliency to Predict Human Fixations", 2012',
)
def centre(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """exp(-(y^2 + x^2) / 2), y and x from the middle of the image in quarters of its sides."""
    down, across = (
        torch.linspace(-2 + 2 / side, 2 - 2 / side, side, device=images.device) for side in images.shape[2:]
    )
    return (-(down[:, None].square() + across.square()) / 2).exp().expand(len(images), -1, -1)

"""Methods that take parts of the image away and see what becomes of the score.

What is taken away becomes zero, the mean colour of the data set: the grey of Zeiler & Fergus. No gradient is
needed. The score S_t(x) is the logit of the target class t, but for RISE. Attributions are ``(N, H, W)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.method import check_least, method
from xaicmp.core.attribution.superpixels import superpixels

Keep = Callable[[Tensor, Tensor], Tensor]
"""``(image, sample) -> masks``: what the samples ``(B,)`` keep of the images ``(B,)``: ``(B, H, W)``, 0 to 1."""

perturbation = partial(method, family="perturbation", reduction="positive")

GRID = 7
"""RISE's random cells along a side."""


@perturbation(
    "occlusion",
    title="Occlusion",
    cost="about 226, one a window",
    paper='Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", 2014',
)
def occlusion(context: Context) -> Tensor:
    """Mean over the windows w that cover the pixel of S_t(x) - S_t(x without w).

    Windows are an eighth of each side (4 x 4 pixels of 32 x 32), half of that apart, and cut at the border.
    """
    rows, columns = (_windows(side).to(context.images.device) for side in context.images.shape[2:])
    rows = torch.cat([rows, torch.zeros_like(rows[:1])])  # windows that leave the image as it is

    def keep(image: Tensor, sample: Tensor) -> Tensor:
        return 1 - rows[sample // len(columns), :, None] * columns[sample % len(columns), None]

    scores = _scores(context, (len(rows) - 1) * len(columns) + 1, keep)
    drops = (scores[:, -1:] - scores[:, :-1]).unflatten(1, (-1, len(columns)))
    down, across = rows[:-1].cpu().double(), columns.cpu().double()
    return down.T @ drops @ across / torch.outer(down.sum(dim=0), across.sum(dim=0))


@perturbation(
    "feature-ablation",
    title="Feature Ablation",
    cost="50, one a superpixel",
    paper='Zeiler & Fergus, 2014; superpixels: Achanta et al., "SLIC Superpixels", 2012',
)
def feature_ablation(context: Context) -> Tensor:
    """S_t(x) - S_t(x without the superpixel that the pixel is in)."""
    labels, count = _segments(context)
    present = torch.cat([torch.ones(1, count), 1 - torch.eye(count)]).expand(len(context), -1, -1)
    scores = _segment_scores(context, labels, present)
    return _paint(scores[:, :1] - scores[:, 1:], labels)


@perturbation(
    "lime",
    title="LIME",
    cost="1 a sample",
    paper='Ribeiro et al., "Why Should I Trust You?", 2016',
)
def lime(context: Context, *, samples: int = 1000) -> Tensor:
    """b of the ridge regression S_t(x with the superpixels z only) ~ a + <b, z>, weighted by nearness to x.

    b minimises sum_i w_i (S_i - a - <b, z_i>)^2 + |b|^2, where w = exp(-d^2 / s^2), d is the cosine distance
    of z from all ones and s^2 = 1/8: the authors' code takes the root of the paper's kernel with s = 1/4.
    Each superpixel is in z with probability 1/2; the first z is the whole image. As in that code, all
    superpixels enter the regression; unlike there, the score is the logit.

    Args:
        context: the images, their targets and the model.
        samples: how many z per image, 2 or more.

    Raises:
        UsageError: fewer than 2 samples.
    """
    check_least("lime", 2, samples=samples)
    labels, count = _segments(context)
    drawn = [torch.rand(samples, count, generator=each) < 0.5 for each in context.generators("lime")]
    present = torch.stack(drawn).double()
    present[:, 0] = 1
    scores = _segment_scores(context, labels, present)[..., None]
    distance = 1 - (present.sum(dim=2, keepdim=True) / count).sqrt()
    weights = (-8 * distance.square()).exp()
    total = weights.sum(dim=1, keepdim=True)
    present, scores = (
        values - (weights * values).sum(dim=1, keepdim=True) / total for values in (present, scores)
    )
    weighted = (weights * present).mT
    ridge = torch.eye(count, dtype=torch.float64)
    return _paint(torch.linalg.solve(weighted @ present + ridge, weighted @ scores)[..., 0], labels)


@perturbation(
    "kernel-shap",
    title="Kernel SHAP",
    cost="1 a sample",
    paper='Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", 2017',
)
def kernel_shap(context: Context, *, samples: int = 1000) -> tuple[Tensor, Tensor]:
    """The Shapley values of the superpixels, v(z) = S_t(x with the superpixels z only), by regression.

    b minimises sum_z k(z) (v(z) - v(0) - <b, z>)^2 over the b whose sum is v(1) - v(0), where
    k(z) = (K - 1) / (binom(K, |z|) |z| (K - |z|)). If ``samples`` cover all coalitions z, these are the
    exact Shapley values; if not, coalitions are drawn from k, each with its complement (Covert & Lee,
    "Improving KernelSHAP", 2021).

    Args:
        context: the images, their targets and the model.
        samples: how many coalitions per image at most, besides none and all; 2 or more.

    Returns:
        Each superpixel's value at all of its pixels, and the sum of the values minus v(1) - v(0).

    Raises:
        UsageError: fewer than 2 samples.
    """
    check_least("kernel-shap", 2, samples=samples)
    labels, count = _segments(context)
    present, weights = _coalitions(count, samples, context)
    none_and_all = torch.tensor([0.0, 1.0]).view(1, 2, 1).expand(len(context), -1, count)
    scores = _segment_scores(context, labels, torch.cat([none_and_all, present], dim=1))
    nothing, whole, values = scores.split([1, 1, scores.shape[1] - 2], dim=1)
    # b = share + c with sum(c) = 0, so that <c, z> = <c, z - mean(z)>; and the least-squares c of least norm
    # lies in the span of the z - mean(z), whose sums are zero.
    share = (whole - nothing) / count
    rest = (values - nothing - share * present.sum(dim=2))[..., None]
    centred = (present - present.mean(dim=2, keepdim=True)).double()
    weighted = (weights[..., None] * centred).mT
    inverse = torch.linalg.pinv(weighted @ centred, rtol=1e-10, hermitian=True)
    shapley = share + (inverse @ (weighted @ rest))[..., 0]
    return _paint(shapley, labels), shapley.sum(dim=1) - (whole - nothing)[:, 0]


@perturbation(
    "rise",
    title="RISE",
    reduction="sum",
    cost="1 a sample",
    paper='Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018',
)
def rise(context: Context, *, samples: int = 2000) -> Tensor:
    """1 / (p n) * sum_i P_t(x * m_i) m_i over n random masks m_i, where P_t is the probability of the class.

    A mask is a 7 x 7 grid of cells that are 1 with probability p = 1/2, enlarged bilinearly to one cell more
    than the image on each side and cut to the image at a random place.

    Args:
        context: the images, their targets and the model.
        samples: n, 2 or more.

    Raises:
        UsageError: fewer than 2 samples.
    """
    check_least("rise", 2, samples=samples)
    sides, device = context.images.shape[2:], context.images.device
    cells = [math.ceil(side / GRID) for side in sides]
    grids, shifts = [], []
    for generator in context.generators("rise"):
        grids.append(torch.rand(samples, GRID, GRID, generator=generator) < 0.5)
        shifts.append([torch.randint(cell + 1, (samples, 1), generator=generator) for cell in cells])
    coarse = torch.stack(grids).to(device)
    down, across = (
        (torch.stack(each) + torch.arange(side)).to(device)
        for each, side in zip(zip(*shifts, strict=True), sides, strict=True)
    )

    def keep(image: Tensor, sample: Tensor) -> Tensor:
        size = [(GRID + 1) * cell for cell in cells]
        fine = interpolate(
            coarse[image, sample, None].float(), size=size, mode="bilinear", align_corners=False
        )
        each = torch.arange(len(image), device=device)[:, None, None]
        return fine[each, 0, down[image, sample, :, None], across[image, sample, None]]

    precise = torch.float32 if device.type == "mps" else torch.float64
    total = torch.zeros(len(context), *sides, dtype=precise, device=device)
    for image, masks, logits in _passes(context, samples, keep):
        probability = logits.softmax(dim=1).gather(1, context.targets[image, None])
        total.index_add_(0, image, (probability[..., None] * masks).to(precise))
    return total / (samples / 2)


def _windows(side: int) -> Tensor:
    """The windows along a side as rows of 0 and 1: float32 ``(windows, side)``."""
    width = max(1, round(side / 8))
    stride = max(1, width // 2)
    starts = torch.arange(0, side - width + stride, stride)[:, None]
    return ((torch.arange(side) >= starts) & (torch.arange(side) < starts + width)).float()


def _segments(context: Context) -> tuple[Tensor, int]:
    """The images' superpixels, int64 ``(N, H, W)``, and how many each has."""
    labels = superpixels(context.images * context.std + context.mean)
    return labels, int(labels.max()) + 1


def _paint(values: Tensor, labels: Tensor) -> Tensor:
    """Each pixel its superpixel's value: ``(N, K)`` and ``(N, H, W)`` to ``(N, H, W)``."""
    return values.gather(1, labels.flatten(1).cpu()).view(labels.shape)


def _coalitions(count: int, samples: int, context: Context) -> tuple[Tensor, Tensor]:
    """Coalitions of ``count`` players, neither none nor all: 0 or 1 ``(N, S, count)``, and weights ``(N or 1, S)``.

    All of them, with the Shapley kernel, if they are ``samples`` at most; else drawn from it, in pairs.
    """
    sizes = torch.arange(1, count)
    kernel = (count - 1) / (sizes * (count - sizes)).double()  # of all coalitions of a size together
    if 2**count - 2 <= samples:
        every = (torch.arange(1, 2**count - 1)[:, None] >> torch.arange(count)) & 1
        number = torch.tensor([math.comb(count, int(size)) for size in sizes], dtype=torch.float64)
        weights = (kernel / number)[every.sum(dim=1) - 1]
        return every.float().expand(len(context), -1, -1), weights[None]
    drawn = []
    for generator in context.generators("kernel-shap"):
        size = torch.multinomial(kernel, samples // 2, replacement=True, generator=generator) + 1
        rank = torch.rand(samples // 2, count, generator=generator).argsort(dim=1).argsort(dim=1)
        drawn.append((rank < size[:, None]).float())
    half = torch.stack(drawn)
    return torch.cat([half, 1 - half], dim=1), torch.ones(1, 2 * (samples // 2), dtype=torch.float64)


@torch.no_grad()
def _passes(context: Context, count: int, keep: Keep) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each image under each of ``count`` masks, as many at a time as may go through the model at once.

    Yields:
        Which images, int64 ``(B,)``; the masks ``(B, H, W)``; the logits ``(B, classes)``.
    """
    images, total = context.images, count * len(context)
    passes = math.ceil(total / max(context.batch_size, len(images)))
    for part in torch.arange(total, device=images.device).tensor_split(passes):
        sample, image = part // len(images), part % len(images)
        masks = keep(image, sample)
        yield image, masks, context.model(images[image] * masks[:, None]).float()
        context.report(int(part[-1]) + 1, total)


def _scores(context: Context, count: int, keep: Keep) -> Tensor:
    """The target's logit of each image under each of ``count`` masks: float64 ``(N, count)``, on the CPU."""
    scores = [
        logits.gather(1, context.targets[image, None])[:, 0].cpu().double()
        for image, _, logits in _passes(context, count, keep)
    ]
    return torch.cat(scores).view(count, len(context)).T


def _segment_scores(context: Context, labels: Tensor, present: Tensor) -> Tensor:
    """The same with only the superpixels that are ``present``, 0 or 1 ``(N, S, K)``: float64 ``(N, S)``."""
    kept, flat = present.to(context.images), labels.flatten(1)

    def keep(image: Tensor, sample: Tensor) -> Tensor:
        return kept[image, sample].gather(1, flat[image]).view(-1, *labels.shape[1:])

    return _scores(context, present.shape[1], keep)

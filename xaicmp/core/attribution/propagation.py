"""Methods that go back from the class score to the input by rules of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.gradient import baselines_of, gradient, noises, wide
from xaicmp.core.attribution.rules import (
    ELEMENTWISE,
    POOLS,
    Function,
    Rule,
    Rules,
    activations,
    instead,
    layer_norm,
    refusals,
    slope,
)
from xaicmp.core.choices import Baseline
from xaicmp.core.models import fusion
from xaicmp.errors import XaicmpError

TINY = 1e-6
"""Below this change of its input, a nonlinearity's slope is its derivative."""


@gradient(
    "guided-backprop",
    title="Guided Backprop",
    reduction="max-abs",
    needs="ReLUs",
    cost="2",
    paper='Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015',
)
def guided_backprop(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """dS_t / dx, but a ReLU's gradient g becomes g * (x > 0) * (g > 0); other nonlinearities keep theirs."""
    return _through_relus("guided-backprop", lambda x, y: y, model, images, targets)


@gradient(
    "deconvolution",
    title="Deconvolution",
    reduction="max-abs",
    needs="ReLUs",
    cost="2",
    paper='Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014',
)
def deconvolution(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """dS_t / dx, but a ReLU's gradient g becomes g * (g > 0); other nonlinearities keep theirs."""
    return _through_relus("deconvolution", lambda x, y: instead(y, x), model, images, targets)


@gradient(
    "deeplift",
    title="DeepLIFT",
    reduction="positive",
    needs="no attention",
    cost="3",
    paper='Shrikumar et al., "Learning Important Features Through Propagating Activation Differences", 2017',
)
def deeplift(context: Context, *, baseline: Baseline = "zero") -> tuple[Tensor, Tensor]:
    """(x - x') * m from the baseline x', where m is the gradient of S_t with another slope of each nonlinearity f: by
    the rescale rule, (f(a) - f(a')) / (a - a').

    Max-pooling is as in Captum, but windows may overlap. A product of two activations, as in
    squeeze-and-excitation, has a b - a' b' = (a - a') (b + b') / 2 + (b - b') (a + a') / 2.

    Returns:
        The attributions, and their sum minus S_t(x) - S_t(x').
    """
    return _rescaled(context, context.images, baselines_of(baseline, context), context.targets)


@gradient(
    "deeplift-shap",
    title="DeepLIFT SHAP",
    reduction="positive",
    needs="no attention",
    cost="4 a sample",
    paper='Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017',
)
def deeplift_shap(context: Context, *, samples: int = 10, stdev: float = 0.15) -> tuple[Tensor, Tensor]:
    """The mean of DeepLIFT from several baselines: the zero image with noise, ``stdev`` times the image's range wide.

    Returns:
        The attributions, and their sum minus S_t(x) - mean S_t(x').
    """
    total = torch.zeros_like(wide(context.images))
    gaps = total[:, 0, 0, 0].clone()
    for baselines in noises("deeplift-shap", samples, stdev, context):
        images, targets = context.images.expand_as(baselines), context.targets.repeat(len(baselines))
        found, gap = _rescaled(context, images.flatten(0, 1), baselines.flatten(0, 1), targets)
        total += wide(found).view_as(baselines).sum(dim=0)
        gaps += gap.view(len(baselines), -1).sum(dim=0)
    return total / samples, gaps / samples


@gradient(
    "lrp",
    title="LRP",
    reduction="positive",
    needs="no attention",
    cost="5",
    paper='Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance '
    'Propagation", 2015; Montavon et al., "Layer-Wise Relevance Propagation: An Overview", 2019',
)
def lrp(
    model: nn.Module, images: Tensor, targets: Tensor, *, gamma: float = 0.25, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Relevance R: a layer's outputs j hand R_j = S_t to its inputs i as R_i = sum_j c_ij / (sum_i c_ij) R_j, with

    - convolutions (batch normalisations merged into them): the generalised gamma rule, where contributions of the
      output's sign count more: c_ij = a_i w_ij + gamma * max(0, a_i w_ij), or min for outputs below zero;
    - linear layers: the epsilon rule, c_ij = a_i w_ij with epsilon * sign added to the sum;
    - sums, averages, concatenations and maxima: in proportion; nonlinearities pass relevance on unchanged;
    - products: a factor that is broadcast over the other is a gate and gets nothing (Arras et al., 2017); factors of
      equal size get a half each.

    Each rule is computed as a gradient g, and R = a * g. Biases take their share.

    Returns:
        The attributions, and their sum minus S_t(x).
    """
    whole = fusion.fuse(model, images[:2].detach())
    with Rules(_Relevance(gamma, epsilon).rules):
        scores = whole(images).gather(1, targets[:, None])[:, 0]
    attributions = images.detach() * torch.autograd.grad(scores.sum(), images)[0]
    return attributions, wide(attributions).flatten(1).sum(dim=1) - wide(scores)


def _through_relus(
    name: str, rule: Callable[[Tensor, Tensor], Tensor], model: nn.Module, images: Tensor, targets: Tensor
) -> Tensor:
    """The gradient where each ReLU's output is ``rule`` of its input and output, and only positive gradients pass."""
    found = []

    def relu(function: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = function(x, *args, **kwargs)
        if _is_relu(function, x, *args, **kwargs):
            y = rule(x, y)
            y.register_hook(lambda gradient: gradient.clamp_min(0))
            found.append(function)
        return y

    with Rules(dict.fromkeys(ELEMENTWISE, relu)):
        scores = model(images).gather(1, targets[:, None])
    if not found:
        raise XaicmpError(f"{name} is not for this model, because it has no ReLU; use saliency")
    return torch.autograd.grad(scores.sum(), images)[0]


def _is_relu(function: Function, x: Tensor, *args: Any, **kwargs: Any) -> bool:
    """Whether a function of ``ELEMENTWISE`` sets negative values to zero and keeps positive ones, at least small ones."""
    if any(isinstance(each, Tensor) for each in (*args, *kwargs.values())):
        return False
    return function(x.new_tensor([-2.0, -0.5, 0.5]), *args, **kwargs).tolist() == [0.0, 0.0, 0.5]


def _rescaled(context: Context, images: Tensor, baselines: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """DeepLIFT's attributions of ``images`` and their gaps, against one baseline or one each, in bounded passes."""
    most, found = max(context.batch_size, len(context)), []
    pieces = math.ceil(len(images) / (most // 2 if len(baselines) > 1 else most - 1))
    for rows in torch.arange(len(images), device=images.device).tensor_split(pieces):
        x, x0, t = images[rows], baselines[rows] if len(baselines) > 1 else baselines, targets[rows, None]
        inputs = x.detach().requires_grad_()
        with Rules(_Rescale(len(x), len(x0)).rules):
            logits = context.model(torch.cat([inputs, x0]))
        scores, lowest = logits[: len(x)].gather(1, t), logits[len(x) :].expand(len(x), -1).gather(1, t)
        attributions = torch.autograd.grad(scores.sum(), inputs)[0] * (x - x0)
        change = wide(scores)[:, 0] - wide(lowest)[:, 0]
        found.append((attributions, wide(attributions).flatten(1).sum(dim=1) - change))
    attributions, gaps = (torch.cat(each) for each in zip(*found, strict=True))
    return attributions, gaps


class _Rescale:
    """DeepLIFT's rules for a batch of images followed by their baselines: one for all, or one each.

    Multipliers matter for the images only, whose scores alone are followed back.
    """

    def __init__(self, images: int, baselines: int) -> None:
        self.images, self.baselines = images, baselines
        self.rules: dict[str, Rule] = {
            **refusals("DeepLIFT", "amax", "amin", "max", "min"),
            **dict.fromkeys(ELEMENTWISE, self.elementwise),
            **{name: partial(self.max_pool, getattr(functional, name)) for name in POOLS},
            "mul": self.multiply,
            "layer_norm": partial(layer_norm, self.multiply, self.elementwise),
        }

    def elementwise(self, function: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(f(a) - f(a')) / (a - a')."""
        y = function(x, *args, **kwargs)
        change, rise = (self._change(each) for each in (x, y))
        slopes, _ = self._split(slope(function, x, *args, **kwargs))
        return instead(y, x * self._join(torch.where(change.abs() < TINY, slopes, rise / change)).detach())

    def multiply(self, function: Function, a: Tensor, other: Any) -> Tensor:
        """Each factor times the other's mean of image and baseline."""
        y = function(a, other)
        if len(activations((a, other), {})) < 2:
            return y
        middle_a, middle_b = (self._join(torch.add(*self._split(each.detach())) / 2) for each in (a, other))
        return instead(y, a * middle_b + other * middle_a)

    def max_pool(self, pool: Function, function: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """From y' up to max(y, y') by the image's largest value, from there to y by the baseline's."""
        y, places = pool(x, *args, **kwargs | {"return_indices": True})
        values, origins = self._split(x.flatten(2))
        (top, low), (ours, theirs) = self._split(y.detach().flatten(2)), self._split(places.flatten(2))
        high = torch.maximum(top, low)
        handed = torch.zeros_like(high)
        for at, rise, steady in ((ours, high - low, 1.0), (theirs.expand_as(ours), top - high, 0.0)):
            value = values.gather(3, at)
            change = value - origins.expand_as(values).gather(3, at)
            handed = handed + value * torch.where(change.abs() < TINY, steady, rise / change).detach()
        return instead(y, self._join(handed).view_as(y))

    def _split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's rows of the images and of the baselines; it may have several rows an image."""
        rows = values.unflatten(0, (self.images + self.baselines, -1))
        return rows[: self.images], rows[self.images :]

    def _change(self, values: Tensor) -> Tensor:
        images, baselines = self._split(values)
        return images - baselines

    def _join(self, values: Tensor) -> Tensor:
        """The images' values as rows of a layer, with zeros for the baselines."""
        rows = values.flatten(0, 1)
        return torch.cat([rows, rows.new_zeros(self.baselines * values.shape[1], *rows.shape[1:])])


class _Relevance:
    """Layer-wise relevance propagation's rules, as gradients by which the input is multiplied."""

    def __init__(self, gamma: float, epsilon: float) -> None:
        self.gamma, self.epsilon = gamma, epsilon
        convolutions = [f"conv{kind}{dimensions}d" for kind in ("", "_transpose") for dimensions in (1, 2, 3)]
        self.rules: dict[str, Rule] = {
            **refusals("LRP"),
            **dict.fromkeys(ELEMENTWISE, self.elementwise),
            **dict.fromkeys(convolutions, self.convolve),
            "linear": self.connect,
            "mul": self.multiply,
            "layer_norm": partial(layer_norm, self.multiply, self.elementwise),
        }

    def convolve(
        self,
        function: Function,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """The generalised gamma rule (Andeol et al., 2021): what pulls with the output is (|a| |w| +- a w) / 2."""
        y = function(x, weight, bias, *args, **kwargs)
        size = function(x.abs(), weight.abs(), None if bias is None else bias.abs(), *args, **kwargs)
        return self._share(y, y + self.gamma / 2 * (y + y.detach().sign() * size))

    def connect(self, function: Function, *args: Any, **kwargs: Any) -> Tensor:
        """The epsilon rule."""
        y = function(*args, **kwargs)
        return self._share(y, y + self.epsilon * y.detach().sign())

    def elementwise(self, function: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What comes in goes out: f(a) / a."""
        y = function(x, *args, **kwargs)
        ratio = torch.where(x.abs() < TINY, slope(function, x, *args, **kwargs), y / x)
        return instead(y, x * ratio.detach())

    def multiply(self, function: Function, a: Tensor, other: Any) -> Tensor:
        """Nothing for a gate, a half each for equals."""
        y = function(a, other)
        if len(activations((a, other), {})) < 2:
            return y
        if a.numel() == other.numel():
            return instead(y, y / 2)
        signal, gate = (a, other) if a.numel() > other.numel() else (other, a)
        return instead(y, signal * gate.detach())

    def _share(self, y: Tensor, total: Tensor) -> Tensor:
        """The output, whose relevance goes in proportion to the parts of ``total``."""
        return instead(y, total * torch.where(total == 0, 1, y / total).detach())

"""Methods that follow the gradient of the class score to the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import get_args

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.method import method
from xaicmp.core.choices import Baseline, Rule
from xaicmp.errors import UsageError, XaicmpError

RULES = {
    "right": "riemann_right",
    "left": "riemann_left",
    "middle": "riemann_middle",
    "trapezoid": "riemann_trapezoid",
    "gauss-legendre": "gausslegendre",
}
"""Where IG's m steps lie: at k/m, (k - 1)/m, (k - 1/2)/m, (k - 1)/(m - 1), or as Gauss and Legendre say."""

BASELINES: tuple[str, ...] = get_args(Baseline)

gradient = partial(method, family="gradient")

MOST_STEPS = 4096
"""How far IG doubles its steps to meet a tolerance."""


@gradient(
    "saliency",
    title="Saliency",
    reduction="max-abs",
    cost="2",
    paper='Simonyan et al., "Deep Inside Convolutional Networks", 2014',
)
def saliency(model: nn.Module, images: Tensor, targets: Tensor, *, context: Context) -> Tensor:
    """dS_t / dx, where S_t is the logit of the target class."""
    return context.at_input.gradient


@gradient(
    "input-x-gradient",
    title="Input x Gradient",
    reduction="positive",
    cost="2",
    paper='Shrikumar et al., "Not Just a Black Box", 2016',
)
def input_x_gradient(model: nn.Module, images: Tensor, targets: Tensor, *, context: Context) -> Tensor:
    """x * dS_t / dx."""
    return images * context.at_input.gradient


@gradient(
    "integrated-gradients",
    title="IG",
    reduction="positive",
    cost="2 a step",
    paper='Sundararajan et al., "Axiomatic Attribution for Deep Networks", 2017',
)
def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    steps: int = 32,
    rule: Rule = "right",
    baseline: Baseline = "zero",
    tolerance: float = 0.0,
    end: float = 0.0,
    context: Context,
) -> tuple[Tensor, Tensor]:
    """(x - x') * sum_k w_k dS_t(x' + a_k (x - x')) / dx, from the baseline x' along m steps a_k of weight w_k.

    Args:
        steps: m, at least 2.
        rule: where they lie, see ``RULES``.
        baseline: x', see ``baselines_of``.
        tolerance: the most by which an image's attributions may miss S_t(x) - S_t(x'), as a share of it; where
            they do, steps are doubled. 0 for as many steps as were asked for.
        end: the share of the gradient at x itself, which Saliency's pass has anyway, in the sum; the steps share
            the rest. With 1/m, a few middle steps come near m right steps, the last of which is at x.

    Returns:
        The attributions, and what they sum to minus S_t(x) - S_t(x').

    Raises:
        UsageError: a wrong option.
        XaicmpError: the tolerance is not met in ``MOST_STEPS``.
    """
    _check_path("integrated-gradients", steps, rule)
    if not tolerance >= 0:
        raise UsageError(f"integrated-gradients: tolerance {tolerance:g}: needs 0 or more")
    images, start = images.detach(), baselines_of(baseline, images.detach(), context)
    whole = start.expand_as(images)

    def integrated(rows: slice | Tensor, steps: int, rule: str) -> Tensor:
        found = _integrate(model, images[rows], whole[rows], targets[rows], steps, rule, context)
        if end == 0:
            return found
        return (1 - end) * found + end * wide(images - whole)[rows] * wide(context.at_input.gradient)[rows]

    attributions = integrated(slice(None), steps, rule)
    change = _change(model, start, targets, context).to(attributions)
    gap = attributions.flatten(1).sum(dim=1) - change
    while tolerance and len(missed := (gap.abs() > tolerance * change.abs()).nonzero()[:, 0]):
        if steps * 2 > MOST_STEPS:
            worst = (gap / change).abs().max()
            raise XaicmpError(
                f"integrated-gradients: after {steps} steps the attributions still miss the score's change by "
                f"{worst:.2g} of it; raise the tolerance {tolerance:g}"
            )
        if rule in ("left", "right"):  # every other step is known, and those between are the middle rule's
            attributions[missed] = (attributions[missed] + integrated(missed, steps, "middle")) / 2
        else:
            attributions[missed] = integrated(missed, 2 * steps, rule)
        steps *= 2
        gap = attributions.flatten(1).sum(dim=1) - change
    return attributions, gap


@gradient(
    "smoothgrad",
    title="SmoothGrad",
    reduction="max-abs",
    cost="2 a sample",
    paper='Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017',
)
def smoothgrad(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    samples: int = 25,
    stdev: float = 0.15,
    context: Context,
) -> Tensor:
    """mean_k dS_t(x + e_k) / dx, e_k ~ N(0, (stdev * (max x - min x))^2). Signed gradients are averaged, as in the
    paper's own code; Captum's ``NoiseTunnel`` of ``Saliency`` averages absolute ones."""
    total = torch.zeros_like(wide(images))
    for noise in noises("smoothgrad", images, samples, stdev, context):
        total += _gradients(model, images + noise, targets).sum(dim=0)
    return total / samples


@gradient(
    "vargrad",
    title="VarGrad",
    reduction="sum",
    cost="2 a sample",
    paper='Adebayo et al., "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values", '
    "2018",
)
def vargrad(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    samples: int = 25,
    stdev: float = 0.15,
    context: Context,
) -> Tensor:
    """mean_k (g_k - mean g)^2 of g_k = dS_t(x + e_k) / dx, with noise as SmoothGrad's."""
    total, squares = (torch.zeros_like(wide(images)) for _ in range(2))
    for noise in noises("vargrad", images, samples, stdev, context):
        gradients = _gradients(model, images + noise, targets)
        total += gradients.sum(dim=0)
        squares += gradients.square().sum(dim=0)
    return (squares / samples - (total / samples).square()).clamp_min(0)


@gradient(
    "smoothgrad-ig",
    title="SmoothGrad IG",
    reduction="positive",
    cost="2 a step and sample",
    paper='Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017',
)
def smoothgrad_ig(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    samples: int = 5,
    stdev: float = 0.15,
    steps: int = 32,
    rule: Rule = "right",
    baseline: Baseline = "zero",
    context: Context,
) -> Tensor:
    """mean_k IG(x + e_k), with noise as SmoothGrad's and the baseline of x. Signed attributions are averaged."""
    _check_path("smoothgrad-ig", steps, rule)
    total = torch.zeros_like(wide(images))
    start = baselines_of(baseline, images.detach(), context).expand_as(images)
    report, begun = context.report, 0
    for noise in noises("smoothgrad-ig", images, samples, stdev, context):
        noisy, count = images.detach() + noise, len(noise)
        context.report = partial(_report_part, report, begun, count, samples)
        begun += count
        found = _integrate(
            model,
            noisy.flatten(0, 1),
            start.repeat(count, 1, 1, 1),
            targets.repeat(count),
            steps,
            rule,
            context,
        )
        total += found.view_as(noisy).sum(dim=0)
    return total / samples


@gradient(
    "gradient-shap",
    title="GradientSHAP",
    reduction="positive",
    cost="2 a sample",
    paper='Erion et al., "Improving performance of deep learning models with axiomatic attribution priors", 2021',
)
def gradient_shap(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    samples: int = 25,
    stdev: float = 0.15,
    context: Context,
) -> Tensor:
    """Expected gradients, mean_k (x - b_k) * dS_t(b_k + a_k (x - b_k)) / dx, a_k ~ U(0, 1).

    The baselines b_k are the zero image with noise as SmoothGrad's, and not other images of the data set as in
    the paper: an image's map does not depend on which others are explained. Unlike Captum's ``GradientShap``,
    which takes the baselines to be given, the image itself gets no noise.
    """
    total = torch.zeros_like(wide(images))
    places = list(context.generators("gradient-shap places"))
    for baselines in noises("gradient-shap", images, samples, stdev, context):
        drawn = [[torch.rand((), generator=each) for each in places] for _ in baselines]
        along = torch.tensor(drawn).to(images)[..., None, None, None]
        change = images - baselines
        total += (change * _gradients(model, baselines + along * change, targets)).detach().sum(dim=0)
    return total / samples


def baselines_of(name: str, images: Tensor, context: Context) -> Tensor:
    """What ``images`` are compared with: one for all, ``(1, C, H, W)``, or one each.

    ``zero``: the mean colour, as far as images are normalised by the data set's mean. ``black``. ``blur``: the
    image after a Gaussian of an eighth of its shorter side. ``random``: each value uniform between black and white.

    Raises:
        UsageError: another name.
    """
    if name == "zero":
        return torch.zeros_like(images[:1])
    if name == "black":
        return context.black.expand_as(images[:1])
    if name == "blur":
        side = min(images.shape[2:])
        return gaussian_blur(images, 2 * (3 * side // 8) + 1, side / 8)
    if name == "random":
        drawn = [torch.rand(images.shape[1:], generator=each) for each in context.generators("baseline")]
        return (torch.stack(drawn).to(images) - context.mean) / context.std
    raise UsageError(f"baseline {name}: choose from {', '.join(BASELINES)}")


def noises(purpose: str, images: Tensor, samples: int, stdev: float, context: Context) -> Iterator[Tensor]:
    """Gaussian noise for each image, ``stdev`` times its range wide: ``(count, N, C, H, W)``, ``samples`` in all.

    Raises:
        UsageError: no sample, or a negative width.
    """
    if samples < 1:
        raise UsageError(f"{purpose}: samples {samples}: needs 1 or more")
    if not stdev >= 0:
        raise UsageError(f"{purpose}: stdev {stdev:g}: needs 0 or more")
    width = stdev * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))).detach().view(-1, 1, 1, 1)
    generators, report = list(context.generators(purpose)), context.report
    at_once = max(1, context.batch_size // len(images))
    for done in range(0, samples, at_once):
        count = min(at_once, samples - done)
        drawn = [torch.randn(images.shape[1:], generator=each) for _ in range(count) for each in generators]
        yield width * torch.stack(drawn).unflatten(0, (count, -1)).to(images)
        report(done + count, samples)


def _report_part(
    report: Callable[[float, float], None], begun: int, count: int, samples: int, done: float, total: float
) -> None:
    report(begun + count * done / total, samples)


def wide(values: Tensor) -> Tensor:
    """In float64, in which a sum does not depend on how it falls into batches. MPS has none."""
    return values.detach().float() if values.device.type == "mps" else values.detach().double()


def _gradients(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """dS_t / dx of ``(count, N, C, H, W)``, in the same shape."""
    inputs = images.detach().flatten(0, 1).requires_grad_()
    scores = model(inputs).gather(1, targets.repeat(len(images))[:, None])
    return wide(torch.autograd.grad(scores.sum(), inputs)[0]).view_as(images)


def _check_path(name: str, steps: int, rule: str) -> None:
    if steps < 2:
        raise UsageError(f"{name}: steps {steps}: needs 2 or more")
    if rule not in RULES:
        raise UsageError(f"{name}: rule {rule}: choose from {', '.join(RULES)}")


def _change(model: nn.Module, start: Tensor, targets: Tensor, context: Context) -> Tensor:
    """S_t(x) - S_t(x'), ``(N,)``, of the images and what they are compared with, one for all or one each."""
    with torch.no_grad():
        lowest = model(start).expand(len(targets), -1)
    return (wide(context.at_input.logits) - wide(lowest)).gather(1, targets[:, None])[:, 0]


def _integrate(
    model: nn.Module,
    images: Tensor,
    baselines: Tensor,
    targets: Tensor,
    steps: int,
    rule: str,
    context: Context,
) -> Tensor:
    """Integrated Gradients in float64, by Captum."""
    done = 0

    def scored(scaled: Tensor) -> Tensor:
        nonlocal done
        if done:  # and with it the way back
            context.report(done, steps * len(images))
        done += len(scaled)
        return model(scaled.to(images.dtype))

    attributions = IntegratedGradients(scored).attribute(
        wide(images),
        baselines=wide(baselines),
        target=targets,
        n_steps=steps,
        method=RULES[rule],
        internal_batch_size=max(context.batch_size, len(context)),
    )
    # Captum's m trapezoid weights add up to (m - 1) / m.
    return attributions * steps / (steps - 1) if rule == "trapezoid" else attributions

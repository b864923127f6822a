"""Methods that follow the gradient of the class score to the input.

In the formulas x is an image, ``(C, H, W)``, and S_t(x) the logit of its target class t. Attributions are ``(N, C, H, W)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from captum.attr import IntegratedGradients
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from xaicmp.core.attribution.context import Context, Report
from xaicmp.core.attribution.method import check_least, method
from xaicmp.core.choices import Baseline, Rule
from xaicmp.errors import XaicmpError

RULES = {
    "right": "riemann_right",
    "left": "riemann_left",
    "middle": "riemann_middle",
    "trapezoid": "riemann_trapezoid",
    "gauss-legendre": "gausslegendre",
}
"""Where IG's m steps lie: at k/m, (k - 1)/m, (k - 1/2)/m, (k - 1)/(m - 1), or as Gauss and Legendre say."""

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
def saliency(context: Context) -> Tensor:
    """dS_t / dx."""
    return context.at_input.gradient


@gradient(
    "input-x-gradient",
    title="Input x Gradient",
    reduction="positive",
    cost="2",
    paper='Shrikumar et al., "Not Just a Black Box", 2016',
)
def input_x_gradient(context: Context) -> Tensor:
    """x * dS_t / dx."""
    return context.images * context.at_input.gradient


@gradient(
    "integrated-gradients",
    title="IG",
    reduction="positive",
    cost="2 a step",
    paper='Sundararajan et al., "Axiomatic Attribution for Deep Networks", 2017',
)
def integrated_gradients(
    context: Context,
    *,
    steps: int = 32,
    rule: Rule = "right",
    baseline: Baseline = "zero",
    tolerance: float = 0.0,
    end: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """(x - x') * sum_k w_k dS_t(x' + a_k (x - x')) / dx, from the baseline x' along m steps a_k of weight w_k.

    Args:
        context: the images, their targets and the model.
        steps: m, at least 2.
        rule: where the steps lie, see ``RULES``.
        baseline: x', see ``baselines_of``.
        tolerance: the most by which the sum of an image's attributions may miss S_t(x) - S_t(x'), as a share of it.
            Where it misses by more, steps are doubled. 0 for as many steps as were asked for.
        end: the weight of the gradient at x itself, which is known from Saliency's pass; the steps share the rest.
            With 1/m, a few middle steps come near m right steps, the last of which is at x.

    Returns:
        The attributions, and their sum minus S_t(x) - S_t(x').

    Raises:
        UsageError: a wrong option.
        XaicmpError: the tolerance is not met in ``MOST_STEPS``.
    """
    check_least("integrated-gradients", 2, steps=steps)
    check_least("integrated-gradients", 0, tolerance=tolerance)
    images, targets, start = context.images, context.targets, baselines_of(baseline, context)
    whole = start.expand_as(images)

    def integrated(rows: slice | Tensor, steps: int, rule: str) -> Tensor:
        given = images[rows], whole[rows], targets[rows]
        found = _integrate(context, *given, steps, rule, context.report)
        if end == 0:
            return found
        return (1 - end) * found + end * wide(images - whole)[rows] * wide(context.at_input.gradient)[rows]

    attributions = integrated(slice(None), steps, rule)
    with torch.no_grad():
        lowest = context.model(start).expand(len(targets), -1)
    change = (wide(context.at_input.logits) - wide(lowest)).gather(1, targets[:, None])[:, 0]
    gap = attributions.flatten(1).sum(dim=1) - change
    while tolerance and len(missed := (gap.abs() > tolerance * change.abs()).nonzero()[:, 0]):
        if steps * 2 > MOST_STEPS:
            worst = (gap / change).abs().max()
            raise XaicmpError(
                f"integrated-gradients: after {steps} steps the attributions still miss the score's change by "
                f"{worst:.2g} of it; raise the tolerance {tolerance:g}"
            )
        if rule in ("left", "right"):  # every other step is known, and the middle rule gives those between
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
def smoothgrad(context: Context, *, samples: int = 25, stdev: float = 0.15) -> Tensor:
    """mean_k dS_t(x + e_k) / dx, e_k ~ N(0, (stdev * (max x - min x))^2).

    Signed gradients are averaged, as in the paper's own code; Captum's ``NoiseTunnel`` of ``Saliency`` averages absolute ones.
    """
    total = torch.zeros_like(wide(context.images))
    for noise in noises("smoothgrad", samples, stdev, context):
        total += _gradients(context, context.images + noise).sum(dim=0)
    return total / samples


@gradient(
    "vargrad",
    title="VarGrad",
    reduction="sum",
    cost="2 a sample",
    paper='Adebayo et al., "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values", '
    "2018",
)
def vargrad(context: Context, *, samples: int = 25, stdev: float = 0.15) -> Tensor:
    """mean_k (g_k - mean g)^2 of g_k = dS_t(x + e_k) / dx, with noise as SmoothGrad's."""
    total, squares = (torch.zeros_like(wide(context.images)) for _ in range(2))
    for noise in noises("vargrad", samples, stdev, context):
        gradients = _gradients(context, context.images + noise)
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
    context: Context,
    *,
    samples: int = 5,
    stdev: float = 0.15,
    steps: int = 32,
    rule: Rule = "right",
    baseline: Baseline = "zero",
) -> Tensor:
    """mean_k IG(x + e_k), with noise as SmoothGrad's and the baseline of x. Signed attributions are averaged."""
    check_least("smoothgrad-ig", 2, steps=steps)
    start, total = (
        baselines_of(baseline, context).expand_as(context.images),
        torch.zeros_like(wide(context.images)),
    )
    done = 0
    for noise in noises("smoothgrad-ig", samples, stdev, context):
        noisy, count = context.images + noise, len(noise)
        given = noisy.flatten(0, 1), start.repeat(count, 1, 1, 1), context.targets.repeat(count)
        report = partial(_report_part, context.report, done, count, samples)
        total += _integrate(context, *given, steps, rule, report).view_as(noisy).sum(dim=0)
        done += count
    return total / samples


@gradient(
    "gradient-shap",
    title="GradientSHAP",
    reduction="positive",
    cost="2 a sample",
    paper='Erion et al., "Improving performance of deep learning models with axiomatic attribution priors", 2021',
)
def gradient_shap(context: Context, *, samples: int = 25, stdev: float = 0.15) -> Tensor:
    """Expected gradients, mean_k (x - b_k) * dS_t(b_k + a_k (x - b_k)) / dx, a_k ~ U(0, 1).

    The baselines b_k are the zero image with noise as SmoothGrad's. In the paper they are other images of the data set;
    here an image's map does not depend on which others are explained. The image itself gets no noise, unlike in Captum's
    ``GradientShap``.
    """
    total = torch.zeros_like(wide(context.images))
    places = list(context.generators("gradient-shap places"))
    for baselines in noises("gradient-shap", samples, stdev, context):
        drawn = [[torch.rand((), generator=each) for each in places] for _ in baselines]
        along = torch.tensor(drawn).to(baselines)[..., None, None, None]
        change = context.images - baselines
        total += (change * _gradients(context, baselines + along * change)).sum(dim=0)
    return total / samples


def baselines_of(name: Baseline, context: Context) -> Tensor:
    """What the images are compared with: one for all, ``(1, C, H, W)``, or one each, ``(N, C, H, W)``.

    ``zero``: the mean colour, as far as images are normalised by the data set's mean. ``black``. ``blur``: the
    image after a Gaussian of an eighth of its shorter side. ``random``: each value uniform between black and white.
    """
    images = context.images
    if name == "zero":
        return torch.zeros_like(images[:1])
    if name == "black":
        return context.black.expand_as(images[:1])
    if name == "blur":
        side = min(images.shape[2:])
        return gaussian_blur(images, 2 * (3 * side // 8) + 1, side / 8)
    drawn = [torch.rand(images.shape[1:], generator=each) for each in context.generators("baseline")]
    return (torch.stack(drawn).to(images) - context.mean) / context.std


def noises(name: str, samples: int, stdev: float, context: Context) -> Iterator[Tensor]:
    """Gaussian noise for each image, ``stdev`` times its range wide: ``(count, N, C, H, W)``, ``samples`` in all.

    Raises:
        UsageError: no sample, or a negative width.
    """
    check_least(name, 1, samples=samples)
    check_least(name, 0, stdev=stdev)
    images, generators = context.images, list(context.generators(name))
    width = stdev * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))).view(-1, 1, 1, 1)
    at_once = max(1, context.batch_size // len(images))
    for done in range(0, samples, at_once):
        count = min(at_once, samples - done)
        drawn = [torch.randn(images.shape[1:], generator=each) for _ in range(count) for each in generators]
        yield width * torch.stack(drawn).unflatten(0, (count, -1)).to(images)
        context.report(done + count, samples)


def _report_part(report: Report, begun: int, count: int, samples: int, done: float, total: float) -> None:
    report(begun + count * done / total, samples)


def wide(values: Tensor) -> Tensor:
    """Detached and in float64, so that a sum does not depend on how it is batched; in float32 on MPS, which has no float64."""
    return values.detach().float() if values.device.type == "mps" else values.detach().double()


def _gradients(context: Context, images: Tensor) -> Tensor:
    """dS_t / dx of variants of the context's images, ``(count, N, C, H, W)``, in the same shape."""
    inputs = images.flatten(0, 1).requires_grad_()
    scores = context.model(inputs).gather(1, context.targets.repeat(len(images))[:, None])
    return wide(torch.autograd.grad(scores.sum(), inputs)[0]).view_as(images)


def _integrate(
    context: Context,
    images: Tensor,
    baselines: Tensor,
    targets: Tensor,
    steps: int,
    rule: str,
    report: Report,
) -> Tensor:
    """Integrated Gradients of ``images`` in float64, by Captum."""
    done = 0

    def scored(scaled: Tensor) -> Tensor:
        nonlocal done
        if done:  # and its backward pass
            report(done, steps * len(images))
        done += len(scaled)
        return context.model(scaled.to(images.dtype))

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

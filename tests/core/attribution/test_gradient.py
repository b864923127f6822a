from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, get_args

import captum.attr
import numpy as np
import pytest
import torch
from gradients import close, draws, gradient, images_of, ranges, raw, scores
from scipy.ndimage import gaussian_filter
from small import SmallNet, quick
from torch import Tensor, nn

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.gradient import RULES, baselines_of, noises
from xaicmp.core.choices import Baseline
from xaicmp.errors import UsageError, XaicmpError

BASELINES = get_args(Baseline)
NOISY = ("smoothgrad", "vargrad", "smoothgrad-ig", "gradient-shap", "deeplift-shap")
MEAN_STEP = {"right": 1.125, "left": 0.875, "middle": 1.0, "trapezoid": 1.0, "gauss-legendre": 1.0}
"""Twice the mean of eight steps, by rule."""


def linear(weight: Tensor) -> nn.Module:
    """S_t(x) = <w_t, x> + 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight[0].numel(), len(weight)))
    with torch.no_grad():
        model[1].weight.copy_(weight.flatten(1))
        model[1].bias.fill_(1)
    return model


class Square(nn.Module):
    """S_t(x) = (t + 1) * sum of x squared."""

    def forward(self, images: Tensor) -> Tensor:
        return images.square().sum(dim=(1, 2, 3))[:, None] * torch.arange(1.0, 4.0)


def test_input_x_gradient_as_captum_called_directly() -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 16, 16), torch.tensor([1, 7, 7])
    expected = captum.attr.InputXGradient(model).attribute(images.clone().requires_grad_(), target=targets)
    close(raw("input-x-gradient", model, images, targets), expected)
    maps = METHODS["input-x-gradient"].explain(model, images, targets)
    close(maps, expected.detach().sum(dim=1).relu())
    assert not maps.requires_grad


def test_the_default_ig_is_captums_in_float64_to_the_last_bit() -> None:
    model, images, targets = SmallNet().eval(), images_of(5, 3, 16, 16), torch.arange(5)
    expected = captum.attr.IntegratedGradients(lambda scaled: model(scaled.float())).attribute(
        images.double(), 0, target=targets, n_steps=32, method="riemann_right", internal_batch_size=64
    )
    assert torch.equal(raw("integrated-gradients", model, images, targets)[0], expected)
    maps = METHODS["integrated-gradients"].explain(model, images, targets)
    assert torch.equal(maps, expected.sum(dim=1).clamp_min(0).float())


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("rule", RULES)
def test_each_ig_rule_and_baseline_as_captum_called_directly(rule: str, baseline: str) -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 16, 16), torch.tensor([1, 7, 7])
    context = Context(model, images, targets)
    start = baselines_of(baseline, context).expand_as(images)
    expected, delta = captum.attr.IntegratedGradients(model).attribute(
        images, start, target=targets, n_steps=7, method=RULES[rule], return_convergence_delta=True
    )
    found, gap = raw("integrated-gradients", model, images, targets, steps=7, rule=rule, baseline=baseline)
    if rule == "trapezoid":  # Captum's weights add up to (m - 1) / m
        expected, change = expected * 7 / 6, scores(model, images, targets) - scores(model, start, targets)
        delta = (delta + change) * 7 / 6 - change
    close(found, expected)
    close(gap, delta, 1e-4)
    assert gap.dtype == torch.float64


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("rule", RULES)
def test_ig_of_a_linear_model_is_weight_times_change_and_complete(rule: str, baseline: str) -> None:
    weight, images, targets = images_of(5, 3, 8, 8, seed=1), images_of(4, 3, 8, 8), torch.tensor([4, 0, 0, 2])
    model = linear(weight)
    start = baselines_of(baseline, Context(model, images, targets))
    found, gap = raw("integrated-gradients", model, images, targets, steps=4, rule=rule, baseline=baseline)
    close(found, weight[targets] * (images - start))
    assert gap.abs().max() < 1e-4


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_image_itself_can_be_given_a_share_of_the_steps(baseline: str) -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 32, 32), torch.tensor([3, 7, 3])
    options = {"steps": 4, "rule": "middle", "baseline": baseline}
    steps, _ = raw("integrated-gradients", model, images, targets, **options)
    found, gap = raw("integrated-gradients", model, images, targets, end=0.25, **options)
    start = baselines_of(baseline, Context(model, images, targets))
    last = captum.attr.Saliency(model).attribute(images.clone().requires_grad_(), targets, abs=False).double()
    close(found, 0.75 * steps + 0.25 * (images - start).double() * last)
    change = scores(model, images, targets) - scores(model, start.expand_as(images), targets)
    close(gap, found.flatten(1).sum(dim=1) - change, 1e-3)


def test_a_few_middle_steps_and_the_image_come_near_to_many_right_steps() -> None:
    """Of S = x^2 / 2, whose gradient is x: right steps come to x^2 (m + 1) / 2m, middle ones to x^2 / 2."""
    images, targets = images_of(2, 3, 4, 4), torch.tensor([0, 1])
    many, _ = raw("integrated-gradients", Square(), images, targets, steps=32)
    few, _ = raw("integrated-gradients", Square(), images, targets, steps=2, rule="middle", end=1 / 32)
    close(few, many)


@pytest.mark.parametrize("rule", RULES)
def test_ig_of_a_square_worked_out_on_paper(rule: str) -> None:
    """(x - x') 2 (x' + a (x - x')), a the mean step: exact for the rules that are symmetric."""
    images, targets = images_of(3, 3, 5, 5), torch.tensor([0, 1, 2])
    factors = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    for baseline in ("zero", "black"):
        start = baselines_of(baseline, Context(Square(), images, targets))
        found, gap = raw(
            "integrated-gradients", Square(), images, targets, steps=8, rule=rule, baseline=baseline
        )
        change = images - start
        close(found, factors * change * (2 * start + MEAN_STEP[rule] * change))
        exact = (factors * (images**2 - start**2)).double().flatten(1).sum(dim=1)
        close(gap + exact, found.flatten(1).sum(dim=1))


def test_the_gap_of_ig_vanishes_with_the_steps() -> None:
    model, images, targets = SmallNet().eval(), images_of(8, 3, 16, 16), torch.arange(8)
    change = scores(model, images, targets) - scores(model, torch.zeros_like(images), targets)
    gaps = {}
    for steps in (4, 32, 512):
        found, gap = raw("integrated-gradients", model, images, targets, steps=steps)
        close(gap, found.flatten(1).sum(dim=1) - change, 1e-4)
        gaps[steps] = gap.abs().mean()
    assert gaps[4] > 4 * gaps[32] > 16 * gaps[512]
    assert gaps[512] < 0.005 * change.abs().mean()


@pytest.mark.parametrize("rule", RULES)
def test_a_tolerance_doubles_the_steps_of_the_images_that_need_it(rule: str) -> None:
    model, images, targets = SmallNet().eval(), images_of(8, 3, 16, 16), torch.arange(8)
    change = scores(model, images, targets) - scores(model, torch.zeros_like(images), targets)
    by_steps = {}
    for steps in (2, 4, 8, 16, 32, 64, 128, 256):
        by_steps[steps] = raw("integrated-gradients", model, images, targets, steps=steps, rule=rule)
    found, gap = raw("integrated-gradients", model, images, targets, steps=2, rule=rule, tolerance=0.1)
    assert (gap.abs() <= 0.1 * change.abs() + 1e-6).all()
    needed = []
    for row in range(8):
        enough = [
            steps for steps, (_, gaps) in by_steps.items() if gaps[row].abs() <= 0.1 * change[row].abs()
        ]
        needed.append(enough[0])
        close(found[row], by_steps[enough[0]][0][row])
    assert len(set(needed)) > 1


def test_a_tolerance_that_is_met_changes_nothing() -> None:
    model, images, targets = SmallNet().eval(), images_of(4, 3, 16, 16), torch.arange(4)
    plain = raw("integrated-gradients", model, images, targets)
    loose = raw("integrated-gradients", model, images, targets, tolerance=1e9)
    assert torch.equal(plain[0], loose[0])
    assert torch.equal(plain[1], loose[1])


def test_a_tolerance_out_of_reach_is_an_error_that_says_how_far_it_got(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xaicmp.core.attribution.gradient.MOST_STEPS", 16)
    with pytest.raises(
        XaicmpError,
        match=r"integrated-gradients: after 16 steps .* miss .* by .* of it; raise the tolerance 1e-12",
    ):
        raw(
            "integrated-gradients",
            SmallNet().eval(),
            images_of(2, 3, 8, 8),
            torch.arange(2),
            tolerance=1e-12,
            steps=4,
        )


def test_an_image_that_is_its_own_baseline_gets_zeros_whatever_the_tolerance() -> None:
    model = SmallNet().eval()
    found, gap = raw("integrated-gradients", model, torch.zeros(2, 3, 8, 8), torch.arange(2), tolerance=0.01)
    assert torch.equal(found, torch.zeros(2, 3, 8, 8).double())
    assert gap.abs().max() < 1e-6


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_an_image_alone_is_refined_as_it_is_among_many(batch_size: int) -> None:
    model, images, targets = SmallNet().eval(), images_of(6, 3, 16, 16), torch.arange(6)
    method = quick(["integrated-gradients"], steps=2, tolerance=0.01)[0]
    among = method.explain(model, images, targets)
    for row in range(6):
        alone = method.explain(model, images[row : row + 1], targets[row : row + 1], batch_size=batch_size)
        close(alone[0], among[row])


def test_too_few_steps_and_a_negative_tolerance_are_refused() -> None:
    inputs = (SmallNet().eval(), images_of(2, 3, 8, 8), torch.arange(2))
    for name in ("integrated-gradients", "smoothgrad-ig"):
        with pytest.raises(UsageError, match=f"{name}: steps 1: needs 2 or more"):
            raw(name, *inputs, steps=1)
    with pytest.raises(UsageError, match="integrated-gradients: tolerance -1: needs 0 or more"):
        raw("integrated-gradients", *inputs, tolerance=-1.0)


def test_the_baselines_are_what_they_say() -> None:
    images = images_of(3, 3, 16, 24)
    context = Context(SmallNet(), images, torch.arange(3), mean=(0.2, 0.4, 0.6), std=(0.5, 0.25, 0.1))
    assert torch.equal(baselines_of("zero", context), torch.zeros(1, 3, 16, 24))
    black = baselines_of("black", context)
    close(black, torch.tensor([-0.4, -1.6, -6.0]).view(1, 3, 1, 1).expand(1, 3, 16, 24))
    blurred = gaussian_filter(images.numpy(), (0, 0, 2, 2), mode="mirror", truncate=3)
    close(baselines_of("blur", context), torch.from_numpy(blurred), 1e-4)
    drawn = baselines_of("random", context) * context.std + context.mean
    assert drawn.min() >= -1e-6
    assert drawn.max() <= 1 + 1e-6
    assert abs(drawn.mean() - 0.5) < 0.03
    assert len({each.sum().item() for each in drawn}) == 3


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_tiny_images_can_be_blurred(side: int) -> None:
    images = images_of(2, 3, side, side + 1)
    assert baselines_of("blur", Context(SmallNet(), images, torch.arange(2))).shape == images.shape


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_smoothgrad_and_vargrad_are_moments_of_captums_gradients_at_the_noisy_images(batch_size: int) -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 9, 11), torch.tensor([1, 7, 7])
    direct = captum.attr.Saliency(model)
    context = Context(model, images, targets, seed=5, ids=[4, 9, 2])
    for name, moment in (("smoothgrad", np.mean), ("vargrad", np.var)):
        noise = draws(context, name, 6)
        gradients = [
            direct.attribute(
                (images + 0.3 * ranges(images) * each).requires_grad_(), target=targets, abs=False
            )
            for each in noise
        ]
        expected = moment(torch.stack(gradients).double().numpy(), axis=0)
        settings = {"samples": 6, "stdev": 0.3, "seed": 5, "ids": [4, 9, 2], "batch_size": batch_size}
        close(raw(name, model, images, targets, **settings), torch.from_numpy(expected))


@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("baseline", ["zero", "blur"])
def test_smoothgrad_ig_is_the_mean_of_captums_ig_at_the_noisy_images(baseline: str, batch_size: int) -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 9, 11), torch.tensor([1, 7, 7])
    context = Context(model, images, targets)
    start = baselines_of(baseline, context).expand_as(images)
    expected = torch.stack(
        [
            captum.attr.IntegratedGradients(model).attribute(
                images + 0.2 * ranges(images) * each,
                start,
                target=targets,
                n_steps=4,
                method="riemann_middle",
            )
            for each in draws(context, "smoothgrad-ig", 3)
        ]
    ).mean(dim=0)
    settings = {"samples": 3, "stdev": 0.2, "steps": 4, "rule": "middle", "baseline": baseline}
    close(raw("smoothgrad-ig", model, images, targets, batch_size=batch_size, **settings), expected)


def test_without_noise_the_noisy_methods_are_what_they_smooth() -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 8, 8), torch.tensor([1, 7, 7])
    still = {"samples": 3, "stdev": 0.0}
    plain = gradient(model, images, targets)
    close(raw("smoothgrad", model, images, targets, **still), plain)
    assert raw("vargrad", model, images, targets, **still).max() < 1e-12 * plain.square().max()
    expected, _ = raw("integrated-gradients", model, images, targets, steps=4)
    close(raw("smoothgrad-ig", model, images, targets, steps=4, **still), expected)
    expected, gap = raw("deeplift", model, images, targets)
    found, gaps = raw("deeplift-shap", model, images, targets, **still)
    close(found, expected)
    assert (gaps - gap).abs().max() < 1e-5


def test_noise_is_a_share_of_each_images_own_range() -> None:
    images = images_of(4, 3, 32, 32) * torch.tensor([0.0, 1.0, 10.0, 100.0]).view(4, 1, 1, 1) + 7
    context = Context(SmallNet(), images, torch.arange(4), batch_size=12)
    noise = torch.cat(list(noises("any", 10, 0.25, context)))
    assert noise.shape == (10, 4, 3, 32, 32)
    spread = noise.std(dim=(0, 2, 3, 4))
    assert spread[0] == 0
    close(spread[1:] / ranges(images).flatten()[1:], torch.full((3,), 0.25), 0.02)
    assert noise.mean().abs() < 0.01 * spread[3]
    assert not torch.equal(noise[0, 1], noise[1, 1])


def test_gradient_shap_of_a_linear_model_is_weight_times_mean_change() -> None:
    weight, images, targets = images_of(5, 3, 8, 8, seed=1), images_of(4, 3, 8, 8), torch.tensor([4, 0, 0, 2])
    model = linear(weight)
    for name in ("gradient-shap", "deeplift-shap"):
        noise = torch.stack(draws(Context(model, images, targets), name, 5)).mean(dim=0)
        expected = weight[targets] * (images - 0.15 * ranges(images) * noise)
        found = raw(name, model, images, targets, samples=5)
        close(found[0] if isinstance(found, tuple) else found, expected)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_gradient_shap_is_the_mean_over_random_places_on_the_way_from_random_baselines(
    batch_size: int,
) -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 9, 11), torch.tensor([1, 7, 7])
    context = Context(model, images, targets, seed=5, ids=[4, 9, 2])
    drawn = [
        [torch.rand((), generator=generator) for _ in range(6)]
        for generator in context.generators("gradient-shap places")
    ]
    total = torch.zeros(3, 3, 9, 11).double()
    for place, noise in zip(torch.tensor(drawn).T, draws(context, "gradient-shap", 6), strict=True):
        change = images - 0.3 * ranges(images) * noise
        total += change * gradient(model, images - (1 - place.view(-1, 1, 1, 1)) * change, targets)
    settings = {"samples": 6, "stdev": 0.3, "seed": 5, "ids": [4, 9, 2], "batch_size": batch_size}
    close(raw("gradient-shap", model, images, targets, **settings), total / 6)


def test_gradient_shap_of_a_square_comes_to_its_expectation() -> None:
    """E[2 (b + a (x - b)) (x - b)] = E[x^2 - b^2], the variance of b being known."""
    images, targets = images_of(2, 3, 4, 4), torch.tensor([0, 1])
    found = raw("gradient-shap", Square(), images, targets, samples=4000, stdev=0.25, batch_size=1000)
    expected = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1) * (images**2 - (0.25 * ranges(images)) ** 2)
    error = (found - expected).abs() / ranges(images) ** 2
    assert error.max() < 0.1
    assert error.mean() < 0.02


@pytest.mark.parametrize("name", NOISY)
def test_an_images_noise_depends_on_its_id_and_the_seed_alone(name: str) -> None:
    model, images, targets = SmallNet().eval(), images_of(6, 3, 9, 11), torch.arange(6)
    method = quick([name], samples=4, steps=2)[0]
    among = method.explain(model, images, targets, ids=range(10, 16), seed=3)
    for batch_size in (1, 5, 64):
        alone = method.explain(model, images[4:5], targets[4:5], ids=[14], seed=3, batch_size=batch_size)
        close(alone[0], among[4])
        order = [5, 3, 4, 0]
        mixed = method.explain(
            model, images[order], targets[order], ids=[15, 13, 14, 10], seed=3, batch_size=batch_size
        )
        close(mixed, among[order])
    for other in ({"ids": range(20, 26), "seed": 3}, {"ids": range(10, 16), "seed": 4}):
        changed = method.explain(model, images, targets, **other)
        assert ((changed - among).abs().flatten(1).amax(dim=1) > 1e-3 * among.amax()).all()


@pytest.mark.parametrize("name", NOISY)
def test_global_random_state_is_neither_used_nor_changed(name: str) -> None:
    def state() -> list[bytes]:
        return [
            torch.get_rng_state().numpy().tobytes(),
            repr(np.random.get_state(legacy=False)).encode(),
            repr(random.getstate()).encode(),
        ]

    model, images, targets = SmallNet().eval(), images_of(2, 3, 8, 8), torch.arange(2)
    before = state()
    first = raw(name, model, images, targets, samples=2)
    assert state() == before
    torch.rand(1), np.random.rand(), random.random()
    second = raw(name, model, images, targets, samples=2)
    assert torch.equal(*(each[0] if isinstance(each, tuple) else each for each in (first, second)))


@pytest.mark.parametrize("baseline", ["zero", "random"])
@pytest.mark.parametrize(("count", "batch_size"), [(3, 64), (7, 7), (9, 4), (1, 1)])
@pytest.mark.parametrize("name", [*NOISY, "integrated-gradients", "deeplift"])
def test_passes_are_bounded_and_reported(name: str, count: int, batch_size: int, baseline: str) -> None:
    model, sizes, reports = SmallNet().eval(), [], []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    method = quick([name], samples=6, steps=4, rule="middle", baseline=baseline)[0]
    method.explain(
        model,
        images_of(count, 3, 8, 8),
        torch.zeros(count, dtype=torch.long),
        batch_size=batch_size,
        report=lambda done, total: reports.append((done, total)),
    )
    assert max(sizes) <= max(count, batch_size, 2)
    if name in NOISY:
        assert reports[-1] == (6, 6)
        assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    if (name, count, batch_size) == ("smoothgrad", 3, 64):
        assert sizes == [18]


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples 0: needs 1 or more"),
        ({"stdev": -0.1}, r"stdev -0\.1: needs 0 or more"),
        ({"stdev": float("nan")}, "stdev nan"),
    ],
)
def test_wrong_noise_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: {message}"):
        raw(name, SmallNet().eval(), images_of(2, 3, 8, 8), torch.arange(2), **options)


@pytest.mark.parametrize("name", [name for name, each in METHODS.items() if each.family == "gradient"])
def test_under_bfloat16_autocast_maps_stay_near_those_in_float32(name: str) -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 16, 16), torch.arange(3)
    method: Callable[..., Tensor] = quick([name], samples=3, steps=4)[0].explain
    expected = method(model, images, targets)
    with torch.autocast("cpu", torch.bfloat16):
        maps = method(model, images, targets)
    assert maps.dtype == torch.float32
    assert torch.corrcoef(torch.stack([maps.flatten(), expected.flatten()]))[0, 1] > 0.97

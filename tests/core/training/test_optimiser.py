"""Optimisers, against torch's own and against the formulas; the schedule, value by value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from xaicmp.core.training.optimiser import Optimiser, schedule
from xaicmp.core.training.recipe import Recipe

OPTIONS = {"lr": 0.07, "momentum": 0.8, "weight_decay": 0.03, "nesterov": True}
MUON = Recipe(optimiser="muon", **OPTIONS)


def network(seed=0):
    """Filters of three shapes (wide, tall, 1x1), vectors and a head, channels last as in training."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 80, 3, bias=False),
        nn.Conv2d(80, 5, 1),
        nn.Linear(5, 4),
    )
    return layers.to(memory_format=torch.channels_last)


def with_gradients(model, step):
    """The gradients of step ``step``, drawn alike for every copy, laid out as the weights, as autograd does."""
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in model.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        parameter.grad = torch.empty_like(parameter).copy_(values).detach()
    return model


def as_matrix(filters):
    return filters.detach().permute(0, 2, 3, 1).reshape(len(filters), -1).clone()


def orthogonalised(update, steps=3):
    """The quintic Newton-Schulz iteration of Jordan et al. (2024), in float64."""
    x = update / np.linalg.norm(update)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


def test_filters_take_the_muon_update_of_the_papers_formulas():
    model = network()
    filters = [value for value in model.parameters() if value.ndim == 4]
    expected = [as_matrix(value).double().numpy() for value in filters]
    moments = [np.zeros_like(value) for value in expected]
    optimiser = Optimiser(model, MUON)
    for step, factor in enumerate([1.0, 0.5, 0.25]):
        with_gradients(model, step)
        for index, value in enumerate(filters):
            gradient = as_matrix(value.grad).double().numpy()
            out, into = gradient.shape
            rescaled = expected[index] * math.sqrt(out) / np.linalg.norm(expected[index])
            moments[index] = 0.8 * moments[index] + 0.2 * gradient
            direction = orthogonalised(0.2 * gradient + 0.8 * moments[index])
            expected[index] = rescaled - 0.07 * factor * math.sqrt(max(1, out / into)) * direction
        optimiser.step(factor)
        for value, matrix in zip(filters, expected, strict=True):
            # The product runs in bfloat16: three digits of the update, which is a tenth of the weight.
            error = np.linalg.norm(as_matrix(value).numpy() - matrix) / np.linalg.norm(matrix)
            assert error < 2e-3


def test_filters_take_exactly_the_update_of_torchs_muon():
    model = network()
    filters = [value for value in model.parameters() if value.ndim == 4]
    matrices = [nn.Parameter(as_matrix(value)) for value in filters]
    reference = torch.optim.Muon(matrices, lr=1, momentum=0.8, weight_decay=0.0, ns_steps=3)
    optimiser = Optimiser(model, MUON)
    for step, factor in enumerate([1.0, 0.5, 0.25]):
        with_gradients(model, step)
        for matrix, value in zip(matrices, filters, strict=True):
            matrix.grad = as_matrix(value.grad)
            matrix.data *= math.sqrt(len(matrix)) / matrix.data.norm()
        reference.param_groups[0]["lr"] = 0.07 * factor
        reference.step()
        optimiser.step(factor)
        for matrix, value in zip(matrices, filters, strict=True):
            assert torch.equal(as_matrix(value), matrix.detach())


def test_with_muon_the_rest_takes_sgd_and_only_the_head_decays():
    model, other = network(), network()
    decayed = [other[4].weight]
    plain = [value for value in other.parameters() if value.ndim == 1]
    reference = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 0.03}, {"params": plain}], lr=0.07, momentum=0.8, nesterov=True
    )
    optimiser = Optimiser(model, MUON)
    for step in range(3):
        with_gradients(model, step)
        with_gradients(other, step)
        optimiser.step(1.0)
        reference.step()
    for value, expected in zip(model.parameters(), other.parameters(), strict=True):
        if value.ndim != 4:
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)


def test_a_spare_filter_bank_takes_sgd():
    model, other = network(), network()
    reference = torch.optim.SGD([other[0].weight], lr=0.07, momentum=0.8, nesterov=True, weight_decay=0.03)
    optimiser = Optimiser(model, MUON, ("0.weight",))
    for step in range(3):
        with_gradients(model, step)
        with_gradients(other, step)
        optimiser.step(1.0)
        reference.step()
    torch.testing.assert_close(model[0].weight, other[0].weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("nesterov, momentum", [(False, 0.9), (True, 0.9), (True, 0.0), (False, 0.0)])
def test_sgd_is_torchs_sgd_on_every_parameter(nesterov, momentum):
    model, other = network(), network()
    recipe = Recipe(optimiser="sgd", lr=0.1, momentum=momentum, weight_decay=5e-4, nesterov=nesterov)
    optimiser = Optimiser(model, recipe)
    reference = torch.optim.SGD(
        other.parameters(), lr=0.1, momentum=momentum, weight_decay=5e-4, nesterov=nesterov and momentum > 0
    )
    for step, factor in enumerate([0.2, 1.0, 0.5]):
        with_gradients(model, step)
        with_gradients(other, step)
        reference.param_groups[0]["lr"] = 0.1 * factor
        optimiser.step(factor)
        reference.step()
    for value, expected in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["muon", "sgd"])
def test_restored_state_goes_on_to_the_bit(kind):
    model = network()
    optimiser = Optimiser(model, Recipe(optimiser=kind, **OPTIONS))
    for step in range(3):
        with_gradients(model, step)
        optimiser.step(1.0)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    saved = [
        {**part, "state": {key: dict(values) for key, values in part["state"].items()}}
        for part in optimiser.state()
    ]
    saved = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, saved)
    other = network(seed=5)
    other.load_state_dict(weights)
    fresh = Optimiser(other, Recipe(optimiser=kind, **OPTIONS))
    fresh.restore(saved)
    for part, stepper in ((model, optimiser), (other, fresh)):
        with_gradients(part, 3)
        stepper.step(0.3)
    for value, expected in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("kind", ["muon", "sgd"])
def test_at_the_rate_zero_nothing_but_the_filters_scale_changes(kind):
    model, before = network(), network()
    with_gradients(model, 0)
    Optimiser(model, Recipe(optimiser=kind, **OPTIONS)).step(0.0)
    for value, old in zip(model.parameters(), before.parameters(), strict=True):
        scale = math.sqrt(len(old)) / old.norm() if kind == "muon" and value.ndim == 4 else 1.0
        torch.testing.assert_close(value, old * scale)


@pytest.mark.parametrize(
    "share, warmup, factor",
    [
        (0.0, 0.2, 0.0),
        (0.1, 0.2, 0.5),
        (0.2, 0.2, 1.0),
        (0.6, 0.2, 0.5),
        (0.9, 0.2, 0.125),
        (0.0, 0.0, 1.0),
        (0.25, 0.0, 0.75),
        (0.5, 1.0, 0.5),
    ],
)
def test_one_cycle_rises_to_one_and_falls_to_zero_in_lines(share, warmup, factor):
    assert schedule("one-cycle", share, warmup) == pytest.approx(factor)


def test_constant_is_one_throughout():
    assert {schedule("constant", step / 10, 0.3) for step in range(10)} == {1.0}

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr
import pytest
import torch
from architectures import ARCHITECTURES, architecture, seeded
from gradients import close, draws, gradient, images_of, ranges, raw, scores
from small import SmallNet, state
from torch import Tensor, nn
from torch.nn import functional
from zennit.attribution import Gradient
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon, Gamma, Pass

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.gradient import baselines_of
from xaicmp.core.models.fusion import fuse
from xaicmp.errors import XaicmpError

RELU_METHODS = ("guided-backprop", "deconvolution")
PROPAGATION = (*RELU_METHODS, "deeplift", "deeplift-shap", "lrp")
TARGETS = torch.tensor([1, 4, 4])


def attributions(name: str, model: nn.Module, images: Tensor, targets: Tensor, **settings: Any) -> Tensor:
    found = raw(name, model, images, targets, **settings)
    return found[0] if isinstance(found, tuple) else found


def without_biases(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model


def sequential(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    """What Captum can explain: a module for every use, and no two nonlinear ones in a row."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            activation(),
            nn.Conv2d(8, 8, 3),
            activation(),
            nn.Identity(),
            nn.Flatten(),
            nn.Linear(8 * 4, 12),
            activation(),
            nn.Linear(12, 5),
        )
    )


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def ignored_result(x: Tensor) -> Tensor:
    functional.relu_(x)
    return x


REUSED = nn.ReLU()
REUSED_IN_PLACE = nn.ReLU(inplace=True)
RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "functional": functional.relu,
    "functional in place": lambda x: functional.relu(x, inplace=True),
    "torch": torch.relu,
    "torch by keyword": lambda x: torch.relu(input=x),
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "result ignored": ignored_result,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "threshold": lambda x: functional.threshold(x, 0, 0),
    "one module": REUSED,
    "one module in place": REUSED_IN_PLACE,
}


@pytest.mark.parametrize("kind", RELUS)
@pytest.mark.parametrize("name", PROPAGATION)
def test_wherever_a_relu_comes_from_it_is_seen(name: str, kind: str) -> None:
    images = images_of(3, 3, 8, 8)
    expected = attributions(name, sequential(), images, TARGETS)
    close(attributions(name, sequential(lambda: Applied(RELUS[kind])), images, TARGETS), expected)
    plain = gradient(sequential(), images, TARGETS) * (1 if name in RELU_METHODS else images)
    assert (expected - plain).abs().max() > 0.05 * plain.abs().max()


@pytest.mark.parametrize(
    ("name", "direct"),
    [("guided-backprop", captum.attr.GuidedBackprop), ("deconvolution", captum.attr.Deconvolution)],
)
def test_guided_backprop_and_deconvolution_as_captum_called_directly(name: str, direct: Any) -> None:
    images = images_of(3, 3, 8, 8)
    expected = direct(sequential()).attribute(images.clone().requires_grad_(), target=TARGETS)
    close(attributions(name, sequential(), images, TARGETS), expected)


class TwoLayers(nn.Module):
    """S_t(x) = <v_t, f(W x + b)> by a 1x1 convolution and a linear head."""

    def __init__(self, function: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.function = function
        self.conv, self.fc = nn.Conv2d(3, 6, 1), nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.function(self.conv(images)).flatten(1))


def test_two_layers_worked_out_on_paper() -> None:
    model, images = seeded(TwoLayers), images_of(3, 3, 1, 1)
    weight, bias = model.conv.weight.detach()[:, :, 0, 0], model.conv.bias.detach()
    top = model.fc.weight.detach()[TARGETS]
    x = images.flatten(1)
    before = x @ weight.T + bias
    on, start = (before > 0).float(), bias.expand_as(before)
    by_hand = {
        "guided-backprop": (top.clamp(min=0) * on) @ weight,
        "deconvolution": top.clamp(min=0) @ weight,
        "deeplift": x * ((top * (before.relu() - start.relu()) / (before - start)) @ weight),
    }
    for name, expected in by_hand.items():
        close(attributions(name, model, images, TARGETS)[:, :, 0, 0], expected)


def test_lrp_worked_out_on_paper() -> None:
    """Relevance as sums over pairs, straight from the definitions."""
    model, images = seeded(TwoLayers), images_of(3, 3, 1, 1)
    found, gap = raw("lrp", model, images, TARGETS, gamma=0.5, epsilon=0.1)
    for row, target in enumerate(TARGETS):
        x = images[row].flatten().tolist()
        weight, bias = model.conv.weight[:, :, 0, 0].tolist(), model.conv.bias.tolist()
        before = [
            sum(w * a for w, a in zip(ws, x, strict=True)) + b for ws, b in zip(weight, bias, strict=True)
        ]
        after = [max(0.0, value) for value in before]
        top, offset = model.fc.weight[target].tolist(), model.fc.bias[target].item()
        score = sum(v * a for v, a in zip(top, after, strict=True)) + offset
        relevance = [
            v * a / (score + (0.1 if score > 0 else -0.1)) * score for v, a in zip(top, after, strict=True)
        ]
        expected = [0.0] * 3
        for j, share in enumerate(relevance):
            if before[j] <= 0:
                continue
            parts = [a * w + 0.5 * max(0.0, a * w) for a, w in zip(x, weight[j], strict=True)]
            total = sum(parts) + bias[j] + 0.5 * max(0.0, bias[j])
            for i in range(3):
                expected[i] += parts[i] / total * share
        close(found[row].flatten(), torch.tensor(expected))
        assert gap[row].item() == pytest.approx(sum(expected) - score, abs=1e-5)


@pytest.mark.parametrize(("gamma", "epsilon"), [(0.25, 1e-6), (0.0, 0.5), (2.0, 1e-6), (100.0, 0.01)])
def test_lrp_as_zennit(gamma: float, epsilon: float) -> None:
    model, images = sequential(), images_of(3, 3, 8, 8)
    rules = [
        (nn.Conv2d, Gamma(gamma, stabilizer=1e-12)),
        (nn.Linear, Epsilon(epsilon)),
        (nn.ReLU, Pass()),
    ]
    with Gradient(model=model, composite=LayerMapComposite(layer_map=rules)) as attribute:
        chosen = functional.one_hot(TARGETS, 5)
        _, expected = attribute(images.clone().requires_grad_(), lambda logits: logits * chosen)
    close(attributions("lrp", model, images, TARGETS, gamma=gamma, epsilon=epsilon), expected, 1e-4)


class Residual(nn.Module):
    """Functional ReLUs, sums, concatenation, average and overlapping maximum pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.conv3, self.fc = nn.Conv2d(16, 8, 3), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.max_pool2d(self.conv1(images).relu(), 3, 2, 1)
        y = self.conv2(x)
        y += x
        y = torch.cat([functional.relu(y), x], dim=1)
        return self.fc(functional.adaptive_avg_pool2d(self.conv3(y).relu(), 1).flatten(1))


def test_lrp_without_gamma_and_epsilon_is_input_times_gradient() -> None:
    for make in (Residual, sequential):
        model, images = without_biases(seeded(make)), images_of(3, 3, 8, 8)
        found, gap = raw("lrp", model, images, TARGETS, gamma=0.0, epsilon=0.0)
        close(found, images * gradient(model, images, TARGETS))
        assert (gap.abs() <= 1e-4 * scores(model, images, TARGETS).abs().max()).all()


@pytest.mark.parametrize("gamma", [0.25, 1.0, 10.0])
def test_lrp_hands_back_all_of_the_score_where_there_are_no_biases(gamma: float) -> None:
    model, images = without_biases(seeded(Residual)), images_of(3, 3, 8, 8)
    found, gap = raw("lrp", model, images, TARGETS, gamma=gamma)
    score = scores(model, images, TARGETS)
    close(found.double().flatten(1).sum(dim=1), score, 1e-4)
    assert (gap.abs() <= 1e-4 * score.abs().max()).all()


class Sum(nn.Module):
    """S = the sum of x + c(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images + self.conv(images)).sum(dim=(2, 3))


def test_lrp_shares_a_sum_in_proportion() -> None:
    model, images = seeded(Sum), images_of(3, 3, 4, 4).abs()
    targets = torch.tensor([0, 1, 2])
    weight = model.conv.weight.detach()[targets, :, 0, 0, None, None]
    parts = images * (weight + 0.5 * weight.clamp(min=0))
    mixed = (images * weight).sum(dim=1, keepdim=True)
    by_hand = torch.where(mixed > 0, parts, images * (weight + 0.5 * weight.clamp(max=0)))
    by_hand = by_hand / by_hand.sum(dim=1, keepdim=True) * mixed
    by_hand[range(3), targets] += images[range(3), targets]
    close(attributions("lrp", model, images, targets, gamma=0.5), by_hand)


class Gated(nn.Module):
    """S = the sum of a channel times a gate for it, as in squeeze-and-excitation."""

    def forward(self, images: Tensor) -> Tensor:
        gates = images.mean(dim=(2, 3), keepdim=True).sigmoid()
        return (gates * images).sum(dim=(2, 3))


def test_products_worked_out_on_paper() -> None:
    images, targets = images_of(3, 3, 4, 4), torch.tensor([0, 1, 2])
    rows = range(3)
    mean = images.mean(dim=(2, 3), keepdim=True)
    expected = torch.zeros_like(images)
    expected[rows, targets] = (mean.sigmoid() * images)[rows, targets]
    found, gap = raw("lrp", Gated(), images, targets)
    close(found, expected)
    assert gap.abs().max() < 1e-5
    # DeepLIFT from zero, where gates are a half: x (gate + 1/2) / 2, and the gate's change times the sum of x / 2.
    slope = (mean.sigmoid() - 0.5) / mean
    both = (
        images * (mean.sigmoid() + 0.5) / 2 + images / 16 * slope * images.sum(dim=(2, 3), keepdim=True) / 2
    )
    expected = torch.zeros_like(images)
    expected[rows, targets] = both[rows, targets]
    found, gap = raw("deeplift", Gated(), images, targets)
    close(found, expected)
    assert gap.abs().max() < 1e-5


def test_equal_factors_share_relevance() -> None:
    model = Applied(lambda images: (images * images.sigmoid()).sum(dim=(2, 3)))
    images, targets = images_of(3, 3, 4, 4), torch.tensor([0, 1, 2])
    expected = torch.zeros_like(images)
    expected[range(3), targets] = (images * images.sigmoid())[range(3), targets]
    for name in ("lrp", "deeplift"):
        close(attributions(name, model, images, targets), expected)


@pytest.mark.parametrize("baseline", ["zero", "black", "blur", "random"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU, nn.LeakyReLU])
def test_deeplift_as_captum_called_directly(activation: Callable[[], nn.Module], baseline: str) -> None:
    model, images = sequential(activation), images_of(3, 3, 8, 8)
    start = baselines_of(baseline, Context(model, images, TARGETS))
    expected, delta = captum.attr.DeepLift(model).attribute(
        images, start.expand_as(images).contiguous(), target=TARGETS, return_convergence_delta=True
    )
    found, gap = raw("deeplift", model, images, TARGETS, baseline=baseline)
    close(found, expected.detach(), 1e-3)  # Captum's own rounding, where activations hardly change
    assert delta.abs().max() < 1e-5
    assert gap.abs().max() < 1e-5


def test_deeplift_shap_as_captum_called_directly() -> None:
    model, images = sequential(), images_of(3, 3, 8, 8)
    noise = torch.stack(draws(Context(model, images, TARGETS), "deeplift-shap", 4))
    found, gap = raw("deeplift-shap", model, images, TARGETS, samples=4, stdev=0.3)
    for row in range(3):
        baselines = 0.3 * ranges(images)[row] * noise[:, row]
        expected = captum.attr.DeepLiftShap(model).attribute(
            images[row : row + 1], baselines, target=int(TARGETS[row])
        )
        close(found[row], expected[0].detach(), 1e-4)
        change = scores(model, images[row : row + 1], TARGETS[row : row + 1]) - (
            scores(model, baselines, TARGETS[row].expand(4)).mean()
        )
        assert abs(gap[row] - (found[row].sum() - change)) < 1e-5


@pytest.mark.parametrize(
    "layers", [[nn.MaxPool2d(3, 1)], [nn.ReLU(), nn.MaxPool2d(2)], [nn.MaxPool2d(2), nn.ReLU()]]
)
def test_deeplift_is_complete_where_captum_is_not(layers: list[nn.Module]) -> None:
    """Captum loses what overlapping windows share, and a rule where a maximum and a ReLU follow each other."""
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), *layers, nn.Flatten(), nn.LazyLinear(5)))
    images, start = images_of(3, 3, 8, 8), images_of(3, 3, 8, 8, seed=9)
    model(images)
    _, delta = captum.attr.DeepLift(model).attribute(
        images, start, target=TARGETS, return_convergence_delta=True
    )
    _, gap = raw("deeplift", model, images, TARGETS, baseline="random")
    assert delta.abs().max() > 0.01
    assert gap.abs().max() < 1e-5


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: functional.max_pool2d(x, 2, ceil_mode=True),
        lambda x: torch.max_pool2d(x, 3, 2, 1),
        lambda x: functional.max_pool2d(x, 3, 1, 1, 2),
        lambda x: functional.adaptive_max_pool2d(x, 3),
        lambda x: functional.max_pool1d(x.flatten(2), 5, 3).unsqueeze(3),
        lambda x: functional.max_pool3d(x.unsqueeze(2), (1, 2, 2)),
        lambda x: functional.max_pool2d(x.clamp(-0.3, 0.2), 3),
        lambda x: x * functional.hardsigmoid(x),
        lambda x: functional.layer_norm(x, x.shape[2:]),
        lambda x: functional.layer_norm(
            x, x.shape[1:], torch.full(x.shape[1:], 2.0), torch.ones(x.shape[1:])
        ),
        lambda x: 1 / (1 + x**2),
        lambda x: functional.prelu(x, torch.linspace(0, 1, 8)),
        lambda x: torch.exp(x).add_(1).log_(),
        lambda x: (
            x.unfold(2, 2, 2).permute(0, 2, 1, 3, 4).flatten(0, 1).tanh().unflatten(0, (-1, 3)).flatten(2)
        ),
    ],
)
def test_deeplift_is_complete(pool: Callable[[Tensor], Tensor]) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Applied(pool), nn.Flatten(), nn.LazyLinear(5)))
    images = images_of(3, 3, 8, 8)
    model(images)
    # A constant baseline has no variance, and the normalisation magnifies rounding by 1 / sqrt(eps) = 316.
    near = 3e-4 if "layer_norm" in pool.__code__.co_names else 1e-4
    for baseline in ("zero", "random"):
        start = baselines_of(baseline, Context(model, images, TARGETS)).expand_as(images)
        found, gap = raw("deeplift", model, images, TARGETS, baseline=baseline)
        change = scores(model, images, TARGETS) - scores(model, start, TARGETS)
        close(found.double().flatten(1).sum(dim=1), change, near)
        assert (gap.abs() < near * change.abs().max()).all()


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.Softplus(), nn.GELU(), nn.Hardswish()])
def test_where_a_nonlinearity_sees_no_change_deeplift_takes_its_derivative(layer: nn.Module) -> None:
    """Red and green change against each other, and the convolution adds them."""
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 1, 1), layer, nn.Flatten(), nn.LazyLinear(5)))
    images = images_of(3, 1, 8, 8) * torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1)
    model(images)
    with torch.no_grad():
        model[0].weight[0] = torch.tensor([2.0, 2.0, 1.0]).view(3, 1, 1)
    found, gap = raw("deeplift", model, images, TARGETS)
    close(found, images * gradient(model, images, TARGETS))
    assert found.abs().max() > 0
    assert gap.abs().max() < 1e-5


def test_deeplift_of_an_image_that_is_its_baseline_is_zero() -> None:
    model, images = seeded(Residual), torch.zeros(3, 3, 8, 8)
    for name in ("deeplift", "deeplift-shap"):
        found, gap = raw(name, model, images, TARGETS)
        assert torch.equal(found.double(), torch.zeros(3, 3, 8, 8).double())
        assert gap.abs().max() < 1e-6


@pytest.mark.parametrize("name", PROPAGATION)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_architectures_are_explained_or_refused(kind: str, name: str) -> None:
    model, images, targets = architecture(kind), images_of(2, 3, 32, 32), torch.tensor([2, 7])
    options = {"samples": 2} if name == "deeplift-shap" else {}
    if kind == "vit" or (kind == "convnext" and name in RELU_METHODS):
        # LRP merges layers itself, and merged attention is called by its own name.
        called = "scaled_dot_product_attention" if name == "lrp" else "multi_head_attention_forward"
        expected = "has no ReLU" if name in RELU_METHODS else f"there is no rule for {called}"
        with pytest.raises(XaicmpError, match=expected):
            raw(name, model, images, targets, **options)
        return
    result = raw(name, model, images, targets, **options)
    found, gap = result if isinstance(result, tuple) else (result, None)
    plain = gradient(model, images, targets) * (1 if name in RELU_METHODS else images)
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert found.abs().flatten(1).amax(dim=1).min() > 0
    assert torch.corrcoef(torch.stack([found.flatten().double(), plain.flatten()]))[0, 1] < 0.99
    if name.startswith("deeplift"):
        change = scores(model, images, targets) - scores(model, torch.zeros_like(images), targets)
        assert gap.abs().max() < 1e-4 * max(change.abs().max(), scores(model, images, targets).abs().max())
    if name == "lrp":
        close(gap, found.double().flatten(1).sum(dim=1) - scores(model, images, targets), 1e-3)
        assert found.abs().flatten(1).sum(dim=1).max() < 1000 * scores(model, images, targets).abs().max()


def test_lrp_merges_batch_normalisation_first() -> None:
    model, images, targets = architecture("resnet50"), images_of(2, 3, 32, 32), torch.tensor([2, 7])
    merged = fuse(model, images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.modules())
    close(attributions("lrp", model, images, targets), attributions("lrp", merged, images, targets), 1e-3)


NO_RULE: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.softmax(dim=1),
    "log_softmax": lambda x: functional.log_softmax(x, dim=1),
    "group_norm": lambda x: functional.group_norm(x[..., None], 1)[..., 0],
    "normalize": lambda x: functional.normalize(x),
    "matmul": lambda x: (x[:, :, None] @ x[:, None]).sum(dim=2),
    "div": lambda x: x / x.abs().sum(dim=1, keepdim=True),
    "einsum": lambda x: torch.einsum("nk,nk->nk", x, x),
    "scaled_dot_product_attention": lambda x: functional.scaled_dot_product_attention(
        x[:, None], x[:, None], x[:, None]
    )[:, 0],
}


@pytest.mark.parametrize("name", ["deeplift", "deeplift-shap", "lrp"])
@pytest.mark.parametrize("kind", NO_RULE)
def test_what_has_no_rule_is_refused_by_name(kind: str, name: str) -> None:
    model = nn.Sequential(sequential(), Applied(NO_RULE[kind]))
    with pytest.raises(XaicmpError, match=rf"there is no rule for {kind}, .* integrated-gradients"):
        raw(name, model, images_of(3, 3, 8, 8), TARGETS)


@pytest.mark.parametrize(
    "linear",
    [
        lambda x: x @ torch.eye(5),
        lambda x: x / 3,
        lambda x: torch.einsum("nk,kl->nl", x, torch.eye(5)),
        lambda x: x * torch.arange(5.0),
        lambda x: x.clone().mul_(2),
    ],
)
def test_linear_functions_need_no_rule(linear: Callable[[Tensor], Tensor]) -> None:
    model, images = nn.Sequential(without_biases(sequential()), Applied(linear)), images_of(3, 3, 8, 8)
    for name in ("deeplift", "lrp"):
        found, _ = raw(name, model, images, TARGETS, **({"epsilon": 0.0} if name == "lrp" else {}))
        close(found.double().flatten(1).sum(dim=1), scores(model, images, TARGETS), 1e-4)


@pytest.mark.parametrize("name", PROPAGATION)
def test_what_a_model_computes_without_gradients_has_none(name: str) -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = sequential()

        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                silent = self.body(images.relu()).softmax(dim=1)
            return self.body(images) + silent.mean()

    images = images_of(3, 3, 8, 8)
    expected = attributions(name, sequential(), images, TARGETS)
    close(attributions(name, Detached(), images, TARGETS), expected)


@pytest.mark.parametrize("name", RELU_METHODS)
@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.Identity])
def test_without_a_relu_there_is_nothing_to_guide(activation: Callable[[], nn.Module], name: str) -> None:
    with pytest.raises(
        XaicmpError, match=f"{name} is not for this model, because it has no ReLU; use saliency"
    ):
        raw(name, sequential(activation), images_of(3, 3, 8, 8), TARGETS)


class Broken(RuntimeError):
    """What the models in these tests fail with."""


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("name", PROPAGATION)
def test_nothing_is_left_behind_not_even_by_a_failure(name: str, where: str) -> None:
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            raise Broken

    def fail(x: Tensor) -> Tensor:
        if where == "backward":
            return Failing.apply(x)
        raise Broken

    images, small = images_of(2, 3, 8, 8), SmallNet()
    for model in (small, nn.Sequential(Applied(fail), small)):
        before = state(model)
        try:
            METHODS[name].explain(model, images, torch.tensor([0, 1]))
            assert model is small
        except XaicmpError as error:
            assert isinstance(error.__cause__, Broken) and model is not small
        assert state(model) == before
        assert torch.overrides._get_current_function_mode_stack() == []
        assert torch.equal(functional.relu(torch.tensor([-1.0, 1.0])), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("name", ["deeplift", "deeplift-shap", "lrp"])
def test_the_logits_under_the_rules_are_the_models_own(name: str) -> None:
    """The gap is computed from the scores under the rules."""
    model, images = seeded(Residual), images_of(3, 3, 8, 8)
    found, gap = raw(name, model, images, TARGETS, **({"samples": 1, "stdev": 0.0} if "shap" in name else {}))
    change = scores(model, images, TARGETS)
    if name != "lrp":
        change = change - scores(model, torch.zeros_like(images), TARGETS)
    assert (gap - (found.double().flatten(1).sum(dim=1) - change)).abs().max() < 1e-5

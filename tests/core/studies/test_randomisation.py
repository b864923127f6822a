from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from small import SmallNet, state
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock, ResNet

from xaicmp.core.agreement.controls import other_images
from xaicmp.core.agreement.registry import STATISTICS
from xaicmp.core.attribution import METHODS
from xaicmp.core.choices import Randomise
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.studies.randomisation import (
    Randomisation,
    find_stages,
    randomisation_test,
    randomised,
    redraw,
)
from xaicmp.errors import XaicmpError

KINDS: tuple[Randomise, ...] = ("cascading", "independent")


def scrambled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with values that no fresh one has: BatchNorm too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model.eval()


def small_net() -> nn.Module:
    return scrambled(SmallNet())


def tiny_resnet() -> nn.Module:
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)
    net.layer2, net.layer3, net.layer4 = nn.Identity(), nn.Identity(), nn.Identity()
    net.fc = nn.Linear(64, 3)
    return scrambled(net)


def tiny_transformer() -> nn.Module:
    return scrambled(VisionTransformer(8, 4, 2, 2, 8, 16, num_classes=3))


MODELS = [small_net, tiny_resnet, tiny_transformer]


def tensors(model: nn.Module) -> dict[str, Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named if tensor.is_floating_point()}


def stage_of(model: nn.Module) -> dict[str, str]:
    """By the name of a tensor, the stage that it belongs to."""
    modules = {name: stage for stage, names in find_stages(model).items() for name in names}
    return {name: modules[name.rpartition(".")[0]] for name in tensors(model)}


def images_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_stages_of_the_resnet_are_its_blocks_from_the_output_down() -> None:
    stages = find_stages(resnet18_cifar())
    blocks = [f"layer{layer}.{block}" for layer in (4, 3, 2, 1) for block in (1, 0)]
    assert list(stages) == ["fc", *blocks, "conv1+bn1"]
    assert stages["conv1+bn1"] == ("conv1", "bn1")
    assert "layer4.0.downsample.1" in stages["layer4.0"]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (small_net, ["fc", "layer4.0", "layer1.0+layer1.1"]),
        (tiny_resnet, ["fc", "layer1.0", "conv1+bn1"]),
        (tiny_transformer, ["heads.head", "encoder.layers+encoder.ln", "encoder", "conv_proj", "input"]),
    ],
)
def test_stages_hold_every_parameter_once(make: Callable[[], nn.Module], names: list[str]) -> None:
    model = make()
    stages = find_stages(model)
    assert list(stages) == names
    every = [module for members in stages.values() for module in members]
    assert len(set(every)) == len(every)
    held = {id(p) for name in every for p in model.get_submodule(name).parameters(recurse=False)}
    assert held == {id(p) for p in model.parameters()}


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(XaicmpError, match="no parameters"):
        find_stages(nn.Sequential(nn.Flatten(), nn.ReLU()))


@pytest.mark.parametrize("make", MODELS)
def test_cascading_draws_ever_more_and_independent_one_stage_at_a_time(
    make: Callable[[], nn.Module],
) -> None:
    model = make()
    original, stages = tensors(model), stage_of(model)
    order = list(find_stages(model))
    drawn: dict[Randomise, list[tuple[str, nn.Module]]] = {
        kind: list(randomised(model, kind, 3)) for kind in KINDS
    }
    for kind in KINDS:
        assert [stage for stage, _ in drawn[kind]] == order
        assert len({id(copy) for _, copy in drawn[kind]}) == len(order)
        for position, (stage, copied) in enumerate(drawn[kind]):
            touched = order[: position + 1] if kind == "cascading" else [stage]
            for name, tensor in tensors(copied).items():
                if stages[name] in touched:
                    assert (tensor != original[name]).all(), f"{name} is not drawn at {stage}"
                else:
                    assert (tensor == original[name]).all(), f"{name} is drawn at {stage}"
    # What a stage is given is the same in both kinds.
    for (stage, alone), (_, above) in zip(drawn["independent"], drawn["cascading"], strict=True):
        for name, tensor in tensors(alone).items():
            if stages[name] == stage:
                assert (tensor == tensors(above)[name]).all()


@pytest.mark.parametrize("make", MODELS)
def test_the_seed_decides_the_weights_and_nothing_else_does(make: Callable[[], nn.Module]) -> None:
    model = make()
    *_, (_, first) = randomised(model, seed=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    *_, (_, again) = randomised(model, seed=1)
    assert (torch.get_rng_state() == before).all()
    *_, (_, other) = randomised(model, seed=2)
    for name, tensor in tensors(first).items():
        assert (tensor == tensors(again)[name]).all()
        assert (tensor != tensors(other)[name]).any()


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_model_is_left_as_it_was(make: Callable[[], nn.Module], kind: Randomise) -> None:
    model = make().train()
    before = state(model)
    for _ in randomised(model, kind):
        pass
    assert state(model) == before


def test_layers_with_a_distribution_of_their_own_are_drawn_from_it() -> None:
    layer = nn.Conv2d(8, 64, 3)
    nn.init.normal_(layer.weight, mean=5)
    redraw(layer, 0, "conv")
    bound = 1 / (8 * 9) ** 0.5
    uniform = scipy.stats.uniform(-bound, 2 * bound)
    assert scipy.stats.kstest(layer.weight.detach().flatten().numpy(), uniform.cdf).pvalue > 1e-3


def test_two_layers_of_the_same_shape_are_drawn_differently() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    *_, (_, drawn) = randomised(net)
    assert (drawn[0].weight != drawn[1].weight).all()


def test_batch_norm_is_drawn_from_what_it_was_and_not_made_the_identity() -> None:
    norm = nn.BatchNorm2d(4000)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor, mean, spread in (
            (norm.weight, 0.4, 0.1),
            (norm.bias, -0.2, 0.05),
            (norm.running_mean, 3.0, 2.0),
        ):
            tensor.copy_(mean + spread * torch.randn(4000, generator=generator))
        norm.running_var.copy_((0.5 * torch.randn(4000, generator=generator) - 3).exp())
    original = tensors(norm)
    redraw(norm, 1, "norm")
    for name, tensor in tensors(norm).items():
        was = original[name]
        tensor, was = (tensor.log(), was.log()) if name == "running_var" else (tensor, was)
        assert tensor.mean().item() == pytest.approx(was.mean().item(), abs=0.1 * was.std().item())
        assert tensor.std().item() == pytest.approx(was.std().item(), rel=0.05)
        assert abs(np.corrcoef(tensor.numpy(), was.numpy())[0, 1]) < 0.06
    drawn = torch.stack(list(tensors(norm).values())).numpy()
    assert abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.06


@pytest.mark.parametrize("dead", [False, True])
def test_a_fresh_batch_norm_and_one_with_dead_channels_are_drawn_too(dead: bool) -> None:
    norm = nn.BatchNorm2d(50)
    if dead:
        norm.running_var[:5] = 0
    redraw(norm, 0, "norm")
    assert (norm.running_var > 0).all()
    for tensor in tensors(norm).values():
        assert tensor.isfinite().all()
        assert len(tensor.unique()) == 50


def templates(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier that knows ten patterns, and 200 noisy images of them, all classified correctly."""
    patterns = images_of(10, 3, 8, 8, seed=seed)
    labels = torch.arange(200) % 10
    images = patterns[labels] + 0.5 * images_of(200, 3, 8, 8, seed=seed + 1)
    hidden, head = nn.Linear(192, 10, bias=False), nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        hidden.weight.copy_(patterns.flatten(1) / 192)
        head.weight.copy_(torch.eye(10) + 0.01 * images_of(10, 10))
    return nn.Sequential(nn.Flatten(), hidden, head).eval(), images, labels


def gradients(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return METHODS["saliency"].explain(model, images, targets)


@pytest.mark.parametrize("kind", KINDS)
def test_the_agreement_is_that_of_each_map_with_the_originals(kind: Randomise) -> None:
    model, images, labels = templates()
    images, labels = images[:7], labels[:7]

    def explain(of: nn.Module) -> Tensor:
        saliency = gradients(of, images, labels)
        return torch.stack([saliency, saliency * images[:, 0].abs()])

    result = randomisation_test(
        explain, model, images, labels, statistics=[STATISTICS["spearman"]], kind=kind, seed=4
    )
    original = explain(model).flatten(2).numpy()
    for row, (stage, copied) in enumerate(randomised(model, kind, 4)):
        assert result.stages[row] == stage
        drawn = explain(copied).flatten(2).numpy()
        for method in range(2):
            for image in range(7):
                expected = scipy.stats.spearmanr(original[method, image], drawn[method, image]).statistic
                assert result.agreement["spearman"][method, row, image] == pytest.approx(expected, abs=1e-9)
    partners = other_images(np.zeros(7), seed=4).numpy()
    for method in range(2):
        for image in range(7):
            expected = np.mean(
                [
                    scipy.stats.spearmanr(original[method, image], original[method, j]).statistic
                    for j in partners[:, image]
                ]
            )
            assert result.chance["spearman"][method, image] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_destroyed_and_said_to_be(kind: Randomise) -> None:
    model, images, labels = templates()
    reports: list[tuple[str, int, int]] = []
    result = randomisation_test(
        lambda of: gradients(of, images, labels)[None],
        model,
        images,
        labels,
        statistics=[STATISTICS["pearson"]],
        kind=kind,
        batch_size=64,
        progress=lambda *report: reports.append(report),
    )
    assert result.accuracy[0] == 1
    assert result.accuracy.shape == (3,)
    assert result.accuracy[1:].max() < 0.4
    assert np.abs(result.agreement["pearson"].mean(axis=2)).max() < 0.7
    assert [report[1:] for report in reports] == [(1, 2), (2, 2)]
    for row, (_, copied) in enumerate(randomised(model, kind)):
        share = (copied(images).argmax(dim=1) == labels).double().mean().item()
        assert result.accuracy[1 + row] == share


@pytest.mark.parametrize("kind", KINDS)
def test_what_knows_nothing_of_the_model_stays_the_same_throughout(kind: Randomise) -> None:
    model, images = small_net(), images_of(6, 3, 16, 16)
    targets = torch.arange(6)
    floors = [METHODS["edge"], METHODS["centre"]]
    result = randomisation_test(
        lambda of: torch.stack(
            [each.explain(of, images, targets) for each in [*floors, METHODS["saliency"]]]
        ),
        model,
        images,
        targets,
        statistics=[STATISTICS[name] for name in ("spearman", "ssim", "pearson")],
        kind=kind,
    )
    for name in ("spearman", "ssim", "pearson"):
        assert result.agreement[name].shape == (3, 3, 6)
        np.testing.assert_allclose(result.agreement[name][:2], 1, atol=1e-12)
        np.testing.assert_allclose(result.area(name)[:2], 1, atol=1e-12)
        assert (result.area(name)[2] < 0.95).all()
    # That of the edges is above chance, which shows that they fail; the centre is the same in every image.
    assert (result.band("spearman")[0] < 0.9).all()
    np.testing.assert_allclose(result.band("spearman")[1], 1, atol=1e-12)


def test_the_test_leaves_the_model_as_it_was_and_gives_the_same_again() -> None:
    model, images, targets = small_net().train(), images_of(4, 3, 16, 16), torch.arange(4)
    before = state(model)
    results = [
        randomisation_test(
            lambda of: gradients(of, images, targets)[None],
            model,
            images,
            targets,
            statistics=[STATISTICS["spearman"]],
            seed=seed,
        )
        for seed in (1, 1, 2)
    ]
    assert state(model) == before
    first, again, other = (each.agreement["spearman"] for each in results)
    assert (first == again).all()
    assert (first != other).any()


def test_the_area_excludes_the_original_and_what_is_undefined() -> None:
    nan = float("nan")
    agreement = np.array([[[0.6, nan, nan], [0.2, 0.5, nan], [0.1, 0.1, nan]]])
    chance = np.array([[0.0, 0.5, nan], [nan, nan, nan]])
    result = Randomisation("cascading", ("c", "b", "a"), np.ones(4), {"x": agreement}, {"x": chance})
    np.testing.assert_allclose(result.area("x"), [[0.3, 0.3, nan]])
    np.testing.assert_allclose(result.band("x", 0.5), [[0.125, 0.375], [nan, nan]])

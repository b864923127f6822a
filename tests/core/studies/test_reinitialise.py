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

from xaicmp.api import load_model
from xaicmp.core.choices import Randomise
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.studies.reinitialise import find_stages, measure, redraw, reinitialised
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


IMAGES = images_of(8, 3, 8, 8, seed=7) + 2 * images_of(8, 3, 1, 1, seed=8)


def is_measured(name: str) -> bool:
    return "running" in name


@pytest.mark.parametrize("make", MODELS)
def test_cascading_draws_ever_more_and_independent_one_stage_at_a_time(make: Callable[[], nn.Module]) -> None:
    original, stages = tensors(make()), stage_of(make())
    order = list(find_stages(make()))
    kinds = {kind: [each.model for each in reinitialised(make(), IMAGES, kind, 3)] for kind in KINDS}
    for kind, models in kinds.items():
        assert len({id(copied) for copied in models}) == len(order)
        for position, (stage, copied) in enumerate(zip(order, models, strict=True)):
            touched = order[: position + 1] if kind == "cascading" else [stage]
            # A statistic belongs to what its layer is given, and so is measured anew above a stage too.
            above = order[: position + 1]
            for name, tensor in tensors(copied).items():
                if stages[name] in (above if is_measured(name) else touched):
                    assert (tensor != original[name]).all(), f"{name} is not drawn at {stage}"
                else:
                    assert (tensor == original[name]).all(), f"{name} is drawn at {stage}"
    # What a stage is given is the same in both kinds.
    for stage, alone, above in zip(order, kinds["independent"], kinds["cascading"], strict=True):
        for name, tensor in tensors(alone).items():
            if stages[name] == stage and not is_measured(name):
                assert (tensor == tensors(above)[name]).all()


@pytest.mark.parametrize("make", MODELS)
def test_seed_and_draw_decide_the_weights_and_nothing_else_does(make: Callable[[], nn.Module]) -> None:
    model = make()

    def last(seed: int, draw: int = 0) -> dict[str, Tensor]:
        *_, found = reinitialised(model, IMAGES, seed=seed, draw=draw)
        return tensors(found.model)

    first = last(1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = last(1)
    assert (torch.get_rng_state() == before).all()
    others = [last(2), last(1, 1), last(0, 2)]
    for name, tensor in first.items():
        assert (tensor == again[name]).all()
        if len(tensor.unique()) > 1 and not is_measured(name):
            assert all((tensor != other[name]).any() for other in others)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_model_is_left_as_it_was(make: Callable[[], nn.Module], kind: Randomise) -> None:
    model = make().train()
    before = state(model)
    for each in reinitialised(model, IMAGES, kind):
        assert not [hook for module in each.model.modules() for hook in module._forward_hooks]
        assert not [hook for module in each.model.modules() for hook in module._forward_pre_hooks]
    measure(model, IMAGES)
    assert state(model) == before


def test_layers_with_a_distribution_of_their_own_are_drawn_from_it() -> None:
    layer = nn.Conv2d(8, 64, 3)
    nn.init.normal_(layer.weight, mean=5)
    redraw(layer, "conv")
    bound = 1 / (8 * 9) ** 0.5
    uniform = scipy.stats.uniform(-bound, 2 * bound)
    assert scipy.stats.kstest(layer.weight.detach().flatten().numpy(), uniform.cdf).pvalue > 1e-3
    assert (layer.bias == 0).all()


def test_two_layers_of_the_same_shape_are_drawn_differently() -> None:
    net = nn.Sequential(nn.Linear(192, 192), nn.Linear(192, 192))
    images = images_of(4, 192)
    *_, each = reinitialised(net, images)
    assert (each.model[0].weight != each.model[1].weight).all()


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(6),
        nn.GroupNorm(2, 6),
        nn.LayerNorm(6),
        nn.InstanceNorm2d(6, affine=True),
        nn.RMSNorm(6),
    ],
)
def test_a_normalisation_changes_no_scale(norm: nn.Module) -> None:
    scrambled(norm)
    redraw(norm, "norm")
    assert (norm.weight == 1).all()
    assert getattr(norm, "bias", None) is None or (norm.bias == 0).all()


def test_statistics_are_those_of_what_the_layer_is_given_and_the_model_alone_decides_where() -> None:
    """Worked out: the second is given the first's output under the first's new statistics."""
    net = scrambled(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten()))
    before = tensors(net)
    measure(net, IMAGES, ["1"])
    assert all((tensor == before[name]).all() for name, tensor in tensors(net).items() if name[0] != "2")
    given = net[1](net[0](IMAGES)).detach().double().numpy()
    np.testing.assert_allclose(net[2].running_mean, given.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(net[2].running_var, given.var((0, 2, 3)), rtol=1e-5)
    measure(net, IMAGES, ["0"])
    given = IMAGES.double().numpy()
    np.testing.assert_allclose(net[0].running_mean, given.mean((0, 2, 3)), rtol=1e-5, atol=1e-7)
    out = net[1](net[0](IMAGES)).detach().double().numpy()
    np.testing.assert_allclose(net[2].running_var, out.var((0, 2, 3)), rtol=1e-5)


def test_the_share_that_depends_on_the_image_worked_out_on_paper() -> None:
    """Means (2, 0) with deviations 1, 1 and 2, 2: 10 of 18. The second stage adds 10 to both, and is the lowest."""
    images = torch.tensor([[1.0, -2.0], [3.0, 2.0]])
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    for layer, bias in ((first, 0.0), (second, 10.0)):
        nn.init.eye_(layer.weight)
        nn.init.constant_(layer.bias, bias)
    assert measure(first, images) == pytest.approx(10 / 18)
    lowest = 10 / (11**2 + 8**2 + 13**2 + 12**2)
    assert measure(nn.Sequential(first, second), images) == pytest.approx(lowest)
    # A last stage that takes the offset away does not hide it.
    third = nn.Linear(2, 2)
    nn.init.eye_(third.weight)
    nn.init.constant_(third.bias, -10.0)
    assert measure(nn.Sequential(first, second, third), images) == pytest.approx(lowest)
    assert measure(first, images[:1]) != measure(first, images[:1]), "undefined for one image"
    nn.init.zeros_(second.weight)
    assert measure(nn.Sequential(first, second), images) == 0


def plain(depth: int = 12, norm: Callable[[int], nn.Module] = lambda channels: nn.Identity()) -> nn.Module:
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Conv2d(32 if index else 3, 32, 3, padding=1), norm(32), nn.ReLU()]
    return scrambled(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)))


DEEP = {
    "plain": plain,
    "batch-norm": lambda: plain(norm=nn.BatchNorm2d),
    "group-norm": lambda: plain(norm=lambda channels: nn.GroupNorm(2, channels)),
    "residual": tiny_resnet,
    "transformer": tiny_transformer,
}


@pytest.mark.parametrize("make", DEEP.values(), ids=DEEP)
def test_a_network_that_is_re_initialised_throughout_is_alive(make: Callable[[], nn.Module]) -> None:
    for draw in range(3):
        *_, last = reinitialised(make(), IMAGES, draw=draw)
        assert last.image_share > 0.002


def test_without_normalisation_drawn_biases_would_be_all_that_is_left() -> None:
    model = plain()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    assert measure(model, IMAGES) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_resnet_that_ships_is_alive_at_every_stage(kind: Randomise, sample: ImageSet) -> None:
    """With the statistics of the trained one, as it once was done, the last stage has less than a thousandth."""
    classifier = load_model()
    images = classifier.normalise(sample.pixels(np.arange(16)))
    found = list(reinitialised(classifier.module, images, kind))
    assert measure(classifier.module, images) > 0.3
    assert min(each.image_share for each in found) > 0.05
    outputs = found[-1].model(images)
    assert len(outputs.argmax(dim=1).unique()) > 1
    if kind == "cascading":
        dead = found[-1].model
        trained = dict(classifier.module.named_buffers())
        for name, buffer in dead.named_buffers():
            buffer.copy_(trained[name])
        assert measure(dead, images) < 0.001

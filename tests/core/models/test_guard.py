from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from architectures import slim
from small import SmallNet, choose, compare, quick, registered, small_engine, state
from torch import Tensor, nn

from xaicmp.core.attribution import METHODS, PUBLISHED
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.models.guard import unchanged
from xaicmp.errors import XaicmpError


def as_left_by_a_training(model: nn.Module) -> nn.Module:
    """In train mode, but for one module, partly frozen, with gradients and with hooks of every sort."""
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    model.train()
    model.get_submodule("layer1").eval()
    next(model.parameters()).requires_grad_(False)
    for module in (model, model.get_submodule("layer4")):
        module.register_forward_hook(lambda *_: None)
        module.register_forward_hook(lambda *_, **__: None, with_kwargs=True, always_call=True)
        module.register_forward_pre_hook(lambda *_: None)
        module.register_full_backward_pre_hook(lambda *_: None)
        module.register_state_dict_pre_hook(lambda *_: None)
    model.note = ["mine"]
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "in eval mode": lambda: SmallNet().eval(),
    "in train mode": lambda: SmallNet().train(),
    "frozen": lambda: SmallNet().eval().requires_grad_(False),
    "as left by a training": lambda: as_left_by_a_training(SmallNet()),
}


def random_state() -> list[bytes]:
    return [
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state(legacy=False)).encode(),
        repr(random.getstate()).encode(),
    ]


def global_state() -> list[object]:
    return [torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_default_dtype()]


@pytest.mark.parametrize("name", [name for name, each in METHODS.items() if each.family != "attention"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_method_leaves_model_images_and_random_state_as_they_were(kind: str, name: str) -> None:
    model = MODELS[kind]()
    images = torch.randn(3, 3, 32, 32)
    copy, targets = images.clone(), torch.tensor([0, 1, 2])
    before = (state(model), random_state(), global_state())
    METHODS[name].explain(model, images, targets)
    assert (state(model), random_state(), global_state()) == before
    assert torch.equal(images, copy)
    assert not images.requires_grad
    assert images.grad is None
    assert targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", [name for name, each in METHODS.items() if each.family != "attention"])
def test_hooks_and_gradients_of_a_deep_network_are_put_back(name: str) -> None:
    model = as_left_by_a_training(slim(resnet18_cifar))
    modes = [module.training for module in model.modules()]
    gradients = [None if each.grad is None else each.grad.clone() for each in model.parameters()]
    buffers = [each.clone() for each in model.buffers()]
    hooks = [
        {key: list(value) for key, value in vars(module).items() if "hooks" in key}
        for module in model.modules()
    ]
    quick([name], steps=2, samples=2)[0].explain(model, torch.randn(2, 3, 16, 16), torch.tensor([1, 2]))
    assert [module.training for module in model.modules()] == modes
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    assert [
        {key: list(value) for key, value in vars(module).items() if "hooks" in key}
        for module in model.modules()
    ] == hooks


class Broken(RuntimeError):
    """What a method in these tests fails with."""


def vandal(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Touch everything, then fail."""
    model.train()
    for module in model.modules():
        module.register_forward_hook(lambda *_: None, with_kwargs=True)
        module.register_forward_pre_hook(lambda *_: None)
        module.register_full_backward_hook(lambda *_: None)
        module.extra = images
    model.requires_grad_(True)
    model.eval()
    model(images).sum().backward()
    model.layer4 = nn.Sequential(model.layer4, nn.Identity())
    model.add_module("another", nn.ReLU())
    model.register_buffer("counter", torch.zeros(3))
    model.register_parameter("weight", nn.Parameter(torch.zeros(3)))
    model.note = "yours"
    model.forward = lambda x: x
    raise Broken


@pytest.mark.parametrize("kind", MODELS)
def test_a_method_that_fails_half_way_leaves_the_model_as_it_was(kind: str) -> None:
    model = MODELS[kind]()
    before = (state(model), global_state())
    with registered("vandal", vandal), pytest.raises(XaicmpError) as error:
        METHODS["vandal"].explain(model, torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert isinstance(error.value.__cause__, Broken)
    assert (state(model), global_state()) == before


@pytest.mark.parametrize("name", [name for name, each in METHODS.items() if not each.model_free])
def test_a_model_that_fails_in_the_middle_of_a_method_is_left_as_it_was(name: str) -> None:
    model = as_left_by_a_training(SmallNet())
    calls = []

    def fail(module: nn.Module, inputs: object) -> None:
        calls.append(module)
        raise Broken

    model.fc.register_forward_pre_hook(fail)
    before = state(model)
    with pytest.raises(XaicmpError) as error:
        METHODS[name].explain(model, torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert isinstance(error.value.__cause__, Broken)
    assert calls
    assert state(model) == before


def test_a_method_that_breaks_its_contract_leaves_the_model_as_it_was() -> None:
    model = SmallNet().train()
    before = state(model)
    with (
        registered("wrong", lambda model, images, targets: images[:1]),
        pytest.raises(Exception, match="shape"),
    ):
        METHODS["wrong"].explain(model, torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert state(model) == before


def test_choosing_and_comparing_leave_a_model_in_train_mode_as_it_was(sample: ImageSet) -> None:
    model = SmallNet()
    engine = small_engine(model)
    as_left_by_a_training(model)
    before = (state(model), random_state(), global_state())
    for selection in (Selection(n=5, only="all"), Selection(ids=(3, 900))):
        compare(engine, sample, choose(engine, sample, selection), quick(PUBLISHED, steps=2))
    assert (state(model), random_state(), global_state()) == before


def test_the_answer_does_not_depend_on_the_state_the_model_is_handed_over_in(sample: ImageSet) -> None:
    pixels = sample.tensor[:3].float() / 255
    for method in quick(PUBLISHED, steps=4):
        maps = [
            method.explain(MODELS[kind](), pixels, torch.tensor([1, 2, 3]))
            for kind in ("in eval mode", "in train mode", "frozen")
        ]
        assert torch.equal(maps[0], maps[1])
        assert torch.equal(maps[0], maps[2])


def test_inside_the_model_is_in_eval_mode_and_frozen() -> None:
    model = as_left_by_a_training(SmallNet())
    with unchanged(model) as lent:
        assert lent is model
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_hooks_on_parameters_still_work_afterwards() -> None:
    model, seen = SmallNet(), []
    model.fc.weight.register_hook(seen.append)
    with unchanged(model):
        model(torch.rand(1, 3, 32, 32))
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    assert len(seen) == 1


def test_a_graph_through_the_parameters_survives() -> None:
    model = SmallNet().eval()
    loss = model(torch.rand(2, 3, 32, 32)).sum()
    METHODS["saliency"].explain(model, torch.rand(2, 3, 32, 32), torch.tensor([0, 1]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", [name for name, each in METHODS.items() if each.family != "attention"])
def test_a_caller_who_has_switched_gradients_off_gets_the_same_maps(
    name: str, mode: Callable[[], object]
) -> None:
    model, images = SmallNet().eval(), torch.randn(2, 3, 32, 32)
    expected = METHODS[name].explain(model, images, torch.tensor([4, 5]))
    with mode():  # type: ignore[attr-defined]
        maps = METHODS[name].explain(model, images * 1, torch.tensor([4, 5]))
        assert not torch.is_grad_enabled()
    assert torch.equal(maps, expected)

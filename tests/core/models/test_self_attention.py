"""Attention that is computed with the batch first, against torch's own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from architectures import seeded
from gradients import close, images_of
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from xaicmp.core.models.fusion import fuse
from xaicmp.core.models.self_attention import SelfAttention, speed_up


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    return nn.MultiheadAttention(12, 3, **({"batch_first": True} | options)).eval()


def tokens(count: int = 2) -> Tensor:
    return torch.randn(count, 5, 12, generator=torch.Generator().manual_seed(1))


def sped_up(module: nn.Module) -> nn.Module:
    other = deepcopy(module)
    speed_up(other)
    return other


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_torch(bias: bool, precision: torch.dtype) -> None:
    module = attention(bias=bias).to(precision)
    found = []
    for each in (module, sped_up(module)):
        x = tokens().to(precision).requires_grad_()
        output, weights = each(x, x, x, need_weights=False)
        output.square().sum().backward()
        assert weights is None
        found.append((output.detach(), x.grad))
    assert type(sped_up(module)) is SelfAttention
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def padded(module: nn.Module, x: Tensor) -> Tensor:
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[:, 3:] = True
    return module(x, x, x, mask, False)[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda module, x: module(x, x, x)[0],
        lambda module, x: module(x, x, x)[1],
        lambda module, x: module(x, x, x, average_attn_weights=False)[1],
        lambda module, x: module(x, x.flip(1), x, need_weights=False)[0],
        lambda module, x: module(x[0], x[0], x[0], need_weights=False)[0],
        lambda module, x: module(x, x, x, None, False, torch.ones(5, 5).tril() == 0)[0],
        lambda module, x: module(
            x, x, x, attn_mask=torch.ones(5, 5).triu(1).bool(), is_causal=True, need_weights=False
        )[0],
        padded,
    ],
)
def test_what_asks_for_more_is_left_to_torch(call: Any) -> None:
    module = attention()
    close(call(sped_up(module), tokens()), call(module, tokens()))


@pytest.mark.parametrize(
    "options",
    [{"batch_first": False}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 6, "vdim": 6}],
)
def test_other_kinds_stay_as_they_are(options: dict[str, Any]) -> None:
    assert type(sped_up(attention(**options))) is nn.MultiheadAttention


def test_dropout_is_left_to_torch_while_training() -> None:
    module = attention(dropout=0.5).train()
    torch.manual_seed(2)
    expected = module(*[tokens()] * 3, need_weights=False)[0]
    torch.manual_seed(2)
    close(sped_up(module)(*[tokens()] * 3, need_weights=False)[0], expected)


def test_a_transformer_is_run_with_it_and_left_as_it_was() -> None:
    model = seeded(lambda: VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=3))
    nn.init.normal_(model.heads.head.weight)
    images = images_of(2, 3, 16, 16)
    fused = fuse(model, images)
    assert sum(type(each) is SelfAttention for each in fused.modules()) == 2
    assert not any(type(each) is SelfAttention for each in model.modules())
    assert [name for name, _ in fused.named_modules()] == [name for name, _ in model.named_modules()]
    close(fused(images), model(images))


def test_a_layer_of_an_encoder_is_run_with_it() -> None:
    layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True).eval()
    x = tokens().requires_grad_()
    close(sped_up(layer)(x), layer(x))
    with torch.no_grad():
        close(sped_up(layer)(x), layer(x))

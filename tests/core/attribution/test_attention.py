"""The attention methods against the papers' formulas, on attention that is computed here from a model's weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from small import SmallNet, state
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from xaicmp.core.attribution import METHODS
from xaicmp.errors import XaicmpError

TARGETS = torch.tensor([3, 1, 3])
SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 10}


def images_of(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def varied(model: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def by_torchvision() -> nn.Module:
    return varied(torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=10))


def by_timm(**more: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    return varied(timm.models.vision_transformer.VisionTransformer(**SIZES, **more))


def attentions(model: nn.Module, images: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each layer's attention ``(N, heads, T, T)`` and its gradients, by the model's code written out."""
    if isinstance(model, torchvision.models.VisionTransformer):
        tokens = model._process_input(images)
        tokens = torch.cat([model.class_token.expand(len(images), -1, -1), tokens], dim=1)
        tokens, blocks = tokens + model.encoder.pos_embedding, list(model.encoder.layers)
        parts = [
            (each.ln_1, each.self_attention.in_proj_weight, each.self_attention.in_proj_bias)
            for each in blocks
        ]
        after = [(each.self_attention.out_proj, each.ln_2, each.mlp) for each in blocks]
    else:
        tokens, blocks = model._pos_embed(model.patch_embed(images)), list(model.blocks)
        parts = [(each.norm1, each.attn.qkv.weight, each.attn.qkv.bias) for each in blocks]
        after = [(each.attn.proj, each.norm2, each.mlp) for each in blocks]
    seen = []
    for (norm, weight, bias), (out, norm_2, mlp) in zip(parts, after, strict=True):
        q, k, v = (norm(tokens) @ weight.T + bias).chunk(3, dim=2)
        q, k, v = (each.reshape(*each.shape[:2], 2, 8).transpose(1, 2) for each in (q, k, v))
        seen.append((q @ k.transpose(2, 3) / 8**0.5).softmax(dim=3))
        tokens = tokens + out((seen[-1] @ v).transpose(1, 2).flatten(2))
        tokens = tokens + mlp(norm_2(tokens))
    if isinstance(model, torchvision.models.VisionTransformer):
        logits = model.heads(model.encoder.ln(tokens)[:, 0])
    else:
        logits = model.forward_head(model.norm(tokens))
    torch.testing.assert_close(logits, model(images), rtol=1e-3, atol=1e-4)
    slopes = torch.autograd.grad(logits[range(len(images)), targets].sum(), seen)
    return [(each.detach(), slope) for each, slope in zip(seen, slopes, strict=True)]


def expected(name: str, found: list[tuple[Tensor, Tensor]], image: int, rows: slice, extra: int) -> Tensor:
    """The paper's matrix R, its rows that are read, as a map."""
    eye = torch.eye(found[0][0].shape[2])
    matrix = eye
    for weights, slopes in found:
        if name == "attention-rollout":
            layer = weights[image].mean(dim=0) + eye
            matrix = layer / layer.sum(dim=1, keepdim=True) @ matrix
        else:
            matrix = matrix + (weights[image] * slopes[image]).clamp_min(0).mean(dim=0) @ matrix
    grid = matrix[rows].mean(dim=0)[extra:].view(1, 1, 4, 4)
    return interpolate(grid, size=(32, 32), mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("name", ["attention-rollout", "generic-attention"])
@pytest.mark.parametrize("kind", ["torchvision", "timm", "registers", "all patches", "patches and registers"])
@pytest.mark.parametrize("fused", [True, False])
def test_attention_methods_as_in_the_papers(name: str, kind: str, fused: bool) -> None:
    more, rows, extra = {
        "torchvision": ({}, slice(0, 1), 1),
        "timm": ({}, slice(0, 1), 1),
        "registers": ({"reg_tokens": 4}, slice(0, 1), 5),
        "all patches": ({"global_pool": "avg", "class_token": False}, slice(0, None), 0),
        "patches and registers": (
            {"global_pool": "avg", "class_token": False, "reg_tokens": 4},
            slice(4, None),
            4,
        ),
    }[kind]
    model = by_torchvision() if kind == "torchvision" else by_timm(**more)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    before = state(model)
    maps = METHODS[name].explain(model, images_of(), TARGETS)
    assert state(model) == before
    found = attentions(model, images_of(), TARGETS)
    for image in range(3):
        torch.testing.assert_close(
            maps[image], expected(name, found, image, rows, extra), rtol=1e-3, atol=1e-5
        )
    alone = METHODS[name].explain(model, images_of()[1:2], TARGETS[1:2])
    torch.testing.assert_close(alone[0], maps[1], rtol=1e-4, atol=1e-6)
    other = METHODS[name].explain(model, images_of(), TARGETS + 1)
    assert torch.allclose(other, maps) == (name == "attention-rollout")


def test_a_mask_counts() -> None:
    """BEiT adds a bias per place to its attention; timm's code with and without fused steps gives the same."""
    timm = pytest.importorskip("timm")
    model = varied(timm.create_model("beit_base_patch16_224", **SIZES))
    fused = METHODS["generic-attention"].explain(model, images_of(), TARGETS)
    for block in model.blocks:
        block.attn.fused_attn = False
    torch.testing.assert_close(METHODS["generic-attention"].explain(model, images_of(), TARGETS), fused)


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=10).eval()


def two_streams() -> nn.Module:
    """Attention among the patches, and beside it among these and one token more."""

    class Streams(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(images).flatten(2).mT
            both = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
            small, large = (
                scaled_dot_product_attention(each[:, None], each[:, None], each[:, None])[:, 0]
                for each in (tokens, both)
            )
            return self.head(small.mean(dim=1) + large[:, 0])

    return Streams().eval()


@pytest.mark.parametrize("name", ["attention-rollout", "generic-attention"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (SmallNet, "no attention between all tokens in each layer"),
        (swin, r"attention within windows \(.* x .*\), not between all tokens"),
        (two_streams, r"attention in several streams of tokens \(16 x 16, 17 x 17\), of which none has all"),
    ],
)
def test_a_model_without_global_attention_is_refused(name: str, make: Any, reason: str) -> None:
    model = make()
    before = state(model)
    with pytest.raises(XaicmpError, match=f"{name} is not for this model, because it computes {reason}; use"):
        METHODS[name].explain(model, images_of(), TARGETS)
    assert state(model) == before

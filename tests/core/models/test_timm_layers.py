"""The layer that the CAMs weigh in timm's transformers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xaicmp.core.attribution import METHODS
from xaicmp.core.models.layers import find_layer
from xaicmp.errors import XaicmpError

timm = pytest.importorskip("timm")

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
STAGED = {"img_size": 32, "window_size": 4, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
NETWORKS = {
    "vit_tiny_patch16_224": (VIT, "blocks.1.norm1"),
    "deit_tiny_distilled_patch16_224": (VIT, "blocks.1.norm1"),
    "vit_small_patch16_224 ": (VIT | {"reg_tokens": 4}, "blocks.1.norm1"),
    "vit_small_patch16_224  ": (VIT | {"global_pool": "avg", "class_token": False}, "blocks"),
    "vit_small_patch16_224   ": (VIT | {"qk_norm": True}, "blocks.1.norm1"),
    "beit_base_patch16_224": (VIT, "norm"),
    "cait_xxs24_224": (VIT, "blocks_token_only.0.norm1"),
    "swin_tiny_patch4_window7_224": (STAGED, "norm"),
    "davit_tiny": (
        {"embed_dims": (8, 16), "depths": (1, 1), "num_heads": (1, 2), "window_size": 4},
        "stages",
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layer_is_the_last_whose_tokens_of_the_image_matter(name: str) -> None:
    sizes, layer = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name.strip(), num_classes=10, **sizes).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert find_layer(model, images) == layer
    for cam in ("grad-cam", "hirescam", "xgrad-cam", "eigen-cam"):
        for layer_named in (None, layer):
            maps = METHODS[cam].explain(model, images, torch.arange(8), layer=layer_named)
            assert maps.amax() > 1e-4, cam


def test_two_streams_of_tokens_are_refused() -> None:
    sizes = {"embed_dim": (8, 16), "depth": ((1, 1, 0),), "num_heads": (2, 2), "mlp_ratio": (1, 1, 1)}
    model = timm.create_model("crossvit_tiny_240", num_classes=10, **sizes).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    with pytest.raises(XaicmpError, match=r"after patch_embed\..* leave the CAMs out"):
        find_layer(model, torch.zeros(2, 3, 240, 240))

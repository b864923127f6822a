"""Methods that ask nothing of a network but logits, or gradients, on torchvision's classifiers.

What the CAMs and the propagation rules make of these is in ``test_layers`` and ``test_propagation``.
"""

from __future__ import annotations

import pytest
import torch
from architectures import ARCHITECTURES, architecture
from small import quick
from torch import nn

from xaicmp.core.attribution import METHODS

# Those of propagation.py have rules for what they know, and are tested for what they refuse.
RULED = ("guided-backprop", "deconvolution", "deeplift", "deeplift-shap", "lrp")
PLAIN = [name for name, each in METHODS.items() if not each.needs_layer and name not in RULED]


def left_behind(model: nn.Module) -> list[object]:
    """Modes, hooks, and the tensors' versions and gradients."""
    modules = [
        (module.training, len(module._forward_hooks), len(module._forward_pre_hooks), len(vars(module)))
        for module in model.modules()
    ]
    tensors = [(each.requires_grad, each._version, each.grad is None) for each in model.parameters()]
    return [*modules, *tensors, *(each._version for each in model.buffers())]


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("name", PLAIN)
def test_any_classifier_is_explained_and_left_as_it_was(name: str, kind: str) -> None:
    model = architecture(kind)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = left_behind(model)
    (method,) = quick([f"{name}:sum"], steps=2, samples=4)
    maps = method.explain(model, images, torch.tensor([2, 7]))
    assert maps.shape == (2, 32, 32)
    assert maps.isfinite().all()
    assert maps.flatten(1).std(dim=1).max() > 0
    assert left_behind(model) == before

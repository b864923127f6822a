"""What a user may hand over as the model: any module whose layers can be observed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small import SmallNet
from torch import nn

import xaicmp
from xaicmp.errors import UsageError

METHODS = ["grad-cam", "saliency", "lrp", "captum:LayerGradCam"]
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return SmallNet()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: torch.jit.trace(SmallNet().eval(), IMAGES), "a compiled program, whose layers cannot"),
        (lambda: torch.export.export(SmallNet().eval(), (IMAGES,)).module(), "a compiled program"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), "run it once on an image"),
        (lambda: nn.Sequential(nn.LazyBatchNorm2d(), nn.Flatten()), "run it once on an image"),
        (lambda: SmallNet().to("meta"), "on the meta device.*load its weights"),
        (made_in_inference_mode, "made in inference mode.*make it outside"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_a_module_that_cannot_be_observed_is_refused(make: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(UsageError, match=f"^the model .*{said}"):
        xaicmp.compare(make(), IMAGES)
    with pytest.raises(UsageError, match=f"^the model .*{said}"):  # before its weights are looked at
        xaicmp.Running().engine(xaicmp.load_model(make()))


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compiled_within(model: nn.Module) -> nn.Module:
    model.layer4 = torch.compile(model.layer4, backend="eager")
    return model


@pytest.mark.parametrize(
    "compiled",
    [lambda model: torch.compile(model, backend="eager"), compiled_in_place, compiled_within],
    ids=["wrapped", "in place", "within"],
)
def test_a_compiled_model_is_explained_as_it_was_written(compiled: Callable[[nn.Module], nn.Module]) -> None:
    """Compiled code calls no hooks, and so had no feature maps."""
    torch.manual_seed(0)
    model = SmallNet().eval()
    expected = xaicmp.explain(model, IMAGES, methods=METHODS).maps
    again = compiled(model)
    before = again._compiled_call_impl
    found = xaicmp.explain(again, IMAGES, methods=METHODS).maps
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert again._compiled_call_impl is before

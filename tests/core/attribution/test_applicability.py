"""Which methods are for which model: what is foretold is what happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from architectures import architecture
from small import SmallNet, quick, registered, small_engine, state
from torch import Tensor, nn

import xaicmp
from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.applicability import why_not
from xaicmp.core.attribution.context import Context
from xaicmp.errors import UsageError, XaicmpError

RELUS = ["guided-backprop", "deconvolution", "guided-grad-cam"]
RULES = ["deeplift", "deeplift-shap", "lrp"]
ATTENTION = ["attention-rollout", "generic-attention"]


def context_of(model: nn.Module, layer: str | None = None) -> Context:
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Context(model, images, torch.tensor([0]), layer=layer, batch_size=2)


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("small", ATTENTION),
        ("resnet50", ATTENTION),
        ("convnext", [*RELUS, *ATTENTION]),
        ("vit", [*RELUS, *RULES]),
    ],
)
def test_what_is_foretold_is_what_happens(kind: str, refused: list[str]) -> None:
    model = SmallNet().eval() if kind == "small" else architecture(kind)
    context = context_of(model)
    before = state(model) if kind == "small" else None
    found = {name: why_not(method, context) for name, method in METHODS.items()}
    assert sorted(name for name, reason in found.items() if reason) == sorted(refused)
    assert before is None or state(model) == before
    for name in refused:
        with pytest.raises(XaicmpError, match="not for this model, because") as caught:
            quick([name], samples=2)[0].explain_in(context_of(model))
        assert f"because {found[name]}; " in str(caught.value)
        assert "\n" not in str(found[name])


def test_methods_of_many_passes_are_tried_with_one() -> None:
    passes = 0

    class Counting(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            nonlocal passes
            passes += 1
            return super().forward(images)

    context = context_of(Counting().eval())
    why_not(METHODS["grad-cam"], context)
    for name in (
        "occlusion",
        "rise",
        "kernel-shap",
        "score-cam",
        "ablation-cam",
        "integrated-gradients",
        "smoothgrad",
    ):
        passes = 0
        assert why_not(METHODS[name], context) is None
        assert 1 <= passes <= 5, name
    exact = replace(
        METHODS["integrated-gradients"], options=METHODS["integrated-gradients"].options | {"tolerance": 1e-9}
    )
    assert why_not(exact, context) is None


def test_what_a_model_itself_raises_is_a_reason_and_a_wrong_layer_is_an_error() -> None:
    class Cut(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).detach()

    context = context_of(Cut().eval())
    assert why_not(METHODS["saliency"], context) == "its logits have no gradient by the images"
    assert why_not(METHODS["occlusion"], context) is None
    with pytest.raises(UsageError, match="layer layer9: the model has no such layer"):
        why_not(METHODS["grad-cam"], context_of(SmallNet(), "layer9"))


def test_all_methods_are_those_that_apply_and_the_others_are_named_once() -> None:
    def never(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        raise XaicmpError("never is not for this model, because it is one; use another")

    said: list[str] = []
    images = torch.randn(2, 3, 32, 32)
    every = dict(METHODS)
    for name in every.keys() - {"saliency", "edge", *ATTENTION}:
        del METHODS[name]
    try:
        with registered("never", never):
            running = xaicmp.Running(remark=said.append)
            result = xaicmp.compare(small_engine().classifier, images, methods=["all"], running=running)
    finally:
        METHODS.clear()
        METHODS.update(every)
    assert [each.name for each in result.methods] == ["saliency", "edge"]
    assert said == [
        "left out as not for this model: attention-rollout, generic-attention, because it computes no attention "
        "between all tokens in each layer; never, because it is one"
    ]

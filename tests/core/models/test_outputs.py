"""Outputs that are not one row of logits, and what is made of them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from small import SmallNet, quick
from torch import Tensor, nn
from torch.nn.functional import dropout

import xaicmp
from xaicmp.core.attribution import METHODS
from xaicmp.core.models.outputs import Adapted, with_logits
from xaicmp.errors import XaicmpError

Pair = namedtuple("Pair", ["logits", "aux"])


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


class Wrapped(SmallNet):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, images: Tensor) -> Any:
        return self.wrap(super().forward(images))


CLEAR: dict[str, Callable[[Tensor], Any]] = {
    "dict": lambda logits: {"logits": logits, "features": logits[:, :3]},
    "ordered dict": lambda logits: OrderedDict(out=logits, aux=logits[:, :2]),
    "one of two": lambda logits: (logits, torch.zeros(len(logits), 3, 4, 4)),
    "list": lambda logits: [logits],
    "named tuple": lambda logits: Pair(logits, logits[:, :2]),
    "dataclass": lambda logits: Output(logits, logits[:, :2]),
}
images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", CLEAR)
def test_what_is_meant_is_found(kind: str) -> None:
    torch.manual_seed(0)
    plain = SmallNet()
    wrapped = Wrapped(CLEAR[kind])
    wrapped.load_state_dict(plain.state_dict())
    methods = ["grad-cam", "saliency", "integrated-gradients"]
    before = {name: value.clone() for name, value in wrapped.state_dict().items()}
    found = xaicmp.explain(wrapped, images, methods=methods)
    assert torch.equal(found.maps, xaicmp.explain(plain, images, methods=methods).maps)
    assert wrapped.training and all(
        torch.equal(before[name], value) for name, value in wrapped.state_dict().items()
    )


def test_one_logit_is_a_decision_between_two() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 30 * 30, 1))
    found = xaicmp.explain(net, images, methods=["saliency", "input-x-gradient"])
    z = net(images)[:, 0]
    assert found.predictions.predicted.tolist() == (z > 0).long().tolist()
    probability = torch.maximum(z.sigmoid(), 1 - z.sigmoid())
    assert torch.allclose(torch.from_numpy(found.predictions.confidence).float(), probability, atol=1e-6)
    inputs = images.clone().requires_grad_()
    gradient = torch.autograd.grad(net(inputs).sum(), inputs)[0]
    assert torch.allclose(found.maps[0], gradient.abs().amax(dim=1) / 2, rtol=1e-4)


@pytest.mark.parametrize("classes", [1, 5])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("named", [False, True])
def test_what_a_batch_of_one_squeezes_out_is_put_back(named: bool, count: int, classes: int) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 30 * 30, classes))

    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain

        def forward(self, images: Tensor) -> Any:
            logits = self.net(images).squeeze()
            return {"logits": logits} if named else logits

    methods = ["saliency", "occlusion"]
    found, expected = (xaicmp.explain(each, images[:count], methods=methods) for each in (Squeezed(), plain))
    assert torch.equal(found.maps, expected.maps)
    assert found.predictions.predicted.tolist() == expected.predictions.predicted.tolist()


UNCLEAR: dict[str, Callable[[Tensor], Any]] = {
    "segmentation": lambda logits: {"out": torch.zeros(len(logits), 3, 8, 8)},
    "detection": lambda logits: [{"boxes": torch.zeros(2, 4)} for _ in logits],
    "two rows": lambda logits: (logits, logits),
    "maps": lambda logits: torch.zeros(len(logits), 3, 8, 8),
    "a number": lambda logits: 3.0,
    "a loss": lambda logits: logits.mean(),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_what_is_not_clear_is_refused(kind: str) -> None:
    with pytest.raises(XaicmpError, match=r"not one row of logits.*package.module:function"):
        xaicmp.explain(Wrapped(UNCLEAR[kind]), images, methods=["saliency"])


def test_a_score_of_ones_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_scores.py").write_text(
        "def third(output):\n    return output['out'][:, 3].mean(dim=(1, 2))\n"
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3))

    class Segments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"out": self.net(images)}

    found = xaicmp.explain(Segments(), images, "my_scores:third", ["saliency"])
    inputs = images.clone().requires_grad_()
    gradient = torch.autograd.grad(net(inputs)[:, 3].mean(dim=(1, 2)).sum(), inputs)[0]
    assert torch.allclose(found.maps[0], gradient.abs().amax(dim=1))


def test_a_model_that_fails_says_so() -> None:
    with pytest.raises(
        XaicmpError,
        match=r"the model fails on images of 3 channels, 32 x 32: .*; give its input_size, or a model that",
    ):
        xaicmp.explain(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), images, methods=["saliency"])


def test_names_stay_and_modes_come_back() -> None:
    inner = Wrapped(CLEAR["dict"]).train()
    adapted = with_logits(inner, images[:1])
    assert isinstance(adapted, Adapted)
    assert [name for name, _ in adapted.named_parameters()] == [name for name, _ in inner.named_parameters()]
    assert inner.training
    adapted.eval()(images[:1])
    assert inner.training is True and not next(inner.children()).training  # as eval() of the outside asks


def leave(logits: Tensor) -> Tensor:
    raise SystemExit(3)


NO_LOGITS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "classes": (lambda logits: logits.argmax(dim=1), r"\(2,\) of type int64; it needs logits"),
    "whole numbers": (lambda logits: logits.long(), "of type int64"),
    "truths": (lambda logits: logits > 0, "of type bool"),
    "complex": (lambda logits: torch.complex(logits, logits), "of type complex64"),
    "sparse": (lambda logits: logits.to_sparse(), "of type sparse"),
    "an exit": (leave, "the model fails on images of 3 channels, 32 x 32: SystemExit: 3"),
}


@pytest.mark.parametrize("kind", NO_LOGITS)
def test_what_is_no_logits_is_refused(kind: str) -> None:
    wrap, said = NO_LOGITS[kind]
    with pytest.raises(XaicmpError, match=said):
        xaicmp.explain(Wrapped(wrap), images, methods=["occlusion"])


def through_numpy(logits: Tensor) -> Tensor:
    return torch.from_numpy(logits.detach().numpy())


@pytest.mark.parametrize("method", METHODS)
def test_without_a_gradient_methods_that_need_none_explain(method: str) -> None:
    """A quantised network, or one that leaves torch on its way, can be asked and cannot be differentiated."""
    model = Wrapped(through_numpy).eval()
    (each,) = quick([method], steps=2, samples=2)
    if each.family in ("perturbation", "model-free"):
        expected = xaicmp.explain(SmallNet().eval(), images, methods=[each]).maps
        torch.testing.assert_close(xaicmp.explain(model, images, methods=[each]).maps, expected)
        return
    with pytest.raises(XaicmpError, match=r"is not for this model|has no feature map|there is no") as refused:
        xaicmp.explain(model, images, methods=[each])
    assert "\n" not in str(refused.value)


def test_whatever_a_model_raises_in_a_pass_of_a_method_is_one_line() -> None:
    class Moody(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 6:
                raise LookupError("too\nmany")
            return super().forward(images)

    said = r"^Occlusion is not for this model, because it fails on it: LookupError: too many; leave occlusion out$"
    with pytest.raises(XaicmpError, match=said):
        xaicmp.explain(Moody(), images, methods=["occlusion"])


ODD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "noise": (lambda logits: logits + torch.randn_like(logits), "differ from pass to pass"),
    "dropout": (lambda logits: dropout(logits, training=True), "differ from pass to pass"),
    "batch": (lambda logits: logits - logits.mean(dim=0) / 2, "with the other images in its batch"),
    "softmax": (lambda logits: logits.softmax(dim=1), "puts out probabilities"),
    "log softmax": (lambda logits: logits.log_softmax(dim=1), ""),
    "rounding": (lambda logits: logits * (1 + 1e-5 * torch.rand(())), ""),
    "one": (lambda logits: logits[:, :1].sigmoid(), ""),
    "zeros": (lambda logits: 0 * logits, ""),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_about_logits_is_said_once(kind: str) -> None:
    wrap, expected = ODD[kind]
    told: list[str] = []
    running = xaicmp.Running(remark=told.append)
    result = xaicmp.compare(Wrapped(wrap), images, methods=["saliency", "occlusion"], running=running)
    result.rerun()
    assert len(told) == bool(expected)
    assert expected in "".join(told)


def test_another_checkpoint_of_a_model_with_other_outputs() -> None:
    """Once its output was taken for logits, which it is not."""
    first, second = Wrapped(CLEAR["dict"]), SmallNet(1)
    result = xaicmp.compare(first, images, methods=["grad-cam", "saliency"])
    other = Wrapped(CLEAR["dict"])
    other.load_state_dict(second.state_dict())
    found = result.against(other).summary("pearson", "saliency")
    assert found == xaicmp.compare(SmallNet(), images, methods=["grad-cam", "saliency"]).against(
        second
    ).summary("pearson", "saliency")
    assert result.checkpoints([other]).names

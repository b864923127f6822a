"""A network's output as one row of logits per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import fields, is_dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from xaicmp.core.machine.foreign import foreign
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.guard import copied, unchanged
from xaicmp.core.models.sources import find_object
from xaicmp.errors import UsageError, XaicmpError, arg

LOGITS = ("logits", "logit", "output", "out")
"""Names under which models return their logits."""

Score = Callable[[Any], Tensor]
SCORE = ("score",)
"""The only class of a model whose output is turned into a score."""


Remark = Callable[[str], None]


def with_logits(module: nn.Module, example: Tensor, remark: Remark = lambda message: None) -> nn.Module:
    """``module``, wrapped if its input must be a copy, or if its output must be turned into logits ``(N, C)``.

    Of several outputs, the one called ``logits`` is taken, else the only one that is ``(N, C)``. One logit z per image
    becomes two, -z/2 and z/2, whose softmax is the sigmoid of z. A dimension that the module squeezes out of a batch of
    one is put back. A module gets a contiguous copy of its input where it writes into it, or wants views of it that
    channels last does not allow.

    Args:
        module: in any mode; it is left as it was found.
        example: some images for it, ``(N, 3, H, W)``.
        remark: told if the logits of an image are probabilities, or are not of the image alone.

    Raises:
        UsageError: it is no module whose layers can be observed, or has no values yet.
        XaicmpError: the module fails on the images, or which output is meant is not clear.
    """
    check_module(module)
    size = " x ".join(map(str, example.shape[2:]))
    way = f"give its {arg('input_size')}, or a model that takes such images alone"
    if any(each.is_floating_point() and each.dtype != torch.float32 for each in module.parameters()):
        way = "images are float32, so make the model float32 too, with model.float()"

    def outputs(module: nn.Module) -> dict[int, Any]:
        with foreign(f"the model fails on images of 3 channels, {size}", way):
            return _outputs(module, example[:1])

    try:
        found = outputs(module)
    except XaicmpError:
        module = Adapted.copying(module)
        found = outputs(module)
    if not (isinstance(module, Adapted) or all(map(is_plain, found.values()))):
        module = Adapted(module)
        found = {count: module.of(output, count) for count, output in found.items()}
    for count, logits in found.items():
        if len(logits) != count:
            raise XaicmpError(
                f"the model puts out {tuple(logits.shape)} for {count} images; it needs a row for each"
            )
    if 2 in found and _apart(found[2][:1], found[1]):
        alone = _apart(outputs(module)[1], found[1])
        how = "from pass to pass" if alone else "with the other images in its batch"
        remark(f"the model's logits of an image differ {how}, and so do its maps")
    if _are_probabilities(found[1]):
        remark(
            "the model puts out probabilities, and these are explained; where one is near 1 its gradient vanishes, and "
            "the confidence is too low. Leave out its softmax to explain logits"
        )
    return module


def check_module(module: nn.Module) -> None:
    """Raise UsageError for a program, whose layers cannot be observed, and for parameters without a shape."""
    if isinstance(module, torch.jit.ScriptModule) or "eval" in vars(
        module
    ):  # the latter is what torch.export makes
        raise UsageError(
            "the model is a compiled program, whose layers cannot be observed; give the module it was made of"
        )
    tensors = list(chain(module.parameters(), module.buffers()))
    if any(map(is_lazy, tensors)):
        raise UsageError(
            "the model has parameters without a shape yet; run it once on an image, then give it"
        )
    if any(each.is_meta for each in tensors):
        raise UsageError("the model is on the meta device, where parameters have no values; load its weights")
    if any(each.is_inference() for each in tensors):
        raise UsageError("the model was made in inference mode, so it has no gradients; make it outside")


def is_plain(output: Any) -> bool:
    """Whether a module's output is logits ``(N, C)`` as it is."""
    return isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] > 1 and _is_score(output)


def _is_score(output: Tensor) -> bool:
    return output.is_floating_point() and output.layout == torch.strided


def _outputs(module: nn.Module, image: Tensor) -> dict[int, Any]:
    """What the module puts out for an image ``(1, 3, H, W)`` with another, and for it alone, by their number."""
    found: dict[int, Any] = {}
    other = image + torch.linspace(-1, 1, image.shape[3]).to(image)
    with unchanged(module) as lent, torch.inference_mode(False), torch.no_grad():
        for count in (2, 1):
            given = torch.cat([image, other])[:count]
            before = given._version
            # Where two do not fit, one may.
            with suppress(torch.OutOfMemoryError) if count == 2 else nullcontext():
                found[count] = lent(given)
            if given._version != before:
                raise XaicmpError("the model writes into its input")
    return found


def _apart(logits: Tensor, others: Tensor) -> bool:
    """Whether they differ by more than rounding, in whatever precision."""
    return bool((logits - others).abs().max() > 0.01 * others.abs().max())


def _are_probabilities(logits: Tensor) -> bool:
    one = (logits.float().sum(dim=1) - 1).abs().max() < 1e-3
    return logits.shape[1] > 1 and bool(one) and bool((logits >= 0).all())


class Adapted(nn.Module):
    """A module whose output is logits. Its submodules and parameters are the module's own, under their names.

    Args:
        module: whose output is something else.
        score: turns the output into a score ``(N,)``, which is then the only class; without it see ``with_logits``.
        copies: whether the module gets a contiguous copy of its input.
    """

    inner: Any
    score: Score | None
    copies: bool

    def __init__(self, module: nn.Module, score: Score | None = None, *, copies: bool = False) -> None:
        super().__init__()
        # No submodule, which would rename all others.
        self.__dict__ |= {"inner": module, "score": score, "copies": copies}
        self._modules, self._parameters, self._buffers = module._modules, module._parameters, module._buffers
        self.training = module.training

    @classmethod
    def copying(cls, module: nn.Module) -> Adapted:
        """``module`` with a contiguous copy of its input, and contiguous weights, whose layout its maps would take."""
        inner, score = (module.inner, module.score) if isinstance(module, Adapted) else (module, None)
        if not all(each.is_contiguous() for each in inner.parameters()):
            inner = copied(inner).to(memory_format=torch.contiguous_format)
        return cls(inner, score, copies=True)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` to logits ``(N, C)``."""
        if self.copies:
            images = images.clone(memory_format=torch.contiguous_format)
        before, self.inner.training = self.inner.training, self.training
        try:
            return self.of(self.inner(images), len(images))
        finally:
            self.inner.training = before

    def of(self, output: Any, count: int) -> Tensor:
        """The logits in the module's output for ``count`` images."""
        if self.score is None:
            found = logits_in(output)
            if not _is_score(found):
                form = "sparse" if found.layout != torch.strided else str(found.dtype).removeprefix("torch.")
                raise XaicmpError(
                    f"the model puts out {tuple(found.shape)} of type {form}; it needs logits, which are plain floats"
                )
            if count == 1 and found.ndim < 2:
                found = found.reshape(1, -1)
            elif found.ndim == 0:
                raise XaicmpError(f"the model puts out one number for {count} images, {ONLY_CLASSIFIERS}")
            one = found[:, None] if found.ndim == 1 else found
            return torch.cat([-one / 2, one / 2], dim=1) if one.shape[1] == 1 else one
        found = self.score(output)
        if not isinstance(found, Tensor) or found.ndim != 1:
            kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise XaicmpError(
                f"the score of the model's output is {kind}; it must be a tensor (N,), one per image"
            )
        return found[:, None]


def scored_by(classifier: Classifier, spec: str) -> Classifier:
    """The classifier whose only class is the score that ``package.module:function`` computes from the module's output.
    The function is also looked for in the working directory, and run: name only code that you trust.

    Raises:
        XaicmpError: there is no such function.
    """
    score = find_object(spec, arg("target"))
    return replace(classifier, module=Adapted(classifier.module, score), classes=SCORE)


def logits_in(output: Any) -> Tensor:
    """The logits ``(N, C)`` or ``(N,)`` in a module's output, of one image perhaps ``(C,)`` or ``()``.

    Raises:
        XaicmpError: it is not clear which they are, or there are none.
    """
    if isinstance(output, Tensor):
        if output.ndim < 3:
            return output
        raise XaicmpError(f"the model puts out {tuple(output.shape)}, {ONLY_CLASSIFIERS}")
    named = _named(output)
    for name in LOGITS:
        if isinstance(found := named.get(name), Tensor) and found.ndim < 3:
            return found
    rows = [each for each in named.values() if isinstance(each, Tensor) and each.ndim == 2]
    if len(rows) == 1:
        return rows[0]
    shapes = [f"{name}: {tuple(value.shape)}" for name, value in named.items() if isinstance(value, Tensor)]
    raise XaicmpError(
        f"the model puts out {type(output).__name__} ({', '.join(shapes[:5])}), {ONLY_CLASSIFIERS}"
    )


ONLY_CLASSIFIERS = (
    f"not one row of logits per image; detection and segmentation models need a {arg('target')} "
    "package.module:function that gives a score for each image"
)


def _named(output: Any) -> dict[str, Any]:
    """The parts of an output by name, or by number."""
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items()}
    if is_dataclass(output):
        return {each.name: getattr(output, each.name) for each in fields(output)}
    if hasattr(output, "_asdict"):
        return dict(output._asdict())
    return {str(index): each for index, each in enumerate(output)} if isinstance(output, tuple | list) else {}

"""Copies of a model whose weights are re-initialised stage by stage, and whether these are still alive.

A network with re-initialised weights under statistics that belong to others gives every image the same activations, and
its maps say nothing of methods. So each copy is one that could be trained: weights from their layer's own
distribution, no biases, normalisations that change no scale, and running statistics of its own activations.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from xaicmp.core.choices import Randomise
from xaicmp.core.models.guard import copied, unchanged
from xaicmp.errors import XaicmpError


@dataclass(frozen=True)
class Reinitialised:
    """A copy of a model.

    Attributes:
        stage: the last that was re-initialised.
        model: the copy.
        image_share: how much of its activations depends on the image, see ``measure``.
    """

    stage: str
    model: nn.Module
    image_share: float


def find_stages(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The parts of a model that are randomised together, from the output down.

    Modules that hold parameters, in the order in which the model registers them (taken for that of the forward
    pass), are grouped by the first two words of their names: a block such as ``layer4.1`` is a stage, and so is
    ``fc``. A normalisation that is not in a block goes with what is before it: ``conv1+bn1``. Parameters of the
    model itself are the first stage, called ``input``.

    Returns:
        by stage, the names of its modules.

    Raises:
        XaicmpError: the model has no parameters.
    """
    stages: list[tuple[str, list[str]]] = []
    for name, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        stage = ".".join(name.split(".")[:2]) or "input"
        if stages and stages[-1][0].split("+")[-1] == stage:
            stages[-1][1].append(name)
        elif stages and stage == name and _normalises(module):
            before, members = stages.pop()
            stages.append((f"{before}+{stage}", [*members, name]))
        else:
            stages.append((stage, [name]))
    if not stages:
        raise XaicmpError("the model has no parameters, so there is nothing to randomise; choose another")
    return {name: tuple(members) for name, members in reversed(stages)}


def reinitialised(
    model: nn.Module, images: Tensor, kind: Randomise = "cascading", seed: int = 0, draw: int = 0
) -> Iterator[Reinitialised]:
    """Copies of the model, each with another stage re-initialised, from the output down.

    Args:
        model: not changed.
        images: ``(B, 3, H, W)``, normalised: what running statistics are measured on.
        kind: ``"cascading"``: the stages above it stay re-initialised; ``"independent"``: all others stay trained.
        seed, draw: a module's weights depend on these and its name, and so are the same in both kinds.
    """
    current = model
    for stage, names in find_stages(model).items():
        current = copied(current if kind == "cascading" else model)
        for name in names:
            redraw(current.get_submodule(name), name, seed, draw)
        yield Reinitialised(stage, current, measure(current, images, names))


@torch.no_grad()
def redraw(module: nn.Module, name: str, seed: int = 0, draw: int = 0) -> None:
    """Re-initialise a module's own parameters, in place.

    What has ``reset_parameters`` is drawn by it, which makes a normalisation's weights 1; other modules' parameters
    have no distribution of their own, and each is drawn from a normal distribution fitted to its own values. Biases
    become 0, as in He et al., 2015: beside weights that shrink what they are given they would be all that is left.
    """
    entropy = int(np.random.SeedSequence([seed, draw, zlib.crc32(name.encode())]).generate_state(1)[0])
    fresh: Any = copy.deepcopy(module).cpu()  # or the draw would depend on the device
    if hasattr(module, "reset_parameters"):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(entropy)
            fresh.reset_parameters()
    else:
        generator = torch.Generator().manual_seed(entropy)
        for parameter in fresh.parameters(recurse=False):
            parameter.copy_(_fitted(parameter.double(), generator))
    for key, parameter in module.named_parameters(recurse=False):
        parameter.copy_(getattr(fresh, key) * (not key.endswith("bias")))


def _fitted(values: Tensor, generator: torch.Generator) -> Tensor:
    # Where all values are equal, as in a layer never trained, there is no spread to learn from.
    spread = values.std(correction=0).item() or 0.1
    return values.mean() + spread * torch.randn(values.shape, generator=generator, dtype=torch.float64)


@torch.no_grad()
def measure(model: nn.Module, images: Tensor, names: Sequence[str] = ()) -> float:
    """Give a model the running statistics of its own activations, and say how much of these depends on the image.

    Args:
        model: changed in its running statistics alone.
        images: ``(B, 3, H, W)``, normalised; they go through it once.
        names: modules that were re-initialised: statistics are measured from the first of these on, in the order in
            which the model registers its modules; what comes before is as it was.

    Returns:
        sum |a_i - mean_i a_i|^2 / sum |a_i|^2 over the images i, where a_i is what a stage puts out: the lowest of
        all stages and the model. 0 where one puts out the same for every image, NaN for one image.
    """
    modules, shares = dict(model.named_modules()), []
    order = list(modules)
    first = min((order.index(name) for name in names), default=len(order))

    def take_statistics(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        for kept, found in (
            (module.running_mean, values.mean(1)),
            (module.running_var, values.var(1, False)),
        ):
            assert isinstance(kept, Tensor)
            kept.copy_(found)

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor):
            flat = output.float().flatten(1)
            share = float((flat - flat.mean(0)).square().sum() / flat.square().sum())
            shares.append(share if np.isfinite(share) else 0.0)

    with unchanged(model) as lent:  # which also takes the hooks off again
        for name in order[first:]:
            if getattr(modules[name], "running_var", None) is not None:
                modules[name].register_forward_pre_hook(take_statistics)
        for name in {"", *(stage.split("+")[-1] for stage in find_stages(model))} & set(order):
            modules[name].register_forward_hook(look)
        lent(images)
    return min(shares) if len(images) > 1 else float("nan")


def _normalises(module: nn.Module) -> bool:
    return isinstance(module, (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm))

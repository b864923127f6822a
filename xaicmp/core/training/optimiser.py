"""Optimisers, and the learning rate's schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.core.training.recipe import Recipe


class Optimiser:
    """SGD with Nesterov momentum, AdamW (Loshchilov & Hutter, 2019) or, for the convolutions' filters, Muon.

    Muon (Jordan et al., 2024; ``torch.optim.Muon``) orthogonalises each update of a matrix. A filter bank
    ``(out, in, h, w)`` is the matrix ``(out, in * h * w)``; it is rescaled to the norm ``sqrt(out)`` before
    each update, so that the learning rate is the relative size of a step. Vectors, the head and, when
    ``spare`` names them, other weights take SGD. AdamW's first beta is the momentum, and vectors do not decay.

    Args:
        model: whose parameters are updated.
        recipe: which of the three, and its ``lr``, ``momentum`` and ``nesterov``; ``weight_decay`` is that of SGD
            or AdamW, with Muon of the head alone.
        spare: names of filter banks that take SGD all the same.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, spare: tuple[str, ...] = ()) -> None:
        self.lr, muon = recipe.lr, recipe.optimiser == "muon"
        self.filters: list[nn.Parameter] = []
        decay: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            filters = muon and parameter.ndim == 4 and name not in spare
            bare = recipe.optimiser != "sgd" and parameter.ndim <= 1
            into = self.filters if filters else plain if bare else decay
            into.append(parameter)
        # The same memory seen as matrices, which is all that torch's Muon takes.
        self.matrices = [nn.Parameter(_matrix(parameter.detach())) for parameter in self.filters]
        groups: list[dict[str, Any]] = [{"params": decay, "weight_decay": recipe.weight_decay}]
        if plain:
            groups.append({"params": plain, "weight_decay": 0.0})
        momentum, nesterov = recipe.momentum, recipe.nesterov and recipe.momentum > 0
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=recipe.lr, betas=(momentum, 0.999), fused=True)
            if recipe.optimiser == "adamw"
            else torch.optim.SGD(groups, lr=recipe.lr, momentum=momentum, nesterov=nesterov, fused=True)
        ]
        if self.matrices:
            self.parts.append(
                torch.optim.Muon(self.matrices, lr=recipe.lr, momentum=momentum, weight_decay=0.0, ns_steps=3)
            )

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update the parameters from their gradients, at ``factor`` times the highest learning rate."""
        for matrix, weight in zip(self.matrices, self.filters, strict=True):
            matrix.mul_(math.sqrt(len(matrix)) / matrix.norm())
            assert weight.grad is not None
            matrix.grad = _matrix(weight.grad.contiguous(memory_format=torch.channels_last))
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.lr * factor
            part.step()

    def state(self) -> list[dict[str, Any]]:
        """The state that ``restore`` takes."""
        return [part.state_dict() for part in self.parts]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Resume from ``state``."""
        for part, values in zip(self.parts, state, strict=True):
            part.load_state_dict(values)


def schedule(kind: str, share: float, warmup: float) -> float:
    """The learning rate's factor after ``share`` of the training.

    Args:
        kind: ``"one-cycle"`` (up in a line over ``warmup``, then down in a line to 0) or ``"constant"`` (1).
        share: of all steps, in [0, 1).
        warmup: share of the training, in (0, 1).
    """
    if kind == "constant":
        return 1.0
    return share / warmup if share < warmup else (1 - share) / (1 - warmup)


def _matrix(filters: Tensor) -> Tensor:
    """``(out, in, h, w)``, channels last in memory, as ``(out, h * w * in)`` without a copy."""
    return filters.permute(0, 2, 3, 1).view(len(filters), -1)

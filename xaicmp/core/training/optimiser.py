"""Optimisers, and the learning rate's way through a training."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Optimiser:
    """SGD with Nesterov momentum or, for the convolutions' filters, Muon.

    Muon (Jordan et al., 2024; ``torch.optim.Muon``) orthogonalises each update of a matrix. A filter bank
    ``(out, in, h, w)`` is the matrix ``(out, in * h * w)``; it is rescaled to the norm ``sqrt(out)`` before
    each update, so that the learning rate is the relative size of a step. Vectors, the head and, when
    ``spare`` names them, other weights take SGD.

    Args:
        model: whose parameters are updated.
        kind: ``"muon"`` or ``"sgd"``.
        lr: the highest learning rate.
        momentum: of both optimisers.
        weight_decay: of SGD; with Muon, of the head alone.
        nesterov: of SGD.
        spare: names of filter banks that take SGD all the same.
    """

    def __init__(
        self,
        model: nn.Module,
        kind: str,
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        nesterov: bool,
        spare: tuple[str, ...] = (),
    ) -> None:
        self.lr = lr
        parameters = dict(model.named_parameters())
        self.filters = [
            parameter
            for name, parameter in parameters.items()
            if kind == "muon" and parameter.ndim == 4 and name not in spare
        ]
        # The same memory seen as matrices, which is all that torch's Muon takes.
        self.matrices = [nn.Parameter(_matrix(parameter.detach())) for parameter in self.filters]
        known = {id(parameter) for parameter in self.filters}
        rest = [parameter for parameter in parameters.values() if id(parameter) not in known]
        decay = [parameter for parameter in rest if kind == "sgd" or parameter.ndim > 1]
        plain = [parameter for parameter in rest if kind == "muon" and parameter.ndim == 1]
        groups: list[dict[str, Any]] = [{"params": decay, "weight_decay": weight_decay}]
        if plain:
            groups.append({"params": plain, "weight_decay": 0.0})
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0, fused=True)
        ]
        if self.matrices:
            self.parts.append(
                torch.optim.Muon(self.matrices, lr=lr, momentum=momentum, weight_decay=0.0, ns_steps=3)
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
        """What ``restore`` takes."""
        return [part.state_dict() for part in self.parts]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go on from ``state``."""
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

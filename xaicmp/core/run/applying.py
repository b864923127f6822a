"""Which methods apply to an engine's model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xaicmp.core.attribution import Method
from xaicmp.core.attribution.applicability import why_not
from xaicmp.core.attribution.context import Context
from xaicmp.core.run.engine import Engine


def reasons_against(engine: Engine, size: tuple[int, int], methods: Sequence[Method]) -> dict[str, str]:
    """By the names of those of ``methods`` that are not for the model: why not, see ``why_not``.

    They are tried on an image of noise of height and width ``size``.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (1, 3, *size), generator=generator, dtype=torch.uint8)
    inputs = engine.inputs(noise)
    engine.settle(inputs)
    context = Context(
        engine.model(inputs),
        inputs,
        torch.zeros(1, dtype=torch.int64, device=inputs.device),
        layer=engine.layer,
        batch_size=2,
        mean=engine.classifier.mean,
        std=engine.classifier.std,
        original=engine.module,
    )
    found = {method.name: why_not(method, context) for method in methods}
    return {name: reason for name, reason in found.items() if reason is not None}


def applying(engine: Engine, size: tuple[int, int], methods: Sequence[Method]) -> tuple[Method, ...]:
    """Those of ``methods`` that apply to the model; the others are named in one remark."""
    against = reasons_against(engine, size, methods)
    names: dict[str, list[str]] = {}
    for name, reason in against.items():
        names.setdefault(reason, []).append(name)
    if names:
        parts = [f"{', '.join(each)}, because {reason}" for reason, each in names.items()]
        engine.remark(f"left out as not for this model: {'; '.join(parts)}")
    return tuple(method for method in methods if method.name not in against)

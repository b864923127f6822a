"""How a model is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from xaicmp.core.arguments import one_of, whole_number
from xaicmp.core.attribution import METHODS, Method
from xaicmp.core.choices import Precision
from xaicmp.core.images.selection import Selection
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.run.comparing import Keep
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explainer import Target
from xaicmp.core.run.journal import Journal
from xaicmp.core.run.provenance import plan_of
from xaicmp.errors import UsageError, arg, told

FAST = {
    64: {"steps": 8, "rule": "middle", "end": 1 / 32},
    math.inf: {"steps": 24, "rule": "middle", "end": 1 / 32},
}
"""Options with which Integrated Gradients comes near its 32 right steps, up to a height or width of images."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a model is run.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; None for where the model is.
        precision: ``"float32"`` or ``"bf16"``: what the model computes in.
        batch_size: the most images in one pass through the model; 0 for what is fast and fits into memory.
        seed: of every random draw of the methods.
        layer: the name of the layer whose maps the CAMs weigh; None for the last with more than one pixel.
        fast: whether what comes out may be approximate: the methods' own passes are in bfloat16 where the hardware has it,
            and Integrated Gradients with its default options takes fewer steps, see ``quickened``.
        progress: told ``(stage, done, total)``, as in ``("explaining", 3.2, 20)``; methods weigh by what they cost.
        remark: told in one line what the user should know.
        journal: keeps explanations on disk as they come, see ``Journal``.
        processes: those that share the work, see ``processes``.
        keep: given each batch of explanations.

    Raises:
        UsageError: a value is of another kind.
    """

    device: str | torch.device | None = None
    precision: Precision = "float32"
    batch_size: int = 0
    seed: int = 0
    layer: str | None = None
    fast: bool = False
    progress: Progress = no_progress
    remark: Callable[[str], None] = lambda message: None
    journal: Journal | None = None
    processes: Processes = ALONE
    keep: Keep | None = None

    def __post_init__(self) -> None:
        one_of("precision", self.precision, Precision)
        numbers = {name: whole_number(name, getattr(self, name)) for name in ("batch_size", "seed")}
        if not isinstance(self.layer, str | None):
            raise UsageError(f"{arg('layer')} {self.layer!r:.80}: give the name of a module of the model")
        for name, value in {**numbers, "remark": told(self.remark)}.items():
            object.__setattr__(self, name, value)

    def keeping(
        self,
        path: Path,
        classifier: Classifier,
        select: Selection,
        methods: Sequence[Method],
        targets: Target = "predicted",
    ) -> Running:
        """The same with what is explained kept beside the result ``path`` that is to come, and resumed from there.

        The arguments are those that ``compare`` is given.

        Raises:
            UsageError: what is there is of another run.
        """
        plan = plan_of(self.engine(classifier), select, methods, targets)
        return replace(self, journal=Journal(path, plan, resume=True))

    def engine(self, classifier: Classifier) -> Engine:
        """The classifier, ready to be run so."""
        return Engine(
            classifier,
            self.device,
            self.precision,
            self.batch_size,
            self.seed,
            self.layer,
            self.fast,
            self.remark,
        )


def quickened(methods: Sequence[Method], size: tuple[int, int]) -> tuple[Method, ...]:
    """The same, but where Integrated Gradients has its default steps and rule it takes those of ``FAST``.

    Args:
        methods: of any kind.
        size: height and width of the images.
    """
    options = next(each for side, each in FAST.items() if max(size) <= side)
    usual = METHODS["integrated-gradients"].options
    return tuple(
        replace(each, options=each.options | options)
        if each.name == "integrated-gradients" and all(each.options[key] == usual[key] for key in options)
        else each
        for each in methods
    )

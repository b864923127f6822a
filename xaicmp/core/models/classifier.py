"""A classifier: a module, and what must be known to give it images and to name what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from xaicmp.core.images.tensors import normalise
from xaicmp.errors import UsageError


@dataclass(frozen=True, eq=False, repr=False)
class Classifier:
    """A model to explain.

    Attributes:
        module: images ``(N, 3, H, W)`` to logits ``(N, C)``. It is run in eval mode and left as it was found.
        classes: the names of its C outputs, in order; empty where nobody named them, and then they are counted.
        mean, std: what images scaled to [0, 1] are normalised by, one value or one per channel. Without them images
            are taken as they are.
        input_size: height and width of its images; None for any.
        name: as captions have it; by default the module's class.
        provenance: where it comes from, as plain values: ``path``, ``sha256``, ``architecture``, ``test_accuracy``.

    Raises:
        UsageError: ``module`` is no ``nn.Module``, or ``mean`` and ``std`` do not go together.
    """

    module: nn.Module
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    input_size: tuple[int, int] | None = None
    name: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise UsageError(f"the model is a {type(self.module).__name__}; give a torch.nn.Module")
        for name in ("classes", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise UsageError("mean and std: give as many of each, and each std above 0")
        if not self.name:
            object.__setattr__(self, "name", type(self.module).__name__)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 ``(N, 3, H, W)`` to float32 of the same shape: scaled to [0, 1], minus the mean, over the deviation."""
        return normalise(pixels, self.mean, self.std)

    def __repr__(self) -> str:
        size = "any size" if self.input_size is None else f"{self.input_size[0]} x {self.input_size[1]}"
        return f"Classifier({self.name}, {len(self.classes) or 'unnamed'} classes, images of {size})"

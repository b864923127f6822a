"""A classifier: a module, and what must be known to give it images and to name what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from xaicmp.core.arguments import real_number
from xaicmp.core.choices import INTERPOLATIONS, Interpolation
from xaicmp.core.images.tensors import normalise
from xaicmp.errors import UsageError, arg

NOT_NORMALISED = (0.0,)
"""The mean of a model that does not say how its images are normalised."""
MOST_SIDE = 10_000
"""Height and width of images must be below this, in pixels."""


@dataclass(frozen=True, eq=False, repr=False)
class Classifier:
    """A model to explain.

    Attributes:
        module: images ``(N, 3, H, W)`` to logits ``(N, C)``. It is run in eval mode and left as it was found; of what
            ``torch.compile`` returns, the module inside.
        classes: the names of its C outputs, in order; if empty, outputs are called by their numbers.
        mean, std: what images scaled to [0, 1] are normalised by, one value or one per channel. Without them images
            are taken as they are.
        input_size: height and width of its images, or one number for both; None for any.
        name: what captions call it; by default the module's class.
        provenance: where it comes from, as plain values: ``path``, ``sha256``, ``architecture``, ``weights``,
            ``test_accuracy``.
        crop_pct: the share of a photograph's shorter side that it sees, the middle one.
        interpolation: how photographs are resized for it, ``"nearest"``, ``"bilinear"``, ``"bicubic"`` or ``"lanczos"``.
        test_files: of a network that ``train`` made of a folder, the files there that it was tested on.

    Raises:
        UsageError: ``module`` is no ``nn.Module``, or ``mean`` and ``std`` do not go together.
    """

    module: nn.Module
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = NOT_NORMALISED
    std: tuple[float, ...] = (1.0,)
    input_size: tuple[int, int] | None = None
    name: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    crop_pct: float = 1.0
    interpolation: Interpolation = "bilinear"
    test_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise UsageError(f"the model is a {type(self.module).__name__}; give a torch.nn.Module")
        if isinstance(written := getattr(self.module, "_orig_mod", None), nn.Module):  # torch.compile's
            object.__setattr__(self, "module", written)
        for name, times in (("mean", 1), ("std", 1), ("input_size", 2)):
            value = getattr(self, name)
            if isinstance(value, int | float) or (times == 2 and value is not None and len(value) == 1):
                object.__setattr__(
                    self, name, (value if isinstance(value, int | float) else value[0],) * times
                )
        for name in ("classes", "mean", "std", "input_size", "test_files"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        finite = all(
            math.isfinite(real_number(name, each)) for name in ("mean", "std") for each in getattr(self, name)
        )
        if (
            len(self.mean) != len(self.std)
            or len(self.mean) not in (1, 3)
            or not finite
            or min(self.std) <= 0
        ):
            raise UsageError(
                f"{arg('mean')} and {arg('std')}: give 1 or 3 finite values of each, and each std above 0"
            )
        size = self.input_size
        if size is not None and not (len(size) == 2 and all(0 < side < MOST_SIDE for side in size)):
            raise UsageError(
                f"{arg('input_size')}: give height and width, each above 0 and below {MOST_SIDE:,}"
            )
        if not 0 < self.crop_pct <= 1:
            raise UsageError(f"{arg('crop_pct')} {self.crop_pct:g}: give a share above 0 and up to 1")
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(
                f"{arg('interpolation')} {self.interpolation}: choose {', '.join(INTERPOLATIONS)}"
            )
        if not self.name:
            object.__setattr__(self, "name", type(self.module).__name__)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 ``(N, 3, H, W)`` to float32 of the same shape: scaled to [0, 1], minus the mean, over the deviation."""
        return normalise(pixels, self.mean, self.std)

    @property
    def preprocessing(self) -> str:
        """How a photograph is prepared for the network, in a sentence."""
        size = "any size" if self.input_size is None else f"{self.input_size[0]} x {self.input_size[1]}"
        values = " and ".join(" ".join(f"{each:g}" for each in part) for part in (self.mean, self.std))
        return (
            f"{size}, the middle {100 * self.crop_pct:.3g}% of the shorter side, {self.interpolation}; "
            f"mean and std {values}"
        )

    def __repr__(self) -> str:
        size = "any size" if self.input_size is None else f"{self.input_size[0]} x {self.input_size[1]}"
        return f"Classifier({self.name}, {len(self.classes) or 'unnamed'} classes, images of {size})"

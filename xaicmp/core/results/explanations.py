"""A batch of images with their maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.results.predictions import Predictions


@dataclass(frozen=True)
class Explanations:
    """A batch of images with their maps.

    Attributes:
        predictions: which images, and what the model says of them.
        pixels: uint8 ``(N, 3, H, W)``.
        methods: the names of the M methods.
        maps: float32 ``(M, N, H, W)``, on the CPU.
        completeness: by method that promises it, the gap ``(N,)``, see ``attribution.Explanation``.
        grids: by method whose maps are coarser than the image, their true height and width.
        excluded: ids of images that were left out because the model's logits on them are not finite.
        repeated: ids of images that were left out because the same image came before, for the same class.
        other_maps: float32 ``(2, M, N, H, W)``, of the same images for a drawn class and for the runner-up, see
            ``explainer.other_classes``; NaN where there is no other. None where nobody asked for them.
        other_targets: int64 ``(2, N)``, these classes; None where there are none.
    """

    predictions: Predictions
    pixels: Tensor
    methods: tuple[str, ...]
    maps: Tensor
    completeness: dict[str, np.ndarray] = field(default_factory=dict)
    grids: dict[str, tuple[int, int]] = field(default_factory=dict)
    excluded: tuple[int, ...] = ()
    other_maps: Tensor | None = None
    other_targets: np.ndarray | None = None
    repeated: tuple[int, ...] = ()

    def rows(self, rows: slice | np.ndarray) -> Explanations:
        """Those of a part of the images."""
        gaps = {name: gap[rows] for name, gap in self.completeness.items()}
        chosen, pixels, maps = self.predictions.rows(rows), self.pixels[rows], self.maps[:, rows]
        others = None if self.other_maps is None else self.other_maps[:, :, rows]
        classes = None if self.other_targets is None else self.other_targets[:, rows]
        own = replace(self, predictions=chosen, pixels=pixels, maps=maps, completeness=gaps)
        return replace(own, other_maps=others, other_targets=classes)

    @staticmethod
    def join(parts: Sequence[Explanations]) -> Explanations:
        """All of several, which are of the same methods; of those without an image, nothing but that."""
        excluded = tuple(chain.from_iterable(part.excluded for part in parts))
        repeated = tuple(chain.from_iterable(part.repeated for part in parts))
        parts = [part for part in parts if len(part.predictions)] or parts[:1]
        gaps = parts[0].completeness
        others = [part.other_maps for part in parts if part.other_maps is not None]
        classes = [part.other_targets for part in parts if part.other_targets is not None]
        return replace(
            parts[0],
            predictions=Predictions.join([part.predictions for part in parts]),
            pixels=torch.cat([part.pixels for part in parts]),
            maps=torch.cat([part.maps for part in parts], dim=1),
            completeness={name: np.concatenate([part.completeness[name] for part in parts]) for name in gaps},
            excluded=excluded,
            repeated=repeated,
            other_maps=torch.cat(others, dim=2) if others else None,
            other_targets=np.concatenate(classes, axis=1) if len(classes) == len(parts) else None,
        )

"""Which images, and what the model says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNKNOWN = "unknown"
"""The class of images of which nobody said, and the group of those that fall into none."""


@dataclass(frozen=True)
class Predictions:
    """The selected images and what the model says of them.

    Attributes:
        ids: int64 ``(N,)``, rows of the image set.
        labels: int64 ``(N,)``, -1 where it is unknown.
        predicted: int64 ``(N,)``, the class with the highest logit; of maps from a file -1 where it is unknown.
        confidence: float64 ``(N,)``, the softmax probability of that class.
        targets: int64 ``(N,)``, the class that is explained.
    """

    ids: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def wrong(self) -> np.ndarray:
        """Bool ``(N,)``: which were taken for something else, as far as that is known."""
        return (self.labels >= 0) & (self.predicted >= 0) & (self.predicted != self.labels)

    def rows(self, rows: slice | np.ndarray) -> Predictions:
        """A part of them."""
        return Predictions(*(getattr(self, name)[rows] for name in Predictions.__dataclass_fields__))

    @staticmethod
    def join(parts: Sequence[Predictions]) -> Predictions:
        """All of several."""
        names = Predictions.__dataclass_fields__
        return Predictions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

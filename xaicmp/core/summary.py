"""From values an image to a mean and its spread over the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean and spread of one statistic over the images where it is defined.

    Attributes:
        mean: NaN if it is defined nowhere.
        std: population standard deviation (ddof 0), NaN likewise.
        n: images where it is defined.
        undefined: images where it is not.
        tied: images where the choice of top pixels had to break a tie; None where that cannot be.
    """

    mean: float
    std: float
    n: int
    undefined: int
    tied: int | None = None


def summarise(values: np.ndarray, tied: np.ndarray | None = None) -> Summary:
    """Summarise values ``(N,)``, NaN where undefined, and flags ``(N,)`` of ties."""
    defined = values[~np.isnan(values)]
    mean, std = (float(defined.mean()), float(defined.std())) if len(defined) else (float("nan"),) * 2
    return Summary(
        mean, std, len(defined), len(values) - len(defined), None if tied is None else int(tied.sum())
    )

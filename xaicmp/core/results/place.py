"""Where the agreement on one image stands among those that say nothing of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from xaicmp.core.agreement.controls import LEVEL


@dataclass(frozen=True)
class Place:
    """Where the agreement on one image stands among those of unrelated maps: other images', or shifted ones.

    Attributes:
        p: the share of them, itself included, that agree as well or better; NaN where it is undefined.
        among: how many they are, itself included.
    """

    p: float
    among: int

    @property
    def rank(self) -> int | None:
        """1 for the highest agreement; None where it is undefined."""
        return None if math.isnan(self.p) or self.among < 1 else round(self.p * self.among)

    @property
    def above(self) -> float:
        """1 if it is among the highest 5%, 0 if not; NaN where it is undefined, or so few others cannot show it."""
        return math.nan if self.rank is None or 1 / self.among > LEVEL else float(self.p <= LEVEL)

    @property
    def said(self) -> str:
        """What that shows of this image, in three words; of too few others with the lowest p that there can be."""
        if self.rank is None:
            return "undefined"
        if math.isnan(self.above):
            return f"too few others (smallest p {1 / self.among:.2g})"
        return "above the others" if self.above else "not told apart"

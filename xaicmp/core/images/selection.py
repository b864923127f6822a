"""Which images are selected."""

from __future__ import annotations

from dataclasses import dataclass, field

from xaicmp.core.choices import Only
from xaicmp.errors import UsageError, arg


@dataclass(frozen=True)
class Selection:
    """Which images: the first ``n`` that ``only`` admits, or exactly those in ``ids``, in that order.

    An image counts once, however often ``ids`` names it: where it comes first.

    Attributes:
        n, ids, only: as given, but for repeated ids.
        repeated: how many ids were left out because they came before.

    Raises:
        UsageError: both or neither of ``n`` and ``ids``, ``n`` below 1, an id below 0.
    """

    n: int | None = None
    ids: tuple[int, ...] | None = None
    only: Only = "correct"
    repeated: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        if (self.n is None) == (self.ids is None):
            raise UsageError(f"give either {arg('n')} or {arg('ids')}, not both")
        if self.n is not None and self.n < 1:
            raise UsageError(f"{arg('n')} {self.n}: ask for at least 1 image")
        if self.ids is not None:
            if not self.ids:
                raise UsageError(f"{arg('ids')} names no image; give one or more, as in {arg('ids')} 3 7 12")
            if min(self.ids) < 0:
                raise UsageError(f"{arg('ids')} {min(self.ids)}: ids count from 0")
            once = tuple(dict.fromkeys(self.ids))
            object.__setattr__(self, "repeated", len(self.ids) - len(once))
            object.__setattr__(self, "ids", once)

    @property
    def count(self) -> int:
        """How many images are asked for."""
        return len(self.ids) if self.ids is not None else self.n or 0

    def fits(self, size: int) -> bool:
        """Whether the first ``size`` images may suffice (with ``n``, the model has the last word)."""
        return max(self.ids) < size if self.ids is not None else (self.n or 0) <= size

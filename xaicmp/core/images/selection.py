"""Which images are selected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from xaicmp.core.arguments import one_of, whole_number
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
        UsageError: both or neither of ``n`` and ``ids``, ``n`` below 1, an id below 0, or none of these.
    """

    n: int | None = None
    ids: tuple[int, ...] | None = None
    only: Only = "correct"
    repeated: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        if (self.n is None) == (self.ids is None):
            raise UsageError(f"give either {arg('n')} or {arg('ids')}, not both")
        one_of("only", self.only, Only)
        if self.n is not None:
            object.__setattr__(self, "n", whole_number("n", self.n, 1))
        if self.ids is not None:
            if not isinstance(self.ids, Iterable):
                raise UsageError(f"{arg('ids')} {self.ids!r:.80}: give a list of ids")
            ids = [whole_number("ids", each) for each in self.ids]
            if not ids:
                raise UsageError(f"{arg('ids')} names no image; give one or more, as in {arg('ids')} 3 7 12")
            once = tuple(dict.fromkeys(ids))
            object.__setattr__(self, "repeated", len(ids) - len(once))
            object.__setattr__(self, "ids", once)

    @property
    def count(self) -> int:
        """How many images are asked for."""
        return len(self.ids) if self.ids is not None else self.n or 0

    def fits(self, size: int) -> bool:
        """Whether the first ``size`` images may suffice (with ``n``, the model has the last word)."""
        return max(self.ids) < size if self.ids is not None else (self.n or 0) <= size

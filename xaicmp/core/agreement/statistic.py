"""How far two batches of maps agree, image by image.

A statistic does what needs one map only once per method (``prepare``), and the rest once per pair (``compare``).
Everything is float64 and batched over the images, and over the methods where there are several. A value that is
not defined is NaN; a constant map has no structure, and so no statistic is defined.

A statistic is added in one place: where its formula is, ``register(Statistic(...))`` enters it in ``STATISTICS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

CELLS = 2**18
"""Values that are worked on at once."""


@dataclass(frozen=True, repr=False)
class Prepared:
    """What a statistic needs of one method's maps ``(N, H, W)``, or of several methods' ``(N, M, H, W)``.

    Attributes:
        values: tensors ``(N, ...)`` or ``(N, M, ...)``, of the statistic's own choice.
        undefined: bool ``(N,)`` or ``(N, M)``, whether the map has no statistic with any other.
        tied: bool likewise, whether pixels had to be chosen among equals; they go by the lower index.
    """

    values: tuple[Tensor, ...]
    undefined: Tensor
    tied: Tensor

    @classmethod
    def of(cls, undefined: Tensor, *values: Tensor, tied: Tensor | None = None) -> Prepared:
        """These values; without ``tied``, of maps whose pixels need not be chosen."""
        return cls(values, undefined, torch.zeros_like(undefined) if tied is None else tied)

    def __repr__(self) -> str:
        undefined, tied = int(self.undefined.sum()), int(self.tied.sum())
        return f"Prepared({self.undefined.numel()} maps, {undefined} undefined, {tied} tied)"


def take(prepared: Prepared, rows: Any) -> Prepared:
    """The images ``rows`` (or what else indexes a tensor), in that order: as if only their maps had been prepared."""
    values = tuple(each[rows] for each in prepared.values)
    return Prepared(values, prepared.undefined[rows], prepared.tied[rows])


def chunks(values: Tensor) -> list[slice]:
    """Images ``(N, ...)`` in parts that the processor's cache holds; no value depends on how they fall."""
    most = max(1, CELLS // max(1, values[:1].numel()))
    return [slice(start, start + most) for start in range(0, len(values), most)]


def zero(top: float, pixels: int) -> float:
    """The chance level of a correlation."""
    return 0.0


def unknown(top: float, pixels: int) -> None:
    """The chance level where it depends on the maps."""


@dataclass(frozen=True, repr=False)
class Statistic:
    """A statistic and how to read it.

    Attributes:
        name: as it is asked for, and in files.
        label: as in tables, see ``title``.
        source: where it is defined.
        prepare: ``(maps (..., H, W), top) -> Prepared``.
        formula: ``(values_a, values_b) -> (N,)`` float64, where both are defined.
        low, high: the range of its values.
        chance: its expected value for two unrelated maps, every arrangement of whose pixels is equally likely,
            given the share of top pixels and the number of pixels; None where that depends on the maps.
        higher: whether higher is more agreement.
        uses_top: whether it looks at the top pixels only, and so depends on their share.
        products: whether ``formula`` takes ``(N, A, ...)`` and ``(N, B, ...)`` instead, and gives ``(N, A, B)``,
            each of A with each of B by one matrix product.
        moves: whether a map that is rolled, and not tied, has the same values as before, of which the first has
            one per pixel and is rolled with it.
        top: a share of its own, whatever is asked for, see ``at``.
    """

    name: str
    label: str
    source: str
    prepare: Callable[[Tensor, float], Prepared]
    formula: Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], Tensor]
    low: float = 0
    high: float = 1
    chance: Callable[[float, int], float | None] = unknown
    higher: bool = True
    uses_top: bool = False
    products: bool = False
    moves: bool = True
    top: float | None = None

    def __repr__(self) -> str:
        return f"Statistic({self.name!r}, {self.low:g} to {self.high:g})"

    @property
    def limits(self) -> tuple[float, float]:
        """The range of its values."""
        return self.low, self.high

    def title(self, top: float) -> str:
        """As in tables, with the share of top pixels that it looks at."""
        return f"{self.label}@{100 * (self.top or top):g}%" if self.uses_top else self.label

    def at(self, top: float) -> Statistic:
        """The same at a share of top pixels of its own: ``iou@10%``."""
        return replace(
            self,
            name=f"{self.name}@{100 * top:g}%",
            chance=lambda _, pixels: self.chance(top, pixels),
            prepare=lambda maps, _: self.prepare(maps, top),
            top=top,
        )

    def compare(self, a: Prepared, b: Prepared) -> Tensor:
        """The statistic of each image, of one method each, float64 ``(N,)``; NaN where it is not defined."""
        a, b = (take(each, (slice(None), None)) for each in (a, b))
        return self.compare_pairs(a, b, torch.zeros(2, 1, dtype=torch.int64))[:, 0]

    def compare_pairs(self, a: Prepared, b: Prepared, pairs: Tensor) -> Tensor:
        """The statistic of each image for several pairs of methods.

        Args:
            a, b: of several methods each.
            pairs: int64 ``(2, K)``, one of A's and one of B's methods.

        Returns:
            float64 ``(N, K)``; NaN where it is not defined.
        """
        if self.products:
            values = self.formula(a.values, b.values)[:, pairs[0], pairs[1]]
        else:
            found = [
                self.formula(tuple(each[:, i] for each in a.values), tuple(each[:, j] for each in b.values))
                for i, j in pairs.T.tolist()
            ]
            values = torch.stack(found, dim=1)
        values = values.clamp(self.low, self.high)  # rounding leaves the range
        return values.masked_fill(a.undefined[:, pairs[0]] | b.undefined[:, pairs[1]], torch.nan)

    def compare_own(self, prepared: Prepared, pairs: Tensor) -> Tensor:
        """``compare_pairs`` of the same several methods, a few images at a time."""
        parts = (take(prepared, rows) for rows in chunks(prepared.values[0]))
        return torch.cat([self.compare_pairs(part, part, pairs) for part in parts])

    def compare_all(self, a: Prepared, b: Prepared) -> Tensor:
        """Each of A's maps with each of B's, of one method each, float64 ``(A, B)``; of statistics that are products."""
        values = self.formula(*(tuple(each[None] for each in of.values) for of in (a, b)))[0]
        values = values.clamp(self.low, self.high)
        return values.masked_fill(a.undefined[:, None] | b.undefined, torch.nan)


STATISTICS: dict[str, Statistic] = {}
"""How far two maps agree, by name."""


def register(statistic: Statistic) -> Statistic:
    """Enter a statistic in ``STATISTICS``, from where it can be chosen by name.

    Raises:
        ValueError: its name is taken.
    """
    if statistic.name in STATISTICS:
        raise ValueError(f"there is a statistic {statistic.name!r} already; give this one another name")
    STATISTICS[statistic.name] = statistic
    return statistic


def prepare_all(statistic: Statistic, maps: Tensor, top: float) -> Prepared:
    """``statistic.prepare`` of maps ``(N, M, H, W)``, a few images at a time."""
    whole: list[Tensor] = []
    for rows in chunks(maps):
        part = statistic.prepare(maps[rows].contiguous(), top)
        tensors = (*part.values, part.undefined, part.tied)
        whole = whole or [each.new_empty(len(maps), *each.shape[1:]) for each in tensors]
        for each, values in zip(whole, tensors, strict=True):
            each[rows] = values
    return Prepared(tuple(whole[:-2]), whole[-2], whole[-1])


def aligned(values: Tensor) -> Tensor:
    """With zeros up to a whole number of cache lines per row, because rounding in products depends on where it lies."""
    missing = -values.shape[-1] % 8
    return pad(values, (0, missing)) if missing else values


def is_constant(flat: Tensor) -> Tensor:
    """Which maps ``(..., H * W)`` have one value throughout: no structure, and so no statistic with any other."""
    return (flat == flat[..., :1]).all(dim=-1)


def flatten(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Float64 ``(..., H * W)``, and which maps are constant or have a value that is not finite."""
    flat = maps.flatten(-2).double()
    return flat, is_constant(flat) | ~flat.isfinite().all(dim=-1)


def is_orderless(flat: Tensor) -> Tensor:
    """Which maps ``(..., H * W)`` have no order of their pixels: constant ones, and those with a NaN."""
    return flat.isnan().any(dim=-1) | is_constant(flat)


def extent(flat: Tensor) -> Tensor:
    """What to divide maps ``(..., H * W)`` by before sums: the largest absolute value, where these could leave
    the range of float64, else 1, so that the maps of every network stay bit-identical.

    Returns:
        float64 ``(..., 1)``.
    """
    largest = flat.abs().amax(dim=-1, keepdim=True)
    return largest.masked_fill((largest == 0) | ((largest > 1e-100) & (largest < 1e100)), 1)


Pair = tuple[str, str]


def called(methods: tuple[str, ...], text: str) -> bool:
    """Whether ``text`` names these methods, with a comma between them, in either order."""
    return text in (",".join(methods), ",".join(methods[::-1]))

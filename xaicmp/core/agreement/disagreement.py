"""The measures of Krishna et al. (2022): which pixels weigh most whatever their sign, in which order, with which sign.

The top pixels are those of the largest absolute values; ties go to the lower index. Of maps without negative values
these are the top pixels of ``iou``, and signs add nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from xaicmp.core.agreement.correlation import tau_b
from xaicmp.core.agreement.statistic import Prepared, Statistic, is_orderless, register, unknown
from xaicmp.core.agreement.top_pixels import count_top, ranked

SOURCE = "Krishna et al. (2022)"


def _prepare(maps: Tensor, top: float, *, ranks: bool, signs: bool) -> Prepared:
    """One number per pixel ``(..., H * W)``, 0 outside the top: maps agree in a pixel whose numbers are equal and not 0.

    It says the pixel's sign (zero being one), or its place, or both, or nothing but that it is there.
    """
    flat = maps.flatten(-2)
    count = count_top(top, flat.shape[-1])
    values, place = ranked(flat.abs())
    code = torch.ones_like(place)
    if signs:
        code = 2 + flat.nan_to_num().double().sign().long()
    if ranks:
        code = code + 3 * place
    last = slice(0 if ranks else count - 1, count), slice(1 if ranks else count, count + 1)
    tied = (values[..., last[0]] == values[..., last[1]]).any(dim=-1)
    return Prepared.of(is_orderless(flat.abs()), code.masked_fill(place >= count, 0).int(), tied=tied)


def _equal(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """The share of the top pixels in which the maps agree."""
    return ((a[0] == b[0]) & (a[0] > 0)).sum(dim=1) / (a[0] > 0).sum(dim=1).double()


def _products(a: tuple[Tensor, ...], b: tuple[Tensor, ...], codes: int) -> Tensor:
    """The same of each of A with each of B, where so few numbers stand for what a pixel is."""
    both = sum((a[0] == code).float() @ (b[0] == code).float().mT for code in range(1, 1 + codes))
    return torch.as_tensor(both).double() / (a[0] > 0).sum(dim=-1)[..., None]


def _enter(
    name: str, title: str, about: str, chance: Callable[[float, int], float | None], ranks: bool, signs: bool
) -> None:
    register(
        Statistic(
            name,
            label=title,
            chance=chance,
            source=f"{SOURCE}: {about}",
            prepare=partial(_prepare, ranks=ranks, signs=signs),
            formula=_equal if ranks else partial(_products, codes=3 if signs else 1),
            uses_top=True,
            products=not ranks,
        )
    )


def _chance_features(top: float, pixels: int) -> float:
    return count_top(top, pixels) / pixels


def _chance_ranks(top: float, pixels: int) -> float:
    count_top(top, pixels)  # which refuses a share that leaves no pixel
    return 1 / pixels


_enter(
    "feature-agreement", "Features", "common top pixels, by absolute value", _chance_features, False, False
)
_enter("rank-agreement", "Ranks", "those with the same rank in both", _chance_ranks, True, False)
_enter("sign-agreement", "Signs", "those with the same sign in both", unknown, False, True)
_enter("signed-rank-agreement", "Signed ranks", "those with the same rank and sign", unknown, True, True)


def _prepare_pairwise(maps: Tensor, top: float) -> Prepared:
    """The number of smaller absolute values, per pixel, and how many pairs of pixels are equal."""
    flat = maps.flatten(-2).abs()
    ordered = flat.sort(dim=-1).values
    lower = torch.searchsorted(ordered, flat)
    equal = torch.searchsorted(ordered, flat, right=True) - lower
    return Prepared.of(is_orderless(flat), lower.int(), (equal - 1).double().sum(dim=-1) / 2)


def _pairwise(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """The share of pairs of pixels in one order, or equal, in both: from tau-b, which counts C - D, and the ties."""
    (x, tied_x), (y, tied_y) = a, b
    pixels = x.shape[1]
    pairs = pixels * (pixels - 1) / 2
    counts = [torch.unique(each, return_counts=True)[1] for each in x.long() * pixels + y]
    both = torch.tensor([float((each * (each - 1)).sum()) for each in counts], dtype=torch.float64) / 2
    surplus = tau_b(a, b) * ((pairs - tied_x) * (pairs - tied_y)).sqrt()
    return ((surplus + pairs - tied_x - tied_y + both) / 2 + both) / pairs


register(
    Statistic(
        "pairwise-rank-agreement",
        label="Pairwise ranks",
        source=f"{SOURCE}: pairs of pixels in the same order of absolute value, of all pixels; equal in both is the "
        "same order, so that it does not matter which map is the first",
        prepare=_prepare_pairwise,
        formula=_pairwise,
    )
)

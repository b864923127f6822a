"""What agreement is held against: controls, which say what it would be without the same image, place or detail.

Pure functions of maps, labels and a seed: none asks the model again. Each takes a ``Statistic``, what it prepared of
several methods' maps, and ``pairs`` of these, int64 ``(2, K)``, and gives float64 ``(N, K)``, NaN where undefined.

A control is added in one place: ``register_control(Control(...))`` enters it in ``CONTROLS``, with the function of a
``Context`` that computes it and the titles that tables show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from xaicmp.core.agreement.pairing import pairing_p
from xaicmp.core.agreement.partners import (
    DRAWS,
    other_image,
    other_images,
    place,
    with_every_other,
    with_partners,
)
from xaicmp.core.agreement.rolling import SHIFTS, prepare_rolled, shifts
from xaicmp.core.agreement.statistic import Prepared, Statistic, chunks, extent, prepare_all, take
from xaicmp.core.agreement.top_pixels import whole_pixels
from xaicmp.errors import UsageError, arg

LEVEL = 0.05
"""A p-value below this is taken for a finding."""

OTHER_CLASS = ("other_class", "other_class_runner_up")
"""The keys of the control that takes maps of other classes: a drawn one, and the runner-up."""


@dataclass(frozen=True, repr=False)
class Context:
    """What a control is computed from: one statistic of a block of images.

    Attributes:
        statistic: what to compare by.
        top: the share of top pixels.
        maps: ``(N, M, H, W)``, of N images by M methods.
        prepared: what ``statistic.prepare`` made of them.
        pairs: int64 ``(2, K)``, the methods that are compared.
        observed: float64 ``(N, K)``, the statistic of both maps of the same image.
        ids: int64 ``(N,)``, of the images.
        labels: int64 ``(N,)``, their classes, below 0 where unknown.
        grids: the true height and width of each method's maps.
        seed: of whatever is drawn.
        other_maps: ``(2, N, M, H, W)``, for other classes, see ``Explanations``; None without.
    """

    statistic: Statistic
    top: float
    maps: Tensor
    prepared: Prepared
    pairs: Tensor
    observed: Tensor
    ids: np.ndarray
    labels: np.ndarray
    grids: Sequence[tuple[int, int]]
    seed: int
    other_maps: Tensor | None = None

    def __repr__(self) -> str:
        return f"Context({self.statistic.name!r}, {len(self.maps)} images, {self.pairs.shape[1]} pairs)"


@dataclass(frozen=True, repr=False)
class Controlled:
    """The statistic under a control.

    Attributes:
        values: float64 ``(N, K)``, NaN where undefined.
        p: float64 ``(N, K)``, of each observed value in its own null distribution; None if the control has none.
        among: float64 ``(N, K)``, how many values that has, the observed one included; None likewise.
        pairing: float64 ``(2, K)``, p of the permutation test of the pairing and its number of images; None likewise.
    """

    values: Tensor
    p: Tensor | None = None
    among: Tensor | None = None
    pairing: Tensor | None = None

    def __repr__(self) -> str:
        return f"Controlled({' x '.join(map(str, self.values.shape))} values{', p' if self.p is not None else ''})"


@dataclass(frozen=True, repr=False)
class ControlKey:
    """One number that a control gives.

    Attributes:
        name: as in files.
        title: as a row of a table.
        short: as the head of a narrow column, of two lines at most.
        compute: from one statistic of a block of images.
    """

    name: str
    title: str
    short: str
    compute: Callable[[Context], Controlled]

    def __repr__(self) -> str:
        return f"ControlKey({self.name!r}, {self.title!r})"


@dataclass(frozen=True, repr=False)
class Control:
    """What agreement is held against.

    Attributes:
        name: as it is asked for.
        keys: what it gives, one or more.
        about: what it says, in a line.
        source: where it is defined.
    """

    name: str
    keys: tuple[ControlKey, ...]
    about: str
    source: str

    def __repr__(self) -> str:
        return f"Control({self.name!r}: {', '.join(key.name for key in self.keys)})"


CONTROLS: dict[str, Control] = {}
"""What agreement can be held against, by name."""

NONE = "none"
"""The name that asks for no control."""

DEFAULT_CONTROLS = ("other-image", "shift")
"""The names of those that are taken where none is asked for."""

KEYS: dict[str, ControlKey] = {}
"""What the controls give, by name."""


def register_control(control: Control) -> Control:
    """Enter a control in ``CONTROLS``, and what it gives in ``KEYS``.

    Raises:
        ValueError: its name, or that of a key, is taken, or two keys have one name.
    """
    keys = [key.name for key in control.keys]
    if len(set(keys)) < len(keys):
        raise ValueError(f"two keys of the control {control.name!r} have one name; give each its own")
    others = {name for each in CONTROLS.values() for name in (each.name, *(key.name for key in each.keys))}
    for name in (control.name, *keys):
        if name in others or name == NONE:
            raise ValueError(f"there is a control {name!r} already; give this one another name")
    CONTROLS[control.name] = control
    KEYS.update({key.name: key for key in control.keys})
    return control


def get_controls(names: Sequence[str]) -> tuple[str, ...]:
    """The keys of what is asked for, each once; without names, of ``DEFAULT_CONTROLS``.

    Args:
        names: of controls, or single keys of theirs; or ``none`` alone.

    Raises:
        UsageError: an unknown name, or ``none`` with others.
    """
    for name in names:
        if name not in CONTROLS and name not in KEYS and name != NONE:
            raise UsageError(f"unknown control {name!r}; choose from {', '.join([*CONTROLS, NONE])}")
    if NONE in names:
        if len(names) > 1:
            raise UsageError(f"{arg('controls')} {NONE} goes alone; leave it or the others out")
        return ()
    keys: dict[str, None] = {}
    for name in names or DEFAULT_CONTROLS:
        keys |= dict.fromkeys(key.name for key in CONTROLS[name].keys) if name in CONTROLS else {name: None}
    return tuple(keys)


def _any_other_image(context: Context) -> Controlled:
    return _other_images(context, np.zeros(len(context.maps)), balanced=True, pairing=True)


def _other_image_same_class(context: Context) -> Controlled:
    return Controlled(_other_images(context, context.labels, balanced=False).values)


def _other_images(
    context: Context, groups: np.ndarray, *, balanced: bool, pairing: bool = False
) -> Controlled:
    statistic, prepared, pairs = context.statistic, context.prepared, context.pairs
    if statistic.products:
        null = with_every_other(statistic, prepared, prepared, pairs, groups)
    else:
        partners = other_images(groups, min(DRAWS, len(groups) - 1), context.seed)
        null = with_partners(statistic, prepared, prepared, pairs, partners)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    tests: list[tuple[float, float]] = []
    for values, observed in zip(null, context.observed.T, strict=True):
        mean = other_image(values, balanced=balanced)
        found.append((mean, *place(values.T, observed, statistic.higher)))
        if pairing and statistic.products:
            p = pairing_p(values.diagonal_scatter(observed).numpy(), statistic.higher)
            tests.append((p, float((~observed.isnan()).sum())))
    means, places, among = (torch.stack(each, dim=1) for each in zip(*found, strict=True))
    return Controlled(means, places, among, torch.tensor(tests, dtype=torch.float64).T if tests else None)


register_control(
    Control(
        "other-image",
        (
            ControlKey("other_image", "another image's map", "Other\nimage", _any_other_image),
            ControlKey(
                "other_image_same_class", "another of its class", "Same\nclass", _other_image_same_class
            ),
        ),
        about="the other method's map is that of another image, any or of the same class: what is not about this image",
        source="mean over all other images of the block where the statistic is a product of two maps' vectors, else over "
        f"{DRAWS}, drawn without replacement",
    )
)


def _shifted(context: Context) -> Controlled:
    """A few images at a time, because each shift takes as much as the maps."""
    statistic, pairs, parts = context.statistic, context.pairs, []
    for rows in chunks(context.maps):
        maps, own = context.maps[rows].contiguous(), take(context.prepared, rows)
        rolled = (
            prepare_rolled(statistic, maps, own, each, context.top)
            for each in shifts(maps.shape[2:], context.ids[rows], seed=context.seed)
        )
        null = torch.stack([statistic.compare_pairs(own, each, pairs) for each in rolled])
        total = null.nan_to_num().cumsum(dim=0)[-1]  # in one order, however many images there are
        mean = total / (~null.isnan()).sum(dim=0)
        parts.append((mean, *place(null, context.observed[rows], statistic.higher)))
    return Controlled(*(torch.cat(each) for each in zip(*parts, strict=True)))


register_control(
    Control(
        "shift",
        (ControlKey("shifted", "shifted map", "Shifted", _shifted),),
        about="the other map is rolled over the edges: what smoothness alone explains",
        source=f"mean over {SHIFTS} random cyclic shifts per image, and the permutation p-value among them",
    )
)


def pool(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means over the blocks of ``grid``, float64 ``(..., *grid)``: what a method as coarse as that can say at all.

    A grid that does not divide the map has blocks that overlap by a pixel.
    """
    values = maps.double()
    scale = extent(values.flatten(-2))[..., None]
    return adaptive_avg_pool2d(values / scale, grid) * scale


def _at_coarser_grids(context: Context) -> Iterator[tuple[Tensor, Context]]:
    """Which pairs have which coarser grid, bool ``(K,)``, and their maps at it; not where this has no whole top pixel."""
    statistic, pairs, top = context.statistic, context.pairs, context.top
    coarser = [min(context.grids[a], context.grids[b], key=math.prod) for a, b in pairs.T.tolist()]
    for grid in dict.fromkeys(coarser):
        if statistic.uses_top and not whole_pixels(statistic.top or top, math.prod(grid)):
            continue
        those = torch.tensor([each == grid for each in coarser])
        own = pairs[:, those]
        if grid == context.maps.shape[2:]:
            yield those, replace(context, pairs=own, observed=context.observed[:, those])
            continue
        maps = torch.cat([pool(context.maps[rows].contiguous(), grid) for rows in chunks(context.maps)])
        prepared = prepare_all(statistic, maps, top)
        observed = statistic.compare_own(prepared, own)
        yield those, replace(context, maps=maps, prepared=prepared, pairs=own, observed=observed)


def _chance(context: Context) -> Tensor:
    chance = context.statistic.chance(context.top, math.prod(context.maps.shape[2:]))
    of_each = torch.full_like(context.observed, torch.nan if chance is None else chance)
    return of_each.masked_fill(context.observed.isnan(), torch.nan)


def _of_other_image(context: Context) -> Tensor:
    return _other_images(context, np.zeros(len(context.maps)), balanced=True).values


def _pooled(context: Context, what: Callable[[Context], Tensor]) -> Controlled:
    """``what`` of both maps of a pair at the coarser of their grids; NaN where there is none."""
    values = torch.full_like(context.observed, torch.nan)
    for those, coarse in _at_coarser_grids(context):
        values[:, those] = what(coarse)
    return Controlled(values)


register_control(
    Control(
        "resolution",
        (
            ControlKey(
                "pooled",
                "at the coarser grid",
                "Coarser\ngrid",
                partial(_pooled, what=lambda coarse: coarse.observed),
            ),
            ControlKey(
                "pooled_chance", "chance at that grid", "Grid's\nchance", partial(_pooled, what=_chance)
            ),
            ControlKey(
                "pooled_other_image",
                "another image's map at that grid",
                "Grid's\nother",
                partial(_pooled, what=_of_other_image),
            ),
        ),
        about="both maps are pooled to the coarser of their grids: what a difference in resolution hides",
        source="means over the blocks of the grid, by adaptive average pooling",
    )
)


def _other_class(context: Context, kind: int) -> Controlled:
    """The mean of both ways, A's map for its target with B's for another class and the reverse; NaN unless both are."""
    statistic, pairs, parts = context.statistic, context.pairs, []
    if context.other_maps is None:
        raise UsageError(
            f"{arg('controls')} other-class needs the model, because there are no maps of other classes; leave it out"
        )
    for rows in chunks(context.maps):
        own = take(context.prepared, rows)
        other = statistic.prepare(context.other_maps[kind, rows].contiguous(), context.top)
        ways = [statistic.compare_pairs(own, other, each) for each in (pairs, pairs.flip(0))]
        parts.append((ways[0] + ways[1]) / 2)
    return Controlled(torch.cat(parts))


register_control(
    Control(
        "other-class",
        (
            ControlKey(OTHER_CLASS[0], "for another class", "Other\nclass", partial(_other_class, kind=0)),
            ControlKey(
                OTHER_CLASS[1], "for the runner-up", "Runner-up\nclass", partial(_other_class, kind=1)
            ),
        ),
        about="one of the two maps is for another class of the same image: what is not about the class",
        source="mean of both ways; the class is drawn, or that with the highest logit but for the explained one",
    )
)

"""What agreement is held against: controls, which say what it would be without the same image, place or detail.

Pure functions of maps, labels and a seed: none asks the model again. Each takes a ``Statistic``, what it prepared of
several methods' maps, and ``pairs`` of these, int64 ``(2, K)``, and gives float64 ``(N, K)``, NaN where undefined.

A control is added in one place: ``register_control(Control(...))`` enters it in ``CONTROLS``, with the function of a
``Context`` that computes it and the titles that tables show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from xaicmp.core.agreement.pairing import pairing_p
from xaicmp.core.agreement.statistic import Prepared, Statistic, chunks, extent, prepare_all, take
from xaicmp.core.agreement.top_pixels import whole_pixels
from xaicmp.errors import UsageError, arg

LEVEL = 0.05
"""A p-value below this is taken for a finding."""

SHIFTS = 19
"""Shifted maps that each map is compared with: the fewest for which p can be ``LEVEL``."""

DRAWS = 100
"""Other images that a map is compared with, or all if there are fewer, where not all can be had by one product."""

OTHER_CLASS = ("other_class", "other_class_runner_up")
"""The keys of the control that takes maps of other classes: a drawn one, and the runner-up."""

TILE = 64
"""Images on each side of such a product, whose rounding must not depend on how much is worked on at once."""


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

TITLES: dict[str, str] = {}
SHORT_TITLES: dict[str, str] = {}
"""The titles of ``KEYS``."""


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
    for key in control.keys:
        KEYS[key.name], TITLES[key.name], SHORT_TITLES[key.name] = key, key.title, key.short
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


def other_images(groups: np.ndarray, draws: int = 5, seed: int = 0) -> Tensor:
    """For each image, others of its group, drawn without replacement and each with the same probability.

    A group is put into a random circle, and draw d goes the same random number of places on from every image: so
    each draw is a permutation without a fixed point, and no two draws give an image the same partner.

    Args:
        groups: ``(N,)``: all equal for any other image, the labels for another of the same class; below 0 for an
            image whose group is unknown, which has no partner and is none.
        draws: how many partners an image gets; fewer in groups of as many images or less.
        seed: of the draws.

    Returns:
        int64 ``(draws, N)``, -1 where there is no partner left.
    """
    rng = np.random.default_rng(seed)
    partners = np.full((draws, len(groups)), -1)
    for group in np.unique(groups[groups >= 0]):
        circle = rng.permutation(np.flatnonzero(groups == group))
        for row, places in zip(partners, 1 + rng.permutation(len(circle) - 1), strict=False):
            row[circle] = np.roll(circle, places)
    return torch.from_numpy(partners)


def other_image(
    statistic: Statistic,
    prepared_a: Prepared,
    prepared_b: Prepared,
    pairs: Tensor,
    partners: Tensor,
    *,
    balanced: bool = False,
) -> Tensor:
    """The statistic of A's map of an image with B's map of another, the mean over its partners.

    Args:
        statistic: what to compare by.
        prepared_a, prepared_b: what ``statistic.prepare`` made of the maps ``(N, M, H, W)``.
        pairs: int64 ``(2, K)``, methods of A and of B.
        partners: ``(draws, N)``, from ``other_images``.
        balanced: whether B's own level is in an image's value as A's is: the mean of its row, plus that of its
            column, minus that of all. The mean stays the same; a paired test against the observed values is
            then as sharp as it says, where every image has a partner in every draw.

    Returns:
        float64 ``(N, K)``, NaN for an image without a partner or undefined with all of them.
    """
    values = _of_partners(statistic, prepared_a, prepared_b, pairs, partners)
    return torch.stack([_over_draws(each, partners, balanced) for each in values], dim=1)


def _of_partners(
    statistic: Statistic, prepared_a: Prepared, prepared_b: Prepared, pairs: Tensor, partners: Tensor
) -> Tensor:
    """The statistic of A's map of each image with B's of each of its partners, float64 ``(K, draws, N)``."""
    values = torch.full((pairs.shape[1], *partners.shape), torch.nan, dtype=torch.float64)
    for rows in chunks(prepared_a.values[0]):
        own = take(prepared_a, rows)
        for draw, others in enumerate(partners[:, rows]):
            found = statistic.compare_pairs(own, take(prepared_b, others.clamp_min(0)), pairs)
            values[:, draw, rows] = found.masked_fill((others < 0)[:, None], torch.nan).T
    return values


def _over_draws(values: Tensor, partners: Tensor, balanced: bool) -> Tensor:
    """Of values ``(draws, N)``, the mean of each image; if balanced plus that of its column, minus that of all."""
    if not balanced or bool((partners < 0).any()):
        return values.nanmean(dim=0)
    columns = torch.full_like(values, torch.nan).scatter_(1, partners, values).nanmean(dim=0)
    return values.nanmean(dim=0) + columns - values.nanmean()


def every_other_image(
    statistic: Statistic,
    prepared_a: Prepared,
    prepared_b: Prepared,
    pairs: Tensor,
    groups: np.ndarray,
    *,
    balanced: bool = False,
) -> Tensor:
    """``other_image`` with all other images of the group as partners, for a statistic that is a product.

    Nothing is drawn. ``groups`` as for ``other_images``.
    """
    every = (_products(statistic, prepared_a, prepared_b, pair, groups) for pair in pairs.T.tolist())
    return torch.stack([_over_all(values, balanced) for values in every], dim=1)


def _products(
    statistic: Statistic, prepared_a: Prepared, prepared_b: Prepared, pair: list[int], groups: np.ndarray
) -> Tensor:
    """The statistic of A's map of each image with B's of each other of its group, float64 ``(N, N)``, else NaN."""
    of = torch.from_numpy(groups)
    partner = ((of[:, None] == of) & (of >= 0)).fill_diagonal_(False)
    tiles = [slice(start, start + TILE) for start in range(0, len(of), TILE)]
    rows, columns = (
        [take(prepared, (tile, method)) for tile in tiles]
        for prepared, method in zip((prepared_a, prepared_b), pair, strict=True)
    )
    parts = [torch.cat([statistic.compare_all(row, column) for column in columns], dim=1) for row in rows]
    return torch.cat(parts).masked_fill_(~partner, torch.nan)


def _over_all(values: Tensor, balanced: bool) -> Tensor:
    """Of values ``(N, N)``, the mean of each image's row; ``balanced`` as in ``other_image``."""
    mean = values.nanmean(dim=1)
    return mean + values.nanmean(dim=0) - values.nanmean() if balanced else mean


def place(null: Tensor, observed: Tensor, higher: bool) -> tuple[Tensor, Tensor]:
    """The exact p of each observed value ``(N,)`` among those of its null distribution ``(draws, N)``, NaN for none.

    p is the share of values that agree as well as the observed one or better, itself included: exact if every other
    map is as likely to stand in the place of B's.

    Returns:
        p, and how many values that is among, float64 ``(N,)``, NaN where there is no observed value.
    """
    # Products round otherwise than single values do.
    as_good = null >= observed - 1e-12 if higher else null <= observed + 1e-12
    none = observed.isnan()
    among = (1.0 + (~null.isnan()).sum(dim=0)).double().masked_fill(none, torch.nan)
    return ((1 + as_good.sum(dim=0)) / among).masked_fill(none, torch.nan), among


def _any_other_image(context: Context) -> Controlled:
    return _with_partners(context, np.zeros(len(context.maps)), balanced=True, pairing=True)


def _other_image_same_class(context: Context) -> Controlled:
    return Controlled(_with_partners(context, context.labels, balanced=False).values)


def _with_partners(
    context: Context, groups: np.ndarray, *, balanced: bool, pairing: bool = False
) -> Controlled:
    statistic, prepared, pairs, found = context.statistic, context.prepared, context.pairs, []
    tests: list[tuple[float, float]] = []
    if statistic.products:
        for pair, observed in zip(pairs.T.tolist(), context.observed.T, strict=True):
            values = _products(statistic, prepared, prepared, pair, groups)
            found.append((_over_all(values, balanced), *place(values.T, observed, statistic.higher)))
            if pairing:
                p = pairing_p(values.diagonal_scatter(observed).numpy(), statistic.higher)
                tests.append((p, float((~observed.isnan()).sum())))
    else:
        partners = other_images(groups, min(DRAWS, len(groups) - 1), context.seed)
        every = _of_partners(statistic, prepared, prepared, pairs, partners)
        for values, observed in zip(every, context.observed.T, strict=True):
            mean = _over_draws(values, partners, balanced)
            found.append((mean, *place(values, observed, statistic.higher)))
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


@dataclass(frozen=True)
class Shifted:
    """The statistic after B's maps were rolled.

    Attributes:
        mean: float64 ``(N, K)``, over the draws.
        p: float64 ``(N, K)``, (1 + number of draws that agree as well as observed or better) / (1 + draws): exact if
            every place of B's map is as likely as any other.
        draws: how many shifted maps each map was compared with.
    """

    mean: Tensor
    p: Tensor
    draws: int

    @property
    def above(self) -> Tensor:
        """Float64 ``(N, K)``, see ``among_highest``."""
        return torch.from_numpy(among_highest(self.p.numpy(), self.draws))


def among_highest(p: np.ndarray, draws: int) -> np.ndarray:
    """Whether each observed value is in the top 5% of its own null distribution, from ``Shifted.p``.

    Returns:
        float64 like ``p``: 1 for yes, 0 for no, NaN where p is; NaN everywhere if so few draws cannot say yes.
    """
    undefined = np.isnan(p) | (1 / (1 + draws) > LEVEL)
    return np.where(undefined, np.nan, p <= LEVEL)


def shifts(
    size: Sequence[int], ids: Sequence[int] | np.ndarray, draws: int = SHIFTS, seed: int = 0
) -> Iterator[Tensor]:
    """Rolls over the edges by random offsets, never (0, 0) and never twice by the same.

    Args:
        size: height and width of a map.
        ids: ``(N,)``: an image's offsets depend on its id and the seed, not on the other images.
        draws: H * W - 1 at most.
        seed: of the draws.

    Yields:
        int64 ``(N, H * W)``, which pixel comes to each place, once per draw.
    """
    height, width = size
    pixels = height * width
    offsets = np.empty((min(draws, pixels - 1), len(ids)), dtype=np.int64)
    for column, each in enumerate(ids):
        rng = np.random.default_rng([seed, int(each)])
        offsets[:, column] = 1 + rng.choice(pixels - 1, len(offsets), replace=False)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    for offset in torch.from_numpy(offsets)[..., None, None]:
        index = (rows - offset // width) % height * width + (columns - offset % width) % width
        yield index.flatten(1)


def roll(values: Tensor, shift: Tensor) -> Tensor:
    """The pixels of ``(N, M, H * W)`` where ``shift``, one of the ``shifts``, puts them."""
    return values.gather(2, shift[:, None].expand_as(values))


def prepare_rolled(
    statistic: Statistic, maps: Tensor, prepared: Prepared, shift: Tensor, top: float
) -> Prepared:
    """What ``statistic.prepare`` makes of ``maps`` ``(N, M, H, W)`` after a shift, but for rounding.

    Where it can be, this is what it made of them before, rolled, which costs a fraction.
    """
    if not statistic.moves:
        return statistic.prepare(roll(maps.flatten(2), shift).view_as(maps), top)
    first, *others = prepared.values
    first, tied = roll(first, shift), prepared.tied
    if tied.any():  # which of the equal pixels is taken depends on where they are
        again = maps[tied].flatten(1).gather(1, shift[:, None].expand(*tied.shape, -1)[tied])
        first[tied] = statistic.prepare(again.view(-1, *maps.shape[2:]), top).values[0]
    return Prepared((first, *others), prepared.undefined, tied)


def shifted(
    statistic: Statistic,
    observed: Tensor,
    prepared_a: Prepared,
    prepared_rolled: Iterable[Prepared],
    pairs: Tensor,
) -> Shifted:
    """The statistic of A's maps with B's at the wrong place: what smoothness alone explains.

    Args:
        statistic: what to compare by.
        observed: ``(N, K)``, its values at the right place.
        prepared_a: what ``statistic.prepare`` made of A's maps ``(N, M, H, W)``.
        prepared_rolled: what it makes of B's after each of the ``shifts``.
        pairs: int64 ``(2, K)``, methods of A and of B.
    """
    total, defined, as_good = (torch.zeros_like(observed) for _ in range(3))
    draws = 0
    for rolled in prepared_rolled:
        draws += 1
        null = statistic.compare_pairs(prepared_a, rolled, pairs)
        # Where a map repeats itself, a draw may equal the observed value except for rounding.
        as_good += null >= observed - 1e-12 if statistic.higher else null <= observed + 1e-12
        defined += ~null.isnan()
        total += null.masked_fill(null.isnan(), 0)
    p = (1 + as_good) / (1 + draws)
    return Shifted(total / defined, p.masked_fill(observed.isnan(), torch.nan), draws)


def _shifted(context: Context) -> Controlled:
    """A few images at a time, because each shift takes as much as the maps."""
    statistic, parts = context.statistic, []
    for rows in chunks(context.maps):
        maps, prepared = context.maps[rows].contiguous(), take(context.prepared, rows)
        offsets = shifts(maps.shape[2:], context.ids[rows], seed=context.seed)
        rolled = (prepare_rolled(statistic, maps, prepared, each, context.top) for each in offsets)
        parts.append(shifted(statistic, context.observed[rows], prepared, rolled, context.pairs))
    mean, p = (torch.cat([getattr(each, name) for each in parts]) for name in ("mean", "p"))
    return Controlled(mean, p, torch.full_like(p, 1 + parts[0].draws).masked_fill(p.isnan(), torch.nan))


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
        each = (take(prepared, rows) for rows in chunks(maps))
        observed = torch.cat([statistic.compare_pairs(part, part, own) for part in each])
        yield those, replace(context, maps=maps, prepared=prepared, pairs=own, observed=observed)


def _chance(context: Context) -> Tensor:
    chance = context.statistic.chance(context.top, math.prod(context.maps.shape[2:]))
    of_each = torch.full_like(context.observed, torch.nan if chance is None else chance)
    return of_each.masked_fill(context.observed.isnan(), torch.nan)


def _of_other_image(context: Context) -> Tensor:
    return _with_partners(context, np.zeros(len(context.maps)), balanced=True).values


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

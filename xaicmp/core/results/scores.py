"""The statistics of every pair of methods, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xaicmp.core.agreement.statistic import Pair

Values = dict[str, dict[Pair, np.ndarray]]
"""By statistic and pair, float64 ``(N,)``, NaN where undefined."""


@dataclass(frozen=True)
class Scores:
    """The statistics of every pair of methods, image by image.

    Attributes:
        values: of the two maps of the same image.
        tied: by statistic that looks at top pixels, and pair, bool ``(N,)``: whether those of one of the maps had to
            be chosen among equals.
        identical: by pair, float64 ``(N,)``: 1 where the maps are the same up to scale, 0 where not, NaN where
            neither varies.
        controls: by key of a control (``controls.KEYS``), what the statistics are under it.
        p_values: by key of a control that has a null distribution per image, the place of the observed value in it.
        among: by the same keys, how many values that place is among, the observed one included.
        completeness: by method that promises it, float64 ``(N,)``, see ``attribution.Explanation``.
        curves: of ``curve.iou_curves``, if asked for.
        pairing: by statistic that is a product, and pair, float64 ``(B, 2)``: of each block of images the p of the
            permutation test of the pairing, see ``pairing_p``, and its number of images. Of a part of the images, none.
        other_classes: by key of the control that takes maps for another class, which class that is, ``(N,)``.
    """

    values: Values
    tied: Values
    identical: dict[Pair, np.ndarray]
    controls: dict[str, Values]
    p_values: dict[str, Values]
    completeness: dict[str, np.ndarray]
    curves: Values = field(default_factory=dict)
    among: dict[str, Values] = field(default_factory=dict)
    pairing: Values = field(default_factory=dict)
    other_classes: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def shifted_p(self) -> Values:
        """The place of the observed value among those of shifted maps, see ``partners.place``."""
        return self.p_values.get("shifted", {})

    def rows(self, rows: np.ndarray | slice) -> Scores:
        """Those of a part of the images."""
        return _each(lambda part: part[rows], replace(self, pairing={}))

    @staticmethod
    def join(parts: Sequence[Scores]) -> Scores:
        """Those of all images, from those of some each."""
        return _each(lambda *arrays: np.concatenate(arrays), *parts)


def _each(function: Any, first: Any, *others: Any) -> Any:
    """``function`` of the arrays at the same place in each of several nested dicts or ``Scores``."""
    if isinstance(first, np.ndarray):
        return function(first, *others)
    if isinstance(first, dict):
        return {key: _each(function, first[key], *(other[key] for other in others)) for key in first}
    names = first.__dataclass_fields__
    return replace(
        first,
        **{name: _each(function, *(getattr(each, name) for each in (first, *others))) for name in names},
    )

"""What a study measures of each method, image by image, and the controls that this is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xaicmp.core.results.intervals import Summary, defined_mean, summarise
from xaicmp.core.results.settings import Settings
from xaicmp.core.results.significance import PairedTest, paired_tests
from xaicmp.core.studies.pair_tests import PairTest, compare_methods

Measures = Mapping[str, Mapping[str, np.ndarray]]
"""By measure and method, float64 ``(N,)``, NaN where undefined."""


@dataclass(frozen=True)
class Measured:
    """Measures of each method over the same images.

    Attributes:
        titles: of the methods, by name.
        settings: the level of the intervals, and the seed of their resampling.
        values: the measures.
        controls: by control, what the same measures are under it.
    """

    titles: dict[str, str]
    settings: Settings
    values: Measures
    controls: Mapping[str, Measures]

    def limits(self, measure: str) -> tuple[float, float]:
        """The lowest and highest value that a measure can have."""
        return 0, 1

    def summary(self, measure: str, method: str) -> Summary:
        """Mean, spread and interval over the images."""
        settings = self.settings
        found = summarise(self.values[measure][method], level=settings.level, seed=settings.seed)
        return found.within(*self.limits(measure))

    def control(self, measure: str, method: str, control: str) -> float:
        """The mean under a control."""
        return defined_mean(self.controls[control][measure][method])

    def above(self, measure: str, control: str) -> dict[str, PairedTest]:
        """By method, the test of the values against those under a control, image by image; {} without it."""
        if control not in self.controls:
            return {}
        own, other = self.values[measure], self.controls[control][measure]
        rows = (np.array([each[name] for name in own]) for each in (own, other))
        return dict(zip(own, paired_tests(*rows, level=self.settings.level), strict=True))

    def differences(self, measure: str) -> tuple[list[PairTest[str]], dict[str, str]]:
        """The tests of every two methods against each other, and by method its letters, see ``compare_methods``."""
        return compare_methods(self.values[measure], self.settings)

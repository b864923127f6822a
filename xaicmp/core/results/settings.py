"""What is measured of the maps."""

from __future__ import annotations

from dataclasses import dataclass

from xaicmp.core.agreement.registry import DEFAULT_STATISTICS, get_statistics
from xaicmp.core.agreement.statistic import Statistic
from xaicmp.core.agreement.top_pixels import count_top
from xaicmp.errors import UsageError

CONTROLS = ("other_image", "other_image_same_class", "shifted", "pooled")


@dataclass(frozen=True)
class Settings:
    """What is measured of the maps.

    Args:
        statistics: how far two maps agree, statistics or their names.
        top: the share of top pixels, between 0 and 1, for the statistics that have none of their own.
        controls: what it is held against: ``"other_image"``, ``"other_image_same_class"``, ``"shifted"``, ``"pooled"``.
        level: of the confidence intervals, between 0 and 1.
        seed: of the controls' draws and the intervals' resampling.
        curve: whether IoU is measured at many shares too, see ``curve.iou_curves``.

    Raises:
        UsageError: an unknown statistic or control, or a share or level outside (0, 1).
    """

    statistics: tuple[Statistic, ...] = get_statistics(DEFAULT_STATISTICS)
    top: float = 0.2
    controls: tuple[str, ...] = ("other_image", "other_image_same_class", "shifted")
    level: float = 0.95
    seed: int = 0
    curve: bool = False

    def __post_init__(self) -> None:
        found = [get_statistics([each])[0] if isinstance(each, str) else each for each in self.statistics]
        object.__setattr__(self, "statistics", tuple(found))
        object.__setattr__(self, "controls", tuple(self.controls))
        if unknown := [each for each in self.controls if each not in CONTROLS]:
            raise UsageError(f"unknown control {unknown[0]!r}; choose from {', '.join(CONTROLS)}")
        if not 0 < self.level < 1:
            raise UsageError(f"level {self.level:g}: give one between 0 and 1, as 0.95")

    @property
    def used_tops(self) -> tuple[float, ...]:
        """The shares that a statistic looks at."""
        return tuple((each.top or self.top) for each in self.statistics if each.uses_top)

    def check(self, pixels: int) -> None:
        """Raise UsageError if a share that is looked at is outside (0, 1), or less than one of so many pixels."""
        for top in self.used_tops:
            count_top(top, pixels)

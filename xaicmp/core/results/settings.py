"""What is measured of the maps."""

from __future__ import annotations

from dataclasses import dataclass

from xaicmp.core.agreement.registry import DEFAULT_STATISTICS, get_statistics
from xaicmp.core.agreement.statistic import Statistic
from xaicmp.core.agreement.top_pixels import count_top


@dataclass(frozen=True)
class Settings:
    """What is measured of the maps.

    Attributes:
        statistics: how far two maps agree.
        top: the share of top pixels, for the statistics that have none of their own.
        controls: what it is held against, names in ``scoring.CONTROLS``.
        level: of the confidence intervals.
        seed: of the controls' draws and the intervals' resampling.
        curve: whether IoU is measured at many shares too, see ``curve.iou_curves``.
    """

    statistics: tuple[Statistic, ...] = get_statistics(DEFAULT_STATISTICS)
    top: float = 0.2
    controls: tuple[str, ...] = ("other_image", "other_image_same_class", "shifted")
    level: float = 0.95
    seed: int = 0
    curve: bool = False

    def check(self, pixels: int) -> None:
        """Raise UsageError if a share of top pixels is outside (0, 1), or less than one of so many pixels."""
        for top in (self.top, *(each.top for each in self.statistics if each.top is not None)):
            count_top(top, pixels)

"""What is measured of the maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xaicmp.core.agreement.controls import DEFAULT_CONTROLS, NONE, OTHER_CLASS, get_controls
from xaicmp.core.agreement.registry import DEFAULT_STATISTICS, get_statistics
from xaicmp.core.agreement.statistic import Statistic
from xaicmp.core.agreement.top_pixels import count_top
from xaicmp.core.arguments import real_number, whole_number
from xaicmp.errors import UsageError, arg


@dataclass(frozen=True, init=False, repr=False)
class Settings:
    """What is measured of the maps.

    >>> Settings(statistics=["pearson", "iou"], top=0.1, controls=["other-image"])
    Settings(statistics=['pearson', 'iou'], top=0.1, controls=['other_image', 'other_image_same_class'])

    Attributes:
        statistics: how far two maps agree.
        top: the share of top pixels, for the statistics that look at them and have no share of their own.
        controls: what it is held against, keys of ``controls.KEYS``.
        level: of the confidence intervals.
        seed: of the controls' draws and the intervals' resampling.
        curve: whether IoU is measured at many shares too, see ``curve.iou_curves``.
        margin: how far a correlation may be from that with another image's map and count as about equal.
    """

    statistics: tuple[Statistic, ...]
    top: float
    controls: tuple[str, ...]
    level: float
    seed: int
    curve: bool
    margin: float

    def __init__(
        self,
        statistics: Sequence[Statistic | str] | str = DEFAULT_STATISTICS,
        top: float = 0.2,
        controls: Sequence[str] | str = DEFAULT_CONTROLS,
        level: float = 0.95,
        seed: int = 0,
        curve: bool = False,
        margin: float = 0.05,
    ) -> None:
        """Take the statistics and controls by name, or as they are.

        Args:
            statistics: one or more, each a name in ``STATISTICS`` or a ``Statistic``.
            top: between 0 and 1, exclusive; looked at if a statistic needs it, see ``check``.
            controls: names in ``CONTROLS`` or keys of theirs; empty or ``"none"`` for none.
            level: between 0 and 1, exclusive.
            seed: of whatever is drawn.
            curve: whether IoU is measured at many shares too.
            margin: above 0, for statistics from -1 to 1; half of it for those from 0 to 1.

        Raises:
            UsageError: a name is unknown or there twice, there is no statistic, or a number is none or out of range.
        """
        top, level, margin = (
            real_number(name, value) for name, value in (("top", top), ("level", level), ("margin", margin))
        )
        if not 0 < level < 1:
            raise UsageError(f"level {level:g} is no level of an interval; give one between 0 and 1, as 0.95")
        if not 0 < margin <= 2:  # as far as two correlations can be apart
            raise UsageError(
                f"{arg('margin')} {margin:g} is no margin; give one above 0 and up to 2, as 0.05"
            )
        values = {
            "statistics": get_statistics([statistics] if isinstance(statistics, str) else statistics),
            "top": top,
            "controls": get_controls([controls] if isinstance(controls, str) else controls or [NONE]),
            "level": level,
            "seed": whole_number("seed", seed),
            "curve": curve,
            "margin": margin,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        names = [each.name for each in self.statistics]
        shown = [f"statistics={names}", f"top={self.top:g}", f"controls={list(self.controls)}"]
        usual = {"level": 0.95, "seed": 0, "curve": False, "margin": 0.05}
        shown += [
            f"{name}={getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value
        ]
        return f"Settings({', '.join(shown)})"

    @property
    def other_classes(self) -> bool:
        """Whether a control takes maps for other classes."""
        return any(key in OTHER_CLASS for key in self.controls)

    def statistic(self, name: str) -> Statistic:
        """The one of that name."""
        return next(each for each in self.statistics if each.name == name)

    def margin_of(self, statistic: Statistic) -> float:
        """The margin of a statistic: as large a part of its range as it is of a correlation's."""
        return self.margin * (statistic.high - statistic.low) / 2

    def check(self, pixels: int) -> None:
        """Raise UsageError for maps of one pixel, and shares that are outside (0, 1) or less than one of so many pixels."""
        if pixels == 1:
            raise UsageError("maps of one pixel cannot be compared; give larger images")
        for each in self.statistics:
            if each.uses_top:
                count_top(self.top if each.top is None else each.top, pixels)

"""What agreement must reach, so that a pipeline can stop where it does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from xaicmp.core.agreement.statistic import Statistic, called
from xaicmp.core.arguments import one_of
from xaicmp.core.choices import FailOn
from xaicmp.core.results.intervals import Summary
from xaicmp.errors import Below, UsageError, arg

Subject = tuple[str, ...]
"""Methods by name: two, or one that is compared with itself."""


@dataclass(frozen=True)
class Bound:
    """The least value of a statistic, for a distance the greatest, and what it is asked of."""

    statistic: Statistic
    value: float
    subjects: tuple[Subject, ...]


def read_bound(
    text: str, statistics: Sequence[Statistic], known: Sequence[Subject], usual: Sequence[Subject]
) -> Bound:
    """A bound from ``pearson=0.3``, which is asked of all ``usual``, or ``grad-cam,saliency:pearson=0.3``.

    Raises:
        UsageError: it is no bound, the statistic is not measured, or the methods are not among ``known``.
    """
    about = f"{arg('fail_under')} {text}"
    left, _, right = text.rpartition("=")
    of, colon, name = left.rpartition(":")
    try:
        value = float(right)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise UsageError(f"{about} is no bound; write pearson=0.3, or grad-cam,saliency:pearson=0.3")
    found = next((each for each in statistics if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in statistics)
        raise UsageError(f"{about}: {name} is not measured; there are {names}: see {arg('statistics')}")
    meant = tuple(each for each in known if called(each, of))
    if colon and not meant:
        names = "; ".join(",".join(each) for each in known[:20])
        raise UsageError(f"{about}: {of} is not compared; there are {names}")
    return Bound(found, value, meant or tuple(usual))


def check_bounds(
    bounds: Iterable[Bound], summary: Callable[[Subject, Statistic], Summary], on: FailOn = "mean"
) -> None:
    """Raise ``Below`` if a mean, or on ``"ci"`` the worse end of its interval, is beyond its bound or undefined."""
    wrong = []
    one_of("fail_on", on, FailOn)
    for bound in bounds:
        more = bound.statistic.higher
        for subject in bound.subjects:
            found = summary(subject, bound.statistic)
            value = found.mean if on == "mean" else found.low if more else found.high
            if not (value >= bound.value if more else value <= bound.value):
                what = "mean" if on == "mean" else f"{'lower' if more else 'upper'} end of the interval"
                side = f"{value:.6g}, {'below' if more else 'above'} {bound.value:g}"
                said = "undefined" if math.isnan(value) else side
                wrong.append(f"{' vs '.join(subject)}: {what} of {bound.statistic.name} is {said}")
    if wrong:
        raise Below("; ".join(wrong))

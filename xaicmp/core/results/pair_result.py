"""The statistics of one pair of methods, by name."""

from __future__ import annotations

from dataclasses import dataclass

from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.results.comparison import Comparison, Result
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.place import Place
from xaicmp.errors import UsageError


@dataclass(frozen=True)
class PairResult:
    """The statistics of one pair of methods.

    Each is an attribute: ``result["grad-cam", "saliency"].pearson.mean``. A statistic whose name is no attribute
    name has underscores (``mass_overlap``); ``iou@10%`` is had by ``summary("iou@10%")``.
    """

    comparison: Comparison
    pair: Pair

    def summary(self, statistic: str) -> Summary:
        """Mean, spread and interval of the statistic called ``statistic``.

        Raises:
            UsageError: it was not measured.
        """
        return self.outcome(statistic).summary

    def outcome(self, statistic: str) -> Result:
        """The same with chance, controls and tests."""
        for each in self.comparison.statistics:
            if each.name == statistic:
                return self.comparison.result(each, self.pair)
        known = ", ".join(each.name for each in self.comparison.statistics)
        raise UsageError(f"statistic {statistic!r} was not measured; there are {known}")

    def places(self, statistic: str, among: str = "other_image") -> list[Place]:
        """Where each image's agreement stands among those with B's maps of other images, or ``"shifted"`` ones."""
        self.outcome(statistic)
        return self.comparison.places(among, statistic, self.pair)

    def __getattr__(self, name: str) -> Summary:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.summary(name.replace("_", "-"))
        except UsageError as error:
            raise AttributeError(str(error)) from error

    def __dir__(self) -> list[str]:
        own = [each.name.replace("-", "_") for each in self.comparison.statistics]
        return [*own, "summary", "outcome", "places", "comparison", "pair"]

    def __repr__(self) -> str:
        values = [
            f"{each.title(self.comparison.top)} {self.summary(each.name).mean:.3f}"
            for each in self.comparison.statistics
        ]
        return f"PairResult({' vs '.join(self.pair)}: {', '.join(values)})"

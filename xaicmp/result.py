"""What a comparison gives: its numbers, and the ways to look at them and to keep them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from xaicmp.core.agreement.statistic import Pair
from xaicmp.core.attribution import Method
from xaicmp.core.images.source import ImageSource
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.comparison import Result as Outcome
from xaicmp.core.results.intervals import Summary
from xaicmp.core.run.engine import Engine
from xaicmp.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


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

    def outcome(self, statistic: str) -> Outcome:
        """The same beside chance, controls and tests."""
        for each in self.comparison.statistics:
            if each.name == statistic:
                return self.comparison.result(each, self.pair)
        known = ", ".join(each.name for each in self.comparison.statistics)
        raise UsageError(f"statistic {statistic!r} was not measured; there are {known}")

    def __getattr__(self, name: str) -> Summary:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.summary(name.replace("_", "-"))
        except UsageError as error:
            raise AttributeError(str(error)) from error

    def __dir__(self) -> list[str]:
        own = [each.name.replace("-", "_") for each in self.comparison.statistics]
        return [*own, "summary", "outcome", "comparison", "pair"]

    def __repr__(self) -> str:
        values = [
            f"{each.title(self.comparison.top)} {self.summary(each.name).mean:.3f}"
            for each in self.comparison.statistics
        ]
        return f"PairResult({' vs '.join(self.pair)}: {', '.join(values)})"


@dataclass(frozen=True, repr=False)
class Result:
    """A comparison, and what it was made with.

    Attributes:
        comparison: which images, and how far their maps agree.
        images: what was explained; None for maps from a file.
        engine: the model and how it was run; None for maps from a file.
        methods: what was compared; empty for maps from a file.
    """

    comparison: Comparison
    images: ImageSource | None = None
    engine: Engine | None = None
    methods: tuple[Method, ...] = ()

    def __len__(self) -> int:
        return len(self.comparison.predictions)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two methods, by name."""
        return self.comparison.pairs

    def __getitem__(self, pair: Sequence[str]) -> PairResult:
        """The statistics of two methods, by name or title, in either order.

        Raises:
            UsageError: they were not compared.
        """
        titles = {title.lower(): name for name, title in self.comparison.titles.items()}
        names = tuple(titles.get(str(each).lower(), str(each)) for each in pair)
        for known in (names, names[::-1]):
            if known in self.pairs:
                return PairResult(self.comparison, known)
        raise UsageError(
            f"{' vs '.join(map(str, pair))} was not compared; there are {', '.join(self.comparison.titles)}"
        )

    def __iter__(self) -> Iterator[PairResult]:
        return (PairResult(self.comparison, pair) for pair in self.pairs)

    def table(self, format: str = "table") -> str:
        """The comparison as text: ``"table"``, ``"markdown"``, ``"csv"`` or ``"json"``."""
        if format != "table":
            from xaicmp.views.formats import WRITERS

            return WRITERS[format][0](self.comparison, ())
        from rich.console import Console

        console = Console(file=io.StringIO(), width=120)
        console.print(self)
        return cast(io.StringIO, console.file).getvalue()

    def save(self, path: str | Path) -> None:
        """Write it to ``path``: ``.json`` with everything, ``.csv`` or ``.md``.

        Raises:
            UsageError: another suffix.
            XaicmpError: the file cannot be written.
        """
        from xaicmp.views.formats import WRITERS, format_of, write

        write(Path(path), WRITERS[format_of(Path(path))][0](self.comparison, ()))

    def to_frame(self, by: str = "pair") -> Any:
        """A pandas DataFrame: one row per pair, or with ``by="image"`` per image, pair and statistic.

        Raises:
            UsageError: pandas is missing, or another ``by``.
        """
        try:
            import pandas
        except ImportError as error:
            raise UsageError("to_frame needs pandas; pip install pandas") from error
        if by not in ("pair", "image"):
            raise UsageError(f"by {by!r}: choose pair or image")
        if by == "pair":
            return pandas.read_csv(io.StringIO(self.table("csv")))
        rows = [
            (int(image), *pair, each.name, value)
            for each in self.comparison.statistics
            for pair in self.pairs
            for image, value in zip(
                self.comparison.predictions.ids, self.comparison.scores.values[each.name][pair], strict=True
            )
        ]
        return pandas.DataFrame(rows, columns=["id", "a", "b", "statistic", "value"])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from xaicmp.views.tables.comparison import Pairs

        yield Pairs(self.comparison)

    def _repr_html_(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), record=True, width=120)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def __repr__(self) -> str:
        statistics = ", ".join(each.title(self.comparison.top) for each in self.comparison.statistics)
        return f"Result({', '.join(self.comparison.titles)} on {len(self)} images: {statistics})"

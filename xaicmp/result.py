"""The result of a comparison: its numbers, and how they are shown and saved."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from torch import Tensor, nn

from xaicmp.core.agreement.statistic import Pair, Statistic
from xaicmp.core.arguments import instance
from xaicmp.core.attribution import Method
from xaicmp.core.choices import FailOn, Only, Randomise
from xaicmp.core.images.masks import load_masks
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.machine.storage import check_suffix, check_writable
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.results.comparison import OTHER_IMAGE, Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.gate import check_bounds, read_bound
from xaicmp.core.results.intervals import Summary
from xaicmp.core.results.pair_result import PairResult
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explainer import Explainer
from xaicmp.core.studies.checkpoints import Checkpoints, over_checkpoints
from xaicmp.core.studies.clusters import Tree, clusters
from xaicmp.core.studies.consensus import Consensus, consensus
from xaicmp.core.studies.cost import Cost, measure
from xaicmp.core.studies.groups import Group, by_images
from xaicmp.core.studies.localisation import Localisation, localise
from xaicmp.core.studies.pair_tests import PairTests, differences
from xaicmp.core.studies.properties import Properties, properties
from xaicmp.core.studies.randomisation import Randomisation, randomise
from xaicmp.core.studies.reference import among_reference
from xaicmp.core.studies.stability import Repetition, repeat
from xaicmp.errors import UsageError, arg
from xaicmp.views.formats import comparison_text, format_of, write
from xaicmp.views.table import Table, data_of, to_text
from xaicmp.views.tables.comparison import pairs_records, pairs_table
from xaicmp.views.tables.images import values_records

if TYPE_CHECKING:
    # What these bring is needed for few results, and takes most of a second to import.
    from matplotlib.figure import Figure

    from xaicmp.core.studies.faithfulness import Faithfulness


def with_tree(comparison: Comparison, studies: Sequence[Table]) -> list[Table]:
    """The studies of a page: those that are given, and the tree of the methods where there are three or more."""
    known = comparison.titles.keys() - comparison.floors
    missing = not any(each.key == "clusters" and each.columns for each in studies)
    if missing and len(known) > 2 and OTHER_IMAGE in comparison.settings.controls:
        return [Result(comparison).study_table("clusters"), *studies]
    return list(studies)


@dataclass(frozen=True, repr=False)
class Result:
    """A comparison, and what it was made with.

    Attributes:
        comparison: which images, and how far their maps agree.
        images: what was explained; None for maps from a file.
        engine: the model and how it was run; None for maps from a file.
        methods: what was compared; empty for maps from a file.
        kept: the studies that a loaded document holds; ``save`` writes them again.
    """

    comparison: Comparison
    images: ImageSource | None = None
    engine: Engine | None = None
    methods: tuple[Method, ...] = ()
    kept: tuple[Table, ...] = ()

    @property
    def studies(self) -> dict[str, Any]:
        """The data of the studies that a loaded document holds, by key."""
        return data_of(self.kept)

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
        pair = pair if isinstance(pair, Sequence) and not isinstance(pair, str) else (pair,)
        names = tuple(titles.get(str(each).lower(), str(each)) for each in pair)
        for known in (names, names[::-1]):
            if known in self.pairs:
                return PairResult(self.comparison, known)
        raise UsageError(
            f"{' vs '.join(map(str, pair))} was not compared; there are {', '.join(self.comparison.titles)}"
        )

    def __iter__(self) -> Iterator[PairResult]:
        return (PairResult(self.comparison, pair) for pair in self.pairs)

    def compare_pairs(self) -> PairTests:
        """Test every two pairs of methods against each other (sign flips, Holm-corrected), with letters."""
        return differences(self.comparison)

    def by(self, group: str) -> list[Group]:
        """The agreement over the images of each ``"class"``, ``"correct"`` or quartile of ``"confidence"``."""
        if group not in ("class", "correct", "confidence"):
            raise UsageError(f"by {group!r}: choose class, correct or confidence")
        return by_images(self.comparison, group)

    def among(self, reference: ImageSource, progress: Progress = no_progress) -> Result:
        """The same result, with each image's agreement ranked among that of A's map with B's maps of the images ``reference``.

        These are explained for the class that the model predicts. An image of them that is the image itself does not count.

        Raises:
            UsageError: they are of another size.
        """
        scores, reference = self.comparison.scores, instance("reference", reference, ImageSource)
        p_values, among = among_reference(*self._again(), reference, self.comparison.settings, progress)
        scores = replace(
            scores,
            p_values=scores.p_values | {OTHER_IMAGE: p_values},
            among=scores.among | {OTHER_IMAGE: among},
        )
        return replace(self, comparison=replace(self.comparison, scores=scores))

    def clusters(self) -> dict[str, Tree]:
        """By statistic, which methods belong together: a tree by agreement above another image's map."""
        return clusters(self.comparison)

    def consensus(self, maps: Tensor | None = None, progress: Progress = no_progress) -> Consensus:
        """Kendall's W over all methods that know the model, the mean of their ranks, and each one's distance from it.

        Of methods that have the same maps, the first counts.

        Args:
            maps: ``(M, N, H, W)``, those that were compared, where they have been kept; without them, the images are
                explained again.
            progress: told how far it is.
        """
        measured = self.comparison
        titles = {name: title for name, title in measured.titles.items() if name not in measured.floors}
        rows = [list(measured.titles).index(name) for name in titles]
        return consensus(self._kept(maps, progress)[rows], titles, measured.settings, measured.distinct)

    def rerun(self, seed: int | None = None, progress: Progress = no_progress) -> Repetition:
        """Each method against itself under another seed; by default the next one."""
        engine, _ = self._model()
        return self._repeat(engine.again(seed=engine.seed + 1 if seed is None else seed), progress)

    def against(self, model: Classifier | nn.Module, progress: Progress = no_progress) -> Repetition:
        """Each method against itself on another model of the same classes, for the same images and targets."""
        return self._repeat(self._on(model), progress)

    def checkpoints(
        self, models: Sequence[Classifier | nn.Module], only: Only = "all", progress: Progress = no_progress
    ) -> Checkpoints:
        """The same agreement on this model and others of the same classes, for the same images and targets.

        Args:
            models: one or more others; there is an interval from two on.
            only: which images every model must admit: ``"correct"``, ``"wrong"`` or ``"all"``.
            progress: told how far it is.
        """
        engine, images = self._model()
        if not models:
            raise UsageError(f"{arg('checkpoints')}: give another model, or several")
        engines = [engine, *map(self._on, models)]
        return over_checkpoints(self.comparison, engines, self.methods, images, only, progress)

    def _on(self, model: Classifier | nn.Module) -> Engine:
        """The engine with another model of the same classes."""
        engine, _ = self._model()
        other = model if isinstance(model, Classifier) else replace(engine.classifier, module=model)
        if not other.classes:
            other = replace(other, classes=engine.classifier.classes)
        if other.classes != engine.classifier.classes:
            raise UsageError(
                f"{other.name} has other classes than {engine.classifier.name}; use one trained on the same classes"
            )
        return engine.again(classifier=other)

    def _repeat(self, second: Engine, progress: Progress) -> Repetition:
        explainer, images, chosen = self._again()
        other = Explainer(second, self.methods)
        return repeat(explainer, other, images, chosen, self.comparison.settings, progress)

    def randomisation(
        self, kind: Randomise = "cascading", draws: int = 5, progress: Progress = no_progress
    ) -> Randomisation:
        """Agreement with the maps of copies of the model that are re-initialised step by step (Adebayo et al., 2018).

        Args:
            kind: ``"cascading"`` re-initialises stage after stage from the output down, ``"independent"`` one at a time.
            draws: how many re-initialised copies at each stage.
            progress: told how far it is.
        """
        return randomise(*self._again(), self.comparison.settings, kind, draws, progress)

    def faithfulness(
        self, maps: Tensor | None = None, progress: Progress = no_progress
    ) -> list[Faithfulness]:
        """Deletion and insertion curves of each method, by three baselines (Samek et al., 2017; Rong et al., 2022).

        Args:
            maps: ``(M, N, H, W)``, those that were compared, where they have been kept; without them, the images are
                explained again.
            progress: told how far it is.
        """
        from xaicmp.core.studies.faithfulness import faithful

        (engine, images), measured = self._model(), self.comparison
        maps = self._kept(maps, progress)
        return faithful(engine, images, measured.predictions, maps, measured.settings, progress)

    def properties(self, progress: Progress = no_progress) -> Properties:
        """Properties of each method's maps: concentration, sensitivity to noise and to the class, agreement with centre and edges."""
        return properties(*self._again(), self.comparison.settings, progress)

    def localisation(self, masks: str | Path | Tensor, maps: Tensor | None = None) -> Localisation:
        """Whether the maps point at the object: pointing game, relevance mass and rank accuracy, IoU, AUC.

        Args:
            masks: bool ``(N, H, W)``, as the model sees the images; or a folder of masks or a file of boxes, see
                ``core.images.masks.load_masks``.
            maps: as for ``faithfulness``.

        Raises:
            UsageError: ``masks`` are not as many or as large as the maps.
            XaicmpError: they cannot be read.
        """
        _, images = self._model()
        chosen = self.comparison.predictions
        inside = masks if isinstance(masks, Tensor) else load_masks(images, chosen.ids, Path(masks))
        if inside.shape != (len(chosen), *images.size()):
            raise UsageError(
                f"{arg('masks')} of shape {tuple(inside.shape)}: give one per image, of its size"
            )
        titles, settings = dict(self.comparison.titles), self.comparison.settings
        return localise(self._kept(maps), inside > 0, titles, settings)

    def cost(self) -> list[Cost]:
        """Seconds, passes per image and bytes of each method on one batch, and of all together."""
        engine, images = self._model()
        return measure(engine, images, self.comparison.predictions, self.methods)

    def check(self, *bounds: str, on: FailOn = "mean", against: Repetition | None = None) -> None:
        """Raise ``Below`` unless agreement reaches its bounds; what is undefined does not.

        Args:
            bounds: ``"pearson=0.3"`` for every pair without a model-free method, or ``"grad-cam,saliency:iou=0.2"``
                for one. A distance must not be above its bound.
            on: ``"mean"``, or ``"ci"`` for the lower end of its interval.
            against: of ``Result.against``; then ``"pearson=0.3"`` is of each method with itself, and
                ``"grad-cam:iou=0.2"`` of one.

        Raises:
            UsageError: it is no bound, or of what was not measured.
        """
        measured, own = self.comparison, [] if against is None else [(name,) for name in against.titles]

        def summary(subject: tuple[str, ...], statistic: Statistic) -> Summary:
            if against is not None and len(subject) == 1:
                return against.summary(statistic.name, subject[0])
            return measured.result(statistic, (subject[0], subject[1])).summary

        known, usual = [*self.pairs, *own], own or measured.model_pairs
        found = [read_bound(each, measured.statistics, known, usual) for each in bounds]
        check_bounds(found, summary, on)

    def figure(self, kind: str = "shares", **look: Any) -> Figure:
        """A figure: ``"shares"``, ``"matrix"``, ``"distribution"``, ``"maps"`` and others of ``views.figures``.

        What it needs of the model is run for it: a study that the result does not hold, or the maps once more.

        Args:
            kind: by name.
            look: of ``views.figures.style.Look``, as ``width=3.35`` in inches or ``theme="dark"``.

        Raises:
            UsageError: another kind, or what it needs is not there, as ``Settings(curve=True)`` for ``"shares"``.
        """
        from xaicmp.views.figures.registry import Drawing, draw, kind_of
        from xaicmp.views.figures.style import Look

        need, studies, maps = kind_of(kind).needs, self.studies, None
        runs = {"clusters"} if self.engine is None else {"clusters", "randomisation", "faithfulness"}
        if need in runs - studies.keys():
            studies[need] = self.study(need)
        elif self.engine is not None and need == "maps":
            maps = self.maps()
        return draw(kind, Drawing(self.comparison, studies, maps, Look(**look)))

    def study(self, name: str, progress: Progress = no_progress) -> Any:
        """The data of a study as documents hold them; for its name see ``study_table``."""
        return self.study_table(name, progress=progress).data

    def study_table(self, name: str, maps: Tensor | None = None, progress: Progress = no_progress) -> Table:
        """Run a study with its default options.

        Args:
            name: its key in documents: ``"clusters"``, ``"compare_pairs"``, ``"consensus"``, ``"cost"``,
                ``"faithfulness"``, ``"properties"`` or ``"randomisation"``.
            maps: as for ``faithfulness``.
            progress: told how far it is.

        Raises:
            UsageError: another name, or what it needs is not there.
        """
        from xaicmp.views.tables import consensus, studies

        measured = self.comparison
        tables: dict[str, Callable[[], Table]] = {
            "clusters": lambda: consensus.clusters(self.clusters(), measured),
            "compare_pairs": lambda: studies.differences(self.compare_pairs(), measured),
            "consensus": lambda: consensus.consensus(self.consensus(maps, progress)),
            "cost": lambda: studies.costs(self.cost()),
            "faithfulness": lambda: studies.faithfulness(self.faithfulness(maps, progress), measured),
            "properties": lambda: studies.properties(self.properties(progress)),
            "randomisation": lambda: studies.randomisation(self.randomisation(progress=progress), measured),
        }
        if name not in tables:
            raise UsageError(f"study {name!r}: choose from {', '.join(tables)}")
        return tables[name]()

    def maps(self, rows: np.ndarray | None = None, progress: Progress = no_progress) -> Explanations:
        """Explain the images, or the given rows of them, again."""
        explainer, images, chosen = self._again()
        if rows is not None:
            chosen = chosen.rows(rows)
        return Explanations.join(list(explainer.again(images, chosen, progress)))

    def _kept(self, maps: Tensor | None, progress: Progress = no_progress) -> Tensor:
        """The maps that were kept; without them, the images are explained again.

        Raises:
            UsageError: they are not of these methods and images.
        """
        if maps is None:
            return self.maps(progress=progress).maps
        count, pixels = (len(self.comparison.titles), len(self)), self.comparison.pixels
        if maps.ndim != 4 or maps.shape[:2] != count or maps[:1, :1].numel() != pixels:
            raise UsageError(
                f"maps {tuple(maps.shape)}: give {count} of {pixels} pixels, one per method and image"
            )
        return maps

    def _again(self) -> tuple[Explainer, ImageSource, Predictions]:
        """An explainer, the images and the predictions, to explain the same images again."""
        engine, images = self._model()
        return Explainer(engine, self.methods), images, self.comparison.predictions

    def _model(self) -> tuple[Engine, ImageSource]:
        if self.engine is None or self.images is None:
            raise UsageError(
                "this result comes from a file, and this needs the model; compare it with xaicmp.compare"
            )
        return self.engine, self.images

    def table(self, format: str = "table", details: bool = False) -> str:
        """The comparison as text.

        Args:
            format: ``"table"``, ``"markdown"``, ``"latex"``, ``"csv"``, ``"json"`` or another that is registered.
            details: whether tables for people show every control and chance, and CSV has one row per image, pair
                and statistic instead of one per pair.
        """
        if format == "table":
            return to_text(pairs_table(self.comparison, details), width=120)
        return comparison_text(self.comparison, format, details=details, studies=self.kept)

    def to_latex(self, details: bool = False) -> str:
        """The comparison as a table for a paper, which needs the package booktabs."""
        return self.table("latex", details)

    def save(self, path: str | Path, details: bool = False) -> None:
        """Write it to ``path``: ``.json`` with everything, which ``xaicmp.load`` reads; ``.csv``, ``.md`` or ``.tex``.

        Args:
            path: the file.
            details: as for ``table``.

        Raises:
            UsageError: another suffix.
            XaicmpError: the file cannot be written.
        """
        write(Path(path), self.table(format_of(Path(path)), details))

    def report(
        self,
        path: str | Path,
        explanations: Explanations | None = None,
        progress: Progress = no_progress,
        studies: Sequence[str] = (),
    ) -> None:
        """Write one page that shows all of it in any browser, offline, with the images and their maps.

        Args:
            path: the ``.html`` file.
            explanations: of the same images in the same order, where they have been kept; without them, the images are
                explained again. What comes from a file has none, and its page shows no images.
            progress: told how far that is.
            studies: which are run for the page, by their names for ``study_table``. The page shows those that a
                loaded document holds, too.

        Raises:
            UsageError: another suffix, or an unknown study.
            XaicmpError: the file cannot be written.
        """
        from xaicmp.views.report.gallery import Gallery
        from xaicmp.views.report.page import write_report

        check_suffix(Path(path), [".html"], "path")
        check_writable(Path(path))
        gallery = Gallery()
        if explanations is not None:
            gallery.add(explanations)
        elif self.engine is not None:
            explainer, images, chosen = self._again()
            for each in explainer.again(images, chosen, progress):
                gallery.add(each)
        maps = None if explanations is None else explanations.maps
        tables = [self.study_table(name, maps, progress) for name in studies]
        kept = [each for each in self.kept if each.key not in studies]
        write_report(Path(path), self.comparison, gallery, with_tree(self.comparison, tables + kept))

    def to_frame(self, by: str = "pair") -> Any:
        """A pandas DataFrame: one row per pair, or with ``by="image"`` per image, pair and statistic.

        Raises:
            UsageError: pandas is missing, or another ``by``.
        """
        if by not in ("pair", "image"):
            raise UsageError(f"by {by!r}: choose pair or image")
        try:
            import pandas
        except ImportError as error:
            raise UsageError("to_frame needs pandas; pip install 'xaicmp[pandas]'") from error
        table = (pairs_records if by == "pair" else values_records)(self.comparison)
        rows = [[float("nan") if cell is None else cell for cell in row] for row in table.rows]
        return pandas.DataFrame(rows, columns=list(table.columns))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield pairs_table(self.comparison)

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=120)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def __repr__(self) -> str:
        statistics = ", ".join(each.title(self.comparison.top) for each in self.comparison.statistics)
        return f"Result({', '.join(self.comparison.titles)} on {len(self)} images: {statistics})"

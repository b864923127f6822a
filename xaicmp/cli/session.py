"""The shared part of explain, metrics and figure: from options to a comparison, with progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from xaicmp.cli.config import ORIGIN
from xaicmp.cli.multivalue import parse_ids
from xaicmp.cli.options import NOISY, Comparing, flag, given
from xaicmp.cli.progress import Stages, progress_bar
from xaicmp.errors import Interrupted, Line, UsageError, XaicmpError, arg, by_option
from xaicmp.views.table import printable

if TYPE_CHECKING:
    from xaicmp.core.attribution import Method
    from xaicmp.core.images.selection import Selection
    from xaicmp.core.images.source import ImageSource
    from xaicmp.core.machine.processes import Processes
    from xaicmp.core.models.classifier import Classifier
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.core.results.settings import Settings
    from xaicmp.core.run.journal import Journal
    from xaicmp.core.run.running import Running
    from xaicmp.result import Result
    from xaicmp.views.table import Table


DESCRIBED = ("classes", "input_size", "mean", "std", "crop_pct", "interpolation")
"""Options that describe the model."""
OF_NUMBERS = {"from_", "compare_pairs", "by", "consensus", "quiet", "plot", "kind", "report", "fail_under"}
OF_NUMBERS |= {"fail_on", "format", "output", "details"}
"""Options that need neither maps nor model."""
OF_MAPS = OF_NUMBERS | {"statistics", "top", "controls", "ci", "margin", "seed"}
"""Options that need no model."""

Keep = Callable[["Explanations"], None]


def selection_of(options: Comparing, default: int, images: ImageSource, classes: Sequence[str]) -> Selection:
    """The images of --n, --ids and --only; by default the first ``default`` images.

    Without labels all images count, and a remark says so.
    """
    from xaicmp.core.images.classes import labels_known
    from xaicmp.core.images.selection import Selection

    if options.ids is not None:
        return Selection(ids=parse_ids(options.ids, images.find), only="all")
    only = options.only or "correct"
    if options.only is None and not labels_known(images, classes):
        only = "all"
        remark(
            options,
            f"{images.name}: no labels that are classes of the model, so all images count, as with --only all",
        )
    return Selection(n=default if options.n is None else options.n, only=only)


def described(options: Comparing) -> dict[str, Any]:
    """The values of the options that describe the model."""
    return {name: value for name in DESCRIBED if (value := getattr(options, name)) is not None}


def method_settings(options: Comparing) -> dict[str, dict[str, Any]]:
    """The values of --ig-..., --samples and --noise, by method."""
    from xaicmp.core.attribution import METHODS

    settings: dict[str, dict[str, Any]] = {name: {} for name in METHODS}
    settings["integrated-gradients"] = {
        "steps": options.ig_steps,
        "rule": options.ig_rule,
        "baseline": options.ig_baseline,
        "tolerance": options.ig_tolerance,
    }
    if options.samples is not None:
        for name, method in METHODS.items():
            if "samples" in method.options:
                settings[name]["samples"] = options.samples
    if options.noise is not None:
        for name in NOISY:
            settings[name]["stdev"] = options.noise
    return settings


def settings_of(options: Comparing, *, curve: bool = False) -> Settings:
    """The settings of --statistics, --top, --controls, --ci, --seed and --margin; ``curve``: with IoU at many shares."""
    from xaicmp.core.agreement.controls import get_controls
    from xaicmp.core.agreement.registry import DEFAULT_STATISTICS, get_statistics
    from xaicmp.core.agreement.top_pixels import check_top
    from xaicmp.core.results.settings import Settings

    if not 0 < options.ci < 1:
        raise UsageError(f"--ci {options.ci:g} is no level of an interval; give one between 0 and 1, as 0.95")
    top, *more = tops = options.top or [0.2]
    for each in tops:
        check_top(each)
    if len({f"{100 * each:g}" for each in tops}) < len(tops):
        raise UsageError("--top names a share twice; name each once")
    margin = {} if options.margin is None else {"margin": options.margin}
    return Settings(
        get_statistics(_words(options.statistics) or DEFAULT_STATISTICS, more),
        top,
        get_controls(_words(options.controls)),
        options.ci,
        options.seed,
        curve,
        **margin,
    )


def _words(values: list[str] | None) -> list[str]:
    """``["a,b", "c"]`` to ``["a", "b", "c"]``."""
    return ",".join(values).split(",") if values else []


def remark_unused(options: Comparing, methods: Sequence[Method], settings: Settings) -> None:
    """Say which of the given options none of the methods or statistics takes."""
    names = {each.name.partition(":")[0] for each in methods}
    path = "integrated-gradients" in names
    taken = {
        "layer": any(each.needs_layer for each in methods),
        "ig_steps": path,
        "ig_rule": path,
        "ig_baseline": path,
        "ig_tolerance": path,
        "samples": any("samples" in each.options for each in methods),
        "noise": bool(names.intersection(NOISY)),
        "top": any(each.uses_top for each in settings.statistics),
    }
    for name in given(options):
        if not taken.get(name, True):
            what = "statistics" if name == "top" else "methods"
            remark(options, f"{flag(name)} changes nothing: none of the {what} takes it")


def remark(options: Any, message: str) -> None:
    """Print one line on stderr, unless --quiet is given."""
    if not options.quiet:
        sys.stderr.write(f"xaicmp: {printable(by_option(Line(message).message))}\n")


@contextmanager
def together(device: str) -> Iterator[Processes]:
    """The processes that torchrun has started, or this one alone. Only the first prints and writes."""
    from xaicmp.core.machine.devices import find_device
    from xaicmp.core.machine.processes import processes

    with processes(find_device(device)) as group:
        try:
            yield group
        except (KeyboardInterrupt, XaicmpError) as error:
            # Every process stops when one does; one of them says so.
            if group.rank == 0:
                raise
            raise typer.Exit(getattr(error, "exit_code", Interrupted.exit_code)) from error


class Session:
    """The model, images and methods of one command, ready to be compared.

    Args:
        options: as given.
        default: how many images are compared if no option says it.
        group: the processes that share the work.
        images: the images to compare, if they are loaded already.
    """

    def __init__(
        self,
        options: Comparing,
        default: int,
        *,
        group: Processes | None = None,
        images: ImageSource | None = None,
    ) -> None:
        from xaicmp.core.machine.processes import ALONE
        from xaicmp.core.models.outputs import SCORE
        from xaicmp.core.models.sources import find_object
        from xaicmp.core.run.applying import applying
        from xaicmp.core.run.class_names import with_class_names

        self.group = group or ALONE
        self.options = replace(options, quiet=options.quiet or self.group.rank > 0)
        with progress_bar(self.options.quiet) as show:
            show("loading", 0, 0)
            # What may be refused comes before the weights, which take longer.
            self.settings = settings_of(options)
            self.methods, every = self._methods()
            self.running = self._running()
            if ":" in options.target:
                find_object(options.target, arg("target"))
            if images is None and options.images is not None:
                images = self._named(show)
            self.classifier = self._model()
            self.frame(images)
            self.images = self._tested(show) if images is None else images
            self._remark_assumed()
            classes: tuple[str, ...] = SCORE  # of an own function, whatever the model puts out
            if ":" not in options.target:
                self.classifier = with_class_names(
                    self.classifier, self.images, partial(remark, self.options)
                )
                classes = self.classifier.classes
            self.selection = selection_of(self.options, default, self.images, classes)
            if repeated := self.selection.repeated:
                ids = "id" if repeated == 1 else "ids"
                remark(self.options, f"--ids: {repeated} repeated {ids} left out; each image counts once")
            if every:
                engine = self.running.engine(self.classifier)
                self.methods = applying(engine, self.size(), self.methods)
        remark_unused(self.options, self.methods, self.settings)

    def frame(self, images: ImageSource | None) -> None:
        """Bring photographs to the size that the model takes."""
        from xaicmp.api import framing_of
        from xaicmp.core.images.files import FileImages

        if isinstance(images, FileImages):
            images.framing = framing_of(self.classifier)

    def _remark_assumed(self) -> None:
        """Say what is assumed of a model that does not say how its images are prepared."""
        from xaicmp.core.images.files import FileImages
        from xaicmp.core.models.classifier import NOT_NORMALISED

        assumed = {}
        if isinstance(self.images, FileImages) and self.classifier.input_size is None:
            assumed["--input-size"] = "at {} x {}".format(*self.images.size())
        if self.classifier.mean == NOT_NORMALISED and self.options.mean is None:
            assumed["--mean and --std"] = "from 0 to 1, not normalised"
        if assumed:
            how, ways = ", ".join(assumed.values()), ", ".join(assumed)
            name = self.classifier.name
            remark(self.options, f"{name} does not say how images are prepared; taken {how}. Give {ways}")

    def _methods(self) -> tuple[tuple[Method, ...], bool]:
        """The methods, and whether all are asked for that apply to the model."""
        from xaicmp.core.attribution import PUBLISHED, get_methods
        from xaicmp.core.attribution.selection import split_names

        options = self.options
        names = [name for word in options.methods or PUBLISHED for name in split_names(word)]
        methods = get_methods(names, reduce=options.reduce, settings=method_settings(options))
        if options.fast and any("integrated-gradients:" in m.name and "=" in m.name for m in methods):
            raise UsageError("--fast sets the options of integrated-gradients; leave it or them out")
        return methods, "all" in names

    def _running(self) -> Running:
        """How the model is run."""
        from xaicmp.core.machine.devices import find_device
        from xaicmp.core.run.running import Running

        options = self.options
        return Running(
            device=find_device(options.device),
            precision=options.precision,
            batch_size=options.batch_size or 0,
            seed=options.seed,
            layer=options.layer,
            fast=options.fast,
            remark=partial(remark, options),
            processes=self.group,
        )

    def size(self) -> tuple[int, int]:
        """Height and width of the images that the model takes."""
        return self.classifier.input_size or self.images.size()

    def _model(self) -> Classifier:
        from xaicmp.api import load_model
        from xaicmp.core.machine.foreign import seeded

        options = self.options
        with seeded(options.seed):  # of which weights that are drawn are, in each of several processes
            return load_model(
                options.model,
                checkpoint=options.checkpoint,
                weights=options.weights,
                remark=partial(remark, options),
                **described(options),
            )

    def _named(self, show: Stages) -> ImageSource:
        """What --images names, framed for no classifier yet."""
        from xaicmp.api import load_images

        options = self.options
        files = {"labels": options.labels, "label_map": options.label_map, "strict": options.strict}
        known: dict[str, Any] = {name: value for name, value in files.items() if value}
        return load_images(options.images, progress=show, **known)

    def _tested(self, show: Stages) -> ImageSource:
        """What the classifier was tested on: files of its own, or CIFAR-10."""
        from xaicmp.api import load_images
        from xaicmp.core.images.cifar10 import load_cifar10

        options = self.options
        tested = len(self.classifier.test_files)
        if tested and options.data is None:
            raise UsageError(
                f"{self.classifier.name} was tested on {tested:,} files; name the folder that it was trained on with --data, "
                "or other images with --images"
            )
        if tested:
            return load_images(options.data, model=self.classifier, held_out=True)
        if options.data is not None:
            return load_cifar10("test", options.data, progress=show)
        return load_images(progress=show)

    def compare(self, keep: Keep | None = None, journal: Journal | None = None) -> Result:
        """Choose, explain and compare images, with progress on stderr.

        A remark says if there are fewer images than asked for, or if their checksums are not the official ones.
        """
        from xaicmp.api import compare

        options = self.options
        size = self.classifier.input_size
        if options.images is None and size not in (None, self.images.size()):
            raise UsageError(
                f"{self.classifier.name} looks at images of {size[0]} x {size[1]}, and without --images there is CIFAR-10 alone; "
                "name photographs, or a folder of them"
            )
        with progress_bar(options.quiet) as show:
            result = compare(
                self.classifier,
                self.images,
                options.target,
                self.methods,
                self.selection,
                self.settings,
                replace(self.running, keep=keep, journal=journal, progress=show),
            )
        if result.images is not None and result.images.provenance["verified"] is False:
            remark(options, f"{result.images.name}: the files' checksums are not the official ones")
        if options.n is not None and len(result) < options.n:
            there = "is 1 such image" if len(result) == 1 else f"are {len(result)} such images"
            remark(options, f"there {there}, not {options.n}")
        return replace(result, comparison=signed(result.comparison))

    @contextmanager
    def journal(self, output: Path | None, resume: bool) -> Iterator[Journal | None]:
        """A journal beside ``output``, which is removed once the result is complete.

        After an interruption or an error, the message says how to resume. Without ``output``, and in every process
        but the first, there is no journal.
        """
        from xaicmp.core.run.journal import Journal, folder_of
        from xaicmp.core.run.provenance import plan_of

        if output is None or self.group.rank > 0:
            yield None
            return
        if resume and not folder_of(output).is_dir():
            remark(self.options, f"there is no {folder_of(output)}; starting at the first image")
        engine = self.running.engine(self.classifier)
        plan = plan_of(engine, self.selection, self.methods, self.options.target)
        journal = Journal(output, plan, resume=resume)
        try:
            yield journal
        except (KeyboardInterrupt, XaicmpError) as error:
            kept, wrong = journal.images, isinstance(error, UsageError)
            some = kept or journal.parts
            if not some or (wrong and not journal.begun):
                journal.remove()
            journal.close()
            if not some or wrong:  # the same command cannot go on
                raise
            stopped = isinstance(error, KeyboardInterrupt)
            reason, kind = ("stopped", Interrupted) if stopped else (error.args[0], type(error))
            raise kind(
                f"{reason}; {journal.folder} keeps {kept} of {self.selection.count} images"
                f"{' and a part of the next batch' * bool(journal.parts)}: resume with the same command and --resume"
            ) from error
        journal.remove()


def signed(comparison: Comparison) -> Comparison:
    """The comparison with the command line and its options, which documents record."""
    return replace(comparison, source=comparison.source.signed(**ORIGIN.get()))


def read_comparison(
    options: Any,
    path: Path,
    settings: Settings | Callable[[Sequence[str]], Settings],
    keep: Keep,
    images: bool = True,
) -> tuple[Comparison, list[Table]]:
    """The comparison in a .json file and its studies, or that of the maps in an .npz file.

    ``keep`` gets the maps, with the ``images`` if they are wanted.
    """
    from xaicmp.core.run.maps_file import compare_maps
    from xaicmp.views.document import from_json

    if path.suffix.lower() == ".json":
        return from_json(path)
    return signed(compare_maps(path, settings, partial(remark, options), keep, images)), []


def show_comparison(
    comparison: Comparison,
    format: str,
    *,
    by_image: bool,
    details: bool = False,
    studies: Sequence[Table] = (),
) -> None:
    """Print a comparison on stdout, one row per pair or per image, and the studies after it."""
    from xaicmp.views.formats import comparison_text

    text = comparison_text(comparison, format, by_image=by_image, details=details, studies=studies)
    sys.stdout.write(text)


def check_output(options: Any, *written: str) -> None:
    """Fail before the work if an output cannot be written, or is the same file as an input or another output.

    Args:
        options: of the command; every path among them is an input or an output.
        written: the names of the outputs.
    """
    from xaicmp.core.machine.storage import check_writable, followed

    places = [(flag(name), path) for name, path in vars(options).items() if isinstance(path, Path)]
    photographs = [Path(each) for each in getattr(options, "images", None) or []]
    places += [(f"--images {path}", path) for path in photographs if path.is_file()]
    for name in written:
        mine = getattr(options, name)
        if mine is None:
            continue
        check_writable(mine)
        for other, path in places:
            if other != flag(name) and followed(path) == followed(mine):
                raise UsageError(f"{flag(name)} and {other} are the same file, {mine}; name another")


def check_only(options: Any, known: Collection[str], why: str) -> None:
    """Raise UsageError with the reason ``why`` if an option is given that is not among ``known``."""
    for name in given(options):
        if name not in known:
            raise UsageError(f"{flag(name)} {why}")


def check_alone(options: Any, path: Path, own: Collection[str] = ()) -> None:
    """Raise UsageError if an option needs more than the file ``path`` of maps or numbers; ``own`` options do not."""
    check_only(options, OF_MAPS.union(own), "needs the model; leave it or --from out")
    if path.suffix.lower() == ".json":
        check_only(options, OF_NUMBERS.union(own), "needs the maps; leave it or --from out")

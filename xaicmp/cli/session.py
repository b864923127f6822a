"""What explain, metrics and figure have in common: options in, comparison out, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from xaicmp.cli.config import ORIGIN
from xaicmp.cli.multivalue import parse_ids
from xaicmp.cli.options import NOISY, Comparing
from xaicmp.cli.progress import Stages, progress_bar
from xaicmp.errors import Interrupted, UsageError, XaicmpError
from xaicmp.views.table import printable

if TYPE_CHECKING:
    from xaicmp.core.images.selection import Selection
    from xaicmp.core.images.source import ImageSource
    from xaicmp.core.machine.processes import Processes
    from xaicmp.core.models.checkpoint import Checkpoint
    from xaicmp.core.models.classifier import Classifier
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.explanations import Explanations
    from xaicmp.core.results.settings import Settings
    from xaicmp.core.run.journal import Journal
    from xaicmp.result import Result
    from xaicmp.views.table import Table


LOADING = "loading"
DESCRIBED = ("classes", "input_size", "mean", "std", "crop_pct", "interpolation")
"""Options that say what is known about the model."""
FAST_REPLACES = (Comparing.ig_steps, Comparing.ig_rule, Comparing.precision)

OF_NUMBERS = {
    "maps",
    "compare_pairs",
    "by",
    "consensus",
    "margin",
    "quiet",
    "plot",
    "kind",
    "report",
    "fail_under",
    "fail_on",
}
"""Options that need no maps."""
OF_MAPS = OF_NUMBERS | {"statistics", "top", "controls", "ci", "seed"}
"""Options that need no model."""

Keep = Callable[["Explanations"], None]


def selection_of(options: Comparing, default: int, images: ImageSource, classes: Sequence[str]) -> Selection:
    """What --n, --ids and --only say; the first ``default`` images if they say nothing.

    Without labels all images count, and that is said.
    """
    from xaicmp.core.images.classes import labels_known
    from xaicmp.core.images.selection import Selection

    if options.ids is None:
        only = options.only or "correct"
        if options.only is None and not labels_known(images, classes):
            only = "all"
            remark(
                options,
                f"{images.name}: no labels that are classes of the model, so all images count, as with --only all",
            )
        return Selection(n=default if options.n is None else options.n, only=only)
    if options.n is not None:
        raise UsageError("--n and --ids exclude each other; give one of them")
    if options.only is not None:
        raise UsageError("--only goes with --n; --ids takes every image it names")
    return Selection(ids=parse_ids(options.ids, images.find), only="all")


def method_settings(options: Comparing, fast: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What --ig-..., --samples and --noise say, by method; what ``fast`` says of Integrated Gradients comes first."""
    from xaicmp.core.attribution import METHODS

    settings: dict[str, dict[str, Any]] = {name: {} for name in METHODS}
    settings["integrated-gradients"] = {
        "steps": options.ig_steps,
        "rule": options.ig_rule,
        "baseline": options.ig_baseline,
        "tolerance": options.ig_tolerance,
        **fast,
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
    """What --statistics, --top, --controls, --ci and --seed say; ``curve``: for a picture of all shares."""
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
    return Settings(
        get_statistics(_words(options.statistics) or DEFAULT_STATISTICS, more),
        top,
        get_controls(_words(options.controls)),
        options.ci,
        options.seed,
        curve,
        options.margin,
    )


def _words(values: list[str] | None) -> list[str]:
    """``["a,b", "c"]`` to ``["a", "b", "c"]``."""
    return ",".join(values).split(",") if values else []


def remark(options: Any, message: str) -> None:
    """One line on stderr, unless --quiet."""
    if not options.quiet:
        sys.stderr.write(f"xaicmp: {printable(UsageError(message).on_the_command_line())}\n")


@contextmanager
def together(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, of which the first alone prints and writes; else there is one."""
    from xaicmp.core.machine.devices import find_device
    from xaicmp.core.machine.processes import processes

    with processes(find_device(device)) as group:
        try:
            yield group
        except (KeyboardInterrupt, XaicmpError) as error:
            # Every process stops when one does; one of them says so.
            if group.rank == 0:
                raise
            stopped, wrong = isinstance(error, KeyboardInterrupt | Interrupted), isinstance(error, UsageError)
            raise typer.Exit(130 if stopped else 2 if wrong else 1) from error


class Session:
    """One command's model, images and methods, ready to be compared.

    Args:
        options: as given.
        default: how many images are compared if the options do not say.
        curve: whether IoU is measured at many shares.
        group: the processes that share the work.
        images: those that are compared, if they are at hand.
    """

    def __init__(
        self,
        options: Comparing,
        default: int,
        *,
        curve: bool = False,
        group: Processes | None = None,
        images: ImageSource | None = None,
    ) -> None:
        from xaicmp.core.machine.processes import ALONE

        if options.fast and (options.ig_steps, options.ig_rule, options.precision) != FAST_REPLACES:
            raise UsageError("--fast sets --ig-steps, --ig-rule and --precision; leave it or them out")
        self.group = group or ALONE
        self.options = replace(options, quiet=options.quiet or self.group.rank > 0)
        with progress_bar(self.options.quiet) as show:
            show(LOADING, 0, 0)
            self._load(default, curve, show, images)

    def _load(self, default: int, curve: bool, show: Stages, images: ImageSource | None) -> None:
        from xaicmp.core.attribution import PUBLISHED, get_methods
        from xaicmp.core.attribution.selection import split_names
        from xaicmp.core.machine.devices import find_device, has_bf16
        from xaicmp.core.run.engine import FAST
        from xaicmp.core.run.running import Running

        options = self.options
        self.checkpoint, self.classifier = self._model()
        self.images = self._images(show) if images is None else images
        self.selection = selection_of(self.options, default, self.images, self.classifier.classes)
        if repeated := self.selection.repeated:
            ids = "id" if repeated == 1 else "ids"
            remark(self.options, f"--ids: {repeated} repeated {ids} left out; each image counts once")
        self.settings = settings_of(options, curve=curve)
        names = [name for word in options.methods or PUBLISHED for name in split_names(word)]
        self.methods = get_methods(
            names,
            reduce=options.reduce,
            settings=method_settings(options, FAST if options.fast else {}),
        )
        if options.fast and any("integrated-gradients:" in m.name and "=" in m.name for m in self.methods):
            raise UsageError("--fast sets the options of integrated-gradients; leave it or them out")
        device = find_device(options.device)
        self.running = Running(
            device=device,
            precision="bf16" if options.fast and has_bf16(device) else options.precision,
            batch_size=options.batch_size or 0,
            seed=options.seed,
            layer=options.layer,
            fast=options.fast,
            remark=partial(remark, self.options),
            processes=self.group,
        )
        if "all" in names:
            from xaicmp.core.run.applying import applying

            self.methods = applying(self.running.engine(self.classifier), self.size(), self.methods)

    def size(self) -> tuple[int, int]:
        """Height and width of what the model looks at."""
        return self.classifier.input_size or self.images.size()

    def _model(self) -> tuple[Checkpoint | None, Classifier]:
        """The classifier, and the checkpoint that says how it was trained, if there is one of ours."""
        from xaicmp.api import load_model
        from xaicmp.core.models.checkpoint import load_checkpoint

        options, say = self.options, partial(remark, self.options)
        about = {name: value for name in DESCRIBED if (value := getattr(options, name)) is not None}
        if options.model is not None:
            found = load_model(
                options.model, checkpoint=options.checkpoint, weights=options.weights, remark=say, **about
            )
            return None, found
        if options.weights is not None:
            raise UsageError("--weights goes with --model; name the network too, or give --checkpoint")
        assumed: list[str] = []
        checkpoint = load_checkpoint(options.checkpoint, assumed.append)
        if not about:
            for line in assumed:
                say(line)
        return checkpoint, load_model(checkpoint.classifier, **about)

    def _images(self, show: Stages) -> ImageSource:
        from xaicmp.api import load_images
        from xaicmp.core.images.cifar10 import load_cifar10

        options = self.options
        given: dict[str, Any] = {
            "labels": options.labels,
            "label_map": options.label_map,
            "strict": options.strict or None,
        }
        files = {name: value for name, value in given.items() if value is not None}
        if options.images is not None:
            if options.data is not None:
                raise UsageError("--images and --data exclude each other; --data names CIFAR-10")
            return load_images(options.images, model=self.classifier, **files)
        if files:
            raise UsageError(
                f"--{next(iter(files)).replace('_', '-')} goes with --images; name photographs too"
            )
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
        """Choose, explain and compare, with progress on stderr.

        Says so if there are fewer images than asked for or they are not verified.
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
            remark(options, f"there are {len(result)} such images, not {options.n}; these are compared")
        return replace(result, comparison=signed(result.comparison))

    @contextmanager
    def journal(self, output: Path | None, resume: bool) -> Iterator[Journal | None]:
        """What is kept beside ``output`` until that is complete; when it is not to be, says how to go on.

        None without ``output``, and in every process but the first.
        """
        from xaicmp.core.run.journal import Journal, folder_of
        from xaicmp.core.run.provenance import plan_of

        if resume and output is None:
            raise UsageError(
                "--resume goes with --output, beside which an interrupted run keeps what is done"
            )
        if output is None or self.group.rank > 0:
            yield None
            return
        if resume and not folder_of(output).is_dir():
            remark(self.options, f"there is no {folder_of(output)}; starting at the first image")
        plan = plan_of(
            self.running.engine(self.classifier), self.selection, self.methods, self.options.target
        )
        journal: Journal | None = None
        try:
            journal = Journal(output, plan, resume=resume)
            yield journal
        except (KeyboardInterrupt, XaicmpError) as error:
            if journal is None:
                raise
            kept, wrong = journal.images, isinstance(error, UsageError)
            some = kept or journal.parts
            if not some or (wrong and not journal.begun):
                journal.remove()
            journal.close()
            if not some or wrong:  # the same command cannot go on
                raise
            reason, kind = (
                ("stopped", Interrupted)
                if isinstance(error, KeyboardInterrupt)
                else (error.args[0], type(error))
            )
            raise kind(
                f"{reason}; {journal.folder} keeps {kept} of {self.selection.count} images"
                f"{' and a part of the next batch' * bool(journal.parts)}: resume with the same command and --resume"
            ) from error
        journal.remove()


def signed(comparison: Comparison) -> Comparison:
    """The same, whose documents say which command line and options made it."""
    return replace(comparison, source=comparison.source.signed(**ORIGIN.get()))


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


def check_output(options: Any, **written: Path | None) -> None:
    """Fail before the work rather than after it: what is written can be, and is nothing that is read or written too.

    Args:
        options: of the command; what is a path among them is read, or written too.
        written: by the name of the option.
    """
    from xaicmp.core.machine.storage import check_writable, followed

    given = {name: value for name, value in vars(options).items() if isinstance(value, Path)}
    photographs = [Path(each) for each in getattr(options, "images", None) or []]
    given |= {f"images {path}": path for path in photographs if path.is_file()}
    places = {name: path for name, path in (given | written).items() if path is not None}
    for name in filter(written.get, written):
        check_writable(places[name])
        for other in places:
            if name != other and followed(places[name]) == followed(places[other]):
                one, two = (f"--{'from' if each == 'maps' else each}" for each in (name, other))
                raise UsageError(f"{one} and {two} are the same file, {places[name]}; name another")


def check_alone(options: Any, path: Path, own: Iterable[str] = (), **others: Any) -> None:
    """Raise UsageError if something is asked for that a file of maps, or of their numbers, cannot answer.

    Args:
        options: of the command.
        path: the file.
        own: the names of those that the command takes with any file.
        others: what else is asked for.
    """
    untouched = type(options)()
    given = [name for name, value in vars(options).items() if value != getattr(untouched, name)]
    given += [name for name, value in others.items() if value]
    numbers = path.suffix.lower() == ".json"
    for name in (each for each in given if each not in own):
        if name not in (OF_NUMBERS if numbers else OF_MAPS):
            what = "maps" if name in OF_MAPS else "model"
            raise UsageError(f"--{name.replace('_', '-')} needs the {what}; leave it or --from out")

"""``xaicmp train``: a CIFAR-10 classifier in a few epochs, and how far explanations of it agree."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from xaicmp.cli.options import (
    IMAGES,
    OUTPUT,
    RUNNING,
    Comparing,
    Device,
    Ids,
    OnlyOption,
    Quiet,
    Seed,
    option,
    with_options,
)
from xaicmp.cli.session import (
    Session,
    check_output,
    progress_bar,
    remark,
    selection_of,
    show_comparison,
    together,
)
from xaicmp.core.choices import Flip, RecipeName, Schedule, Store
from xaicmp.core.machine.storage import check_suffix, followed, held
from xaicmp.errors import Interrupted, UsageError, XaicmpError

if TYPE_CHECKING:
    from xaicmp.core.images.tensors import ImageSet, Split
    from xaicmp.core.machine.processes import Processes
    from xaicmp.core.models.checkpoint import Checkpoint
    from xaicmp.core.training.loop import Epoch, Step
    from xaicmp.core.training.recipe import Recipe, Run

MOST = 1e30
"""What float32 holds, and what is made of it too."""
RECIPE, TRAINING = "Recipe (each replaces a value of --recipe)", "Training"


@dataclass(frozen=True, kw_only=True)
class Training:
    """The options of ``train``."""

    epochs: Annotated[int, option(TRAINING, "Passes over the training set.", "N", min=1)] = 5
    checkpoint: Annotated[
        Path | None, option(TRAINING, "Where to write. Default: checkpoints/resnet18.pt.", "PATH")
    ] = None
    data: Annotated[
        Path | None,
        option(
            TRAINING,
            "Folder that holds CIFAR-10, or a new one to download it into. Default: $XAICMP_DATA or the cache.",
            "FOLDER",
        ),
    ] = None
    resume: Annotated[
        bool, option(TRAINING, "Resume after the last epoch in the checkpoint.", None, "--resume")
    ] = False
    keep_epochs: Annotated[
        bool,
        option(
            TRAINING, "Also keep every epoch's checkpoint, as PATH-epoch1 and so on.", None, "--keep-epochs"
        ),
    ] = False
    limit: Annotated[
        int | None, option(TRAINING, "Only the first N images of each split: a quick try.", "N", min=2)
    ] = None
    store: Annotated[Store, option(TRAINING, "Type of the stored weights.")] = "float32"
    recipe: Annotated[
        RecipeName,
        option(TRAINING, "muon: the most accurate. sgd: one-cycle SGD. published: SGD at a constant rate."),
    ] = "muon"
    lr: Annotated[float | None, option(RECIPE, "Highest learning rate.", "N", min=0)] = None
    momentum: Annotated[float | None, option(RECIPE, "Momentum.", "N", min=0, max=1)] = None
    weight_decay: Annotated[float | None, option(RECIPE, "Weight decay of what SGD updates.", "N", min=0)] = (
        None
    )
    batch_size: Annotated[int | None, option(RECIPE, "Images per step.", "N", min=1)] = None
    schedule: Annotated[Schedule | None, option(RECIPE, "Way of the learning rate.")] = None
    label_smoothing: Annotated[
        float | None, option(RECIPE, "Share of the target spread over all classes.", "N", min=0, max=1)
    ] = None
    crop: Annotated[
        int | None,
        option(RECIPE, "Pixels by which crops are moved at most, in each direction.", "N", min=0, max=16),
    ] = None
    flip: Annotated[Flip | None, option(RECIPE, "Which images are flipped.")] = None
    n: Annotated[
        int | None,
        option(
            IMAGES,
            "Compare explanations of the first N images at the end; 0 for none. Default: 100.",
            "N",
            min=0,
        ),
    ] = None
    ids: Ids = None
    only: OnlyOption = None
    device: Device = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bf16"], option(RUNNING, "auto: bf16 where the hardware has it.")
    ] = "auto"
    seed: Seed = 0
    quiet: Quiet = False

    def comparing(self, path: Path) -> Comparing:
        """The comparison at the end."""
        names = ("data", "n", "ids", "only", "device", "seed", "quiet")
        return Comparing(checkpoint=path, **{name: getattr(self, name) for name in names})

    def full_recipe(self) -> Recipe:
        """The named recipe with the given values in place of its own."""
        from xaicmp.core.training.recipe import RECIPES, Recipe

        recipe = asdict(RECIPES[self.recipe])
        for name in recipe:
            value = getattr(self, name, None)
            if isinstance(value, float) and not value < MOST:
                raise UsageError(f"--{name.replace('_', '-')} {value}: give a number below {MOST:g}")
            if value is not None:
                recipe[name] = value
        return Recipe(**recipe)


@with_options(Training)
def command(
    options: Training,
    output: Annotated[
        Path | None, option(OUTPUT, "Also write the history here: .json or .csv.", "FILE")
    ] = None,
    plot: Annotated[
        Path | None, option(OUTPUT, "Draw loss and accuracy here: .png, .pdf or .svg.", "FILE")
    ] = None,
) -> None:
    """Train a ResNet-18 on CIFAR-10, then compare the methods on it."""
    from xaicmp.core.machine.devices import find_device

    device = find_device(options.device)
    with together(options.device) as group:
        path = _target(options)
        _check_outputs(options, output, plot, path)
        run = _run(options, device)
        with ExitStack() as stack:
            group.share(lambda: stack.enter_context(held(_lock(path), path)))
            resume = group.share(lambda: _resumable(options, path))
            images, test = _load(options, group)
            history = _train(options, run, images, test, path, device, resume, group)
        if group.rank == 0:
            if resume is not None and resume.training is None:
                remark(options, f"the training in {path} was complete already")
            _write(history, output, plot)
    if group.rank == 0 and options.n != 0:
        session = Session(options.comparing(path), default=100)
        show_comparison(session.compare().comparison, "table", by_image=options.ids is not None)


command.__name__ = "train"


def _target(options: Training) -> Path:
    from xaicmp.core.models.checkpoint import DEFAULT

    if options.checkpoint is None:
        try:
            DEFAULT.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise XaicmpError(
                f"cannot create the folder {DEFAULT.parent}: {error.strerror}; name another place with --checkpoint"
            ) from error
    return options.checkpoint or DEFAULT


def _lock(path: Path) -> Path:
    return followed(path).with_name(f".{followed(path).name}.lock")


def _check_outputs(options: Training, output: Path | None, plot: Path | None, path: Path) -> None:
    if options.n == 0 and (options.ids is not None or options.only is not None):
        raise UsageError("--n 0 compares no images; leave out --ids and --only")
    if options.n != 0:
        from xaicmp.core.images.cifar10 import load_sample

        images = load_sample()
        selection_of(options.comparing(path), 100, images, images.classes)
    if output:
        check_suffix(output, (".json", ".csv"))
    if plot:
        from xaicmp.views.figures.style import check_name

        check_name(plot, "plot")
    check_output(options, checkpoint=path, output=output, plot=plot)


def _run(options: Training, device: Any) -> Run:
    from xaicmp.core.machine.devices import has_bf16
    from xaicmp.core.training.recipe import Run

    precision = options.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "float32"
    return Run(options.full_recipe(), options.epochs, options.seed, precision)


def _resumable(options: Training, path: Path) -> Checkpoint | None:
    from xaicmp.core.models.checkpoint import load_checkpoint

    if not options.resume:
        return None
    if not path.exists():
        remark(options, f"there is no {path} yet; starting at the first epoch")
        return None
    return load_checkpoint(path)


def _load(options: Training, group: Processes) -> tuple[ImageSet, ImageSet]:
    from xaicmp.core.images.cifar10 import load_cifar10

    def load(split: Split) -> ImageSet:
        with progress_bar(options.quiet) as show:
            return load_cifar10(split, options.data, progress=show)

    if group.world > 1:
        # One process downloads the data, if they are not there yet; the others wait.
        group.share(lambda: len(load("test")))
    images, test = load("train"), load("test")
    if group.rank == 0 and not (images.verified and test.verified):
        remark(options, f"{images.name}: the files' checksums are not the official ones")
    if options.limit:
        return images.first(options.limit), test.first(options.limit)
    return images, test


def _train(
    options: Training,
    run: Run,
    images: ImageSet,
    test: ImageSet,
    path: Path,
    device: Any,
    resume: Checkpoint | None,
    group: Processes,
) -> list[Epoch]:
    import torch

    from xaicmp.core.training.loop import Epoch, train

    display = _Display(run, quiet=options.quiet, silent=group.rank > 0)
    try:
        with display:
            checkpoint = train(
                run,
                images,
                test,
                path,
                device=device,
                store=getattr(torch, options.store),
                keep_epochs=options.keep_epochs,
                resume=resume,
                processes=group,
                on_step=display.step,
                on_epoch=display.epoch,
            )
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped; {display.kept(path)}") from error
    return [Epoch(**epoch) for epoch in checkpoint.metadata["history"]]


def _write(history: list[Epoch], output: Path | None, plot: Path | None) -> None:
    if output:
        from xaicmp.views.formats import write
        from xaicmp.views.tables.training import history_text

        write(output, history_text(history, output.suffix.lower()))
    if plot:
        from xaicmp.views.figures.style import save
        from xaicmp.views.figures.training import history_figure

        save(history_figure(history), plot, dpi=150)


class _Display:
    """A live bar on stderr while an epoch runs, and a row of the table on stdout when it ends."""

    def __init__(self, run: Run, *, quiet: bool, silent: bool) -> None:
        self.console = Console(file=sys.stderr)
        self.hidden = quiet or silent or not self.console.is_terminal
        self.silent = silent
        self.run = run
        self.epochs: list[Epoch] = []
        self.bar = self._bar()

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def _bar(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeRemainingColumn())
        return Progress(*columns, console=self.console, transient=True, disable=self.hidden)

    def step(self, step: Step) -> None:
        if self.hidden:
            return
        done = step.batches * (step.epoch - 1)
        if not self.bar.tasks:
            self.bar.add_task("", total=step.batches * step.epochs, completed=done)
            self.bar.start()
        at = f"{step.batch}/{step.batches}" if step.batch < step.batches else "testing"
        self.bar.update(
            self.bar.tasks[0].id,
            completed=done + step.batch,
            description=f"epoch {step.epoch}/{step.epochs}  {at}  loss {step.loss:.3f}  "
            f"acc. {100 * step.accuracy:.1f}%  {step.images_per_second:.0f} images/s",
        )

    def epoch(self, epoch: Epoch) -> None:
        from xaicmp.views.tables.training import epochs_table

        self.bar.stop()
        if not self.silent:
            Console().print(epochs_table([epoch], header=not self.epochs))
        self.epochs.append(epoch)
        self.bar = self._bar()

    def kept(self, path: Path) -> str:
        """What there is to go on from, and how."""
        if not self.epochs:
            return "no epoch was complete; start again with the same command"
        return f"{path} holds {len(self.epochs)} of {self.run.epochs} epochs; resume with the same command and --resume"

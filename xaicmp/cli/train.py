"""``xaicmp train``: a CIFAR-10 classifier in a few epochs, and how far explanations of it agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console

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
from xaicmp.cli.progress import Stages, progress_bar
from xaicmp.cli.session import (
    Session,
    check_output,
    remark,
    selection_of,
    show_comparison,
    together,
)
from xaicmp.core.choices import Flip, RecipeName, Schedule, Store
from xaicmp.core.machine.storage import check_suffix, followed, held
from xaicmp.errors import Interrupted, UsageError, XaicmpError

if TYPE_CHECKING:
    import torch

    from xaicmp.core.images.tensors import ImageSet, Split
    from xaicmp.core.machine.processes import Processes
    from xaicmp.core.training.loop import Epoch, Step
    from xaicmp.core.training.recipe import Run

MOST = 1e30
"""Numbers of a recipe are below this, so that float32 holds them and what is computed of them."""
of_training = partial(option, "Training")
of_recipe = partial(option, "Recipe (each replaces a value of --recipe)")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of ``train``."""

    epochs: Annotated[int, of_training("Passes over the training set.", "N", min=1, max=1_000_000)] = 5
    checkpoint: Annotated[Path | None, of_training("Where to write. Default: checkpoints/resnet18.pt.")] = (
        None
    )
    data: Annotated[
        Path | None,
        of_training(
            "Folder that holds CIFAR-10, or a new one to download it into. Default: $XAICMP_DATA or the cache.",
            "FOLDER",
        ),
    ] = None
    resume: Annotated[bool, of_training("Resume after the checkpoint's last epoch.", None, "--resume")] = (
        False
    )
    keep_epochs: Annotated[
        bool,
        of_training("Also keep every epoch's checkpoint, as PATH-epoch1 and so on.", None, "--keep-epochs"),
    ] = False
    limit: Annotated[int | None, of_training("Only the first N images of each split.", "N", min=2)] = None
    store: Annotated[Store, of_training("Type of the stored weights.")] = "float32"
    recipe: Annotated[
        RecipeName,
        of_training("muon: the most accurate. sgd: one-cycle SGD. published: SGD at a constant rate."),
    ] = "muon"
    lr: Annotated[float | None, of_recipe("Highest learning rate.", "N", min=0)] = None
    momentum: Annotated[float | None, of_recipe("Momentum.", "N", min=0, max=1)] = None
    weight_decay: Annotated[float | None, of_recipe("Weight decay of what SGD updates.", "N", min=0)] = None
    batch_size: Annotated[int | None, of_recipe("Images per step.", "N", min=1, max=1_000_000)] = None
    schedule: Annotated[Schedule | None, of_recipe("Schedule of the learning rate.")] = None
    label_smoothing: Annotated[
        float | None, of_recipe("Share of the target spread over all classes.", "N", min=0, max=1)
    ] = None
    crop: Annotated[int | None, of_recipe("Largest shift of a crop, in pixels.", "N", min=0, max=16)] = None
    flip: Annotated[Flip | None, of_recipe("Which images are flipped.")] = None
    n: Annotated[
        int | None,
        option(
            IMAGES,
            "Compare explanations of the first N images at the end; 0: none. Default: 100.",
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

    def run(self, device: torch.device) -> Run:
        """The run to train: the named recipe with the given values in place of its own."""
        from xaicmp.core.machine.devices import has_bf16
        from xaicmp.core.training.recipe import RECIPES, Run

        named = RECIPES[self.recipe]
        own = {name: getattr(self, name, None) for name in asdict(named)}
        given = {name: value for name, value in own.items() if value is not None}
        for name, value in given.items():
            if isinstance(value, float) and not value < MOST:
                raise UsageError(f"--{name.replace('_', '-')} {value}: give a number below {MOST:g}")
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if has_bf16(device) else "float32"
        return Run(replace(named, **given), self.epochs, self.seed, precision, store=self.store)


@with_options(Options)
def command(
    options: Options,
    output: Annotated[
        Path | None, option(OUTPUT, "Also write the history here: .json or .csv.", "FILE")
    ] = None,
    plot: Annotated[
        Path | None, option(OUTPUT, "Draw loss and accuracy here: .png, .pdf or .svg.", "FILE")
    ] = None,
) -> None:
    """Train a ResNet-18 on CIFAR-10, then compare the methods on it."""
    from xaicmp.core.machine.devices import find_device
    from xaicmp.core.models.checkpoint import DEFAULT

    device = find_device(options.device)
    with together(options.device) as group:
        path = options.checkpoint or DEFAULT
        with ExitStack() as stack:
            if options.checkpoint is None:
                stack.enter_context(_folder(path.parent))
            _check_outputs(options, output, plot, path)
            run = options.run(device)
            group.share(lambda: stack.enter_context(held(_lock(path), path)))
            history = _train(options, run, path, device, group)
        if group.rank == 0:
            _write(history, output, plot)
    if group.rank == 0 and options.n != 0:
        session = Session(options.comparing(path), default=100)
        show_comparison(session.compare().comparison, "table", by_image=options.ids is not None)


command.__name__ = "train"


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Create a folder, which goes again if nothing is put there."""
    created = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise XaicmpError(
            f"cannot create the folder {folder}: {error.strerror}; name another path with --checkpoint"
        ) from error
    try:
        yield
    finally:
        if created:
            with suppress(OSError):  # it is in use
                folder.rmdir()


def _lock(path: Path) -> Path:
    return followed(path).with_name(f".{followed(path).name}.lock")


def _check_outputs(options: Options, output: Path | None, plot: Path | None, path: Path) -> None:
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


def _load(options: Options, group: Processes) -> tuple[ImageSet, ImageSet]:
    from xaicmp.core.images.cifar10 import load_cifar10

    def load(split: Split) -> ImageSet:
        with progress_bar(options.quiet or group.rank > 0) as show:
            show("loading", 0, 0)
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


def _train(options: Options, run: Run, path: Path, device: torch.device, group: Processes) -> list[Epoch]:
    from xaicmp.core.models.checkpoint import load_checkpoint
    from xaicmp.core.training.loop import Epoch, Training, train

    resume = group.share(lambda: load_checkpoint(path) if options.resume and path.exists() else None)
    if group.rank == 0 and options.resume and resume is None:
        remark(options, f"there is no {path} yet; starting at the first epoch")
    images, test = _load(options, group)
    display = _Display(run, quiet=options.quiet, silent=group.rank > 0)
    training = Training(
        device=device,
        keep_epochs=options.keep_epochs,
        resume=resume,
        processes=group,
        on_step=display.step,
        on_epoch=display.epoch,
        progress=display.stages,
    )
    try:
        checkpoint = train(run, images, test, path, training)
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped; {display.kept(path)}") from error
    finally:
        display.stages.bars.stop()
    if group.rank == 0 and resume is not None and resume.training is None:
        remark(options, f"the training in {path} was complete already")
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
    """Bars on stderr while an epoch runs, and a row of the table on stdout when it ends."""

    def __init__(self, run: Run, *, quiet: bool, silent: bool) -> None:
        self.silent, self.run, self.epochs = silent, run, 0
        self.stages = Stages(quiet or silent)
        self.stages.bars.start()

    def step(self, step: Step) -> None:
        self.stages(
            "training",
            step.epoch - 1 + step.batch / step.batches,
            step.epochs,
            f"epoch {step.epoch}/{step.epochs}  loss {step.loss:.3f}  acc. {100 * step.accuracy:.1f}%  "
            f"{step.images_per_second:.0f} images/s",
        )

    def epoch(self, epoch: Epoch) -> None:
        from xaicmp.views.tables.training import epochs_table

        self.stages.bars.stop()  # which would take what is printed to stderr
        if not self.silent:
            Console().print(epochs_table([epoch], header=not self.epochs))
        self.epochs += 1
        self.stages.bars.start()

    def kept(self, path: Path) -> str:
        """What is kept, and how to resume."""
        if not self.epochs:
            return "no epoch was complete; start again with the same command"
        return f"{path} holds {self.epochs} of {self.run.epochs} epochs; resume with the same command and --resume"

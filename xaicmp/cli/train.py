"""``xaicmp train``: a classifier in a few epochs, and how far explanations of it agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from xaicmp.cli.config import ORIGIN
from xaicmp.cli.options import (
    DEVICE,
    IDS,
    ONLY,
    QUIET,
    SEED,
    Comparing,
    image_option,
    option,
    output_option,
    running_option,
    with_options,
)
from xaicmp.cli.progress import Stages, progress_bar
from xaicmp.cli.session import Session, check_output, remark, selection_of, show_comparison, together
from xaicmp.core.choices import Dataset, Flip, Only, RecipeName, Schedule, Store
from xaicmp.core.machine.storage import check_suffix, followed, held
from xaicmp.errors import Interrupted, UsageError, XaicmpError

if TYPE_CHECKING:
    import torch

    from xaicmp.core.images.source import ImageSource
    from xaicmp.core.images.tensors import ImageSet, Split
    from xaicmp.core.machine.processes import Processes
    from xaicmp.core.training.loop import Epoch, Step
    from xaicmp.core.training.recipe import Run

MOST = 1e30
"""Every number of a recipe is below this, so that float32 holds it and what is computed from it."""
of_training = partial(option, "Training")
of_recipe = partial(option, "Recipe (each replaces a value of --recipe)")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of ``train``."""

    epochs: int = of_training("Passes over the training set.", "N", min=1, max=1_000_000, default=5)
    checkpoint: Path | None = of_training("File to write. Default: checkpoints/resnet18.pt.")
    data: Path | None = of_training(
        "Folder with a folder of images per class, alone or inside of train and val; or one that holds CIFAR-10, or a "
        "new one to download it into. Default: $XAICMP_DATA or the cache.",
        "FOLDER",
    )
    dataset: Dataset | None = of_training("What to train on. Default: what --data holds, else cifar10.")
    split: float | None = of_training(
        "Share of each class held out for the test, without a folder val. Default: 0.1.", "SHARE"
    )
    model: str | None = of_training(
        "Network: resnet18-cifar, torchvision:NAME, timm:NAME or your own module:function?width=2. Default: the first.",
        "NAME",
    )
    weights: str | None = of_training("Trained weights to start from, by name (DEFAULT) or a file.", "NAME")
    input_size: list[int] | None = of_training(
        "Height and width of the network's images, or one number for both. Default: its own.", "N...", min=1
    )
    resume: bool = of_training("Resume after the checkpoint's last epoch.", default=False)
    keep_epochs: bool = of_training(
        "Also keep every epoch's checkpoint, as PATH-epoch1 and so on.", default=False
    )
    limit: int | None = of_training("Only the first N images of each split.", "N", min=2)
    store: Store = of_training("Type of the stored weights.", default="float32")
    recipe: RecipeName | None = of_training(
        "muon: the most accurate for resnet18-cifar. sgd: one-cycle SGD. published: SGD at a constant rate. adamw: for "
        "any network. finetune: the same at a tenth of the rate, for --weights. Default: the one for the network."
    )
    lr: float | None = of_recipe("Highest learning rate.", "N", min=0)
    momentum: float | None = of_recipe("Momentum.", "N", min=0, max=1)
    weight_decay: float | None = of_recipe("Weight decay of what SGD updates.", "N", min=0)
    batch_size: int | None = of_recipe("Images in each step.", "N", min=1, max=1_000_000)
    schedule: Schedule | None = of_recipe("Schedule of the learning rate.")
    label_smoothing: float | None = of_recipe(
        "Share of the target spread over all classes.", "N", min=0, max=1
    )
    crop: int | None = of_recipe("Largest shift of a crop, in pixels.", "N", min=0, max=32)
    flip: Flip | None = of_recipe("Which images are flipped.")
    n: int | None = image_option(
        "Compare explanations of the first N images at the end; 0: none. Default: 100.",
        "N",
        min=0,
        excludes=("ids",),
    )
    ids: list[str] | None = IDS()
    only: Only | None = ONLY()
    device: str = DEVICE()
    precision: Literal["auto", "float32", "bf16"] = running_option(
        "auto: bf16 where the hardware has it.", default="auto"
    )
    seed: int = SEED()
    quiet: bool = QUIET()
    output: Path | None = output_option("Also write the history here: .json or .csv.", "FILE")
    plot: Path | None = output_option("Draw loss and accuracy here: .png, .pdf or .svg.", "FILE")

    def comparing(self, path: Path) -> Comparing:
        """The options of the comparison at the end."""
        names = ("n", "ids", "only", "device", "seed", "quiet")
        given = {name: getattr(self, name) for name in names}
        return Comparing(
            checkpoint=path,
            model=self.model if self.is_code else None,
            data=self.data if self.kind == "cifar10" else None,
            **given,
        )

    @property
    def is_code(self) -> bool:
        """Whether the network is the user's own code, which a checkpoint may not name."""
        from xaicmp.core.models.metadata import NAMED

        return self.model is not None and ":" in self.model and self.model.partition(":")[0] not in NAMED

    @property
    def kind(self) -> Dataset:
        """The kind of data to train on."""
        from xaicmp.core.images.cifar10 import OFFICIAL, holds_cifar10
        from xaicmp.core.images.cifar100 import OFFICIAL as CIFAR100

        if self.dataset is not None:
            return self.dataset
        if self.data is None or holds_cifar10(self.data):
            return "cifar10"
        if CIFAR100.find(self.data) is not None:
            return "cifar100"
        mine = any(each is not None for each in (self.split, self.model, self.weights, self.input_size))
        return "folder" if mine or not OFFICIAL.may_go_into(self.data) else "cifar10"

    def run(self, device: torch.device, size: tuple[int, int]) -> Run:
        """The run for images of ``size``: the recipe with the values that the options replace."""
        from xaicmp.core.machine.devices import has_bf16
        from xaicmp.core.models.architectures import ARCHITECTURES, BARE
        from xaicmp.core.training.recipe import RECIPES, Run

        model = BARE if self.model is None else self.model
        ours = model in ARCHITECTURES and self.weights is None
        named = RECIPES[self.recipe or ("muon" if ours else "adamw" if self.weights is None else "finetune")]
        named = replace(named.scaled(size), whiten=named.whiten and ours)
        own = {name: getattr(self, name, None) for name in asdict(named)}
        given = {name: value for name, value in own.items() if value is not None}
        for name, value in given.items():
            if isinstance(value, float) and not value < MOST:
                raise UsageError(f"--{name.replace('_', '-')} {value}: give a number below {MOST:g}")
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if has_bf16(device) else "float32"
        recipe = replace(named, **given)
        recipe.check(size)
        return Run(recipe, self.epochs, self.seed, precision, model, self.store, self.weights)


@with_options(Options)
def command(options: Options) -> None:
    """Train a network on CIFAR-10 or on images of your own, then compare the methods on it."""
    from xaicmp.core.machine.devices import find_device
    from xaicmp.core.models.checkpoint import DEFAULT

    device = find_device(options.device)
    with together(options.device) as group:
        path = options.checkpoint or DEFAULT
        with ExitStack() as stack:
            if options.checkpoint is None:
                stack.enter_context(_folder(path.parent))
            _check_outputs(options, path)
            group.share(lambda: stack.enter_context(held(_lock(path), path)))
            job = _Job(options, device, group)
            history = job.train(path)
        if group.rank == 0:
            _write(history, options)
    if group.rank == 0 and options.n != 0:
        images = None if options.kind == "cifar10" else job.test
        session = Session(options.comparing(path), default=100, images=images)
        show_comparison(session.compare().comparison, "table", by_image=options.ids is not None)


command.__name__ = "train"


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Create a folder, and remove it again if it stays empty."""
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


def _check_outputs(options: Options, path: Path) -> None:
    if options.n == 0 and options.only is not None:
        raise UsageError("--n 0 compares no images; leave it or --only out")
    if options.output:
        check_suffix(options.output, (".json", ".csv"))
    if options.plot:
        from xaicmp.views.figures.style import check_name

        check_name(options.plot, "plot")
    check_output(replace(options, checkpoint=path), "checkpoint", "output", "plot")


class _Job:
    """A network, and the images that it is trained and tested on.

    Wrong options are refused before anything is downloaded or decoded.
    """

    def __init__(self, options: Options, device: torch.device, group: Processes) -> None:
        from xaicmp.core.images.cifar10 import load_sample
        from xaicmp.core.images.class_folders import split_folder
        from xaicmp.core.images.framing import Framing
        from xaicmp.core.training.network import ANY_SIZE, starting_network

        self.options = replace(options, quiet=options.quiet or group.rank > 0)
        self.device, self.group, self.kind = device, group, options.kind
        size: Any = tuple(options.input_size) * (3 - len(options.input_size)) if options.input_size else None
        if self.kind != "folder":
            if options.input_size or options.split is not None:
                raise UsageError("--input-size and --split go with a folder of images, not with CIFAR")
            count, size = {"cifar10": 10, "cifar100": 100}[self.kind], (32, 32)
            tested: ImageSource = load_sample()
        else:
            if options.data is None:
                raise UsageError("--dataset folder: name the folder with --data")
            self.files = split_folder(options.data, Framing(size or ANY_SIZE), options.split, options.seed)
            tested = self.files[1]
            count = len(tested.classes)
        if options.n != 0:
            selection_of(options.comparing(Path()), 100, tested, tested.classes)
        draft = options.run(device, size or ANY_SIZE)
        say = partial(remark, self.options)
        if group.world > 1 and options.weights is not None:
            # One process downloads the weights, if they are not there yet.
            group.share(lambda: starting_network(draft, count, size, say).input_size)
        self.network = starting_network(draft, count, size, say)
        self.run = options.run(device, self.network.input_size or ANY_SIZE)

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Load the images to train on and to test on."""
        import numpy as np

        from xaicmp.api import framing_of
        from xaicmp.core.images.cifar10 import load_cifar10
        from xaicmp.core.images.cifar100 import load_cifar100
        from xaicmp.core.images.class_folders import decoded

        options = self.options

        def load(split: Split) -> ImageSet:
            with progress_bar(options.quiet) as show:
                show("loading", 0, 0)
                if self.kind == "folder":
                    files = self.files[split == "test"]
                    files.framing = framing_of(self.network)
                    return decoded(files.part(np.arange(len(files))[: options.limit]), split, show)
                read = load_cifar100 if self.kind == "cifar100" else load_cifar10
                return read(split, options.data, progress=show)

        if self.group.world > 1 and self.kind != "folder":
            # One process downloads the data, if they are not there yet; the others wait.
            self.group.share(lambda: len(load("test")))
        images, test = load("train"), load("test")
        if images.verified is False or test.verified is False:
            remark(options, f"{images.name}: the files' checksums are not the official ones")
        return (images.first(options.limit), test.first(options.limit)) if options.limit else (images, test)

    def train(self, path: Path) -> list[Epoch]:
        """Train, write the checkpoint and show the epochs."""
        from xaicmp.core.models.checkpoint import load_checkpoint
        from xaicmp.core.training.loop import Epoch, Training, train

        options, group, run = self.options, self.group, self.run
        resume = group.share(
            lambda: (
                load_checkpoint(path, architecture=run.architecture)
                if options.resume and path.exists()
                else None
            )
        )
        if options.resume and resume is None:
            remark(options, f"there is no {path} yet; starting at the first epoch")
        images, self.test = self.load()
        display = _Display(run, quiet=options.quiet, silent=group.rank > 0)
        training = Training(
            device=self.device,
            keep_epochs=options.keep_epochs,
            resume=resume,
            processes=group,
            on_step=display.step,
            on_epoch=display.epoch,
            progress=display.stages,
            origin=ORIGIN.get(),
        )
        try:
            checkpoint = train(run, images, self.test, path, training, self.network)
        except KeyboardInterrupt as error:
            raise Interrupted(f"stopped; {display.kept(path)}") from error
        finally:
            display.stages.bars.stop()
        if resume is not None and resume.training is None:
            remark(options, f"the training in {path} was complete already")
        return [Epoch(**epoch) for epoch in checkpoint.metadata["history"]]


def _write(history: list[Epoch], options: Options) -> None:
    if options.output:
        from xaicmp.views.formats import write
        from xaicmp.views.tables.training import history_text

        write(options.output, history_text(history, options.output.suffix.lower()))
    if options.plot:
        from xaicmp.views.figures.registry import Drawing, draw
        from xaicmp.views.figures.style import save

        epochs = [asdict(each) for each in history]
        save(draw("training", Drawing(studies={"training": epochs})), options.plot)


class _Display:
    """Shows bars on stderr while an epoch runs, and a row of the table on stdout when it ends."""

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
        """A sentence on what is kept and how to resume."""
        if not self.epochs:
            return "no epoch was complete; start again with the same command"
        return f"{path} holds {self.epochs} of {self.run.epochs} epochs; resume with the same command and --resume"

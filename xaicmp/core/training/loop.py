"""Training a classifier in a few epochs, resumable at each."""

from __future__ import annotations

import copy
import functools
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.devices import autocast
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.machine.progress import Progress
from xaicmp.core.machine.storage import differences
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, stored_weights
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.outputs import Adapted, logits_in
from xaicmp.core.training.accuracy import ClassAccuracy, class_accuracy
from xaicmp.core.training.augmentation import Batches
from xaicmp.core.training.network import starting_network
from xaicmp.core.training.optimiser import Optimiser, schedule
from xaicmp.core.training.recipe import Run
from xaicmp.errors import UsageError, XaicmpError, arg

AVERAGING_STRIDE = 5
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Step:
    """The progress of a training; loss and accuracy are means since the epoch began."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    accuracy: float
    images_per_second: float


@dataclass(frozen=True)
class Epoch:
    """The outcome of an epoch; the test accuracy is that of the weights as they are stored."""

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a training runs. None of it changes the trained network.

    Attributes:
        device: where to train.
        keep_epochs: whether each epoch's checkpoint is kept too, see ``epoch_path``.
        resume: a checkpoint of the same run to resume from; nothing is done if that is complete.
        processes: this process among those that train together.
        on_step, on_epoch: told of each step and epoch, of the epochs behind ``resume`` at once.
        progress: told how far each epoch's testing is.
        origin: what asked for it, as plain values that the checkpoint records: ``command`` and ``config``.
    """

    device: torch.device = CPU
    keep_epochs: bool = False
    resume: Checkpoint | None = None
    processes: Processes = ALONE
    on_step: Callable[[Step], None] = lambda step: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    progress: Progress = lambda stage, done, total: None
    origin: Mapping[str, Any] = field(default_factory=dict)


def train(
    run: Run,
    images: ImageSet,
    test: ImageSet,
    path: Path,
    training: Training | None = None,
    network: Classifier | None = None,
) -> Checkpoint:
    """Train a network and write it to ``path`` after every epoch.

    Args:
        run: what to train, and how.
        images, test: the training set, and what the accuracy is measured on.
        path: the checkpoint, written by rank 0; until the last epoch it also holds what ``resume`` needs.
        training: where, from which checkpoint, and who is told; by default on the CPU from the start.
        network: what ``starting_network`` has made of the run, if it is at hand.

    Raises:
        UsageError: ``resume`` is of another run or other images.
        XaicmpError: the training diverged, or ``path`` cannot be written.
        KeyboardInterrupt: after the current batch, when the user asks to stop.
    """
    how = training or Training()
    device, processes = how.device, how.processes
    network = network or starting_network(run, len(images.classes), images.size())
    plan = _plan(run, network, images, test)
    history = [] if how.resume is None else _resumable(how.resume, plan)
    trainer = _Trainer(run, network, images, how)
    if how.resume is not None and how.resume.training is not None:
        trainer.restore(how.resume.training)
    for epoch in history:
        how.on_epoch(epoch)
    # On a GPU, the same seed gives the same weights only with cuDNN's deterministic algorithms.
    with _interrupts() as interrupted, torch.backends.cudnn.flags(enabled=True, deterministic=True):
        for number in range(len(history), run.epochs):
            started = time.perf_counter()
            loss, accuracy = trainer.epoch(number, interrupted)
            seconds = time.perf_counter() - started
            last = number + 1 == run.epochs
            kept, precision = trainer.stored(), "float32" if last else run.precision
            by_class = class_accuracy(
                replace(network, module=kept), test, device, precision, processes, interrupted, how.progress
            )
            rate = len(images) / seconds
            history.append(Epoch(number + 1, loss, accuracy, by_class.overall, seconds, rate))
            metadata = plan | _results(history, by_class, test, device, processes.world) | dict(how.origin)
            save = functools.partial(save_checkpoint, model=kept, metadata=metadata, dtype=trainer.store)
            processes.share(functools.partial(save, path, training=None if last else trainer.state()))
            if how.keep_epochs:
                processes.share(functools.partial(save, epoch_path(path, number + 1)))
            how.on_epoch(history[-1])
            if processes.any(interrupted.is_set(), device):
                raise KeyboardInterrupt
    return processes.share(lambda: load_checkpoint(path, architecture=run.architecture))


def epoch_path(path: Path, epoch: int) -> Path:
    """The path of one epoch's checkpoint, beside ``path``."""
    return path.with_name(f"{path.stem}-epoch{epoch}{path.suffix}")


class _Trainer:
    """The network, its optimiser and the running average of its weights."""

    def __init__(self, run: Run, network: Classifier, images: ImageSet, how: Training) -> None:
        recipe, world = run.recipe, how.processes.world
        if recipe.batch_size < world:
            raise UsageError(
                f"{arg('batch_size')} {recipe.batch_size}: there are {world} processes to share it"
            )
        self.run, self.how, self.device, self.processes = run, how, how.device, how.processes
        self.store = getattr(torch, run.store)
        # Ten times the loss of guessing.
        self.highest_loss = 10 * math.log(len(images.classes))
        whitened = _whiten(network, images) if recipe.whiten else ()
        own = isinstance(network.module, Adapted)  # which copies its images into the other layout
        layout = torch.contiguous_format if own else torch.channels_last
        self.model = network.module.to(self.device).to(memory_format=layout).train()
        self.averaged = copy.deepcopy(self.model) if recipe.average else None
        self.optimiser = Optimiser(self.model, recipe, whitened)
        self.replica = self.processes.replicate(self.model)
        self.batches = Batches(images, run, self.device, self.processes, mean=network.mean, std=network.std)

    def epoch(self, number: int, interrupted: threading.Event) -> tuple[float, float]:
        """Train through one epoch; returns the mean loss and accuracy over its images."""
        recipe, steps = self.run.recipe, len(self.batches)
        # On a GPU, reading a value waits for it: look only now and then.
        stride = 25 if self.device.type == "cuda" else 1
        totals = torch.zeros(3, device=self.device)
        started = time.perf_counter()
        for index, (inputs, labels, weight) in enumerate(self.batches.epoch(number), 1):
            with autocast(self.device, self.run.precision):
                logits = self._logits(inputs)
            loss = cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
            self.model.zero_grad()
            (loss * weight).backward()
            step = number * steps + index - 1
            share = (step + 0.5) / (self.run.epochs * steps)
            self.optimiser.step(schedule(recipe.schedule, share, recipe.warmup))
            if self.averaged is not None and (index % AVERAGING_STRIDE == 0 or index == steps):
                # Early on the average is that of fewer steps, so that the initial weights leave it soon.
                update = step // AVERAGING_STRIDE
                self._average(min(recipe.average**AVERAGING_STRIDE, (1 + update) / (10 + update)))
            with torch.no_grad():
                count = len(labels) if weight else 0
                totals[0] += loss * count
                totals[1] += (logits.argmax(dim=1) == labels).sum() * bool(count)
                totals[2] += count
            if index % stride == 0 or index == steps:
                stop = interrupted.is_set()
                mean, accuracy, seen = self._look(number, index, loss.detach() * weight, totals, stop)
                rate = seen / (time.perf_counter() - started)
                self.how.on_step(Step(number + 1, self.run.epochs, index, steps, mean, accuracy, rate))
        return mean, accuracy

    def _logits(self, inputs: Tensor) -> Tensor:
        """``(B, C)``; of a network with more heads in training, those of the one that counts later."""
        try:
            return logits_in(self.replica(inputs))
        except ValueError as error:
            if len(inputs) > 1:
                raise
            raise XaicmpError(
                f"the last batch of an epoch has one image, too few for BatchNorm; "
                f"give another {arg('batch_size')} than {self.run.recipe.batch_size}"
            ) from error

    def _look(
        self, number: int, batch: int, loss: Tensor, totals: Tensor, stop: bool
    ) -> tuple[float, float, float]:
        """Mean loss, accuracy and count of the images so far, unless the training is to stop here."""
        own = torch.cat([loss.view(1), torch.tensor([float(stop)], device=self.device), totals])
        latest, stopped, total, right, count = self.processes.sum(own).tolist()
        latest /= self.processes.world
        if not latest < self.highest_loss:
            raise _diverged(f"loss {latest:.3g} in epoch {number + 1}, batch {batch}")
        if stopped:
            raise KeyboardInterrupt
        return total / count, right / count, count

    def stored(self) -> nn.Module:
        """The network as a reader of the checkpoint will find it: averaged, and rounded to the stored type."""
        source = self.averaged if self.averaged is not None else self.model
        self.processes.average_buffers(source)
        weights = stored_weights(source, self.store)
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise _diverged(f"weights that are not finite numbers in {self.run.store}")
        kept = copy.deepcopy(source).eval()
        kept.load_state_dict(weights)
        return kept

    def state(self) -> dict[str, Any]:
        """The state that ``restore`` takes."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "optimiser": self.optimiser.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from ``state``.

        Raises:
            XaicmpError: it is damaged.
        """
        try:
            self.model.load_state_dict(state["model"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            self.optimiser.restore(state["optimiser"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise XaicmpError(
                f"the checkpoint's state to resume from is damaged; leave out {arg('resume')} to start again"
            ) from error

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        assert self.averaged is not None
        now = self.model.state_dict()
        for name, mean in self.averaged.state_dict().items():
            mean.lerp_(now[name], 1 - decay) if mean.is_floating_point() else mean.copy_(now[name])


def _diverged(what: str) -> XaicmpError:
    return XaicmpError(
        f"the training diverged ({what}); try a lower {arg('lr')}, or {arg('precision')} float32; "
        "the last good checkpoint is kept"
    )


@torch.no_grad()
def _whiten(network: Classifier, images: ImageSet, count: int = 5_000) -> tuple[str, ...]:
    """Start the first convolution as a whitening of the patches it sees, each filter with its negative.

    As in D. Page, "How to Train Your ResNet", 2019, from the first ``count`` images; what filters are left
    over stay random. Returns the name of the weight.
    """
    every = network.module.named_parameters()
    name, weight = next((name, value) for name, value in every if value.ndim == 4)
    filters, (height, width) = weight[0].numel(), weight.shape[2:]
    pixels = network.normalise(images.tensor[:count])
    patches = pixels.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, filters)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    whitening = (directions / (variances + 5e-4).sqrt()).T.reshape(-1, *weight.shape[1:])
    signed = torch.cat([whitening, -whitening])[: len(weight)]
    rest = weight[len(signed) :]
    norm = whitening.flatten(1).norm(dim=1).square().mean().sqrt()
    rest *= norm / rest.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    weight[: len(signed)] = signed
    return (name,)


def _plan(run: Run, network: Classifier, images: ImageSet, test: ImageSet) -> dict[str, Any]:
    """The metadata before the training begins. Two trainings with the same plan are the same."""
    digest = hashlib.sha256()
    for part in (images, test):
        for some in part.tensor.split(1000):
            digest.update(some.contiguous().numpy().data)
        digest.update(part.labels.contiguous().numpy().data)
    return {
        "architecture": run.architecture,
        "classes": list(images.classes),
        "mean": list(network.mean) * (3 // len(network.mean)),
        "std": list(network.std) * (3 // len(network.std)),
        **_framing(run, network),
        "planned_epochs": run.epochs,
        "recipe": asdict(run.recipe),
        "precision": run.precision,
        "seed": run.seed,
        "stored_as": run.store,
        "data": {
            "name": images.name,
            "verified": images.verified and test.verified,
            "training_images": len(images),
            "test_images": len(test),
            "sha256": digest.hexdigest(),
        },
    }


def _framing(run: Run, network: Classifier) -> dict[str, Any]:
    """What the architecture alone does not say: how images are framed, and which weights it began with."""
    if run.architecture in ARCHITECTURES and run.weights is None and network.input_size in (None, (32, 32)):
        return {}
    return {
        "input_size": list(network.input_size or ()),
        "crop_pct": network.crop_pct,
        "interpolation": network.interpolation,
        "started_from": network.provenance.get("sha256") or network.provenance.get("weights"),
    }


def _results(
    history: list[Epoch], by_class: ClassAccuracy, test: ImageSet, device: torch.device, world: int
) -> dict[str, Any]:
    """The metadata of the training so far. The accuracy of a class without test images is None."""
    shares = (by_class.correct.double() / by_class.count).tolist()
    return {
        "epochs": len(history),
        "test_accuracy": by_class.overall,
        "test_accuracy_by_class": [None if math.isnan(share) else share for share in shares],
        "history": [asdict(epoch) for epoch in history],
        **({"test_files": list(test.files)} if test.files else {}),
        "device": device.type,
        "processes": world,
        "versions": {name: version(name) for name in ("xaicmp", "torch", "torchvision")},
    }


def _resumable(checkpoint: Checkpoint, plan: dict[str, Any]) -> list[Epoch]:
    """The epochs behind ``checkpoint``, if it is of the training that is planned."""
    then, path = checkpoint.metadata, checkpoint.path
    if "history" not in then or "planned_epochs" not in then:
        raise UsageError(f"{path} does not say how to resume its training; leave out {arg('resume')}")
    changed = differences({key: then[key] for key in plan if key in then}, plan)
    if changed:
        raise UsageError(
            f"{path} is of another training: {'; '.join(changed)}; "
            f"give the same options and data, or leave out {arg('resume')} to start again"
        )
    try:
        history = [Epoch(**epoch) for epoch in then["history"]]
    except TypeError as error:
        raise XaicmpError(f"{path} has no sound history; leave out {arg('resume')} to start again") from error
    if checkpoint.training is None and len(history) < then["planned_epochs"]:
        raise UsageError(
            f"{path} is epoch {len(history)} of {then['planned_epochs']} without what a training resumes from, as kept "
            f"epochs are; resume from the training's own checkpoint, or leave out {arg('resume')} to start again"
        )
    return history


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event, so that the batch at hand is finished."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)

"""How a network is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from xaicmp.core.choices import Flip, Precision, Schedule, Store
from xaicmp.errors import UsageError, arg


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        optimiser: ``"muon"`` (Muon on the filters, SGD on the rest), ``"sgd"`` or ``"adamw"``.
        lr: the highest learning rate.
        momentum, nesterov, weight_decay: see ``Optimiser``.
        batch_size: images per step, over all processes.
        schedule: ``"one-cycle"`` or ``"constant"``, see ``schedule``.
        warmup: share of the training over which one-cycle rises.
        label_smoothing: share of the target spread evenly over the classes.
        crop, padding, flip: see ``Batches``. The crops of the recipes by name are for images of 32 x 32, see ``scaled``.
        whiten: start the first convolution as a whitening of 3x3 patches (Page, 2019).
        average: decay a step of the running average of the weights that is evaluated and kept; 0 for none.
    """

    optimiser: str = "muon"
    lr: float = 0.04
    momentum: float = 0.85
    nesterov: bool = True
    weight_decay: float = 5e-4
    batch_size: int = 128
    schedule: Schedule = "one-cycle"
    warmup: float = 0.05
    label_smoothing: float = 0.1
    crop: int = 2
    padding: str = "reflect"
    flip: Flip = "alternating"
    whiten: bool = True
    average: float = 0.99

    def scaled(self, size: tuple[int, int]) -> Recipe:
        """The recipe with the crop that is as large a share of images of ``size`` as it was of 32 x 32."""
        return replace(self, crop=round(self.crop * min(size) / 32))

    def check(self, size: tuple[int, int]) -> None:
        """Raise UsageError if a crop would shift images of ``size`` by as much as that."""
        if self.crop >= min(size):
            raise UsageError(
                f"{arg('crop')} {self.crop}: images are of {size[0]} x {size[1]}; give less than that"
            )


_SGD = Recipe(
    optimiser="sgd",
    lr=0.1,
    momentum=0.9,
    nesterov=False,
    warmup=0.3,
    label_smoothing=0.0,
    crop=4,
    padding="zero",
    flip="random",
    whiten=False,
    average=0.0,
)

_ADAMW = Recipe(
    optimiser="adamw",
    lr=1e-3,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.05,
    batch_size=64,
    warmup=0.1,
    crop=4,
    flip="random",
    whiten=False,
    average=0.0,
)

RECIPES = {
    "muon": Recipe(),
    "sgd": _SGD,
    "published": replace(_SGD, schedule="constant"),
    "adamw": _ADAMW,
    "finetune": replace(_ADAMW, lr=1e-4),
}


@dataclass(frozen=True)
class Run:
    """Everything that determines a training, apart from the images.

    Attributes:
        recipe: how the network is trained.
        epochs: passes over the training set.
        seed: of the initial weights and of every draw.
        precision: what the network computes in while it trains.
        architecture: the network, see ``models.sources.find_source``.
        store: type of the stored weights.
        weights: trained weights to start from, by name or in a file; None for random ones.
    """

    recipe: Recipe
    epochs: int
    seed: int = 0
    precision: Precision = "float32"
    architecture: str = "resnet18-cifar"
    store: Store = "float32"
    weights: str | None = None

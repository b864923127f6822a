"""A training step: the published loop, ours, and the machine's own limit, side by side.

    python tests/benchmarks/training.py [--data FOLDER] [--steps 12] [--rounds 3]

The published loop is a DataLoader with per-image transforms, float32, NCHW, SGD. Ours is ``train`` as the
command runs it. The limit is forward and backward of the same network on one batch that never changes.
The three take turns; every figure is the median over all steps of all rounds but the first step of each.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from xaicmp.core.images.cifar10 import MEAN, STD, load_cifar10, load_sample
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.devices import autocast, find_device, has_bf16
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.training.loop import Training, train
from xaicmp.core.training.optimiser import Optimiser
from xaicmp.core.training.recipe import RECIPES, Run

BATCH = 128


class PerImage(Dataset):
    """Images one by one, each with its own transforms."""

    def __init__(self, images: ImageSet) -> None:
        self.pixels = images.tensor.permute(0, 2, 3, 1).numpy()
        self.labels = images.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pixels[index]), self.labels[index]


def published(images: ImageSet, device: torch.device) -> list[float]:
    """Seconds a step of the published loop."""
    model = resnet18_cifar().to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    seconds, started = [], time.perf_counter()
    for inputs, labels in DataLoader(PerImage(images), BATCH, shuffle=True, num_workers=2):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs.to(device)), labels.to(device))
        loss.backward()
        optimiser.step()
        loss.item()
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return seconds[1:]


def ours(images: ImageSet, device: torch.device, precision: str) -> list[float]:
    """Seconds a step of ``train``."""
    moments: list[float] = []
    run = Run(RECIPES["muon"], 1, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        train(
            run,
            images,
            images.first(BATCH),
            Path(folder) / "checkpoint.pt",
            Training(device=device, on_step=lambda step: moments.append(time.perf_counter())),
        )
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def limit(device: torch.device, precision: str, batch: int, steps: int) -> tuple[list[float], list[float]]:
    """Seconds of forward and backward on a constant batch, and of the optimiser's step."""
    model = resnet18_cifar().to(device).to(memory_format=torch.channels_last)
    inputs = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,), device=device)
    optimiser = Optimiser(model, dataclasses.replace(RECIPES["muon"], lr=1e-4, weight_decay=0))
    passes, updates = [], []
    for _ in range(steps):
        started = time.perf_counter()
        with autocast(device, precision):
            logits = model(inputs)
        model.zero_grad()
        cross_entropy(logits.float(), labels).backward()
        middle = time.perf_counter()
        optimiser.step(1.0)
        passes.append(middle - started)
        updates.append(time.perf_counter() - middle)
    return passes[1:], updates[1:]


def main() -> None:
    """Take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder that holds CIFAR-10; without it the packaged sample"
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    device = find_device()
    precision = "bf16" if has_bf16(device) else "float32"
    batch = RECIPES["muon"].batch_size
    images = load_cifar10("train", arguments.data) if arguments.data else load_sample()
    repeats = -(-BATCH * arguments.steps // len(images))
    images = ImageSet(
        images.name,
        images.split,
        images.verified,
        images.tensor.repeat(repeats, 1, 1, 1),
        images.labels.repeat(repeats),
        images.classes,
    )
    rows: dict[str, list[float]] = {"published": [], "ours": [], "limit": [], "optimiser": []}
    for _ in range(arguments.rounds):
        rows["published"] += published(images.first(BATCH * arguments.steps), device)
        rows["ours"] += ours(images.first(batch * arguments.steps), device, precision)
        passes, updates = limit(device, precision, batch, arguments.steps)
        rows["limit"] += passes
        rows["optimiser"] += updates
    # By image, because the batches may differ in size.
    medians = {
        name: 1000 * statistics.median(values) / (BATCH if name == "published" else batch)
        for name, values in rows.items()
    }
    table = Table(title=f"{device.type}, {torch.get_num_threads()} threads, {precision}, batch {batch}")
    table.add_column("")
    table.add_column("ms an image", justify="right")
    table.add_column("x published", justify="right")
    for name, label in {
        "published": "published loop (float32, DataLoader, NCHW)",
        "ours": "xaicmp train",
        "limit": "limit: forward + backward, constant batch",
        "optimiser": "optimiser's step",
    }.items():
        table.add_row(label, f"{medians[name]:.2f}", f"{medians[name] / medians['published']:.3f}")
    rest = medians["ours"] - medians["limit"] - medians["optimiser"]
    Console().print(table)
    Console().print(
        f"share of the limit {medians['limit'] / medians['ours']:.1%}; "
        f"optimiser {medians['optimiser'] / medians['ours']:.1%}; data and bookkeeping {rest / medians['ours']:.1%}"
    )


if __name__ == "__main__":
    main()

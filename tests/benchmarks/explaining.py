"""The published comparison: a loop over images, Captum, xaicmp, and the machine's own limit, side by side.

    python tests/benchmarks/explaining.py [--n 24] [--rounds 3] [--threads 1] [--batch-size 64]
        [--processor] [--model NAME --size 224 [--layer NAME]] [--scaling | --batches]

All explain the same n images with Grad-CAM, Saliency and Integrated Gradients of 32 right-Riemann
steps; xaicmp also chooses the images and compares the maps. The published loop takes an image and a step at a
time, forward and ``backward()``. ``fast`` takes 8 steps of IG, and 24 on large images, in bfloat16 where the
hardware has it. A limit is the passes that the job
cannot do without (one an image and one a step) through the same network, with its batch normalisations merged
into its convolutions, on a batch that never changes, of the best size and by input gradients only. All take
turns, after a round that is not counted; every figure is the median of the rounds, "x loop" and "x Captum" how
often it goes into theirs, image by image, and "spread" the rounds' range as a share of it. On a machine that
others use too, ``--threads 1 --processor`` counts the processor's time instead of the clock's.

With ``--model``, that network of torchvision or timm with random weights, on images of CIFAR-10 that are enlarged to
``--size``, and Grad-CAM on ``--layer``.

"of that, the maps" is xaicmp without statistics and controls.

With ``--scaling``, how xaicmp's time grows with the number of images, their size (ResNet-50, random weights) and
the number of methods. With ``--batches``, xaicmp's rate by batch size; Integrated Gradients fills a batch with steps
where there are fewer images, so 16 images will do.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import captum.attr
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import resnet50

sys.path.insert(0, str(Path(__file__).parents[1]))
from small import choose, compare, compare_selection, explain_selection, find_images

from xaicmp.api import load_model
from xaicmp.core.attribution import METHODS, PUBLISHED, get_methods
from xaicmp.core.choices import Precision
from xaicmp.core.images.cifar10 import load_sample
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.devices import autocast, find_device, has_bf16
from xaicmp.core.models.checkpoint import load_checkpoint, shipped_checkpoint
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.fusion import fuse
from xaicmp.core.models.layers import find_layer
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.running import quickened

STEPS = 32
BATCHES = (16, 32, 64, 128)
AT_224 = (2, 4, 8, 16)
TRIED = (*BATCHES, 256, 512)
Job = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """What is explained: a network, its images (None: the sample), and the layer of Grad-CAM."""

    classifier: Classifier
    images: ImageSet | None
    layer: str


def subject_of(name: str | None, size: int, layer: str | None, count: int) -> Subject:
    """The shipped network, or one by name with random weights and ``count`` images of ``size``."""
    if name is None:
        return Subject(load_checkpoint(shipped_checkpoint()).classifier, None, layer or "layer4")
    torch.manual_seed(0)
    classifier, sample = load_model(name, weights="none"), load_sample()
    for each in classifier.module.modules():
        if isinstance(each, nn.Linear) and not each.weight.any():
            nn.init.normal_(each.weight, std=0.02)  # as that of a vision transformer's head, which is 0
    pixels = interpolate(sample.tensor[:count].float(), size=size, mode="bilinear").byte()
    images = ImageSet(sample.name, sample.split, False, pixels, sample.labels[:count], sample.classes)
    return Subject(classifier, images, layer or find_layer(classifier.module, pixels[:2].float() / 255))


def published(model: nn.Module, images: Tensor, targets: Tensor, layer: str = "layer4") -> list[Tensor]:
    """The three maps of each image, as one writes them down."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: object, out: Tensor) -> None:
        out.retain_grad()
        seen[:] = [out]

    hook = model.get_submodule(layer).register_forward_hook(keep)

    def gradient(image: Tensor, target: Tensor) -> Tensor:
        image = image.clone().requires_grad_()
        model.zero_grad()
        model(image)[0, target].backward()
        assert image.grad is not None
        return image.grad

    maps = []
    for image, target in zip(images.split(1), targets, strict=True):
        saliency = gradient(image, target).abs().amax(dim=1)[0]
        coarse, by_coarse = seen[0].detach(), seen[0].grad
        assert by_coarse is not None
        cam = (by_coarse.mean(dim=(2, 3), keepdim=True) * coarse).sum(dim=1, keepdim=True).relu()
        cam = interpolate(cam, size=image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
        total = torch.zeros_like(image)
        for step in range(1, STEPS + 1):
            total += gradient(image * (step / STEPS), target)
        maps.append(torch.stack([cam, saliency, (image * total / STEPS).sum(dim=1)[0].clamp_min(0)]))
    hook.remove()
    return maps


def through_captum(
    model: nn.Module, images: Tensor, targets: Tensor, batch: int, layer: str = "layer4"
) -> list[Tensor]:
    """The three maps of each image, ``batch`` images at a time and so many in one pass, or all of one image's."""
    cam = captum.attr.LayerGradCam(model, model.get_submodule(layer))
    saliency, ig = captum.attr.Saliency(model), captum.attr.IntegratedGradients(model)
    most = None if batch == 1 else batch
    maps = []
    for some, wanted in zip(images.split(batch), targets.split(batch), strict=True):
        coarse = cam.attribute(some, target=wanted, relu_attributions=True).detach()
        fine = captum.attr.LayerAttribution.interpolate(coarse, some.shape[2:], "bilinear")
        by_input = saliency.attribute(some.clone().requires_grad_(), target=wanted, abs=True).amax(dim=1)
        along = ig.attribute(
            some, target=wanted, n_steps=STEPS, method="riemann_right", internal_batch_size=most
        )
        maps.append(torch.stack([fine[:, 0], by_input, along.sum(dim=1).clamp_min(0)], dim=1))
    return list(torch.cat(maps))


def passes(
    model: nn.Module, images: Tensor, targets: Tensor, precision: Precision, count: int, batch: int
) -> None:
    """``count`` images forward and backward in batches of ``batch``, all the same."""
    repeats = -(-batch // len(images))
    images, targets = images.repeat(repeats, 1, 1, 1)[:batch], targets.repeat(repeats)[:batch]
    images = images.contiguous(memory_format=torch.channels_last)
    for start in range(0, count, batch):
        part = images[: count - start].requires_grad_()
        with autocast(images.device, precision):
            logits = model(part)
        torch.autograd.grad(logits.gather(1, targets[: len(part), None]).sum(), part)


clock = time.perf_counter


def take_turns(jobs: Mapping[str, Job], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds that each job takes, ``rounds`` times, after a round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            synchronise(device)
            started = clock()
            job()
            synchronise(device)
            if turn:
                seconds[name].append(clock() - started)
    return seconds


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def engine_of(
    precision: Precision, batch: int, subject: Subject | None = None, *, fast: bool = False
) -> Engine:
    """The model, ready: the shipped one without another."""
    classifier = subject_of(None, 32, None, 0).classifier if subject is None else subject.classifier
    layer = None if subject is None else subject.layer
    return Engine(classifier, find_device(), precision, batch, layer=layer, fast=fast)


def side_by_side(count: int, rounds: int, batch: int, subject: Subject | None = None) -> Table:
    """What the published comparison takes."""
    subject = subject or subject_of(None, 32, None, count)
    quick: Precision = "bf16" if has_bf16(find_device()) else "float32"
    engine, fast = engine_of("float32", batch, subject), engine_of(quick, batch, subject, fast=True)
    data, layer = subject.images, subject.layer
    selection = Selection(n=count, only="correct" if data is None else "all")
    images, chosen = find_images(engine, selection, data)
    inputs = engine.inputs(images.pixels(chosen.ids))
    targets = torch.from_numpy(chosen.predicted).to(engine.device)
    methods = get_methods(PUBLISHED, settings={"integrated-gradients": {"steps": STEPS}})
    fewer = quickened(methods, inputs.shape[2:])
    trained, frozen = (copy.deepcopy(subject.classifier.module).to(engine.device) for _ in range(2))
    plain, frozen = inputs.contiguous(), frozen.requires_grad_(False)
    batches = BATCHES if data is None else AT_224
    merged = fuse(frozen, inputs[:2])
    best = {}
    for precision in {"float32", quick}:
        most = max(batches)
        sizes = {
            str(size): partial(passes, merged, inputs, targets, precision, most, size) for size in batches
        }
        tried = take_turns(sizes, 2, engine.device)
        best[precision] = int(min(tried, key=lambda size: statistics.median(tried[size])))
    whole, less = count * (STEPS + 1), count * fewer[-1].options["steps"]
    jobs: dict[str, Job] = {
        "published loop": lambda: published(trained, plain, targets, layer),
        "Captum, image by image": lambda: through_captum(frozen, plain, targets, 1, layer),
        f"Captum, batches of {batch}": lambda: through_captum(frozen, plain, targets, batch, layer),
        "xaicmp": lambda: compare_selection(engine, selection, methods, data=data),
        "of that, the maps": lambda: list(explain_selection(engine, selection, methods, data=data)),
        "xaicmp, fast": lambda: compare_selection(fast, selection, fewer, data=data),
        f"limit, batch {best['float32']}": partial(
            passes, merged, inputs, targets, "float32", whole, best["float32"]
        ),
        f"limit of fast, batch {best[quick]}": lambda: (
            passes(merged, inputs, targets, "float32", count, best["float32"]),
            passes(merged, inputs, targets, quick, less, best[quick]),
        ),
    }
    seconds = take_turns(jobs, rounds, engine.device)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    loop, one_by_one, _, _, _, _, limit, fast_limit = medians.values()
    table = table_of(
        f"{count} images of {inputs.shape[2]}x{inputs.shape[3]}, {subject.classifier.name}, {engine.device.type}, "
        f"{torch.get_num_threads()} threads",
        *(
            "seconds",
            "images/s",
            "x loop",
            "x Captum",
            "of limit",
            "spread",
        ),
    )
    for name, taken in medians.items():
        floor = fast_limit if "fast" in name else limit
        spread = (max(seconds[name]) - min(seconds[name])) / taken
        table.add_row(
            name,
            f"{taken:.2f}",
            f"{count / taken:.2f}",
            f"{loop / taken:.2f}",
            f"{one_by_one / taken:.2f}",
            f"{floor / taken:.0%}",
            f"{spread:.0%}",
        )
    return table


def scaling(count: int, rounds: int, batch: int) -> Table:
    """How the time grows with the images, their size and the methods."""
    engine = engine_of("float32", batch)
    jobs: dict[str, Job] = {}
    numbers: dict[str, int] = {}

    def add(name: str, engine: Engine, images: ImageSet, chosen: Predictions, names: tuple[str, ...]) -> None:
        methods = get_methods(names, settings={"integrated-gradients": {"steps": STEPS}})
        jobs[name], numbers[name] = (lambda: compare(engine, images, chosen, methods)), len(chosen)

    for n in (count // 4, count // 2, count):
        images, chosen = find_images(engine, Selection(n=n))
        add(f"{n} images", engine, images, chosen, PUBLISHED)
    cheap = [
        name for name, known in METHODS.items() if known.cost == "2" and known.family in ("cam", "gradient")
    ]
    for k in (2, 4, len(cheap)):
        add(f"{count} images, {k} methods of one pass", engine, images, chosen, tuple(cheap[:k]))
    for side in (32, 64, 224):
        large = Engine(random_resnet50(images.classes), engine.device, "float32", batch)
        pixels = interpolate(images.tensor[:2].float(), size=side, mode="bilinear").byte()
        pictures = ImageSet(images.name, images.split, False, pixels, images.labels[:2], images.classes)
        two = choose(large, pictures, Selection(ids=(0, 1), only="all"))
        add(f"2 images of {side}x{side}, ResNet-50", large, pictures, two, ("grad-cam", *PUBLISHED[1:]))
    table = table_of(
        f"{engine.device.type}, {torch.get_num_threads()} threads", "seconds", "ms an image", "spread"
    )
    for name, values in take_turns(jobs, rounds, engine.device).items():
        taken = statistics.median(values)
        spread = (max(values) - min(values)) / taken
        table.add_row(name, f"{taken:.2f}", f"{1000 * taken / numbers[name]:.0f}", f"{spread:.0%}")
    return table


def by_batch(count: int, rounds: int, batch: int) -> Table:
    """How the rate depends on the batch size; ``batch`` plays no part."""
    selection, methods = (
        Selection(n=count),
        get_methods(PUBLISHED, settings={"integrated-gradients": {"steps": STEPS}}),
    )
    rule = engine_of("float32", 0).batch_size
    engines = {size: engine_of("float32", size) for size in TRIED}
    jobs: dict[str, Job] = {
        f"{size}, the default" if size == rule else str(size): partial(
            compare_selection, engine, selection, methods, Settings(controls=())
        )
        for size, engine in engines.items()
    }
    seconds = take_turns(jobs, rounds, find_device())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min(medians.values())
    table = table_of(
        f"{count} images, {find_device().type}, {torch.get_num_threads()} threads",
        *("seconds", "images/s", "of the best", "spread"),
    )
    for name, taken in medians.items():
        spread = (max(seconds[name]) - min(seconds[name])) / taken
        table.add_row(name, f"{taken:.2f}", f"{count / taken:.2f}", f"{best / taken:.0%}", f"{spread:.0%}")
    return table


def random_resnet50(classes: tuple[str, ...]) -> Classifier:
    """A ResNet-50 that knows nothing."""
    torch.manual_seed(0)
    model = resnet50(num_classes=len(classes)).eval().to(memory_format=torch.channels_last)
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return Classifier(model, classes, mean, std, name="resnet50")


def table_of(title: str, *columns: str) -> Table:
    """An empty table."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def main() -> None:
    """Take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=24, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; default: all that it takes by itself")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="most images in a pass, Captum's and xaicmp's"
    )
    parser.add_argument("--processor", action="store_true", help="count its seconds and not the clock's")
    parser.add_argument("--model", help="another network than the shipped one, with random weights")
    parser.add_argument("--size", type=int, default=224, help="of its images")
    parser.add_argument("--layer", help="of Grad-CAM; default: as xaicmp finds it")
    parser.add_argument("--scaling", action="store_true", help="how the time grows, instead")
    parser.add_argument("--batches", action="store_true", help="the rate by batch size, instead")
    arguments = parser.parse_args()
    if arguments.processor:
        global clock
        clock = time.process_time
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    measure: Callable[[int, int, int], Table] = scaling if arguments.scaling else by_batch
    if not (arguments.scaling or arguments.batches):
        subject = subject_of(arguments.model, arguments.size, arguments.layer, arguments.n)
        measure = partial(side_by_side, subject=subject)
    Console().print(measure(arguments.n, arguments.rounds, arguments.batch_size))


if __name__ == "__main__":
    main()

"""Explaining images: xaicmp, and the same methods called through Captum and pytorch-grad-cam, side by side.

    python tests/benchmarks/methods.py [--n 32] [--rounds 3] [--batch-size 32]

The sets are ``published``, what xaicmp has of one shared forward and backward pass, and ``gradient`` with ``cam``:
all in these groups that the others can do to a torchvision ResNet at a bearable cost, which DeepLift and LRP
(its ReLUs are used twice) cannot, and Score-CAM and Ablation-CAM (512 passes an image) are not. IG takes 32 steps,
sampling methods 8 samples. The others explain the images one by one, as their examples do, and in the same
batches as xaicmp. All take turns; every figure is the median of the rounds, after one that is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import captum.attr
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from xaicmp.core.attribution import METHODS, PUBLISHED, get_methods
from xaicmp.core.attribution.context import Context
from xaicmp.core.images.cifar10 import load_sample
from xaicmp.core.machine.devices import find_device
from xaicmp.core.models.checkpoint import load_checkpoint, shipped_checkpoint
from xaicmp.core.models.guard import unchanged

Other = Callable[[nn.Module, Tensor, Tensor], object]


def through_captum(kind: type, **options: object) -> Other:
    """A Captum method, called directly."""

    def explain(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return kind(model).attribute(images.requires_grad_(), target=targets, **options).detach()

    return explain


def through_grad_cam(kind: type) -> Other:
    """A CAM of pytorch-grad-cam on ``layer4``."""

    def explain(model: nn.Module, images: Tensor, targets: Tensor) -> object:
        with kind(model=model, target_layers=[model.layer4]) as cam:
            return cam(images, [ClassifierOutputTarget(target) for target in targets.tolist()])

    return explain


def with_noise(kind: type, nt_type: str, **options: object) -> Other:
    """Captum's NoiseTunnel around a method."""

    def explain(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        tunnel = captum.attr.NoiseTunnel(kind(model))
        settings = {"nt_type": nt_type, "nt_samples": SAMPLES, "stdevs": 0.15}
        return tunnel.attribute(images.requires_grad_(), target=targets, **settings, **options).detach()

    return explain


def gradient_shap(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """From zero images with noise."""
    method = captum.attr.GradientShap(model)
    return method.attribute(images, torch.zeros_like(images), n_samples=SAMPLES, stdevs=0.15, target=targets)


STEPS, SAMPLES = 32, 8
RIEMANN = {"n_steps": STEPS, "method": "riemann_right"}
OF_ONE_PASS: dict[str, Other] = {
    "saliency": through_captum(captum.attr.Saliency),
    "input-x-gradient": through_captum(captum.attr.InputXGradient),
    "grad-cam": through_grad_cam(pytorch_grad_cam.GradCAM),
    "grad-cam++": through_grad_cam(pytorch_grad_cam.GradCAMPlusPlus),
    "hirescam": through_grad_cam(pytorch_grad_cam.HiResCAM),
    "layercam": through_grad_cam(pytorch_grad_cam.LayerCAM),
    "xgrad-cam": through_grad_cam(pytorch_grad_cam.XGradCAM),
    "eigen-cam": through_grad_cam(pytorch_grad_cam.EigenCAM),
}
OTHERS: dict[str, Other] = OF_ONE_PASS | {
    "integrated-gradients": through_captum(captum.attr.IntegratedGradients, **RIEMANN),
    "smoothgrad": with_noise(captum.attr.Saliency, "smoothgrad", abs=False),
    "vargrad": with_noise(captum.attr.Saliency, "vargrad", abs=False),
    "gradient-shap": gradient_shap,
    "guided-backprop": through_captum(captum.attr.GuidedBackprop),
    "deconvolution": through_captum(captum.attr.Deconvolution),
}
SETS: dict[str, tuple[str, ...]] = {
    "published": PUBLISHED,
    "of one pass": tuple(OF_ONE_PASS),
    "gradient and cam": tuple(OTHERS),
}


def batches(images: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fresh copies, ``size`` images at a time."""
    yield from zip(images.clone().split(size), targets.split(size), strict=True)


def ours(names: tuple[str, ...], model: nn.Module, images: Tensor, targets: Tensor, size: int) -> None:
    """The methods as the commands run them."""
    for part, wanted in batches(images, targets, size):
        context = Context(model, part, wanted, layer="layer4", batch_size=size)
        samples = {n: {"samples": SAMPLES} for n in names if "samples" in METHODS[n].options}
        for method in get_methods(names, settings=samples):
            method.explain_in(context)


def theirs(names: tuple[str, ...], model: nn.Module, images: Tensor, targets: Tensor, size: int) -> None:
    """The methods one after another, each with its own passes."""
    for part, wanted in batches(images, targets, size):
        for name in names:
            with unchanged(model):
                OTHERS[name](model.requires_grad_(True), part, wanted)


def main() -> None:
    """Take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=32, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Captum says of each call that it sets hooks
    device = find_device()
    checkpoint = load_checkpoint(shipped_checkpoint())
    model = checkpoint.classifier.module.to(device)
    images = checkpoint.classifier.normalise(load_sample().tensor[: arguments.n]).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        targets = model(images).argmax(dim=1)
    table = Table(
        title=f"seconds for {arguments.n} images; {device.type}, {torch.get_num_threads()} threads, "
        f"batches of {arguments.batch_size}"
    )
    for heading in ("", "one by one", "batched", "xaicmp", "x one by one", "x batched"):
        table.add_column(heading, justify="right" if heading else "left")
    for title, names in SETS.items():
        runs = {
            "one by one": lambda names=names: theirs(names, model, images, targets, 1),
            "batched": lambda names=names: theirs(names, model, images, targets, arguments.batch_size),
            "xaicmp": lambda names=names: ours(names, model, images, targets, arguments.batch_size),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for round_ in range(arguments.rounds + 1):
            for name, run in runs.items():
                started = time.perf_counter()
                run()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if round_:
                    seconds[name].append(time.perf_counter() - started)
        alone, batched, xaicmp = (statistics.median(values) for values in seconds.values())
        table.add_row(
            f"{title} ({len(names)})",
            *(f"{value:.2f}" for value in (alone, batched, xaicmp)),
            f"{alone / xaicmp:.1f}",
            f"{batched / xaicmp:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()

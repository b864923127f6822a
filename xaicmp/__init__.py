"""Do explanation methods agree? The public Python API.

Names are imported when they are first used, so that ``import xaicmp`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaicmp.api import compare, explain, load, load_class_folders, load_images, load_model
    from xaicmp.core.agreement.registry import agreement, get_statistics, iou, pearson
    from xaicmp.core.agreement.statistic import STATISTICS
    from xaicmp.core.agreement.top_pixels import top_pixels
    from xaicmp.core.attribution import METHODS, get_methods, method
    from xaicmp.core.images.cifar10 import load_cifar10, load_sample
    from xaicmp.core.images.selection import Selection
    from xaicmp.core.images.source import ImageSource
    from xaicmp.core.images.tensors import ImageSet, TensorImages
    from xaicmp.core.machine.devices import find_device
    from xaicmp.core.machine.processes import processes
    from xaicmp.core.models.architectures import resnet18_cifar
    from xaicmp.core.models.checkpoint import load_checkpoint, save_checkpoint
    from xaicmp.core.models.classifier import Classifier
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.settings import Settings
    from xaicmp.core.run.journal import Journal
    from xaicmp.core.run.maps_file import compare_maps
    from xaicmp.core.run.running import Running
    from xaicmp.core.training.loop import Training, train
    from xaicmp.core.training.network import starting_network
    from xaicmp.core.training.recipe import RECIPES, Recipe, Run
    from xaicmp.errors import Below, UsageError, XaicmpError
    from xaicmp.result import Result

__version__ = version("xaicmp")

_HOMES = {
    "api": ("compare", "explain", "load", "load_class_folders", "load_images", "load_model"),
    "core.agreement.registry": ("agreement", "get_statistics", "iou", "pearson"),
    "core.agreement.statistic": ("STATISTICS",),
    "core.agreement.top_pixels": ("top_pixels",),
    "core.attribution": ("METHODS", "get_methods", "method"),
    "core.images.cifar10": ("load_cifar10", "load_sample"),
    "core.images.selection": ("Selection",),
    "core.images.source": ("ImageSource",),
    "core.images.tensors": ("ImageSet", "TensorImages"),
    "core.machine.devices": ("find_device",),
    "core.machine.processes": ("processes",),
    "core.models.architectures": ("resnet18_cifar",),
    "core.models.checkpoint": ("load_checkpoint", "save_checkpoint"),
    "core.models.classifier": ("Classifier",),
    "core.results.comparison": ("Comparison",),
    "core.results.settings": ("Settings",),
    "core.run.journal": ("Journal",),
    "core.run.maps_file": ("compare_maps",),
    "core.run.running": ("Running",),
    "core.training.loop": ("Training", "train"),
    "core.training.network": ("starting_network",),
    "core.training.recipe": ("RECIPES", "Recipe", "Run"),
    "errors": ("Below", "UsageError", "XaicmpError"),
    "result": ("Result",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "METHODS",
    "RECIPES",
    "STATISTICS",
    "Below",
    "Classifier",
    "Comparison",
    "ImageSet",
    "ImageSource",
    "Journal",
    "Recipe",
    "Result",
    "Run",
    "Running",
    "Selection",
    "Settings",
    "TensorImages",
    "Training",
    "UsageError",
    "XaicmpError",
    "agreement",
    "compare",
    "compare_maps",
    "explain",
    "find_device",
    "get_methods",
    "get_statistics",
    "iou",
    "load",
    "load_checkpoint",
    "load_cifar10",
    "load_class_folders",
    "load_images",
    "load_model",
    "load_sample",
    "method",
    "pearson",
    "processes",
    "resnet18_cifar",
    "save_checkpoint",
    "starting_network",
    "top_pixels",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'xaicmp' has no attribute {name!r}")
    return getattr(import_module(f"xaicmp.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

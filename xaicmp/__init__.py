"""Do explanation methods agree? The public Python API.

Names are imported when they are first used, so that ``import xaicmp`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaicmp.core.agreement.registry import agreement, get_statistics, iou, pearson
    from xaicmp.core.agreement.top_pixels import top_pixels
    from xaicmp.core.attribution import METHODS, get_methods
    from xaicmp.core.images.cifar10 import load_cifar10, load_sample
    from xaicmp.core.images.selection import Selection
    from xaicmp.core.images.source import ImageSet
    from xaicmp.core.machine.devices import find_device
    from xaicmp.core.machine.processes import processes
    from xaicmp.core.models.architectures import resnet18_cifar
    from xaicmp.core.models.checkpoint import load_checkpoint, save_checkpoint
    from xaicmp.core.results.comparison import Comparison
    from xaicmp.core.results.settings import Settings
    from xaicmp.core.run.comparing import compare, compare_selection
    from xaicmp.core.run.engine import Engine
    from xaicmp.core.run.explaining import choose, explain, find_images
    from xaicmp.core.run.journal import Journal
    from xaicmp.core.run.maps_file import compare_maps
    from xaicmp.core.run.provenance import plan_of
    from xaicmp.core.training.loop import train
    from xaicmp.core.training.recipe import RECIPES, Recipe, Run
    from xaicmp.errors import XaicmpError

__version__ = version("xaicmp")

__all__ = [
    "METHODS",
    "RECIPES",
    "Comparison",
    "Engine",
    "ImageSet",
    "Journal",
    "Recipe",
    "Run",
    "Selection",
    "Settings",
    "XaicmpError",
    "agreement",
    "choose",
    "compare",
    "compare_maps",
    "compare_selection",
    "explain",
    "find_device",
    "find_images",
    "get_methods",
    "get_statistics",
    "iou",
    "load_checkpoint",
    "load_cifar10",
    "load_sample",
    "pearson",
    "plan_of",
    "processes",
    "resnet18_cifar",
    "save_checkpoint",
    "top_pixels",
    "train",
]

_HOMES = {
    "core.agreement.registry": ("agreement", "get_statistics", "iou", "pearson"),
    "core.agreement.top_pixels": ("top_pixels",),
    "core.attribution": ("METHODS", "get_methods"),
    "core.images.cifar10": ("load_cifar10", "load_sample"),
    "core.images.selection": ("Selection",),
    "core.images.source": ("ImageSet",),
    "core.machine.devices": ("find_device",),
    "core.machine.processes": ("processes",),
    "core.models.architectures": ("resnet18_cifar",),
    "core.models.checkpoint": ("load_checkpoint", "save_checkpoint"),
    "core.results.comparison": ("Comparison",),
    "core.results.settings": ("Settings",),
    "core.run.comparing": ("compare", "compare_selection"),
    "core.run.engine": ("Engine",),
    "core.run.explaining": ("choose", "explain", "find_images"),
    "core.run.journal": ("Journal",),
    "core.run.maps_file": ("compare_maps",),
    "core.run.provenance": ("plan_of",),
    "core.training.loop": ("train",),
    "core.training.recipe": ("RECIPES", "Recipe", "Run"),
    "errors": ("XaicmpError",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"xaicmp.{module}"), name)
    raise AttributeError(f"module 'xaicmp' has no attribute {name!r}")

"""Do explanation methods agree? The public Python API.

Names are imported when they are first used, so that ``import xaicmp`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaicmp.core.agreement import agreement, get_statistics, iou, pearson, top_pixels
    from xaicmp.core.attribution import METHODS, get_methods
    from xaicmp.core.comparison import Comparison, Measures
    from xaicmp.core.devices import find_device
    from xaicmp.core.distributed import processes
    from xaicmp.core.errors import XaicmpError
    from xaicmp.core.images import ImageSet, Selection, load_cifar10, load_sample
    from xaicmp.core.journal import Journal
    from xaicmp.core.maps import compare_maps
    from xaicmp.core.models import load_checkpoint, resnet18_cifar, save_checkpoint
    from xaicmp.core.pipeline import (
        Engine,
        choose,
        compare,
        compare_selection,
        explain,
        find_images,
        plan_of,
    )
    from xaicmp.core.training import RECIPES, Recipe, Run, train

__version__ = version("xaicmp")

__all__ = [
    "METHODS",
    "RECIPES",
    "Comparison",
    "Engine",
    "ImageSet",
    "Journal",
    "Measures",
    "Recipe",
    "Run",
    "Selection",
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
    "agreement": ("agreement", "get_statistics", "iou", "pearson", "top_pixels"),
    "attribution": ("METHODS", "get_methods"),
    "devices": ("find_device",),
    "errors": ("XaicmpError",),
    "images": ("ImageSet", "Selection", "load_cifar10", "load_sample"),
    "models": ("load_checkpoint", "resnet18_cifar", "save_checkpoint"),
    "comparison": ("Comparison", "Measures"),
    "maps": ("compare_maps",),
    "pipeline": ("Engine", "choose", "compare", "compare_selection", "explain", "find_images", "plan_of"),
    "journal": ("Journal",),
    "distributed": ("processes",),
    "training": ("RECIPES", "Recipe", "Run", "train"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"xaicmp.core.{module}"), name)
    raise AttributeError(f"module 'xaicmp' has no attribute {name!r}")

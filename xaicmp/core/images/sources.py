"""Sources of images, by the word before the colon.

To add a source, decorate a function ``str -> ImageSource`` with ``@image_source(name)``: ``name:rest`` then calls it
with ``rest``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xaicmp.core.images.cifar10 import load_cifar10
from xaicmp.core.images.cifar100 import load_cifar100
from xaicmp.core.images.source import ImageSource

IMAGES: dict[str, Callable[[str], ImageSource]] = {}


def image_source(name: str) -> Callable[[Callable[[str], ImageSource]], Callable[[str], ImageSource]]:
    """Enter the decorated function into ``IMAGES``."""

    def register(function: Callable[[str], ImageSource]) -> Callable[[str], ImageSource]:
        IMAGES[name] = function
        return function

    return register


@image_source("cifar10")
def from_cifar10(folder: str) -> ImageSource:
    """CIFAR-10's test set from a folder, see ``load_cifar10``."""
    return load_cifar10("test", Path(folder))


@image_source("cifar100")
def from_cifar100(folder: str) -> ImageSource:
    """CIFAR-100's test set from a folder, see ``load_cifar100``."""
    return load_cifar100("test", Path(folder))


def find_images(spec: str) -> ImageSource | None:
    """What ``spec`` names: ``source:rest``; None for what has no such name before a colon."""
    name, colon, rest = spec.partition(":")
    return IMAGES[name](rest) if colon and name in IMAGES else None

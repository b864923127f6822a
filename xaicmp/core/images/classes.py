"""The classes of images and of a model are the same where their names are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xaicmp.core.images.source import ImageSource


def match_classes(of_images: Sequence[str], of_model: Sequence[str]) -> np.ndarray:
    """The model's class for each class of the images, int64, -1 for none.

    Names are the same but for case, spaces, hyphens and underscores; a model's class may have several, with commas between
    them. Without the model's names, the classes are taken in their order.
    """
    if not of_model:
        return np.arange(len(of_images))
    index: dict[str, int] = {}
    for place, name in enumerate(of_model):
        for synonym in (*name.split(","), name):
            index.setdefault(_plain(synonym), place)
    index |= {
        _plain(name): place for place, name in enumerate(of_model)
    }  # a name of its own before a synonym
    return np.array([index.get(_plain(name), -1) for name in of_images], dtype=np.int64)


def labels_known(images: ImageSource, of_model: Sequence[str]) -> bool:
    """Whether some of the images have labels that are classes of the model."""
    if images.labels is None:
        return False
    if images.classes:
        return bool((match_classes(images.classes, of_model) >= 0).any())
    return True


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())

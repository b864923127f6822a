"""Classes of images matched to classes of a model by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from xaicmp.core.images.source import ImageSource

WORDNET = re.compile(r"n\d{8}")
"""An id of a noun in WordNet, which names a class of ImageNet."""


def match_classes(of_images: Sequence[str], of_model: Sequence[str]) -> np.ndarray:
    """The model's class for each class of the images, int64, -1 for none.

    Names are the same but for case, spaces, hyphens and underscores; a model's class may have several, with commas between
    them, and those of ImageNet have a WordNet id too, as in ``n01440764``. What may be two classes is none. Where none is
    a name of the model's, numbers are its indices; if it has no names, the classes are taken in their order.
    """
    indices = all(name == str(place) for place, name in enumerate(of_model))  # "07" is 7 then
    if by_number(of_images, of_model) or (indices and _numbers(of_images)):
        numbers = np.array([int(name or -1) for name in of_images], dtype=np.int64)
        return np.where(numbers < (len(of_model) or np.inf), numbers, -1)
    return _by_name(of_images, of_model) if of_model else np.arange(len(of_images))


def by_number(of_images: Sequence[str], of_model: Sequence[str]) -> bool:
    """Whether the classes of the images are numbers that can only be the model's indices."""
    return _numbers(of_images) and bool((_by_name(of_images, of_model) < 0).all())


def _numbers(names: Sequence[str]) -> bool:
    return any(names) and all(name.isdecimal() and len(name) < 10 for name in names if name)


def _by_name(of_images: Sequence[str], of_model: Sequence[str]) -> np.ndarray:
    synonyms, plain, own = (dict[str, int](), dict[str, int](), dict[str, int]())
    for place, name in enumerate(of_model):
        for word in {_plain(each) for each in name.split(",")}:
            _enter(synonyms, word, place)
        _enter(plain, _plain(name), place)
        _enter(own, name, place)
    if any(WORDNET.fullmatch(name) for name in of_images):
        plain |= {name: place for place, name in enumerate(_wordnet_ids(tuple(of_model)))}
    # A name as it is written before one in other letters, and that before a synonym.
    near = synonyms | plain
    return np.array([own.get(name, near.get(_plain(name), -1)) for name in of_images], dtype=np.int64)


def _enter(index: dict[str, int], name: str, place: int) -> None:
    """A name that two classes have says nothing."""
    index[name] = -1 if name in index else place


@lru_cache
def _wordnet_ids(of_model: tuple[str, ...]) -> list[str]:
    """The WordNet ids of the model's classes in order, from timm's tables; none if they are not those of ImageNet."""
    if len(of_model) != 1000 or find_spec("timm") is None:
        return []
    imagenet: Any = import_module("timm.data").ImageNetInfo()
    descriptions = zip(of_model, imagenet.label_descriptions(detailed=False), strict=True)
    same = sum(_plain(name.partition(",")[0]) in _plain(synonyms) for name, synonyms in descriptions)
    return imagenet.label_names() if same > 900 else []


def labels_known(images: ImageSource, of_model: Sequence[str]) -> bool:
    """Whether some of the images have labels that are classes of the model."""
    if images.labels is None:
        return False
    if images.classes:
        return bool((match_classes(images.classes, of_model) >= 0).any())
    return True


def labels_of(images: ImageSource, ids: np.ndarray, of_model: Sequence[str]) -> np.ndarray:
    """The labels of the images ``ids`` as classes of the model: int64, -1 where they are unknown or none of its classes.

    Labels without class names are the model's indices, and stay as they are.
    """
    if images.labels is None:
        return np.full(len(ids), -1)
    labels = np.asarray(images.labels)[ids].astype(np.int64)
    if not images.classes:
        return labels
    return np.where(labels < 0, -1, match_classes(images.classes, of_model)[labels])


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())

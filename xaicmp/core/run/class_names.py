"""Names for the classes of a model that does not name them, from labelled images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from xaicmp.core.images.classes import by_number
from xaicmp.core.images.source import ImageSource
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.models.guard import unchanged
from xaicmp.core.models.outputs import with_logits
from xaicmp.errors import arg


def with_class_names(
    classifier: Classifier, images: ImageSource, remark: Callable[[str], None] = lambda message: None
) -> Classifier:
    """``classifier`` with the names of the images' classes in their order, if there are as many; else with numbers.

    It stays as it is if it has names, or if the images' labels are numbers of its classes already.

    Args:
        classifier: what shall be explained; it is run once if it has no names.
        images: with labels, or without.
        remark: told which names were taken.

    Raises:
        XaicmpError: the model fails on images of that size, or puts out no logits.
    """
    if classifier.classes or images.labels is None or not any(images.classes):
        return classifier
    device = next((each.device for each in classifier.module.parameters()), torch.device("cpu"))
    example = classifier.normalise(torch.zeros(1, 3, *images.size(), dtype=torch.uint8, device=device))
    with unchanged(with_logits(classifier.module, example)) as lent, torch.no_grad():
        count = lent(example).shape[1]
    numbers = by_number(images.classes, ())
    if numbers:
        remark(
            f"{classifier.name} does not name its classes; those of {images.name} are taken as their indices. "
            f"Give others with {arg('classes')}"
        )
    if count != len(images.classes) or numbers:
        return replace(classifier, classes=tuple(map(str, range(count))))
    names = ", ".join(images.classes[:5]) + ", ..." * (count > 5)
    remark(
        f"{classifier.name} does not name its {count} classes; taken in the order of those of {images.name}: {names}. "
        f"Give others with {arg('classes')}"
    )
    return replace(classifier, classes=images.classes)

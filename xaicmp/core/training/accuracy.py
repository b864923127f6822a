"""The accuracy of a classifier, by class."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from xaicmp.core.choices import Precision
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.devices import autocast
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.models.classifier import Classifier

AT_ONCE = 250
"""How many images of 32 x 32 are tested at once."""


@dataclass(frozen=True)
class ClassAccuracy:
    """Images classified correctly, and images, by class: ``(C,)`` each."""

    correct: Tensor
    count: Tensor

    @property
    def overall(self) -> float:
        """Share of all images."""
        return int(self.correct.sum()) / int(self.count.sum())


@torch.inference_mode()
def class_accuracy(
    classifier: Classifier,
    images: ImageSet,
    device: torch.device,
    precision: Precision = "float32",
    processes: Processes = ALONE,
    interrupted: threading.Event | None = None,
    progress: Progress = no_progress,
) -> ClassAccuracy:
    """Count the images of each class that ``classifier``, in eval mode on ``device``, gets right.

    Raises:
        KeyboardInterrupt: after the current batch, once ``interrupted`` is set in any process.
    """
    stop = interrupted or threading.Event()
    totals = torch.zeros(2, len(images.classes), dtype=torch.int64, device=device)
    own, done = torch.arange(len(images)).tensor_split(processes.world)[processes.rank], 0
    for rows in own.split(max(1, AT_ONCE * 32 // max(32, *images.size()))):
        progress("testing", done, len(own))
        labels = images.labels[rows].to(device)
        inputs = classifier.normalise(images.tensor[rows].to(device))
        with autocast(device, precision):
            logits = classifier.module(inputs.contiguous(memory_format=torch.channels_last))
        right = logits.argmax(dim=1) == labels
        totals[0] += labels[right].bincount(minlength=totals.shape[1])
        totals[1] += labels.bincount(minlength=totals.shape[1])
        done += len(rows)
        if stop.is_set():
            break
    progress("testing", done, len(own))
    if processes.any(stop.is_set(), device):
        raise KeyboardInterrupt
    correct, count = processes.sum(totals).cpu()
    return ClassAccuracy(correct, count)

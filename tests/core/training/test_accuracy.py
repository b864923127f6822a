"""Accuracy, against a loop over images."""

from __future__ import annotations

import torch
from train_small import SMALL, part

from xaicmp.core.images.cifar10 import MEAN, STD
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.training import accuracy
from xaicmp.core.training.accuracy import class_accuracy

CPU = torch.device("cpu")


def test_accuracy_by_class_counts_what_a_loop_counts(monkeypatch):
    monkeypatch.setattr(accuracy, "AT_ONCE", 64)
    torch.manual_seed(0)
    model, images = SMALL["tiny"]().eval(), part(0, 301)
    told: list[tuple[str, float, float]] = []
    found = class_accuracy(
        Classifier(model, mean=MEAN, std=STD), images, CPU, progress=lambda *each: told.append(each)
    )
    assert told == [("testing", min(64 * number, 301), 301) for number in range(6)]
    normal = (images.tensor / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    correct, count = [0] * 10, [0] * 10
    with torch.no_grad():
        for image, label in zip(normal, images.labels.tolist(), strict=True):
            count[label] += 1
            correct[label] += int(model(image[None]).argmax()) == label
    assert found.correct.tolist() == correct
    assert found.count.tolist() == count
    assert found.overall == sum(correct) / 301

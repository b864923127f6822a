"""A small classifier with a ``layer4``, and methods that exist only while a test runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xaicmp.api import load_images
from xaicmp.core.attribution import METHODS, Method, get_methods, method
from xaicmp.core.images.cifar10 import CLASSES, MEAN, STD
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSource
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.models.classifier import Classifier
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.predictions import Predictions
from xaicmp.core.results.settings import Settings
from xaicmp.core.run import explaining
from xaicmp.core.run.comparing import Keep, compare_explanations
from xaicmp.core.run.engine import Engine
from xaicmp.core.run.explainer import Explainer, Target
from xaicmp.core.run.journal import Journal
from xaicmp.core.run.maps_file import write_maps

CPU = torch.device("cpu")


class SmallNet(nn.Module):
    """Two convolutions with all that a mode can change: BatchNorm and dropout."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layer1 = nn.Sequential(
                nn.Conv2d(3, 12, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(12), nn.ReLU()
            )
            self.layer4 = nn.Sequential(nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.ReLU())
            self.dropout = nn.Dropout(0.5)
            self.fc = nn.Linear(16, len(CLASSES))
            nn.init.normal_(self.fc.weight, std=2)

    def forward(self, images: Tensor) -> Tensor:
        features = self.layer4(self.layer1(images))
        return self.fc(self.dropout(features.mean(dim=(2, 3))))


def small_classifier(model: nn.Module | None = None, **values: Any) -> Classifier:
    """The small network, told what it needs."""
    provenance = {
        "path": "small.pt",
        "sha256": "0" * 64,
        "architecture": "small",
        "test_accuracy": 0.125,
    }
    about = {"classes": CLASSES, "mean": MEAN, "std": STD, "name": "small.pt", "provenance": provenance}
    return Classifier((model or SmallNet()).eval(), **about | values)


def small_engine(model: nn.Module | None = None, **values: Any) -> Engine:
    """The small classifier, ready to run."""
    return Engine(small_classifier(model), **values)


def explain_selection(
    engine: Engine,
    selection: Selection,
    methods: Sequence[Method],
    *,
    data: Path | ImageSource | None = None,
    target: Target = "predicted",
    **options: Any,
) -> Iterator[tuple[ImageSource, Explanations]]:
    """What is explained of ``data``, by default of CIFAR-10's test set, batch by batch."""
    return explaining.explain_selection(
        Explainer(engine, methods, target), load_images(data), selection, **options
    )


def find_images(
    engine: Engine, selection: Selection, data: Path | ImageSource | None = None, **options: Any
) -> tuple[ImageSource, Predictions]:
    """The images that are meant, and what the model says of them."""
    batches = list(explain_selection(engine, selection, [METHODS["centre"]], data=data, **options))
    return batches[-1][0], Predictions.join([each.predictions for _, each in batches])


def choose(engine: Engine, images: ImageSource, selection: Selection, **options: Any) -> Predictions:
    """What the model says of those of ``images`` that are meant."""
    return find_images(engine, selection, images, **options)[1]


def explain(
    engine: Engine, images: ImageSource, predictions: Predictions, methods: Sequence[Method]
) -> Iterator[Explanations]:
    """Explain images that are chosen already."""
    return Explainer(engine, methods).again(images, predictions)


def compare_selection(
    engine: Engine,
    selection: Selection,
    methods: Sequence[Method],
    settings: Settings | None = None,
    *,
    keep: Keep | None = None,
    processes: Processes = ALONE,
    **options: Any,
) -> tuple[ImageSource, Comparison]:
    """Choose, explain and compare."""
    stream = explain_selection(engine, selection, methods, processes=processes, **options)
    return compare_explanations(
        engine, stream, methods, settings or Settings(), keep=keep, processes=processes
    )


def compare(
    engine: Engine,
    images: ImageSource,
    predictions: Predictions,
    methods: Sequence[Method],
    settings: Settings | None = None,
    **options: Any,
) -> Comparison:
    """Explain and compare images that are chosen already."""
    selection = Selection(ids=tuple(predictions.ids.tolist()), only="all")
    return compare_selection(engine, selection, methods, settings, data=images, **options)[1]


def compared(
    images: ImageSource,
    names: tuple[str, ...],
    ids: tuple[int, ...],
    engine: Engine | None = None,
    settings: Settings | None = None,
) -> tuple[Comparison, list[Explanations]]:
    """The images ``ids`` explained by the methods ``names`` and compared, and the maps."""
    batches: list[Explanations] = []
    selection, methods = Selection(ids=ids, only="all"), quick(names, steps=4)
    engine = engine or small_engine()
    comparison = compare_selection(engine, selection, methods, settings, data=images, keep=batches.append)[1]
    return comparison, batches


def quick(names: Sequence[str], **options: Any) -> tuple[Method, ...]:
    """Methods, each with those of ``options`` that it has."""
    wanted = {
        name: {key: value for key, value in options.items() if key in each.options}
        for name, each in METHODS.items()
    }
    return get_methods(names, settings=wanted)


@contextmanager
def registered(
    name: str, function: Callable[..., Tensor], title: str = "", **properties: bool
) -> Iterator[None]:
    """``function`` as the method ``name``, for a while."""
    about = {"title": title or name.title(), "family": "test", "reduction": "sum", "cost": "", "paper": ""}
    method(name, **about, **properties)(function)  # type: ignore[arg-type]
    try:
        yield
    finally:
        del METHODS[name]


def state(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that a borrower could leave behind."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for key, value in vars(module).items():
            # Dicts hold the hooks, parameters, buffers and submodules.
            found[f"{name}.{key}"] = (
                [(entry, id(held)) for entry, held in value.items()] if isinstance(value, dict) else value
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        gradient = None if tensor.grad is None else tensor.grad.tolist()
        found[f"{name} value"] = (tensor.tolist(), tensor._version, tensor.data_ptr())
        found[f"{name} gradient"] = (tensor.requires_grad, id(tensor.grad), gradient)
    return found


def kept(
    path: Path,
    engine: Engine,
    selection: Selection,
    methods: Sequence[Method],
    settings: Settings | None = None,
    **options: Any,
) -> tuple[list[Explanations], Comparison]:
    """Explain into the file of maps ``path`` by way of a journal, as the command does."""
    seen: list[Explanations] = []
    journal = Journal(path, {})
    images, comparison = compare_selection(
        engine, selection, methods, settings, keep=seen.append, journal=journal, **options
    )
    assert not path.exists()
    write_maps(path, journal, images, comparison)
    journal.remove()
    return seen, comparison

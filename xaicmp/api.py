"""The functions that users and the command line call: load models and images, explain and compare.

>>> import torch, xaicmp
>>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(5))
>>> images = torch.randn(8, 3, 12, 12)
>>> _ = model(images)
>>> result = xaicmp.compare(model, images, methods=["saliency", "input-x-gradient"])
>>> result
Result(saliency, input-x-gradient on 8 images: Pearson, IoU@20%)
>>> -1 <= result["saliency", "input-x-gradient"].pearson.mean <= 1
True
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from xaicmp.core.arguments import instance
from xaicmp.core.attribution import PUBLISHED, Method, get_methods
from xaicmp.core.attribution.plugins import from_function
from xaicmp.core.images.cifar10 import holds_cifar10, load_cifar10, load_sample
from xaicmp.core.images.class_folders import decoded, images_tested, split_folder
from xaicmp.core.images.files import find_files
from xaicmp.core.images.framing import Framing
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSource
from xaicmp.core.images.sources import find_images
from xaicmp.core.images.tensors import ImageSet, TensorImages, from_batches, whole_numbers
from xaicmp.core.machine.progress import Progress, no_progress
from xaicmp.core.machine.storage import check_suffix
from xaicmp.core.models.checkpoint import load_checkpoint
from xaicmp.core.models.classifier import NOT_NORMALISED, Classifier
from xaicmp.core.models.loading import WEIGHTS, checked_classes, load_network, read_classes
from xaicmp.core.models.outputs import scored_by
from xaicmp.core.models.weights import sha256_of
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.results.settings import Settings
from xaicmp.core.run.applying import applying
from xaicmp.core.run.class_names import with_class_names
from xaicmp.core.run.comparing import compare_explanations
from xaicmp.core.run.explainer import Explainer, Target
from xaicmp.core.run.explaining import explain_selection
from xaicmp.core.run.maps_file import compare_maps
from xaicmp.core.run.provenance import plan_of
from xaicmp.core.run.running import Running, quickened
from xaicmp.errors import UsageError, arg
from xaicmp.result import Result
from xaicmp.views.document import from_json

ModelLike = nn.Module | Classifier | str | Path | None
MethodLike = str | Method | Callable[[nn.Module, Tensor, Tensor], Tensor]
ImagesLike = Tensor | np.ndarray | ImageSource | Iterable[Any] | Dataset[Any] | str | Path | None


def load_model(
    spec: ModelLike = None,
    *,
    checkpoint: str | Path | None = None,
    weights: str | Path | None = None,
    classes: Sequence[str] | str | Path | None = None,
    remark: Callable[[str], None] = lambda message: None,
    **about: Any,
) -> Classifier:
    """A classifier: a network by name with its trained weights, from a file, or around a module.

    Args:
        spec: ``"torchvision:resnet50"`` or ``"resnet50"``, ``"timm:NAME"``, ``"package.module:factory?width=2"``, or
            another of ``core.models.sources``; the path of a checkpoint; a module; a classifier; None for
            ``checkpoints/resnet18.pt`` in the working folder if there is one, else the checkpoint that ships.
        checkpoint: a file of weights for the network, in any form that ``core.models.weights`` knows.
        weights: which trained weights, by name; a file, like ``checkpoint``; ``"none"`` for none; by default the best.
        classes: the names of the classes, or a file of them: one per line, or JSON.
        remark: told what had to be assumed.
        about: what else is known, see ``Classifier``: ``input_size`` (one or two numbers), ``mean``, ``std``,
            ``crop_pct``, ``interpolation``, ``name``.

    Raises:
        UsageError: there is no such network, or ``spec`` is nothing of the kind.
        XaicmpError: a file is missing, damaged, holds more than tensors and plain values, or does not fit.

    >>> import xaicmp
    >>> xaicmp.load_model().classes[3]
    'cat'
    """
    if weights is not None and checkpoint is not None:
        raise UsageError(f"{arg('weights')} and {arg('checkpoint')} exclude each other; give one of them")
    file = weights if checkpoint is None else checkpoint
    is_file = isinstance(spec, Path) or (isinstance(spec, str) and Path(spec).suffix.lower() in WEIGHTS)
    named = isinstance(spec, str) and not is_file
    alone = spec is None and checkpoint is not None
    if file is not None and not (named or alone):
        raise UsageError(f"{arg('weights')} go with the name of a {arg('model')}, as in torchvision:resnet50")
    if isinstance(classes, str | Path):
        about["classes"] = read_classes(Path(classes))
    elif classes is not None:
        about["classes"] = checked_classes(classes, "classes")
    if isinstance(spec, Classifier):
        found = spec
    elif isinstance(spec, nn.Module):
        found = Classifier(spec)
    elif spec is None or is_file:
        path = checkpoint if spec is None else spec
        found = load_checkpoint(None if path is None else Path(str(path)), remark, given=about).classifier
    elif isinstance(spec, str):
        found = load_network(spec, file, remark, about)
    else:
        raise UsageError(
            f"model: a {type(spec).__name__} is none; give a torch.nn.Module, a Classifier, a name or a path"
        )
    return replace(found, **about) if about else found


def load_images(
    spec: ImagesLike = None,
    *,
    model: Classifier | None = None,
    held_out: bool = False,
    progress: Progress = no_progress,
    **options: Any,
) -> ImageSource:
    """Images to explain.

    Args:
        spec: floats ``(N, 3, H, W)``, normalised as the model wants them; a DataLoader, a data set or another iterable
            of these, alone or with labels, see ``from_batches``; an ``ImageSource``, which is returned; paths of photographs, folders, patterns or
            lists of paths, see ``find_files``; the path of a folder that holds CIFAR-10; ``source:rest`` for another
            of ``core.images.sources``; None for CIFAR-10's test set, of which the first 1,000 images ship with xaicmp.
        model: who looks at them: it says to what size photographs are brought (without it, 224 x 224), and how tensors
            are normalised, so that they can be drawn.
        held_out: of a folder that ``model`` was trained on, take the images that it was tested on, in the same order.
        progress: told how far a download is.
        options: of photographs: ``labels``, ``label_map``, ``strict``, see ``find_files``; of tensors: ``labels``,
            ``classes``, ``mean``, ``std``, ``name``, see ``TensorImages``.

    Raises:
        UsageError: ``spec`` is nothing of the kind.
        XaicmpError: the folder does not hold CIFAR-10.

    >>> import xaicmp
    >>> xaicmp.load_images().pixels(np.array([3, 7])).shape
    torch.Size([2, 3, 32, 32])
    """
    if isinstance(spec, str | Path):
        spec = [spec]
    if held_out and model is not None and isinstance(spec, Sequence):
        return images_tested(Path(spec[0]), framing_of(model), model.test_files)
    if (source := _ready(spec, progress)) is not None:
        if options:
            raise UsageError(f"{source.name} is loaded as it is; leave {arg(next(iter(options)))} out")
        return source
    if isinstance(spec, Sequence) and spec and all(isinstance(each, str | Path) for each in spec):
        return find_files(spec, framing_of(model), **options)
    if not isinstance(spec, Tensor | np.ndarray | Iterable | Dataset):
        raise UsageError(
            f"images: a {type(spec).__name__} is none; give a tensor, batches, a data set, an ImageSource or a folder"
        )
    normalised = model is not None and model.mean != NOT_NORMALISED
    if model is not None and normalised:
        options = {"mean": model.mean, "std": model.std} | options
    read: Any = TensorImages if isinstance(spec, Tensor | np.ndarray) else from_batches
    found: TensorImages = read(spec, **options)
    if normalised:
        low, high = found.tensor.aminmax()
        if low >= 0 and high <= 1:
            raise UsageError(
                "images lie between 0 and 1, and this model wants them normalised: minus its mean, over its std; normalise them"
            )
    return found


def _ready(spec: Any, progress: Progress) -> ImageSource | None:
    """The images, if ``spec`` says by itself how they are read."""
    if spec is None:
        return load_sample(partial(load_cifar10, "test", download=False, progress=progress))
    if isinstance(spec, list) and len(spec) == 1 and isinstance(spec[0], str | Path):
        if holds_cifar10(Path(spec[0])):
            return load_cifar10("test", Path(spec[0]), progress=progress)
        return find_images(str(spec[0]))
    return spec if isinstance(spec, ImageSource) else None


def load_class_folders(
    root: str | Path,
    *,
    model: Classifier | None = None,
    split: float | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[ImageSet, ImageSet]:
    """Images of your own to train on and to test on, see ``train``.

    Args:
        root: a folder with a folder of images per class, alone or inside of ``train`` and ``val``.
        model: who looks at them, see ``load_images`` and ``starting_network``.
        split: the share of each class that is held out where there is no ``val``; by default a tenth.
        seed: of which these are, and of the order.
        progress: told how many are decoded.

    Raises:
        XaicmpError: there are no such folders, fewer than two classes, or an image that cannot be read.
    """
    images, test = split_folder(Path(root), framing_of(model), split, seed)
    return decoded(images, "train", progress), decoded(test, "test", progress)


def compare(
    model: ModelLike = None,
    images: ImagesLike = None,
    targets: Target | Sequence[int] | Tensor = "predicted",
    methods: Sequence[MethodLike] = PUBLISHED,
    select: Selection | None = None,
    settings: Settings | None = None,
    running: Running | None = None,
) -> Result:
    """Explain images by several methods, and measure how far their maps agree.

    Args:
        model: see ``load_model``.
        images: see ``load_images``.
        targets: the class that is explained: ``"predicted"``, ``"label"``, the name or the index of a class, or one
            index per image, int64 ``(N,)``.
        methods: two or more, by name, title, group, or name with options, see ``get_methods``; or functions of your
            own, ``(model, images, targets)`` to attributions. ``"all"`` means those that apply to the model.
        select: which images; by default all of a tensor, and the first 100 of CIFAR-10 that the model gets right.
        settings: the statistics and controls, see ``Settings``.
        running: how the model is run, see ``Running``.

    Raises:
        UsageError: what was asked for cannot be meant.
        XaicmpError: it could not be done: a method cannot explain this model, no image was admitted.
    """
    others = settings is not None and instance("settings", settings, Settings).other_classes
    job = _Job(model, images, targets, methods, select, running, others)
    settings = settings or Settings(seed=job.running.seed)
    height, width = job.images.size()
    settings.check(height * width)  # before the work
    source, comparison = compare_explanations(
        job.engine,
        job.stream(),
        job.explainer.methods,
        settings,
        keep=job.running.keep,
        processes=job.running.processes,
        progress=job.running.progress,
    )
    return Result(comparison, source, job.engine, job.explainer.methods)


def explain(
    model: ModelLike = None,
    images: ImagesLike = None,
    targets: Target | Sequence[int] | Tensor = "predicted",
    methods: Sequence[MethodLike] = PUBLISHED,
    select: Selection | None = None,
    running: Running | None = None,
) -> Explanations:
    """The maps of images by one or more methods; arguments and errors as for ``compare``.

    Returns:
        ``maps`` float32 ``(M, N, H, W)``, ``predictions``, and the ``pixels`` uint8 ``(N, 3, H, W)`` that were seen.

    >>> import xaicmp
    >>> xaicmp.explain(methods=["saliency"], select=xaicmp.Selection(ids=(3, 7))).maps.shape
    torch.Size([1, 2, 32, 32])
    """
    job = _Job(model, images, targets, methods, select, running)
    return Explanations.join([batch for _, batch in job.stream()])


def framing_of(classifier: Classifier | None) -> Framing:
    """How photographs are resized and cropped for a classifier; by default to 224 x 224."""
    if classifier is None or classifier.input_size is None:
        return Framing((224, 224), 0.875)
    return Framing(classifier.input_size, classifier.crop_pct, classifier.interpolation)


def load(path: str | Path, settings: Settings | None = None) -> Result:
    """Read a result, or compare the maps in a file.

    Args:
        path: a ``.json`` document from ``Result.save`` or ``xaicmp metrics``, with the numbers of each image; or an
            ``.npz`` file of maps, see ``compare_maps``.
        settings: what is measured of maps; a document says what was.

    Raises:
        UsageError: another suffix, or settings for a document.
        XaicmpError: the file cannot be read, holds something else or is damaged.
    """
    path = Path(path)
    check_suffix(path, (".json", ".npz"), "path")
    if path.suffix.lower() == ".npz":
        return Result(compare_maps(path, settings or Settings()))
    if settings is not None:
        raise UsageError(f"settings go with maps; {path} says what was measured, so leave them out")
    comparison, studies = from_json(path)
    return Result(comparison, kept=tuple(studies))


class _Job:
    """A model, images and methods, ready to be run; the arguments are those of ``compare``."""

    def __init__(
        self,
        model: ModelLike,
        images: ImagesLike,
        targets: Any,
        methods: Sequence[MethodLike],
        select: Selection | None,
        running: Running | None,
        other_classes: bool = False,
    ) -> None:
        self.running = Running() if running is None else instance("running", running, Running)
        methods = methods if isinstance(methods, str) or not isinstance(methods, Iterable) else list(methods)
        loaded = load_model(model, remark=self.running.remark)
        classifier, target = loaded, targets
        if isinstance(targets, str) and ":" in targets:
            classifier, target = scored_by(loaded, targets), "predicted"
        self.images = load_images(images, model=classifier, progress=self.running.progress)
        classifier = with_class_names(classifier, self.images, self.running.remark)
        if select is None:
            cifar = isinstance(self.images, ImageSet)
            select = Selection(n=100) if cifar else Selection(n=len(self.images), only="all")
        self.select, self.engine = instance("select", select, Selection), self.running.engine(classifier)
        self.running.processes.same(
            f"the weights of {loaded.name}",
            lambda: sha256_of(loaded.module.state_dict()),
            "seed what draws them, or give a file",
        )
        if isinstance(targets, Tensor | np.ndarray) and targets.ndim == 0:
            target = targets = int(targets)
        if not isinstance(targets, str | int | np.integer):
            target = targets = whole_numbers(targets, "targets")
        chosen = methods_of(methods)
        if "all" in methods:
            chosen = applying(self.engine, self.images.size(), chosen)
        if self.running.journal is not None:
            self.running.journal.check(plan_of(self.running.engine(loaded), select, chosen, targets))
        if self.running.fast:
            chosen = quickened(chosen, self.images.size())
        self.explainer = Explainer(self.engine, chosen, target, other_classes)

    def stream(self) -> Iterable[tuple[ImageSource, Explanations]]:
        """The explanations, batch by batch."""
        return explain_selection(
            self.explainer,
            self.images,
            self.select,
            journal=self.running.journal,
            processes=self.running.processes,
            progress=self.running.progress,
        )


def methods_of(names: Sequence[MethodLike]) -> tuple[Method, ...]:
    """Methods from names, titles (``Grad-CAM``), groups, methods or functions, each once and in order.

    Raises:
        UsageError: an unknown name, one that is named twice, or none.
    """
    if isinstance(names, str):
        raise UsageError(f"methods: {names!r} is one word; give a list, as [{names!r}, 'saliency']")
    if not isinstance(names, Iterable) or not all(
        isinstance(each, str | Method) or callable(each) for each in names
    ):
        raise UsageError(f"methods {names!r:.80}: give a list of names, of methods or of functions")
    every = [each if isinstance(each, str | Method) else from_function(each) for each in names]
    own = {each.name: each for each in every if isinstance(each, Method)}
    if len(own) < sum(isinstance(each, Method) for each in every):
        raise UsageError("methods: one is given twice; give each once")
    words = [each for each in every if isinstance(each, str)]
    if words or not own:
        get_methods(words)  # which sees what is named twice
    found = (get_methods([each]) if isinstance(each, str) else (each,) for each in every)
    return tuple({each.name: own.get(each.name, each) for some in found for each in some}.values())

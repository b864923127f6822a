"""Images in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from xaicmp.core.images.source import ImageSource
from xaicmp.errors import UsageError

Split = Literal["train", "test"]
LABELS = (Tensor, np.ndarray, int, np.integer)
"""What labels of a batch, or the label of an image, may be."""


@dataclass(frozen=True, repr=False)
class ImageSet(ImageSource):
    """A labelled data set, or a part of it.

    Attributes:
        name: of the data set.
        split: ``"train"`` or ``"test"``.
        verified: whether the files' checksums are the official ones; None where there are none.
        tensor: uint8 ``(N, 3, H, W)``, RGB, 0 to 255.
        labels: int64 tensor ``(N,)``, an index into ``classes``.
        classes: the names of the classes.
        sample: whether this is the part of the data set that ships in the package.
        root, files: of photographs the names of their files, and the folder that they are relative to.
        load_whole: makes the set that this is the beginning of, see ``ImageSource.whole``.

    Raises:
        UsageError: the pixels are not uint8, or there are not as many labels as images.
    """

    name: str = field()  # without it, the base class's value would be a default
    split: Split
    verified: bool | None
    tensor: Tensor
    labels: Tensor = field()
    classes: tuple[str, ...] = field()
    sample: bool = False
    root: Path = Path()
    files: tuple[str, ...] = ()
    load_whole: Callable[[], ImageSource] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.tensor.dtype != torch.uint8 or self.tensor.ndim != 4:
            kind = str(self.tensor.dtype).removeprefix("torch.")
            raise UsageError(
                f"images {tuple(self.tensor.shape)} of {kind}: an ImageSet holds uint8 (N, 3, H, W) from 0 to 255; "
                "give normalised floats as a TensorImages"
            )
        if len(self.labels) != len(self.tensor):
            raise UsageError(f"{len(self.labels)} labels for {len(self.tensor)} images; give one per image")

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, ids: np.ndarray) -> Tensor:
        return self.tensor[torch.from_numpy(ids)]

    def names(self, ids: np.ndarray) -> list[str]:
        return [self.files[each] for each in ids.tolist()] if self.files else super().names(ids)

    def first(self, count: int) -> ImageSet:
        """The first ``count`` images, as a set of their own."""
        return replace(
            self,
            tensor=self.tensor[:count],
            labels=self.labels[:count],
            files=self.files[:count],
            load_whole=None,
        )

    def whole(self) -> ImageSource | None:
        return None if self.load_whole is None else self.load_whole()

    @property
    def about(self) -> str:
        where = "sample in the package" if self.sample else f"{self.split} set"
        return f"{self.name} {where}" + (
            ", checksums not the official ones" if self.verified is False else ""
        )

    @property
    def provenance(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "split": self.split,
            "verified": self.verified,
            "sample": self.sample,
        }

    def __repr__(self) -> str:
        return (
            f"ImageSet({self.about}, {len(self)} images of {self.tensor.shape[2]} x {self.tensor.shape[3]})"
        )


class TensorImages(ImageSource):
    """Images as the model takes them: a float tensor, normalised, as for Captum.

    Args:
        images: float ``(N, 3, H, W)``, a tensor or an array.
        labels: int64 ``(N,)``, if they are known.
        classes: the names of the classes.
        mean, std: what the images were normalised by, for drawing them; without them, each image is drawn from its
            lowest value to its highest.
        name: what captions call them.

    Raises:
        UsageError: another shape or type, a value that is not finite, or not one label per image.
    """

    def __init__(
        self,
        images: Tensor | np.ndarray,
        *,
        labels: Sequence[int] | np.ndarray | Tensor | None = None,
        classes: Sequence[str] = (),
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        name: str = "images in memory",
    ) -> None:
        self.tensor = torch.as_tensor(images).detach()
        plain = self.tensor.is_floating_point() and self.tensor.layout == torch.strided
        if self.tensor.ndim != 4 or self.tensor.shape[1] != 3 or not plain:
            kind = str(self.tensor.dtype).removeprefix("torch.")
            raise UsageError(
                f"images {tuple(self.tensor.shape)} of {kind}: give floats (N, 3, H, W), normalised as the model wants them"
            )
        if len(self.tensor) == 0 or not self.tensor.isfinite().all():
            raise UsageError("images: there are none, or some have NaN or infinity; leave those out")
        self.labels = None if labels is None else whole_numbers(labels, "labels")
        if self.labels is not None and len(self.labels) != len(self.tensor):
            raise UsageError(f"{len(self.labels)} labels for {len(self.tensor)} images; give one per image")
        self.classes, self.name = tuple(classes), name
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        return len(self.tensor)

    def pixels(self, ids: np.ndarray) -> Tensor:
        values = self.tensor[torch.from_numpy(ids)].float().cpu()
        if self.mean is None or self.std is None:
            low, high = values.amin(dim=(1, 2, 3), keepdim=True), values.amax(dim=(1, 2, 3), keepdim=True)
            values = (values - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
        else:
            mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (self.mean, self.std))
            values = values * std + mean
        return (255 * values).round().clamp(0, 255).to(torch.uint8)

    def normalised(self, ids: np.ndarray) -> Tensor:
        return self.tensor[torch.from_numpy(ids)].float()

    def __repr__(self) -> str:
        return f"TensorImages({len(self)} images of {self.tensor.shape[2]} x {self.tensor.shape[3]})"


def whole_numbers(values: Sequence[int] | np.ndarray | Tensor, what: str) -> np.ndarray:
    """Indices of classes as int64 ``(N,)``; errors call them ``what``.

    Raises:
        UsageError: they are no whole numbers, or have another shape.
    """
    found = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if found.ndim != 1 or (found.dtype.kind not in "iub" and len(found)):
        raise UsageError(
            f"{what} {found.shape} of {found.dtype}: give the index of a class for each image, whole numbers (N,)"
        )
    return found.astype(np.int64)


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 ``(N, 3, H, W)`` to float32 of the same shape: scaled to [0, 1], minus the mean, over the deviation."""
    shift, scale = (torch.tensor(values, device=pixels.device).view(1, -1, 1, 1) for values in (mean, std))
    return (pixels.float() / 255 - shift) / scale


def from_batches(batches: Any, **options: Any) -> TensorImages:
    """All of a data set, a DataLoader or another iterable, in memory.

    Args:
        batches: of images ``(B, 3, H, W)`` or tuples of images and labels ``(B,)``; or of single images ``(3, H, W)``
            or tuples of an image and a label; or one such tuple. A data set, or that of a loader, may name its
            ``classes``, as torchvision's do.
        options: see ``TensorImages``.

    Raises:
        UsageError: there are none, or they are something else.
    """
    if isinstance(batches, tuple) and [getattr(each, "ndim", None) for each in batches] == [4, 1]:
        every: Iterable[Any] = [batches]
    else:
        every = (
            batches if isinstance(batches, Iterable) else (batches[place] for place in range(len(batches)))
        )
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in every:
        part, *others = batch if isinstance(batch, tuple | list) and len(batch) else (batch,)
        if not isinstance(part, Tensor | np.ndarray) or not all(
            isinstance(each, LABELS) for each in others[:1]
        ):
            kinds = ", ".join(type(each).__name__ for each in (part, *others))
            raise UsageError(f"a batch is ({kinds}); give tensors, or tuples (images, labels)")
        one = part.ndim == 3
        images.append(torch.as_tensor(part)[None] if one else torch.as_tensor(part))
        labels += [torch.as_tensor(each).reshape(1) if one else torch.as_tensor(each) for each in others[:1]]
    if not images:
        raise UsageError("there is no batch of images; give one or more")
    if len(sizes := dict.fromkeys(each.shape[1:] for each in images)) > 1:
        first, second, *_ = map(tuple, sizes)
        raise UsageError(f"images are {first} and {second}; bring them to one size")
    if labels:
        options = {"classes": _classes_of(batches)} | options
    return TensorImages(torch.cat(images), labels=torch.cat(labels) if labels else None, **options)


def _classes_of(images: Any) -> tuple[str, ...]:
    """The names of the classes that a data set, or what is made of it, carries; labels are their places."""
    while images is not None:
        names = getattr(images, "classes", None)
        if isinstance(names, list | tuple) and names:  # torchvision's ImageNet has synonyms of each
            return tuple(str(each[0] if isinstance(each, tuple) else each) for each in names)
        images = getattr(images, "dataset", None)
    return ()

"""Images in memory: everything that torch's users have them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import to_tensor

import xaicmp
from xaicmp.errors import UsageError

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([4, 0, 2, 2, 1, 3])


class Photographs(Dataset[tuple[Tensor, int]]):
    """A data set as users write one: a length, and an image and its label by place."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return IMAGES[place], int(LABELS[place])


FORMS: dict[str, Any] = {
    "a data set": Photographs(),
    "torch's data set": TensorDataset(IMAGES, LABELS),
    "a loader": DataLoader(Photographs(), 4),
    "a part": Subset(TensorDataset(torch.cat([IMAGES, IMAGES]), torch.cat([LABELS, LABELS])), range(6, 12)),
    "a tuple": (IMAGES, LABELS),
    "a tuple of arrays": (IMAGES.numpy(), LABELS.numpy()),
    "batches": [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])],
    "pairs": list(zip(IMAGES, LABELS.tolist(), strict=True)),
    "images": list(IMAGES),
    "parts": iter([IMAGES[:1], IMAGES[1:]]),
    "an image in a batch of its own": [each[None].numpy() for each in IMAGES],
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_images_in_order(form: str) -> None:
    found = xaicmp.load_images(FORMS[form])
    assert torch.equal(found.normalised(np.arange(len(found))), IMAGES)
    assert found.labels is None or found.labels.tolist() == LABELS.tolist()
    assert (found.labels is None) == (form in ("images", "parts", "an image in a batch of its own"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            [IMAGES[:2], torch.randn(2, 3, 9, 9)],
            r"images are \(3, 8, 8\) and \(3, 9, 9\); bring them to one size",
        ),
        ([Image.new("RGB", (8, 8))], r"a batch is \(Image\); give tensors"),
        ([{"image": IMAGES}], r"a batch is \(dict\)"),
        ([(IMAGES, "cat")], r"a batch is \(Tensor, str\)"),
        ([()], r"a batch is \(tuple\)"),
        (Subset(Photographs(), []), "there is no batch of images"),
        (IMAGES.to_sparse(), "give floats"),
        (IMAGES[0], r"images \(3, 8, 8\) of float32: give floats \(N, 3, H, W\)"),
        ([(IMAGES, LABELS), IMAGES], "6 labels for 12 images; give one per image"),
        (3, "a int is none; give a tensor, batches, a data set, an ImageSource or a folder"),
    ],
)
def test_what_is_something_else_is_named(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        xaicmp.load_images(given)


@pytest.mark.parametrize(
    "through", [lambda data: data, DataLoader, lambda data: DataLoader(Subset(data, range(4)))]
)
def test_labels_of_a_data_set_that_names_its_classes_are_matched_by_name(through: Any, tmp_path: Any) -> None:
    """Folder 0 is not class 0 of the model."""
    for name in ("dog", "cat"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (8, 8), (9 * number, len(name) * ord(name[0]) % 256, 0)).save(
                tmp_path / name / f"{number}.png"
            )
    images = xaicmp.load_images(through(ImageFolder(str(tmp_path), to_tensor)))
    assert (images.classes, images.labels.tolist()) == (("cat", "dog"), [0, 0, 1, 1])
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10))
    model = xaicmp.Classifier(net, xaicmp.load_model().classes)
    found = xaicmp.explain(model, images, methods=["saliency"]).predictions
    assert [model.classes[label] for label in found.labels] == ["cat", "cat", "dog", "dog"]

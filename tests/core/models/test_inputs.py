"""How images go into a network: channels last, unless its code wants them otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import quick, state
from torch import Tensor, nn
from torch.nn.functional import relu

import xaicmp
from xaicmp.core.attribution import METHODS
from xaicmp.core.models.outputs import Adapted, with_logits

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
QUICK = {"steps": 4, "samples": 20}
APPLYING = [name for name, each in METHODS.items() if "attention" not in each.needs]


class Tutorial(nn.Module):
    """The network of PyTorch's tutorial: ``view`` needs maps that are contiguous, as channels last are not."""

    def __init__(self, form: str = "view") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool1, self.pool2 = nn.MaxPool2d(2, 2), nn.MaxPool2d(2, 2)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU(inplace=True)
        self.fc1, self.fc2 = nn.Linear(16 * 5 * 5, 40), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub_(0.1) if self.form == "in place" else x - 0.1
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5) if self.form == "view" else x.reshape(-1, 16 * 5 * 5)
        return self.fc2(self.relu3(self.fc1(x)))


@pytest.fixture(scope="module")
def expected() -> Tensor:
    return xaicmp.explain(Tutorial("reshape"), IMAGES, methods=quick(APPLYING, **QUICK)).maps


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("form", ["view", "in place"])
def test_every_method_explains_it_and_leaves_it_as_it_was(
    form: str, layout: torch.memory_format, expected: Tensor
) -> None:
    model = Tutorial(form).to(memory_format=layout)
    images, before = IMAGES.clone(), state(model)
    found = xaicmp.explain(model, images, methods=quick(APPLYING, **QUICK)).maps
    assert before == state(model)
    assert torch.equal(images, IMAGES)
    for name, own, known in zip(APPLYING, found, expected, strict=True):
        assert (own - known).abs().max() <= 1e-4 * known.abs().max(), name


FLAT: dict[str, Callable[[], nn.Module]] = {
    "relu first": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(3072, 4)),
    "hard shift": lambda: Shifted(),
}


class Shifted(nn.Module):
    """Views of the images themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3072, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(relu(x.view(x.size(0), -1)))


@pytest.mark.parametrize("kind", FLAT)
def test_the_gradient_is_that_of_the_images_as_they_were(kind: str) -> None:
    torch.manual_seed(0)
    model = FLAT[kind]()
    found = xaicmp.explain(model, IMAGES, methods=["saliency"])
    weights = next(each for each in model.parameters() if each.ndim == 2)
    slopes = weights[found.predictions.predicted].view_as(IMAGES) * (IMAGES > 0)
    torch.testing.assert_close(found.maps[0], slopes.abs().amax(dim=1).detach())


def test_nothing_is_copied_where_it_need_not_be() -> None:
    model = Tutorial("reshape")
    assert with_logits(model, IMAGES[:1].contiguous(memory_format=torch.channels_last)) is model
    adapted = with_logits(Tutorial(), IMAGES[:1].contiguous(memory_format=torch.channels_last))
    assert isinstance(adapted, Adapted) and adapted.copies


def test_a_score_of_ones_own_of_such_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tutorial_score.py").write_text("def third(output):\n    return output[:, 3]\n")
    found = xaicmp.explain(Tutorial(), IMAGES, "tutorial_score:third", ["saliency"])
    assert torch.allclose(found.maps, xaicmp.explain(Tutorial(), IMAGES, 3, ["saliency"]).maps, atol=1e-6)


@pytest.mark.parametrize("form", ["view", "in place"])
def test_it_is_trained_and_its_weights_are_found_again(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights from a file are put into channels last, and batches of a training are."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    spec = f"test_inputs:Tutorial?form={form}"
    part = xaicmp.load_sample().first(40)
    run = xaicmp.Run(xaicmp.RECIPES["adamw"].scaled((32, 32)), 1, 0, "float32", spec)
    network = xaicmp.starting_network(run, 10, (32, 32))
    checkpoint = xaicmp.train(run, part, part, tmp_path / "a.pt", network=network)
    assert 0 <= checkpoint.metadata["test_accuracy"] <= 1
    model = xaicmp.load_model(spec, checkpoint=tmp_path / "a.pt")
    result: Any = xaicmp.compare(model, part, select=xaicmp.Selection(n=8, only="all"))
    right = int((result.comparison.predictions.labels == result.comparison.predictions.predicted).sum())
    expected = network.module.eval()(network.normalise(part.tensor[:8])).argmax(dim=1)
    assert right == int((expected == part.labels[:8]).sum())

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import torch
from torch import Tensor, nn

from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.selection import groups
from xaicmp.core.images.cifar10 import MEAN, STD

MODEL_FREE = ("random", "edge", "centre")


class Untouchable(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("the model was called")


def explain(name: str, images: Tensor, **context: object) -> Tensor:
    return METHODS[name].explain(
        Untouchable(),
        images,
        torch.zeros(len(images), dtype=torch.int64),
        **{"mean": MEAN, "std": STD} | context,
    )


def pixels_of(count: int, *size: int) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def test_these_three_are_model_free() -> None:
    assert tuple(name for name, each in METHODS.items() if each.model_free) == MODEL_FREE
    assert groups()["model-free"] == MODEL_FREE


@pytest.mark.parametrize("size", [(32, 32), (5, 9), (1, 1), (2, 1)])
@pytest.mark.parametrize("name", MODEL_FREE)
def test_a_map_that_knows_nothing_of_the_model(name: str, size: tuple[int, int]) -> None:
    maps = explain(name, normalised(pixels_of(3, *size)))
    assert maps.shape == (3, *size)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert (maps >= 0).all()


def test_random_maps_are_uniform_and_differ_from_pixel_to_pixel_and_image_to_image() -> None:
    maps = explain("random", torch.zeros(200, 3, 20, 20))
    assert scipy.stats.kstest(maps.flatten().numpy(), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(maps.flatten(1).numpy())[np.triu_indices(200, 1)].mean()) < 0.002
    assert abs(np.corrcoef(maps.flatten(1).numpy().T)[np.triu_indices(400, 1)].mean()) < 0.002


def test_random_maps_belong_to_seed_and_image_and_to_nothing_else() -> None:
    images = torch.zeros(5, 3, 8, 8)
    maps = explain("random", images, ids=[4, 8, 15, 16, 23])
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(explain("random", images[:1] + 1, ids=[15]), maps[2:3])
    assert torch.equal(explain("random", images[:2], ids=[23, 4], batch_size=1), maps[[4, 0]])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(explain("random", images, ids=[4, 8, 15, 16, 23], seed=1), maps)


@pytest.mark.parametrize("size", [(32, 32), (7, 13), (1, 6)])
def test_edges_as_scipy_finds_them_in_the_luminance(size: tuple[int, int]) -> None:
    pixels = pixels_of(4, *size)
    weights = np.array([0.299, 0.587, 0.114])
    for found, image in zip(explain("edge", normalised(pixels)), pixels.numpy(), strict=True):
        luminance = np.tensordot(weights, image.astype(float), 1)
        expected = np.hypot(*(scipy.ndimage.sobel(luminance, axis, mode="nearest") for axis in (0, 1)))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_luminance_is_that_of_the_picture_and_not_of_the_normalised_image() -> None:
    pixels = pixels_of(1, 16, 16)
    mean, std = (0.1, 0.9, 0.3), (0.5, 0.05, 0.2)
    images = (pixels - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    grey = skimage.color.rgb2yuv(pixels[0].permute(1, 2, 0).numpy())[..., 0]  # Y with BT.601's weights
    expected = np.hypot(*(scipy.ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1)))
    np.testing.assert_allclose(explain("edge", images, mean=mean, std=std)[0], expected, atol=1e-5)


def test_a_step_of_one_has_edges_of_four_on_its_two_sides() -> None:
    pixels = torch.zeros(1, 3, 6, 6)
    pixels[..., 3:] = 1
    expected = torch.tensor([0.0, 0, 4, 4, 0, 0]).expand(1, 6, 6)
    torch.testing.assert_close(explain("edge", normalised(pixels)), expected)


@pytest.mark.parametrize("shade", [0.0, 0.1, 1 / 3, 0.7, 1.0])
def test_an_image_of_one_colour_has_no_edge_at_all(shade: float) -> None:
    assert explain("edge", normalised(torch.full((2, 3, 9, 9), shade))).count_nonzero() == 0


@pytest.mark.parametrize(("height", "width"), [(32, 32), (7, 12), (1, 5)])
def test_the_centre_is_a_gaussian_with_a_quarter_of_the_side_as_its_sigma(height: int, width: int) -> None:
    maps = explain("centre", torch.randn(2, 3, height, width))
    for row in range(height):
        for column in range(width):
            y, x = row - (height - 1) / 2, column - (width - 1) / 2
            expected = np.exp(-(y**2) / (2 * (height / 4) ** 2) - x**2 / (2 * (width / 4) ** 2))
            assert maps[0, row, column] == pytest.approx(expected, abs=1e-6)
    assert torch.equal(maps[0], maps[1])

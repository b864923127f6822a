"""Matrix convolutions against torch's own."""

import copy

import pytest
import torch
from torch import nn

from xaicmp.core.training.convolution import FEWEST_CHANNELS, matrix_convolutions

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def matrix_unit(monkeypatch):
    """Whatever this machine has."""
    monkeypatch.setattr("xaicmp.core.training.convolution.cpu_has", lambda name: name == "amx_bf16")


def gradients(layer, images, upstream):
    images = images.clone().requires_grad_()
    layer.zero_grad()
    output = layer(images)
    output.backward(upstream.to(output.dtype))
    return output.float(), images.grad.float(), layer.weight.grad.clone()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "size", "count"), [(16, 4, 3), (48, 8, 1), (7, 2, 5)])
def test_equals_the_exact_convolution_up_to_bfloat16(stride, channels, size, count):
    torch.manual_seed(stride)
    layer = nn.Conv2d(channels, FEWEST_CHANNELS, 3, stride, 1, bias=False)
    images = torch.randn(count, channels, size, size)
    upstream = torch.randn(count, FEWEST_CHANNELS, size // stride, size // stride)
    exact = gradients(layer, images, upstream)
    with matrix_convolutions(layer, CPU), torch.autocast("cpu", torch.bfloat16):
        ours = gradients(layer, images, upstream)
    for theirs, mine in zip(exact, ours, strict=True):
        assert mine.shape == theirs.shape
        assert (mine - theirs).norm() < 0.01 * theirs.norm()


def test_is_what_runs_inside_and_only_inside():
    layer = nn.Conv2d(8, FEWEST_CHANNELS, 3, 1, 1, bias=False)
    images = torch.randn(1, 8, 4, 4)
    plain = layer.forward
    with matrix_convolutions(layer, CPU):
        assert torch.equal(layer(images), plain(images)), "without autocast nothing changes"
        with torch.autocast("cpu", torch.bfloat16):
            assert "MatrixConvolution" in str(_origin(layer(images)))
    with torch.autocast("cpu", torch.bfloat16):
        assert "MatrixConvolution" not in str(_origin(layer(images)))
    assert "forward" not in vars(layer)


def test_without_a_matrix_unit_nothing_changes(monkeypatch):
    monkeypatch.setattr("xaicmp.core.training.convolution.cpu_has", lambda name: False)
    layer = nn.Conv2d(8, FEWEST_CHANNELS, 3, 1, 1, bias=False)
    with matrix_convolutions(layer, CPU):
        assert "forward" not in vars(layer)


def _origin(output):
    node = output.grad_fn
    names = []
    while node is not None:
        names.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    return names


def test_is_undone_when_the_body_fails():
    layer = nn.Conv2d(8, FEWEST_CHANNELS, 3, 1, 1, bias=False)
    with pytest.raises(RuntimeError, match="stop"), matrix_convolutions(layer, CPU):
        raise RuntimeError("stop")
    assert "forward" not in vars(layer)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, FEWEST_CHANNELS // 2, 3, 1, 1, bias=False),
        nn.Conv2d(8, FEWEST_CHANNELS, 1, 1, 0, bias=False),
        nn.Conv2d(8, FEWEST_CHANNELS, 3, 1, 1, bias=True),
        nn.Conv2d(8, FEWEST_CHANNELS, 3, 1, 1, bias=False, groups=8),
        nn.Conv2d(8, FEWEST_CHANNELS, 3, 1, 2, bias=False, dilation=2),
        nn.Conv2d(8, FEWEST_CHANNELS, 3, 1, 1, bias=False, padding_mode="reflect"),
    ],
    ids=["narrow", "1x1", "bias", "groups", "dilation", "padding"],
)
def test_other_convolutions_are_left_alone(layer):
    with matrix_convolutions(layer, CPU):
        assert "forward" not in vars(layer)


def test_images_that_are_not_square_take_the_ordinary_way():
    layer = nn.Conv2d(8, FEWEST_CHANNELS, 3, 2, 1, bias=False)
    images = torch.randn(2, 8, 5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        expected = copy.deepcopy(layer)(images)
        with matrix_convolutions(layer, CPU):
            assert torch.equal(layer(images), expected)

"""Batches of augmented images, against one image at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from xaicmp.core.images.cifar10 import MEAN, STD
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.training.augmentation import Batches
from xaicmp.core.training.recipe import Recipe, Run

CPU = torch.device("cpu")
RECIPE = Recipe(batch_size=8, crop=2, padding="reflect", flip="alternating")


def batches_of(images, seed=0, processes=ALONE, **options):
    """Batches by ``RECIPE`` with some values replaced."""
    return Batches(images, Run(dataclasses.replace(RECIPE, **options), 1, seed), CPU, processes)


def made_up(count, size=9, seed=0):
    """Images of noise, each with a label of its own."""
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed))
    return ImageSet(
        "noise", "train", True, pixels.to(torch.uint8), torch.arange(count), tuple(map(str, range(count)))
    )


def dealt(images, epoch=0, **options):
    """All inputs of an epoch, in the order dealt, and the images' rows."""
    batches = list(batches_of(images, **options).epoch(epoch))
    return torch.cat([batch[0] for batch in batches]), torch.cat([batch[1] for batch in batches])


def cuts(pixels, crop, padding):
    """Every crop of one image, normalised, as it is and flipped, keyed by (flipped, down, across)."""
    size = pixels.shape[-1]
    found = {}
    for down in range(2 * crop + 1):
        for across in range(2 * crop + 1):
            out = np.zeros((3, size, size))
            for row in range(size):
                for column in range(size):
                    y, x = row + down - crop, column + across - crop
                    if padding == "reflect":
                        y, x = (abs(at) if at < size else 2 * (size - 1) - at for at in (y, x))
                    if 0 <= y < size and 0 <= x < size:
                        out[:, row, column] = pixels[:, y, x]
            normal = (out / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
            found[False, down, across] = normal
            found[True, down, across] = normal[:, :, ::-1]
    return found


def which_cut(image, pixels, crop, padding):
    """The cut of ``pixels`` that ``image`` is; fails if it is none."""
    for key, cut in cuts(pixels.numpy(), crop, padding).items():
        if np.allclose(image.numpy(), cut, atol=1e-5):
            return key
    raise AssertionError("no crop of the image")


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("crop", [0, 1, 3])
@pytest.mark.parametrize("flip", ["alternating", "random"])
def test_each_input_is_a_padded_crop_of_its_own_image_flipped_or_not(padding, crop, flip):
    images = made_up(21)
    inputs, rows = dealt(images, crop=crop, padding=padding, flip=flip)
    found = [
        which_cut(image, images.tensor[row], crop, padding) for image, row in zip(inputs, rows, strict=True)
    ]
    assert len(found) == 21
    assert len(set(found)) > 1


def test_crops_and_random_flips_are_drawn_evenly():
    images = made_up(1, size=5)
    images = ImageSet(
        "one", "train", True, images.tensor.expand(4500, -1, -1, -1), torch.zeros(4500).long(), ("0", "1")
    )
    inputs, _ = dealt(images, crop=1, padding="zero", flip="random", batch_size=100)
    keys = {
        cut.astype(np.float32).tobytes(): key
        for key, cut in cuts(images.tensor[0].numpy(), 1, "zero").items()
    }
    known = np.stack([np.frombuffer(raw, np.float32) for raw in keys])
    nearest = np.abs(inputs.reshape(4500, 1, -1).numpy() - known).max(axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=18)
    # 250 expected of each: five standard deviations.
    assert counts.min() > 250 - 5 * 250**0.5
    assert counts.max() < 250 + 5 * 250**0.5


@pytest.mark.parametrize("count, batch_size", [(1, 8), (8, 8), (21, 8), (50, 7), (5, 100)])
def test_every_image_once_an_epoch(count, batch_size):
    images = made_up(count)
    batches = batches_of(images, batch_size=batch_size)
    for epoch in range(3):
        sizes = [len(labels) for _, labels, _ in batches.epoch(epoch)]
        rows = torch.cat([labels for _, labels, _ in batches.epoch(epoch)])
        assert sorted(rows.tolist()) == list(range(count))
        assert len(sizes) == len(batches)
        assert set(sizes[:-1]) <= {batch_size}


def test_alternating_flips_each_image_every_other_epoch_and_half_of_them_in_each():
    images = made_up(60)
    flips = []
    for epoch in range(4):
        inputs, rows = dealt(images, epoch)
        flips.append({})
        for image, row in zip(inputs, rows.tolist(), strict=True):
            flips[-1][row] = which_cut(image, images.tensor[row], 2, "reflect")[0]
    for epoch in range(4):
        assert all(flips[epoch][row] == flips[0][row] ^ (epoch % 2) for row in range(60))
    assert 15 < sum(flips[0].values()) < 45


def test_random_flips_differ_between_epochs():
    images = made_up(40)
    flips = []
    for epoch in range(2):
        inputs, rows = dealt(images, epoch, crop=0, padding="zero", flip="random")
        flips.append({})
        for image, row in zip(inputs, rows.tolist(), strict=True):
            flips[-1][row] = which_cut(image, images.tensor[row], 0, "zero")[0]
    same = sum(flips[0][row] == flips[1][row] for row in range(40))
    assert 5 < same < 35


def test_an_epoch_depends_on_seed_and_number_alone():
    images = made_up(30)
    batches = batches_of(images)
    for number in (4, 0, 2):
        torch.manual_seed(number + 17)
        for (inputs, rows, _), (again, rows_again, _) in zip(
            batches.epoch(number), batches_of(images).epoch(number), strict=True
        ):
            assert torch.equal(inputs, again)
            assert torch.equal(rows, rows_again)


def test_seeds_and_epochs_shuffle_differently():
    images = made_up(30)
    orders = {
        tuple(dealt(images, number, seed=seed)[1].tolist())
        for number in range(5)
        for seed in (0, 1, 2, 10**18)
    }
    assert len(orders) == 20


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    dealt(made_up(30))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("count", [40, 43, 41])
def test_processes_share_each_batch_of_one_process(count, world):
    images = made_up(count)
    whole = list(batches_of(images).epoch(3))
    parts = [list(batches_of(images, processes=Processes(rank, world)).epoch(3)) for rank in range(world)]
    for step, (inputs, rows, weight) in enumerate(whole):
        shares = [part[step] for part in parts]
        assert weight == 1
        assert sum(share[2] for share in shares) == pytest.approx(world)
        counted = [share for share in shares if share[2]]
        assert torch.equal(torch.cat([share[0] for share in counted]), inputs)
        assert torch.equal(torch.cat([share[1] for share in counted]), rows)
        for share_inputs, _, share_weight in shares:
            assert len(share_inputs) >= 1
            if share_weight:
                assert share_weight == pytest.approx(len(share_inputs) * world / len(inputs))


def test_inputs_are_float32_and_channels_last():
    inputs, _, _ = next(batches_of(made_up(8)).epoch(0))
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_images_are_kept_once_where_they_lie_channels_last():
    images = made_up(50)
    kept = images.tensor.contiguous(memory_format=torch.channels_last)
    batches = batches_of(dataclasses.replace(images, tensor=kept))
    assert batches.pixels.data_ptr() == kept.data_ptr()
    assert batches.pixels.numel() == images.tensor.numel()
    assert torch.equal(next(batches.epoch(0))[0], next(batches_of(images).epoch(0))[0])

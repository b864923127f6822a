"""Random crops and flips of whole batches of uint8 images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from xaicmp.core.images.cifar10 import MEAN, STD
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.processes import ALONE, Processes
from xaicmp.core.training.recipe import Run


class Batches:
    """An image set in memory, dealt out once per epoch in shuffled, augmented, normalised batches.

    Every draw of an epoch comes from a generator made from the seed and the epoch's number, so that an
    epoch can be repeated without the ones before it. All processes draw alike; each takes its part.

    Args:
        images: the training set.
        run: its recipe and seed.
        device: where the images are kept and augmented.
        processes: this process among those that share each batch.
        mean, std: what the network wants images normalised by, one value or one per channel.

    Raises:
        UsageError: a crop would shift an image by as much as its size.
    """

    def __init__(
        self,
        images: ImageSet,
        run: Run,
        device: torch.device,
        processes: Processes = ALONE,
        *,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        recipe = run.recipe
        recipe.check(images.size())
        self.count, self.size, self.crop = len(images), images.tensor.shape[-2:], recipe.crop
        self.batch_size, self.flip, self.seed = recipe.batch_size, recipe.flip, run.seed
        self.device, self.processes = device, processes
        self.reflect = recipe.padding == "reflect"
        # Channels last in memory, so that a crop copies whole pixels and the network gets its own layout.
        self.pixels = images.tensor.permute(0, 2, 3, 1).contiguous().to(device)
        self.labels = images.labels.to(device)
        self.mean, self.std = (255 * torch.tensor(values, device=device) for values in (mean, std))

    def __len__(self) -> int:
        """Steps per epoch."""
        return -(-self.count // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Batches of epoch ``number``, from 0.

        Yields:
            inputs float32 ``(B, 3, H, W)``, labels int64 ``(B,)``, and the weight of this process's mean
            loss in the step: 1 where all processes have equally many images, 0 where this one has none
            (its image is then one that another has too).
        """
        rank, world = self.processes.rank, self.processes.world
        order, offsets, flipped = (draws.to(self.device) for draws in self._draws(number))
        for start in range(0, self.count, self.batch_size):
            size = min(self.batch_size, self.count - start)
            first, last = (start + size * each // world for each in (rank, rank + 1))
            # Where there are fewer images than processes, some take one that does not count.
            part = slice(first, max(last, first + 1))
            inputs = self._cut(order[part], offsets[:, part], flipped[part])
            yield inputs, self.labels[order[part]], (last - first) * world / size

    def _draws(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """The rows, crops ``(2, N, 1)`` and flips of all images, in the order of epoch ``number``."""
        generator = self._generator(number)
        order = torch.randperm(self.count, generator=generator)
        offsets = torch.randint(0, 2 * self.crop + 1, (2, self.count, 1), generator=generator)
        if self.flip == "alternating":
            first_flips = torch.rand(self.count, generator=self._generator(-1)) < 0.5
            return order, offsets, first_flips[order] ^ bool(number % 2)
        share = 0.0 if self.flip == "none" else 0.5
        return order, offsets, torch.rand(self.count, generator=generator) < share

    def _cut(self, rows: Tensor, offsets: Tensor, flipped: Tensor) -> Tensor:
        height, width = self.size
        down = offsets[0] - self.crop + torch.arange(height, device=self.device)
        across = offsets[1] - self.crop + torch.arange(width, device=self.device)
        across = torch.where(flipped[:, None], across.flip(1), across)
        y, x = _mirrored(down, height), _mirrored(across, width)
        pixels = self.pixels[rows[:, None, None], y[:, :, None], x[:, None, :]]
        if not self.reflect:  # black where a crop leaves the image
            pixels = pixels * ((y == down)[:, :, None] & (x == across)[:, None, :])[..., None]
        return ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number + 1) % 2**63)


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Places of rows or columns, those outside of an image mirrored at its edge."""
    return side - 1 - (side - 1 - places.abs()).abs()

"""Less memory than asked for: smaller batches, the same numbers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SmallNet, choose, compare, compare_selection, explain, quick, small_engine
from torch import Tensor, nn
from torchvision.models import resnet50

from xaicmp.core.images.selection import Selection
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.machine.devices import fast_batch
from xaicmp.core.machine.memory import Room, fitting_batch, free_memory, left_in_groups, saved_bytes
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.studies.cost import measure
from xaicmp.errors import XaicmpError

METHODS = quick(["grad-cam", "saliency", "integrated-gradients", "smoothgrad"], steps=4, samples=3)
MB = 1000**2


class Small(SmallNet):
    """It has room for some images only."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot.")
        return super().forward(images)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError(), None])
def test_memory_of_a_cpu_runs_out_too(error: BaseException | None) -> None:
    def work(rows: slice) -> int:
        if rows.stop - rows.start > 2:
            if error is None:
                torch.empty(1 << 60)  # what torch says of a CPU
            else:
                raise error
        return rows.stop - rows.start

    assert Room(8, lambda message: None).run(work, 5) == [2, 2, 1]
    with pytest.raises(RuntimeError, match="other"):
        Room(8, lambda message: None).run(lambda rows: (_ for _ in ()).throw(RuntimeError("other")), 5)


def test_work_is_halved_until_there_is_room_and_goes_on_from_where_it_was() -> None:
    said: list[str] = []
    tried: list[int] = []
    room = Room(16, said.append)

    def work(rows: slice) -> list[int]:
        tried.append(rows.stop - rows.start)
        if tried[-1] > (9 if rows.start == 0 else 3):
            raise torch.cuda.OutOfMemoryError
        return list(range(rows.start, rows.stop))

    parts = room.run(work, 18)
    assert [each for part in parts for each in part] == list(range(18))
    assert tried == [16, 8, 8, 4, 2, 2, 2, 2, 2]
    assert said == ["out of memory with 16 images at once; with fewer from here on"]
    assert room.most == 2
    assert room.run(work, 0) == []


def test_where_not_even_one_image_fits_there_is_an_end() -> None:
    with pytest.raises(XaicmpError, match="does not hold a single image") as caught:
        compare_selection(small_engine(Small(1), batch_size=8), Selection(n=3), METHODS)
    assert "\n" not in str(caught.value)


def outcomes(room: int, sample: ImageSet) -> tuple[Comparison, list[Explanations], list[str], int]:
    said: list[str] = []
    engine = small_engine(Small(room), batch_size=16, remark=said.append)
    kept: list[Explanations] = []
    comparison = compare_selection(engine, Selection(n=21), METHODS, keep=kept.append)[1]
    return comparison, kept, said, engine.room.most


@pytest.mark.parametrize("room", [12, 5, 2])
def test_out_of_memory_on_the_way_changes_no_number(room: int, sample: ImageSet) -> None:
    expected, whole, silence, most = outcomes(1000, sample)
    found, parts, said, less = outcomes(room, sample)
    assert (silence, most) == ([], 16)
    assert said == ["out of memory with 16 images at once; with fewer from here on"]
    assert less == {12: 8, 5: 4, 2: 2}[room]
    assert found.predictions.ids.tolist() == expected.predictions.ids.tolist()
    assert torch.equal(*(torch.cat([each.pixels for each in kept]) for kept in (whole, parts)))
    maps = [torch.cat([each.maps for each in kept], dim=1) for kept in (whole, parts)]
    torch.testing.assert_close(*maps, rtol=1e-5, atol=1e-6)
    for statistic, pairs in expected.scores.values.items():
        for pair, values in pairs.items():
            np.testing.assert_allclose(found.scores.values[statistic][pair], values, atol=1e-5)
    gaps = (each.scores.completeness["integrated-gradients"] for each in (expected, found))
    np.testing.assert_allclose(*gaps, atol=1e-5)


def test_chosen_images_their_maps_and_costs_get_by_with_less_too(sample: ImageSet) -> None:
    wide, narrow = small_engine(batch_size=16), small_engine(Small(5), batch_size=16)
    chosen = choose(narrow, sample, Selection(n=9))
    assert chosen.ids.tolist() == choose(wide, sample, Selection(n=9)).ids.tolist()
    narrow = small_engine(Small(5), batch_size=16)
    maps = [next(explain(engine, sample, chosen, METHODS)).maps for engine in (wide, narrow)]
    torch.testing.assert_close(*maps, rtol=1e-5, atol=1e-6)
    compare(narrow, sample, chosen, METHODS)
    assert [each.images for each in measure(narrow, sample, chosen, METHODS)] == [4] * 5


def test_the_batch_suits_the_device_unless_it_is_given() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 1)
    engine, images = small_engine(), torch.rand(1, 3, 32, 32)
    assert engine.settle(images) == engine.batch_size == fast_batch(cpu) == 64
    assert fast_batch(gpu) == 512
    assert [fast_batch(cpu, side) for side in (8, 32, 64, 224, 10_000)] == [64, 64, 32, 9, 1]
    assert [fast_batch(gpu, side) for side in (32, 224)] == [512, 73]
    assert small_engine(batch_size=7).batch_size == 7


@pytest.mark.parametrize(
    ("image", "free", "most", "batch"),
    [
        (1 * MB, 128 * MB, 64, 32),  # half of it, of which an image takes twice what is kept
        (1 * MB, 127 * MB, 64, 16),
        (1 * MB, 10**12, 64, 64),
        (1 * MB, 10**12, 73, 64),
        (100 * MB, MB, 64, 1),
        (1 * MB, None, 9, 8),
        (0, MB, 64, 64),
    ],
)
def test_a_batch_is_the_power_of_two_that_fits(image: int, free: int | None, most: int, batch: int) -> None:
    asked: list[int] = []

    def measure(count: int) -> int:
        asked.append(count)
        return count * image

    assert fitting_batch(measure, free, most) == batch
    assert asked == ([] if free is None else [2])


def test_what_autograd_keeps_of_a_pass_is_counted_once_and_without_the_model() -> None:
    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(100, 2)

        def forward(self, images: Tensor) -> Tensor:
            once = images.exp()  # keeps its result
            return self.last(once.sin())  # keeps that too, which is kept already, and what the layer gets

    model, images = Waves().eval(), torch.rand(3, 100)
    assert saved_bytes(model, images) == 2 * images.nbytes
    with torch.inference_mode():
        assert saved_bytes(model, torch.rand(6, 100)) == 4 * images.nbytes
    assert all(each.grad is None for each in model.parameters())


def test_sparse_tensors_are_in_no_one_place() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.eye(4).to_sparse())

        def forward(self, images: Tensor) -> Tensor:
            return torch.sparse.mm(self.mask, images.exp())

    images = torch.rand(4, 100)
    assert saved_bytes(Masked(), images) == images.nbytes  # what exp gives


def test_small_images_go_in_batches_of_64_and_a_large_network_stays_within_half_of_the_memory() -> None:
    def fitted(model: nn.Module, side: int, free: int, most: int) -> int:
        model = model.eval().requires_grad_(False)
        return fitting_batch(lambda n: saved_bytes(model, torch.rand(n, 3, side, side)), free, most)

    assert fitted(resnet18_cifar(), 32, 4 * 10**9, 64) == 64
    batch = fitted(resnet50(), 224, 4 * 10**9, 64)
    assert 4 <= batch <= 16  # it keeps about 90 MB per image
    assert fitted(resnet50(), 224, 8 * 10**9, 64) == 2 * batch


def test_free_memory_is_what_the_system_says() -> None:
    assert free_memory(torch.device("meta")) is None
    free = free_memory(torch.device("cpu"))
    if sys.platform == "linux":
        pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert free is not None
        assert 0 < free < pages
    else:
        assert free is None


@pytest.mark.parametrize("inside", ["", "/docker/one"])
@pytest.mark.parametrize(
    ("line", "place", "limit", "used", "cached"),
    [
        ("0::", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        (
            "4:memory:",
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_what_a_container_may_take_is_what_its_group_leaves(
    line: str, place: str, limit: str, used: str, cached: str, inside: str, tmp_path: Path
) -> None:
    def write(path: str, text: object) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")

    write("proc/self/cgroup", f"12:name=systemd:/\n{line}{inside}/own")
    assert left_in_groups(tmp_path) == []
    for folder, most in (
        (f"{place}{inside}/own", 8 * 10**9),
        (place, "max"),
        (f"{place}{inside}", 5 * 10**9),
    ):
        write(f"{folder}/{limit}", most)
        write(f"{folder}/{used}", 3 * 10**9)
        write(f"{folder}/memory.stat", f"anon 7\n{cached} {10**9}")
    assert left_in_groups(tmp_path) == [6 * 10**9, 3 * 10**9]

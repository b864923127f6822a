"""Less memory than asked for: smaller batches, the same numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SmallNet, small_engine
from torch import Tensor, nn

from xaicmp.core.attribution import get_methods
from xaicmp.core.images.selection import Selection
from xaicmp.core.images.source import ImageSet
from xaicmp.core.machine.devices import fast_batch
from xaicmp.core.machine.memory import Room, parse_bytes, watch_saved
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.explanations import Explanations
from xaicmp.core.run.budget import keep_within
from xaicmp.core.run.comparing import compare, compare_selection
from xaicmp.core.run.explaining import choose, explain
from xaicmp.core.studies.cost import measure
from xaicmp.errors import UsageError, XaicmpError

METHODS = get_methods(["grad-cam", "saliency", "integrated-gradients", "smoothgrad"], steps=4, samples=3)
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


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("500MB", 500 * MB),
        ("2GB", 2000 * MB),
        ("1.5GiB", 3 * 2**29),
        ("2gb", 2000 * MB),
        ("512 kib", 2**19),
        ("1TB", 10**12),
        ("800B", 800),
    ],
)
def test_amounts_of_memory_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "much", "2", "-2GB", "0GB", "2XB", "GB", "2GB!", "2iB", "1e3MB", "nanGB", "1,5GB"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"write 500MB, 2GB or 1\.5GiB") as caught:
        parse_bytes(text)
    assert str(caught.value).startswith(f"--memory {text}:")


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
    assert said == ["out of memory with 16 images at once; going on with fewer"]
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
    assert said == ["out of memory with 16 images at once; going on with fewer"]
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
    assert small_engine().batch_size == fast_batch(torch.device("cpu")) == 64
    assert fast_batch(torch.device("cuda", 1)) == 512
    assert small_engine(batch_size=7).batch_size == 7


def test_what_autograd_keeps_is_counted_until_it_lets_go() -> None:
    values = torch.rand(1000, dtype=torch.float64, requires_grad=True)
    with watch_saved() as most:
        assert most() == 0
        once = values.exp()  # keeps its result
        assert most() == 8000
        twice = once.sin()  # keeps that too, which is kept already
        assert most() == 8000
        twice.cos().sum().backward()
        assert most() == 16000
        for _ in range(3):
            values.exp().sum().backward()
        assert most() == 16000
    values.exp()
    assert most() == 16000


def test_what_the_model_holds_anyway_is_not_counted() -> None:
    model = nn.Linear(500, 2)
    images = torch.rand(3, 500, requires_grad=True)
    with watch_saved(model) as most:
        model(images).sum().backward()
    assert most() == images.nbytes


def test_the_larger_the_budget_the_more_images_at_once() -> None:
    engine, selection = small_engine(batch_size=256), Selection(n=10)
    with pytest.raises(XaicmpError, match=r"--memory: \d+MB are needed .*give as much") as caught:
        keep_within(engine, selection, METHODS, 10 * MB)
    least = int(re.findall(r"(\d+)MB", str(caught.value))[0]) + 8  # this process may have grown meanwhile
    found = []
    for more in (0, 4, 400, 4000):
        engine = small_engine(batch_size=256)
        keep_within(engine, selection, METHODS, (least + more) * MB)
        found.append(engine.room.most)
    assert found == sorted(found)
    assert 1 <= found[0] < 256 == found[-1]
    assert small_engine(batch_size=256).room.most == 256


@pytest.mark.slow
def test_the_process_stays_within_its_budget(tmp_path: Path) -> None:
    line = "metrics --n 256 --batch-size 256 --methods grad-cam saliency input-x-gradient --quiet"
    run = [sys.executable, "-c", RUN, *line.split()]

    def peak(*budget: str) -> tuple[str, int]:
        done = subprocess.run([*run, *budget], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        *said, last = done.stderr.strip().splitlines()
        return "\n".join(said), int(last)

    said, _ = peak("--memory", "1MB")
    needed = int(re.findall(r"(\d+)MB are needed", said)[0])
    budget = needed + 100  # runs differ by tens of MB
    said, most = peak("--memory", f"{budget}MB")
    assert said == ""
    assert most < budget * MB
    assert peak()[1] > budget * MB


RUN = f"""
import resource, sys
from xaicmp.cli import run
run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * {1 if sys.platform == "darwin" else 1024}, file=sys.stderr)
"""

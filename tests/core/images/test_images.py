"""Images from the sample, from folders in both layouts, and from a download; and which of them are meant."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import shutil
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import CIFAR10

from xaicmp.core.images import cifar10 as module
from xaicmp.core.images import download
from xaicmp.core.images.archive import cache_folder
from xaicmp.core.images.cifar10 import BINARY, FILES, OFFICIAL, PICKLED, load_cifar10, load_sample
from xaicmp.core.images.selection import Selection
from xaicmp.errors import UsageError, XaicmpError

# ---------------------------------------------------------------- selection


@pytest.mark.parametrize(
    "wrong", [{}, {"n": 1, "ids": (1,)}, {"n": 0}, {"n": -3}, {"ids": ()}, {"ids": (3, -1)}]
)
def test_a_selection_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"n|ids"):
        Selection(**wrong)


@pytest.mark.parametrize(
    ("selection", "fits"),
    [
        (Selection(n=1000), True),
        (Selection(n=1001), False),
        (Selection(ids=(999, 0)), True),
        (Selection(ids=(0, 1000)), False),
    ],
)
def test_a_selection_fits_when_no_image_of_it_lies_behind(selection: Selection, fits: bool) -> None:
    assert selection.fits(1000) is fits


@given(ids=st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_an_image_is_selected_once_where_it_comes_first(ids: list[int]) -> None:
    selection = Selection(ids=tuple(ids), only="all")
    once = [each for place, each in enumerate(ids) if each not in ids[:place]]
    assert selection.ids == tuple(once)
    assert selection.count == len(once)
    assert selection.repeated == len(ids) - len(once)
    assert selection == Selection(ids=tuple(once), only="all")
    assert Selection(n=len(ids)).repeated == 0


# ---------------------------------------------------------------- the sample


def test_the_sample_is_the_first_thousand_test_images() -> None:
    sample = load_sample()
    assert sample.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # as published
    assert (sample.tensor.shape, sample.tensor.dtype) == ((1000, 3, 32, 32), torch.uint8)
    assert len(sample) == 1000
    assert sample.labels.dtype == torch.int64
    assert sample.labels.bincount(minlength=10).min() > 80
    assert (sample.name, sample.split, sample.verified, sample.sample) == ("CIFAR-10", "test", True, True)


def test_a_damaged_sample_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(module.__file__).parents[2] / "sample", tmp_path / "sample")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    assert len(load_sample()) == 1000
    path = tmp_path / "sample" / "cifar10-test-1000.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(XaicmpError, match=r"is damaged; install xaicmp again"):
        load_sample()


# ---------------------------------------------------------------- the binary layout


@pytest.fixture
def own_folder(binary_folder: Path, tmp_path: Path) -> Path:
    """A copy of ``binary_folder`` whose files may be replaced."""
    folder = tmp_path / BINARY
    folder.mkdir()
    for path in binary_folder.iterdir():
        os.link(path, folder / path.name)
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_records_are_read_as_they_lie_in_the_files(binary_folder: Path, split: Any) -> None:
    found = load_cifar10(split, binary_folder)
    assert len(found) == 10_000 * len(FILES[split])
    content = (binary_folder / FILES[split][-1]).read_bytes()
    for row in (0, 1, 7_777, 9_999):
        record = content[row * 3073 : (row + 1) * 3073]
        image = len(found) - 10_000 + row
        assert int(found.labels[image]) == record[0]
        for channel, y, x in ((0, 0, 0), (1, 3, 30), (2, 31, 31)):
            assert int(found.tensor[image, channel, y, x]) == record[1 + channel * 1024 + y * 32 + x]
    assert (found.verified, found.sample, found.split) == (False, False, split)


def test_data_may_name_the_folder_its_parent_or_the_working_folder(
    binary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_cifar10("test", binary_folder)
    monkeypatch.chdir(binary_folder)
    monkeypatch.setenv("XAICMP_DATA", str(binary_folder))
    for folder in (binary_folder.parent, Path(), None):
        assert torch.equal(load_cifar10("test", folder, download=False).tensor, expected.tensor)


def test_only_files_with_the_official_sums_are_verified(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = {path.name: hashlib.sha1(path.read_bytes()).hexdigest() for path in own_folder.iterdir()}
    monkeypatch.setattr(module, "OFFICIAL_SHA1", sums)
    assert load_cifar10("train", own_folder).verified
    path = own_folder / "data_batch_4.bin"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.unlink()
    path.write_bytes(content)
    assert not load_cifar10("train", own_folder).verified
    assert load_cifar10("test", own_folder).verified


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


BROKEN: dict[str, Callable[[Path], object]] = {
    "test_batch.bin has 0 bytes where CIFAR-10 has 30,730,000": lambda path: replace(path, b""),
    "test_batch.bin has 3,072,999 bytes": lambda path: replace(path, bytes(3_072_999)),
    "test_batch.bin has 30,730,001 bytes": lambda path: replace(path, path.read_bytes() + b"x"),
    "cannot read .*test_batch.bin: No such file": lambda path: path.unlink(),
    "cannot read .*test_batch.bin: Is a directory": lambda path: (path.unlink(), path.mkdir()),
    "holds labels above 9": lambda path: replace(path, b"\x0a" + path.read_bytes()[1:]),
}


@pytest.mark.parametrize(("message", "harm"), BROKEN.items(), ids=BROKEN.keys())
def test_a_broken_file_is_named(own_folder: Path, message: str, harm: Callable[[Path], object]) -> None:
    harm(own_folder / "test_batch.bin")
    with pytest.raises(XaicmpError, match=message):
        load_cifar10("test", own_folder)


# ---------------------------------------------------------------- torchvision's layout


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.mark, "unpickled")


def pickled_folder(root: Path) -> Path:
    """Torchvision's layout with five images a file, whose file and row are in their first pixels."""
    folder = root / PICKLED
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = np.arange(5 * 3072).astype(np.uint8).reshape(5, 3072)
        data[:, 0], data[:, 1] = number, np.arange(5)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [number, 1, 2, 3, 4]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(module.CLASSES)}))
    return folder


@pytest.fixture
def accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in torchvision's layout, whose sums are made the official ones."""
    folder = pickled_folder(tmp_path / "accepted")

    def md5(name: str) -> str:
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for lists in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, lists, [[name, md5(name)] for name, _ in getattr(CIFAR10, lists)])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5("batches.meta")})
    return folder


def test_pickles_with_other_sums_are_not_opened(tmp_path: Path) -> None:
    folder, mark = pickled_folder(tmp_path), tmp_path / "mark"
    for path in folder.iterdir():
        path.write_bytes(pickle.dumps(Malicious(mark)))
    for split in FILES:
        with pytest.raises(XaicmpError, match=r"MD5 sums differ.*was not opened"):
            load_cifar10(split, tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_one_replaced_pickle_is_enough_to_be_refused(accepted: Path, name: str) -> None:
    mark = accepted.parent / "mark"
    (accepted / name).write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(XaicmpError, match=r"was not opened"):
        load_cifar10("test", accepted)
    assert not mark.exists()


def test_pickles_with_the_official_sums_are_read(accepted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(accepted)
    for folder in (accepted, accepted.parent, Path()):
        found = load_cifar10("train", folder, download=False)
        assert found.verified
        assert (found.tensor.shape, found.tensor.dtype) == ((25, 3, 32, 32), torch.uint8)
        assert found.labels.tolist() == [label for i in range(5) for label in (i, 1, 2, 3, 4)]
        assert found.tensor[:, 0, 0, 0].tolist() == [i for i in range(5) for _ in range(5)]
        assert found.tensor[:, 0, 0, 1].tolist() == [0, 1, 2, 3, 4] * 5
        assert int(found.tensor[0, 2, 4, 5]) == (2 * 1024 + 4 * 32 + 5) % 256


# ---------------------------------------------------------------- no data, and the download


def test_a_folder_without_data_is_not_downloaded_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(XaicmpError, match=r"no CIFAR-10 in .*or a new one to download it into"):
        load_cifar10("test", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(XaicmpError, match=r"is not a folder"):
        load_cifar10("test", tmp_path / "thesis.txt")
    with pytest.raises(XaicmpError, match=r"File name too long"):
        load_cifar10("test", tmp_path / ("n" * 300))


def test_without_leave_to_download_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XAICMP_DATA", str(tmp_path / "none"))
    with pytest.raises(XaicmpError, match=r"no CIFAR-10 in .*none; give data: a folder"):
        load_cifar10("test", download=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other places")
def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.delenv("XAICMP_DATA", raising=False)
    assert cache_folder() == Path("/caches/xaicmp")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/xaicmp")
    monkeypatch.setenv("XAICMP_DATA", "/data")
    assert cache_folder() == Path("/data")


ARCHIVE = OFFICIAL.file


def officially(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Make other values those of the official archive."""
    monkeypatch.setattr(module, "OFFICIAL", dataclasses.replace(module.OFFICIAL, **values))


def archive_of(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack ``folder`` and make its sum the official one."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, PICKLED)
    officially(monkeypatch, md5=hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose ``ARCHIVE`` is what is downloaded."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    officially(monkeypatch, url=f"http://127.0.0.1:{server.server_address[1]}/{ARCHIVE}")
    monkeypatch.setattr(download, "RETRIES", 0)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("leftover", [False, True])
def test_a_download_ends_with_the_folder_and_nothing_else(
    accepted: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leftover: bool
) -> None:
    archive_of(accepted, served / ARCHIVE, monkeypatch)
    stages, left = set(), [f"{OFFICIAL.unpacking}killed"] if leftover else []
    new = tmp_path / "new" / "deep"
    for name in left:
        (new / name).mkdir(parents=True)
    found = load_cifar10("test", new, progress=lambda stage, done, total: stages.add(stage))
    assert found.labels.tolist() == [5, 1, 2, 3, 4]
    assert sorted(path.name for path in new.iterdir()) == [*left, PICKLED]
    assert stages == {"downloading CIFAR-10 (MB)"}
    officially(monkeypatch, url="http://127.0.0.1:9/")
    assert len(load_cifar10("train", new)) == 25


def test_a_download_with_another_sum_is_not_opened(
    accepted: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_of(accepted, served / ARCHIVE, monkeypatch)
    officially(monkeypatch, md5="0" * 32)
    monkeypatch.setattr(tarfile, "open", lambda path: pytest.fail("it was opened"))
    with pytest.raises(XaicmpError, match=r"could not download CIFAR-10 into .*its MD5 sum differs"):
        load_cifar10("test", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_archive_that_is_there_already_is_used(
    accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    archive_of(accepted, new / ARCHIVE, monkeypatch)
    officially(monkeypatch, url=f"http://127.0.0.1:9/{ARCHIVE}")
    assert len(load_cifar10("test", new)) == 5
    assert sorted(path.name for path in new.iterdir()) == [PICKLED, ARCHIVE]


def test_without_a_connection_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(download, "RETRIES", 0)
    for folder in (tmp_path / "new", None):
        monkeypatch.setenv("XAICMP_DATA", str(tmp_path / "cache"))
        with pytest.raises(
            XaicmpError, match=r"could not download CIFAR-10 into .*www.cs.toronto.edu.*: .*; run again"
        ):
            load_cifar10("test", folder)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(XaicmpError, match=r"file/below .*Not a directory"):
        load_cifar10("test", tmp_path / "file" / "below")

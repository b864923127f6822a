"""Nobody finds half a file, and nothing else is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xaicmp.core.machine.storage import check_writable, contents, held, replacing
from xaicmp.errors import XaicmpError


def test_the_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (path.parent, ".json")
    assert path.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_the_file_has_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["m" * 250 + ".json", "ä" * 120 + ".json"])
def test_any_name_that_the_disk_allows_will_do(tmp_path: Path, name: str) -> None:
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_error_of_the_disk_becomes_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(XaicmpError, match=r"a.txt: No space left"), replacing(tmp_path / "a.txt"):
        Path("/dev/full").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == []


UNWRITABLE = {
    "missing/a.txt": "the folder .*missing does not exist; create it",
    "file/a.txt": "the folder .*file does not exist",
    "folder": "it is a folder; name a file",
    "n" * 300: "File name too long",
}


@pytest.mark.parametrize(("name", "message"), UNWRITABLE.items())
def test_a_place_that_cannot_be_written_is_named_with_the_reason(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    before = sorted([path.name for path in tmp_path.iterdir()])
    with pytest.raises(XaicmpError, match=message):
        check_writable(tmp_path / name)
    with pytest.raises(XaicmpError, match=message), replacing(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert sorted([path.name for path in tmp_path.iterdir()]) == before


def test_checking_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    check_writable(path)
    assert [path.name for path in tmp_path.iterdir()] == []
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_device_or_pipe_is_neither_replaced_nor_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.json"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for _ in range(2):
        with pytest.raises(XaicmpError, match="it is a device or a pipe; name a file"):
            check_writable(path)
        with pytest.raises(XaicmpError, match="device or a pipe"), replacing(path) as temporary:
            temporary.write_text("x")
        with pytest.raises(OSError, match="it is a device or a pipe"):
            contents(path)
    assert path.is_fifo() if kind == "fifo" else path.is_symlink()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_and_stays(tmp_path: Path, there: bool) -> None:
    (tmp_path / "real").mkdir()
    if there:
        (tmp_path / "real" / "a.txt").write_text("old")
    link = tmp_path / "a.txt"
    link.symlink_to("b.txt")
    (tmp_path / "b.txt").symlink_to("real/a.txt")
    check_writable(link)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "b.txt").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "new"


def test_a_lock_is_of_one_process_and_not_of_a_dead_one(tmp_path: Path) -> None:
    lock, path = tmp_path / "lock", tmp_path / "a.pt"
    code = (
        "import sys, time; from pathlib import Path; from xaicmp.core.machine.storage import held\n"
        "with held(Path(sys.argv[1]), Path('a.pt')): print(flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert other.stdout
    other.stdout.readline()
    with pytest.raises(XaicmpError, match=f"a.pt is being written by process {other.pid}; wait for it"):
        held(lock, path).__enter__()
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    assert lock.read_text() == str(other.pid)
    for _ in range(2):
        with held(lock, path):
            assert lock.read_text() == str(os.getpid())
        assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xaicmp.core.machine import storage

    lock, flock, calls = tmp_path / "lock", storage.fcntl.flock, []

    def late(handle: int, how: int) -> None:
        if not calls:  # its holder ends between opening and locking
            lock.unlink()
        calls.append(handle)
        flock(handle, how)

    monkeypatch.setattr(storage.fcntl, "flock", late)
    with held(lock, tmp_path / "a.pt"):
        assert lock.read_text() == str(os.getpid())
    assert len(calls) == 2

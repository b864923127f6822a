"""Files: written whole or not at all, and read with care."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xaicmp.errors import UsageError, XaicmpError, arg

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: Path, inside: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it otherwise.

    Args:
        path: what is written; of a link, the file that it leads to.
        inside: a folder on the same disk for the temporary file, where a kill may leave it.

    Raises:
        XaicmpError: the folder is missing or cannot be written to, or the disk is full.
    """
    path = followed(path)
    try:
        # The suffix stays, because writers such as matplotlib and numpy go by it.
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=inside or path.parent
        )
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        _check_place(path)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_suffix(path: Path, suffixes: Iterable[str], argument: str = "output") -> None:
    """Raise UsageError, naming ``argument``, unless ``path`` ends in one of ``suffixes``."""
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{arg(argument)} {path}: the name must end in {', '.join(suffixes)}")


def check_writable(path: Path) -> None:
    """Fail now rather than after the work, if ``path`` cannot be written.

    Raises:
        XaicmpError: as ``replacing`` would.
    """
    path = followed(path)
    try:
        _check_place(path)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


def followed(path: Path) -> Path:
    """The file that ``path`` means, behind all links."""
    return Path(os.path.realpath(path))


def regular(path: Path) -> Path:
    """The path, unless it is of a device or a pipe, which may never end: OSError."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a device or a pipe", str(path))
    return path


def contents(path: Path) -> bytes:
    """All of a regular file.

    Raises:
        OSError: it cannot be read.
    """
    return regular(path).read_bytes()


def text_of(path: Path) -> str:
    """The same as UTF-8, without its mark.

    Raises:
        OSError, ValueError: it cannot be read, or is not UTF-8.
    """
    return contents(path).decode("utf-8-sig")


@contextmanager
def held(lock: Path, path: Path) -> Iterator[None]:
    """Hold the file ``lock``, which says that this process writes ``path``; what a dead process held is free.

    Raises:
        XaicmpError: another process holds it, or it cannot be written.
    """
    try:
        file = lock.open("a+")
        while not _locked(file.fileno(), lock, path):
            file.close()  # its holder has just removed it
            file = lock.open("a+")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # the folder has gone, or is read-only now
            lock.unlink()
        file.close()


def _locked(handle: int, lock: Path, path: Path) -> bool:
    """Take the lock on an open file; False if that is no longer the file ``lock``."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = lock.read_text() if lock.exists() else ""
        raise XaicmpError(
            f"{path} is being written by process {pid or 'unknown'}; wait for it, or name another place"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # a disk without locks
            raise
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), lock.stat())
    return False


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``lr is 0.2 and was 0.05`` for each value that is not the same in two nested mappings."""
    then, today = _flat(before), _flat(now)
    both = {key: (today.get(key, "unknown"), then.get(key, "unknown")) for key in today | then}
    return [f"{key} is {new!s:.60} and was {old!s:.60}" for key, (new, old) in both.items() if new != old]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {key: value}
    return flat


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise XaicmpError(f"cannot write {path}: it is a folder; name a file")
    if path.exists() and not path.is_file():
        raise XaicmpError(f"cannot write {path}: it is a device or a pipe; name a file")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, error: OSError) -> XaicmpError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return XaicmpError(
            f"cannot write {path}: the folder {path.parent} does not exist; create it or name another"
        )
    return XaicmpError(f"cannot write {path}: {error.strerror or error}; free space or name another place")

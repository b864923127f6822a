"""Writing files so that a reader never finds half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xaicmp.core.errors import UsageError, XaicmpError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it otherwise.

    Raises:
        XaicmpError: the folder is missing or cannot be written to, or the disk is full.
    """
    try:
        # The suffix stays, because writers such as matplotlib and numpy go by it.
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        if path.is_dir():
            raise XaicmpError(f"cannot write {path}: it is a folder; name a file")
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_suffix(path: Path, suffixes: Iterable[str], option: str = "--output") -> None:
    """Raise UsageError, naming ``option``, unless ``path`` ends in one of ``suffixes``."""
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{option} {path}: the name must end in {', '.join(suffixes)}")


def check_writable(path: Path) -> None:
    """Fail now rather than after the work, if ``path`` cannot be written.

    Raises:
        XaicmpError: as ``replacing`` would.
    """
    try:
        if path.is_dir():
            raise XaicmpError(f"cannot write {path}: it is a folder; name a file")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


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

"""Fetching a file whose checksum is known, by pooch."""

from __future__ import annotations

import logging
from pathlib import Path

from xaicmp.core.machine.foreign import silent
from xaicmp.core.machine.progress import Progress
from xaicmp.errors import XaicmpError

CHUNK = 1 << 18
RETRIES = 2
TIMEOUT = 30


class _Megabytes:
    """A progress bar as pooch wants it."""

    def __init__(self, stage: str, progress: Progress) -> None:
        self.stage, self.progress, self.total, self.done = stage, progress, 0, 0

    def update(self, count: int) -> None:
        self.done = min(self.done + count, self.total)
        self.progress(self.stage, self.done >> 20, self.total >> 20)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing is open."""


def fetch(url: str, folder: Path, md5: str, stage: str, progress: Progress) -> Path:
    """Download ``url`` into ``folder``, under its own name; what is there already is only checked.

    Args:
        url: of the file, over HTTP.
        folder: where it goes.
        md5: its known sum; the file has its name only once the sum is right.
        stage: what ``progress`` calls this.
        progress: called with the megabytes.

    Raises:
        XaicmpError: there is no connection, it broke off, or the bytes are not those of ``md5``.
        OSError: ``folder`` cannot be written to.
    """
    import pooch

    base, _, name = url.rpartition("/")
    store = pooch.create(folder, f"{base}/", registry={name: f"md5:{md5}"}, retry_if_failed=RETRIES)
    bar = _Megabytes(stage, progress)
    get = pooch.HTTPDownloader(progressbar=bar, chunk_size=CHUNK, timeout=TIMEOUT)
    try:
        with silent(pooch.get_logger(), logging.WARNING):
            return Path(store.fetch(name, downloader=get))
    except ValueError as error:
        raise XaicmpError(f"{url} is not the file that was expected (its MD5 sum differs)") from error
    except OSError as error:
        if error.errno is not None:  # of the disk: errors of the network are requests' own, without a number
            raise
        raise XaicmpError(f"cannot fetch {url}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The operating system's message, if there is one behind the error; else the error's own."""
    deeper: BaseException | None = error
    while deeper is not None:
        if isinstance(deeper, OSError) and deeper.strerror:
            return deeper.strerror
        deeper = deeper.__cause__ or deeper.__context__
    return " ".join(f"{error}".split())[:200]

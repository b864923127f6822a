"""Fetching a file: gone on with after an interruption, checked before anybody sees it."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Callable
from pathlib import Path

from xaicmp.errors import XaicmpError

CHUNK = 1 << 18

TIMEOUT = 30


def fetch(url: str, part: Path, md5: str, on_bytes: Callable[[int, int], None]) -> None:
    """Download ``url`` to ``part``, after what an earlier attempt has left there.

    Args:
        url: of the file.
        part: where the bytes go; kept when the connection breaks off, removed when they are wrong.
        md5: the file's known sum.
        on_bytes: called with how many bytes are there, and how many there are.

    Raises:
        XaicmpError: there is no connection, it broke off, or the bytes are not those of ``md5``.
        OSError: ``part`` cannot be written.
    """
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # there is nothing behind what we have
            raise XaicmpError(f"{url} answers {error.code} {error.reason}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise XaicmpError(f"no connection to {url}: {getattr(reason, 'strerror', None) or reason}") from error
    else:
        with response:
            if response.status != 206:
                start = 0
            total = start + int(response.headers.get("Content-Length") or 0)
            with part.open("ab" if start else "wb") as file:
                have = start
                while chunk := _read(response):
                    file.write(chunk)
                    have += len(chunk)
                    on_bytes(have, total)
        if have < total:
            raise XaicmpError(f"the connection broke off after {have:,} of {total:,} bytes")
    if md5_of(part) != md5:
        part.unlink()
        raise XaicmpError(f"what {url} sent is not the file that was expected (its MD5 sum differs)")


def md5_of(path: Path) -> str:
    """The MD5 sum of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException):  # the connection is gone: as if it had ended here
        return b""

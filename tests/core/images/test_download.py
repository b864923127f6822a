"""A download that breaks off goes on, and wrong bytes never stay. The server is a real one, on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from xaicmp.core.images.download import fetch, md5_of
from xaicmp.errors import XaicmpError

CONTENT = bytes(range(256)) * 4_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` at any path; breaks off after ``limit`` bytes; may not know ranges."""

    content, limit, ranges, status = CONTENT, None, True, None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.limit])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def quiet(done: int, total: int) -> None:
    """Tell nobody."""


def test_a_file_arrives_whole_and_the_progress_ends_at_its_size(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetch(server.url, tmp_path / "a", MD5, lambda done, total: seen.append((done, total)))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(seen) == seen
    assert server.asked == [None]


def test_a_broken_download_is_kept_and_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.limit = 300_000
    with pytest.raises(XaicmpError, match=r"broke off after 300,000 of 1,024,000 bytes"):
        fetch(server.url, tmp_path / "a", MD5, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT[:300_000]
    with pytest.raises(XaicmpError, match=r"broke off after 600,000 of 1,024,000 bytes"):
        fetch(server.url, tmp_path / "a", MD5, quiet)
    server.limit = None
    fetch(server.url, tmp_path / "a", MD5, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"something else")
    server.ranges = False
    fetch(server.url, tmp_path / "a", MD5, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_file_that_is_already_whole_is_not_read_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "a", MD5, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("earlier", [None, b"x" * 1000, b"x" * 2_000_000])
def test_wrong_bytes_are_removed_so_that_the_next_run_starts_anew(
    server: Server, tmp_path: Path, earlier: bytes | None
) -> None:
    path = tmp_path / "a"
    if earlier is None:
        server.content = CONTENT[::-1]
    else:
        path.write_bytes(earlier)
    with pytest.raises(XaicmpError, match=r"not the file that was expected"):
        fetch(server.url, path, MD5, quiet)
    assert not path.exists()
    server.content = CONTENT
    fetch(server.url, path, MD5, quiet)
    assert path.read_bytes() == CONTENT


def test_an_answer_that_is_an_error_leaves_what_there_is(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT[:10])
    server.status = 503
    with pytest.raises(XaicmpError, match=r"answers 503"):
        fetch(server.url, tmp_path / "a", MD5, quiet)
    assert (tmp_path / "a").read_bytes() == CONTENT[:10]


def test_no_server_is_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(XaicmpError, match=r"no connection to http://127.0.0.1:9/a: Connection refused"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", MD5, quiet)
    assert not (tmp_path / "a").exists()


def test_the_sum_is_md5(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"The quick brown fox jumps over the lazy dog")
    assert md5_of(tmp_path / "a") == "9e107d9d372bb6826bd81d3542a419d6"

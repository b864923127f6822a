"""A download arrives whole or not at all. The server is a real one, on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from xaicmp.core.images import download
from xaicmp.core.images.download import fetch
from xaicmp.errors import XaicmpError

CONTENT = bytes(range(256)) * 20_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` at any path; sends only ``limit`` bytes of it to the first ``broken`` who ask."""

    content, limit, broken, status = CONTENT, None, 99, None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.status:
            self.send_error(self.server.status)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        limit = self.server.limit if self.server.asked <= self.server.broken else None
        self.wfile.write(self.server.content[:limit])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "RETRIES", 0)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def fetched(url: str, folder: Path) -> Path:
    return fetch(url, folder, MD5, "fetching", lambda stage, done, total: None)


def test_a_file_arrives_whole_and_the_progress_ends_at_its_size(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch(server.url, tmp_path / "new", MD5, "fetching", lambda *told: seen.append(told))
    assert path == tmp_path / "new" / "file"
    assert path.read_bytes() == CONTENT
    assert seen[0] == ("fetching", 0, 4)
    assert seen[-1] == ("fetching", 4, 4)
    assert sorted(seen) == seen
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_there_is_not_fetched_again_unless_it_is_another(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    fetched(server.url, tmp_path)
    assert server.asked == 0
    (tmp_path / "file").write_bytes(CONTENT[:1000])
    assert fetched(server.url, tmp_path).read_bytes() == CONTENT
    assert server.asked == 1


def test_a_broken_connection_is_tried_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRIES", 1)
    server.limit, server.broken = 300_000, 1
    assert fetched(server.url, tmp_path).read_bytes() == CONTENT
    assert server.asked == 2


def test_what_broke_off_or_is_wrong_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.limit = 300_000
    with pytest.raises(XaicmpError, match=rf"cannot fetch {server.url}: .*300000 bytes read"):
        fetched(server.url, tmp_path)
    server.limit, server.content = None, CONTENT[::-1]
    with pytest.raises(XaicmpError, match=rf"{server.url} is not the file that was expected \(its MD5"):
        fetched(server.url, tmp_path)
    server.status = 503
    with pytest.raises(XaicmpError, match=rf"cannot fetch {server.url}: 503 Server Error"):
        fetched(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_no_connection(tmp_path: Path) -> None:
    with pytest.raises(XaicmpError) as caught:
        fetched("http://127.0.0.1:9/file", tmp_path)
    assert str(caught.value) == "cannot fetch http://127.0.0.1:9/file: Connection refused"

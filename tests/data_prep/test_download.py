"""Downloads against a server on the loopback that can be told to misbehave."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from data_prep.download import fetch, fetch_hub, pinned

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    url: str = ""
    ranges: bool = True
    cut_at: int | None = None
    status: int = 200
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.status != 200:
                return self.send_error(state.status)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                return self.end_headers()
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : state.cut_at])
            return None

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{running.server_address[1]}/file.gz"
        yield state
        running.shutdown()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_download_is_verified_pinned_and_not_repeated(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "below" / "file.gz"
    for _ in range(2):
        assert fetch(server.url, path, SHA256).read_bytes() == CONTENT
    assert server.asked == [None]
    assert pinned(path) == SHA256
    assert names(path.parent) == {"file.gz", "file.gz.sha256"}


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_resumes(server: Server, tmp_path: Path, ranges: bool) -> None:
    path = tmp_path / "file.gz"
    server.cut_at, server.ranges = 100_000, ranges
    with pytest.raises(ValueError, match=r"file\.gz: interrupted at 100,000 .*; run it again to resume"):
        fetch(server.url, path)
    assert names(tmp_path) == {"file.gz.part"}
    server.cut_at = None
    assert fetch(server.url, path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.gz.part").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "file.gz").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.gz.part").write_bytes(CONTENT + b"x")
    with pytest.raises(ValueError, match="the server answers 416"):
        fetch(server.url, tmp_path / "file.gz")
    assert names(tmp_path) == set()


def test_a_wrong_hash_is_thrown_away(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"SHA-256 is {SHA256}; expected 00"):
        fetch(server.url, tmp_path / "file.gz", "00")
    assert names(tmp_path) == set()
    fetch(server.url, tmp_path / "file.gz")
    with pytest.raises(ValueError, match=f"SHA-256 at its download was {SHA256}; expected 11"):
        fetch(server.url, tmp_path / "file.gz", "11")


def test_refusals(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.gz.part").write_bytes(b"arrived before")
    server.status = 404
    with pytest.raises(FileNotFoundError, match=r"file\.gz: the server answers 404 Not Found"):
        fetch(server.url, tmp_path / "file.gz")
    server.status = 503
    with pytest.raises(ValueError, match="the server answers 503"):
        fetch(server.url, tmp_path / "file.gz")
    assert names(tmp_path) == {"file.gz.part"}, "what arrived before a refusal is kept"
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:9/x cannot be reached"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x")


def test_a_full_disk_leaves_nothing_under_the_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match=r"the disk is full while writing .*file\.gz\.part"):
        fetch(server.url, tmp_path / "file.gz")
    assert names(tmp_path) == {"file.gz.part"}


def test_the_hub_gives_a_plain_file_or_one_sentence(tmp_path: Path) -> None:
    source = tmp_path / "Books.csv"
    source.write_bytes(CONTENT)
    assert fetch_hub(f"file://{source}", tmp_path / "cache").read_bytes() == CONTENT
    with pytest.raises(ValueError, match=r"None\.csv could not be fetched from the hub \(.*\); try source official"):
        fetch_hub(f"file://{tmp_path}/None.csv", tmp_path / "cache")

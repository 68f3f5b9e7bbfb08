"""Downloads against a server on the loopback that can be told to misbehave."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from data_prep import download
from data_prep.download import fetch, fetch_hub, pinned

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Attributes: headers, of an answer with content, in place of its own (None leaves one out); tags, of the file."""

    url: str = ""
    ranges: bool = True
    cut_at: int | None = None
    status: int = 200
    content: bytes = CONTENT
    tags: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    headers: dict[str, str | None] = field(default_factory=dict)
    chunked: bool = False
    asked: list[str | None] = field(default_factory=list)


def answer(state: Server, start: int, going_on: bool) -> tuple[dict[str, str], bytes]:
    """Headers and body of an answer with content."""
    length = len(state.content)
    headers: dict[str, str | None] = {**state.tags, "Content-Length": str(length - start)}
    if going_on:
        headers["Content-Range"] = f"bytes {start}-{length - 1}/{length}"
    if state.chunked:
        headers |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
    body = state.content[start : state.cut_at]
    if state.chunked:
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1000], body[1000:]))
        body += b"0\r\n\r\n" if state.cut_at is None else b""
    return {name: value for name, value in (headers | state.headers).items() if value is not None}, body


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        close_connection = True

        def do_GET(self) -> None:
            self.close_connection = True
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", {"/moved": "/file.gz"}.get(self.path, self.path))
                self.send_header("Content-Length", "0")
                return self.end_headers()
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.status != 200:
                return self.send_error(state.status)
            same = self.headers.get("If-Range") in state.tags.values()
            going_on = bool(asked and state.ranges and same)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and going_on else 0
            if start >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            headers, body = answer(state, start, going_on)
            self.send_response(206 if going_on or "Content-Range" in headers else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            return None

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
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


PART = {"file.gz.part", "file.gz.part.json"}


def interrupt(server: Server, path: Path) -> None:
    """A download whose first 100,000 bytes arrive."""
    server.cut_at = 100_000
    with pytest.raises(ValueError, match=r"file\.gz: interrupted at 100,000 .*; run it again to resume"):
        fetch(server.url, path)
    assert names(path.parent) == PART
    server.cut_at = None


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    "tags", [{"ETag": '"one"'}, {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "ETag": 'W/"x"'}]
)
def test_an_interrupted_download_resumes(server: Server, tmp_path: Path, ranges: bool, tags: dict[str, str]) -> None:
    server.ranges, server.tags = ranges, tags
    interrupt(server, tmp_path / "file.gz")
    assert fetch(server.url, tmp_path / "file.gz").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]
    assert names(tmp_path) == {"file.gz", "file.gz.sha256"}


@pytest.mark.parametrize("tags", [{}, {"ETag": 'W/"weak"'}])
def test_a_file_without_a_name_for_its_state_starts_again(server: Server, tmp_path: Path, tags: dict[str, str]) -> None:
    server.tags = tags
    interrupt(server, tmp_path / "file.gz")
    server.content = CONTENT[::-1]
    assert fetch(server.url, tmp_path / "file.gz").read_bytes() == CONTENT[::-1]
    assert server.asked == [None, None]


def test_a_file_that_changed_between_two_parts_starts_again(server: Server, tmp_path: Path) -> None:
    interrupt(server, tmp_path / "file.gz")
    server.content, server.tags = CONTENT[::-1], {"ETag": '"two"'}
    server.cut_at = 50_000
    with pytest.raises(ValueError, match="interrupted at 50,000"):
        fetch(server.url, tmp_path / "file.gz")
    server.cut_at = None
    assert fetch(server.url, tmp_path / "file.gz").read_bytes() == CONTENT[::-1], "the rest of the other file"
    assert server.asked == [None, "bytes=100000-", "bytes=50000-"]


@pytest.mark.parametrize(
    "sent",
    [
        {"Content-Range": "bytes 99999-299999/300000"},
        {"Content-Range": "bytes 100001-299999/300000"},
        {"Content-Range": "bytes 0-299999/300000"},
        {"Content-Range": "bytes 100000-299998/300000"},
        {"Content-Range": "bytes 100000-299999/400000"},
        {"Content-Range": "bytes 100000-399999/400000"},
        {"Content-Range": "bytes 100000-299999/*"},
        {"Content-Range": "lines 1-2/3"},
        {"Content-Range": None},
        {"ETag": '"two"'},
    ],
)
def test_another_part_than_was_asked_for_is_refused(
    server: Server, tmp_path: Path, sent: dict[str, str | None]
) -> None:
    interrupt(server, tmp_path / "file.gz")
    server.headers = sent
    with pytest.raises(
        ValueError, match=r"the server sends .*; expected byte 100,000 to the end of 300,000 of \"one\";"
    ):
        fetch(server.url, tmp_path / "file.gz")
    assert names(tmp_path) == set()
    server.headers = {}
    assert fetch(server.url, tmp_path / "file.gz").read_bytes() == CONTENT


def test_a_part_that_nobody_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Range": "bytes 0-299999/300000"}
    with pytest.raises(
        ValueError, match=r"the server sends bytes 0-299999/300000 .*; expected byte 0 to the end of a file"
    ):
        fetch(server.url, tmp_path / "file.gz")
    assert names(tmp_path) == set()


def test_without_a_length_only_what_ends_with_a_sign_or_has_the_hash_is_taken(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    server.headers = {"Content-Length": None}
    with pytest.raises(ValueError, match="does not tell the file's length; expected it, or a SHA-256 on the card"):
        fetch(server.url, path)
    assert names(tmp_path) == set()
    server.cut_at = 100_000
    with pytest.raises(ValueError, match=rf"SHA-256 is [0-9a-f]{{64}}; expected {SHA256}; it was thrown away"):
        fetch(server.url, path, SHA256)
    server.cut_at = None
    assert fetch(server.url, path, SHA256).read_bytes() == CONTENT


def test_chunks_end_with_a_sign(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    server.chunked, server.cut_at = True, 100_000
    with pytest.raises(ValueError, match=r"interrupted at .* bytes"):
        fetch(server.url, path)
    assert not path.exists()
    server.cut_at = None
    assert fetch(server.url, path).read_bytes() == CONTENT


def test_redirects_are_followed_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    moved = server.url.replace("file.gz", "moved")
    interrupt(server, tmp_path / "file.gz")
    assert fetch(moved, tmp_path / "file.gz").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]
    with pytest.raises(ValueError, match=r"the server answers 302 .*; expected the file") as caught:
        fetch(f"{moved}-in-a-circle", tmp_path / "other.gz")
    assert "\n" not in str(caught.value)


def test_a_page_in_place_of_the_file_is_refused(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(ValueError, match="answers 200 with text/html; expected the file"):
        fetch(server.url, tmp_path / "file.gz")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("said", [b"", b"x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_is_told(tmp_path: Path, said: bytes) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(10_000)
            self.wfile.write(said)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.handle_request, daemon=True).start()
        with pytest.raises(
            ValueError,
            match=r"file\.gz cannot be reached \(.+\); check the network .* GRBENCH_DATA",
        ) as caught:
            fetch(f"http://127.0.0.1:{running.server_address[1]}/file.gz", tmp_path / "file.gz")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == set()


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_finish", lambda *_: None)
    with pytest.raises(FileNotFoundError):
        fetch(server.url, tmp_path / "file.gz", SHA256)
    monkeypatch.undo()
    assert names(tmp_path) == PART
    assert fetch(server.url, tmp_path / "file.gz").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_part_that_is_too_long_starts_again(server: Server, tmp_path: Path) -> None:
    interrupt(server, tmp_path / "file.gz")
    (tmp_path / "file.gz.part").write_bytes(CONTENT + b"x")
    assert fetch(server.url, tmp_path / "file.gz").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300001-", None]


@pytest.mark.parametrize(
    "facts", ["", "[1]", '{"validator": 3, "total": 5}', '{"validator": "x", "total": "y"}', "\xff"]
)
def test_a_part_of_which_nothing_is_known_starts_again(server: Server, tmp_path: Path, facts: str) -> None:
    (tmp_path / "file.gz.part").write_bytes(b"something")
    (tmp_path / "file.gz.part.json").write_text(facts)
    assert fetch(server.url, tmp_path / "file.gz").read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_file_that_was_put_there_must_have_the_hash(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "file.gz", SHA256).read_bytes() == CONTENT
    with pytest.raises(ValueError, match=f"was {SHA256}; expected 11"):
        fetch(server.url, tmp_path / "file.gz", "11")
    assert server.asked == []


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
    with pytest.raises(ValueError, match=r"None\.csv could not be fetched from the hub \(.*\); .* GRBENCH_DATA"):
        fetch_hub(f"file://{tmp_path}/None.csv", tmp_path / "cache")

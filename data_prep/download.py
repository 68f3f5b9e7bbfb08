"""Downloads that survive an interruption: `.part` file, HTTP Range, length and hash checked before the final name."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, NamedTuple

from filelock import FileLock
from tqdm import tqdm

from data_prep.atomic import out_of_space, write_json, write_text
from data_prep.files import content_sha256, parse_object

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
# What helps where a download fails.
OR_LOCAL = "run it again, try SOURCE=official or hub (--source), or set GRBENCH_DATA to a folder that has the file"


def fetch(url: str, path: Path, sha256: str | None = None) -> Path:
    """Download `url` to `path` unless it is there already; an interrupted download goes on where it stopped.

    It goes on where the server says that its file is still the same (`ETag`, `Last-Modified`), and else starts again.
    The hash of the complete file is pinned in `<path>.sha256` (see `pinned`), for every later load to check.

    Raises:
        FileNotFoundError: the server has no such file.
        ValueError: interrupted, refused, another part than was asked for, without an end that could be told from an
            interruption, or of another hash than `sha256`.
        OSError: the disk is full; nothing is left under `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes of one run may ask for the same file: the second one waits and finds it.
    with FileLock(f"{path}.lock"):
        if not path.exists():
            part = path.with_name(path.name + ".part")
            try:
                _transfer(url, part, proven=sha256 is not None)
            except OSError as error:
                raise out_of_space(part, error) from error
            _finish(url, part, path, sha256)
    if sha256 is not None and (found := pinned(path) or content_sha256(path)) != sha256:
        raise ValueError(f"{path}: SHA-256 at its download was {found}; expected {sha256}; delete it and retry")
    return path


def pinned(path: Path) -> str | None:
    """The SHA-256 that the file had when it was downloaded; None for a file that `fetch` did not bring."""
    pin = _pin(path)
    return pin.read_text().strip() if pin.is_file() else None


def fetch_hub(url: str, cache: Path) -> Path:
    """Download one plain file of the hub (`hf://datasets/<repository>@<revision>/<file>`) with `datasets`.

    Raises:
        ValueError: the file could not be fetched.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f"{url} needs the package datasets ({error}); install it, or use source official") from error
    config = datasets.DownloadConfig(cache_dir=cache, max_retries=3)
    try:
        return Path(datasets.DownloadManager(download_config=config).download(url))
    except Exception as error:  # the hub's client lets its transport's own errors through; they share no base class
        reason = " ".join(str(error).split())
        raise ValueError(f"{url} could not be fetched from the hub ({reason}); {OR_LOCAL}") from error


class _OtherPartError(ValueError):
    """The server sends another part than was asked for."""


class _Begun(NamedTuple):
    """A download that stopped: bytes that are here, what the server called the file (`_validator`), its length.

    Without the second nothing says whether the server's file is still the same: then it starts again.
    """

    have: int = 0
    validator: str = ""
    total: int | None = None


def _transfer(url: str, part: Path, proven: bool) -> None:
    """Append to `part` until it is complete. `proven`: a hash will tell whether it is, where the server does not."""
    begun = _begun(part)
    try:
        with _opened(url, begun) as response:
            start, validator, total = _agreed(url, response, begun, proven)
            with part.open("ab" if start else "wb") as file:
                if not start:
                    write_json(_facts(part), {"validator": validator, "total": total})
                have = _copy(response, file, url, start, total)
    except _OtherPartError:
        _discard(part)
        raise
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not begun.have:
            kind = FileNotFoundError if error.code == http.client.NOT_FOUND else ValueError
            reason = " ".join(str(error.reason).split())
            raise kind(f"{url}: the server answers {error.code} {reason}; expected the file") from error
        if not _is_complete(error, begun.have):
            _discard(part)
            _transfer(url, part, proven)
        return
    if total is not None and have != total:
        raise ValueError(f"{url}: interrupted at {have:,} of {total:,} bytes; run it again to resume")


def _begun(part: Path) -> _Begun:
    try:
        facts = parse_object(_facts(part).read_text(errors="replace"))
        have = part.stat().st_size
    except (FileNotFoundError, ValueError):
        return _Begun()
    validator, total = facts.get("validator"), facts.get("total")
    if have and isinstance(validator, str) and validator and isinstance(total, int | None):
        return _Begun(have, validator, total)
    return _Begun()


def _opened(url: str, begun: _Begun) -> Any:
    """The server's answer: the rest where its file is the one that was begun, else the whole."""
    headers = {"Range": f"bytes={begun.have}-", "If-Range": begun.validator} if begun.have else {}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise ValueError(f"{url} cannot be reached ({reason:.200}); check the network and {OR_LOCAL}") from error


def _validator(headers: Any) -> str:
    """What names one state of the server's file: a strong ETag, or when it was last changed; "" without either."""
    tag = headers.get("ETag", "")
    return str(tag) if tag.startswith('"') else str(headers.get("Last-Modified", ""))


def _agreed(url: str, response: Any, begun: _Begun, proven: bool) -> _Begun:
    """What the answer goes on from, and how long the whole file is where the server tells.

    Raises:
        ValueError: it is another part than was asked for, a page, or ends without a sign.
    """
    headers = response.headers
    if response.status == http.client.PARTIAL_CONTENT:
        return _continued(url, headers, begun)
    # A server without ranges, or whose file is another one by now, sends the whole file.
    kind = headers.get_content_type()
    if response.status not in (None, http.client.OK) or kind == "text/html":
        raise ValueError(f"{url}: the server answers {response.status} with {kind}; expected the file")
    length = headers.get("Content-Length", "")
    if not length.isdecimal() and not getattr(response, "chunked", False) and not proven:
        raise ValueError(f"{url}: the server does not tell the file's length; expected it, or a SHA-256 on the card")
    return _Begun(0, _validator(headers), int(length) if length.isdecimal() else None)


def _continued(url: str, headers: Any, begun: _Begun) -> _Begun:
    """The begun download, where the answer is the rest of it."""
    sent = str(headers.get("Content-Range", "a part without a Content-Range"))
    found = CONTENT_RANGE.fullmatch(sent)
    start, last, total = map(int, found.groups()) if found else (0, 0, 0)
    fits = begun.have and (start, last) == (begun.have, total - 1) and begun.total in (None, total)
    if not fits or _validator(headers) not in ("", begun.validator):
        length = "" if begun.total is None else f" of {begun.total:,}"
        raise _OtherPartError(
            f"{url}: the server sends {sent:.100} of {_validator(headers) or 'a file':.100}; expected byte "
            f"{begun.have:,} to the end{length} of {begun.validator or 'a file':.100}; what was here is thrown away, "
            "run it again"
        )
    return begun._replace(total=total)


def _copy(response: Any, file: IO[bytes], url: str, start: int, total: int | None) -> int:
    """Copy the response to the file; how many bytes the file then has. What arrived before a fault stays."""
    have = start
    with tqdm(
        desc=url.rsplit("/", 1)[-1], initial=start, total=total, unit="B", unit_scale=True, leave=False, disable=None
    ) as bar:
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (http.client.HTTPException, OSError) as error:
                raise ValueError(f"{url}: interrupted at {have:,} bytes ({error}); run it again to resume") from error
            if not chunk:
                break
            file.write(chunk)
            have += len(chunk)
            bar.update(len(chunk))
    file.flush()
    os.fsync(file.fileno())
    return have


def _is_complete(error: urllib.error.HTTPError, have: int) -> bool:
    """The answer 416 names the file's length (`bytes */n`): were all of them here before?"""
    return error.headers.get("Content-Range", "").endswith(f"/{have}")


def _finish(url: str, part: Path, path: Path, sha256: str | None) -> None:
    found = content_sha256(part)
    if sha256 not in (None, found):
        _discard(part)
        raise ValueError(f"{url}: the download's SHA-256 is {found}; expected {sha256}; it was thrown away")
    write_text(_pin(path), found + "\n")
    part.replace(path)
    _discard(part)


def _discard(part: Path) -> None:
    for file in (part, _facts(part)):
        file.unlink(missing_ok=True)


def _facts(part: Path) -> Path:
    """What is known of the file that `part` is the beginning of."""
    return part.with_name(part.name + ".json")


def _pin(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")

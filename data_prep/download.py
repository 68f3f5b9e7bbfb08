"""Downloads that survive an interruption: `.part` file, HTTP Range, length and hash checked before the final name."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from tqdm import tqdm

from data_prep.atomic import atomic_file, out_of_space

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60


def fetch(url: str, path: Path, sha256: str | None = None) -> Path:
    """Download `url` to `path` unless it is there already; an interrupted download goes on where it stopped.

    The hash of the complete file is pinned in `<path>.sha256` (see `pinned`), for every later load to check.

    Raises:
        FileNotFoundError: the server has no such file.
        ValueError: interrupted, refused, or of another hash than `sha256`.
        OSError: the disk is full; nothing is left under `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes of one run may ask for the same file: the second one waits and finds it.
    with FileLock(f"{path}.lock"):
        if not path.exists():
            part = path.with_name(path.name + ".part")
            try:
                _transfer(url, part)
            except OSError as error:
                raise out_of_space(part, error) from error
            _finish(url, part, path, sha256)
    if sha256 not in (None, pinned(path)):
        raise ValueError(f"{path}: SHA-256 at its download was {pinned(path)}; expected {sha256}; delete it and retry")
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
        raise ValueError(f"{url} could not be fetched from the hub ({reason}); try source official") from error


def _transfer(url: str, part: Path) -> None:
    """Append to `part` until it is complete."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            # A server without Range sends the whole file with status 200: start over.
            resumed = response.status == http.client.PARTIAL_CONTENT
            start = have if resumed else 0
            left = response.headers.get("Content-Length")
            total = start + int(left) if left else None
            with part.open("ab" if resumed else "wb") as file:
                have = _copy(response, file, url, start, total)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if _is_complete(error, have):
                return
            part.unlink()
        kind = FileNotFoundError if error.code == http.client.NOT_FOUND else ValueError
        raise kind(f"{url}: the server answers {error.code} {error.reason}; expected the file") from error
    except urllib.error.URLError as error:
        raise ValueError(f"{url} cannot be reached ({error.reason}); check the network and run it again") from error
    if total is not None and have != total:
        raise ValueError(f"{url}: interrupted at {have:,} of {total:,} bytes; run it again to resume")


def _copy(response: Any, file: IO[bytes], url: str, start: int, total: int | None) -> int:
    """Copy the response to the file; how many bytes the file then has. What arrived before a fault stays."""
    have = start
    with tqdm(desc=url.rsplit("/", 1)[-1], initial=start, total=total, unit="B", unit_scale=True, leave=False) as bar:
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
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
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 not in (None, found):
        part.unlink()
        raise ValueError(f"{url}: the download's SHA-256 is {found}; expected {sha256}; it was thrown away")
    with atomic_file(_pin(path)) as file:
        file.write(found.encode() + b"\n")
    part.replace(path)


def _pin(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")

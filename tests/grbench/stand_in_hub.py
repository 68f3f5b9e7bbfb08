"""The hub's side of an upload, as far as huggingface_hub asks for it: repositories, commits, large files."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_stand_in"
OWNER = "lab"
# As the hub's .gitattributes has it.
LARGE = ".safetensors"


class StandInHub(ThreadingHTTPServer):
    """
    Attributes:
        repositories: what each was made with.
        large: contents by their SHA-256.
        commits: files of every commit, by repository and name.
        asked: method and path of all requests, in their order.
        broken: part of a path -> the status that it is answered with.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, Any]] = {}
        self.large: dict[str, bytes] = {}
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.asked: list[str] = []
        self.broken: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running() -> Iterator[StandInHub]:
    """A hub of its own, on loopback, until the end."""
    with StandInHub() as hub:
        thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: StandInHub

    def do_POST(self) -> None:
        body = self._body()
        if self._broken() or self._unknown():
            return
        match self.path.strip("/").split("/"):
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", "validate-yaml"]:
                self._answer(200, {"warnings": [], "errors": []})
            case ["api", "models", owner, name, "preupload", "main"]:
                self._preupload(f"{owner}/{name}", json.loads(body))
            case [owner, git, "info", "lfs", "objects", "batch"]:
                self._batch(f"{owner}/{git.removesuffix('.git')}", json.loads(body))
            case ["api", "models", owner, name, "commit", "main"]:
                self._commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
            case _:
                self._answer(404, {"error": f"no {self.path}"})

    def do_PUT(self) -> None:
        """A large file, at the address that a batch was told, which is all the permission that it takes."""
        body = self._body()
        if self._broken():
            return
        if sha256(body).hexdigest() != self.path.rpartition("/")[2]:
            self._answer(400, {"error": "another content"})
            return
        self.server.large[sha256(body).hexdigest()] = body
        self._answer(200, {})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != OWNER:
            self._answer(403, {"error": f"you have no rights to create a model under {asked['organization']}"})
        elif name in self.server.repositories:
            self._answer(409, {"error": "You already created this model repo"})
        else:
            self.server.repositories[name] = asked
            self._answer(200, {"url": f"{self.server.url}/{name}"})

    def _preupload(self, repository: str, asked: dict[str, Any]) -> None:
        if repository not in self.server.repositories:
            return self._answer(404, {"error": "Repository not found"})
        modes = {file["path"]: "lfs" if file["path"].endswith(LARGE) else "regular" for file in asked["files"]}
        files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
        return self._answer(200, {"files": files})

    def _batch(self, repository: str, asked: dict[str, Any]) -> None:
        def told(large: dict[str, Any]) -> dict[str, Any]:
            return {**large, "actions": {"upload": {"href": f"{self.server.url}/large/{repository}/{large['oid']}"}}}

        self._answer(200, {"transfer": "basic", "objects": [told(large) for large in asked["objects"]]})

    def _commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        files: dict[str, bytes] = {}
        for line in lines:
            match line:
                case {"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}}:
                    files[path] = base64.b64decode(content)
                case {"key": "lfsFile", "value": {"path": path, "oid": oid}} if oid in self.server.large:
                    files[path] = self.server.large[oid]
                case {"key": "header"}:
                    pass
                case _:
                    return self._answer(400, {"error": f"no such change: {line!r:.100}"})
        self.server.commits.setdefault(repository, []).append(files)
        return self._answer(200, {"commitUrl": f"{self.server.url}/{repository}/commit/1", "commitOid": "1" * 40})

    def _broken(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        for part, status in self.server.broken.items():
            if part in self.path:
                self._answer(status, {"error": "out of order"})
                return True
        return False

    def _unknown(self) -> bool:
        """The token is none that this hub has given."""
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
            return True
        return False

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = iter(lambda: int(self.rfile.readline(), 16), 0)
            return b"".join(self.rfile.read(size + 2)[:size] for size in chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        said = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests say what went wrong."""

"""A hub on this machine: the part of the hub's HTTP protocol that its client uses to list and download files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

SHA = "c0ffee" + "0" * 33 + "1"


@dataclass
class Hub:
    """Repositories (``datasets/org/name`` or ``org/name``) at one commit, other pages, and what is wrong with it."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    declared: dict[str, str] = field(default_factory=dict)
    commit: str = SHA
    cut_after: list[int] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    address: str = ""

    def downloads(self) -> list[tuple[str, str]]:
        """Path and Range header of every file that was asked for."""
        return [(path, wanted) for path, wanted in self.requests if "/resolve/" in path]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub answers at ``hub.address``."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.requests.append((path, self.headers.get("Range", "")))
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        if path.startswith("api/"):
            repository, _, revision = path.removeprefix("api/").removeprefix("models/").partition("/revision/")
            self._listing(repository, revision or "main")
        elif "/resolve/" not in path:
            if path in self.hub.pages:
                self._content(self.hub.pages[path], {})
            else:
                self._error(404, "")
        else:
            repository, _, rest = path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._file(repository, revision, name)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass

    def _listing(self, repository: str, revision: str) -> None:
        if self._exists(repository, revision):
            files = self.hub.repositories[repository]
            document = {
                "id": repository.removeprefix("datasets/"),
                "sha": self.hub.commit,
                "siblings": [self._sibling(name, data) for name, data in files.items()],
            }
            self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _sibling(self, name: str, data: bytes) -> dict[str, Any]:
        declared = self.hub.declared.get(name, hashlib.sha256(data).hexdigest())
        large_file = {"sha256": declared, "size": len(data), "pointerSize": 130}
        return {"rfilename": name, "size": len(data), "blobId": "0" * 40, "lfs": large_file}

    def _file(self, repository: str, revision: str, name: str) -> None:
        if not self._exists(repository, revision):
            return
        if repository in self.hub.gated:
            self._error(403, "GatedRepo")
        elif name not in self.hub.repositories[repository]:
            self._error(404, "EntryNotFound")
        else:
            data = self.hub.repositories[repository][name]
            headers = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            self._content(data, headers)

    def _content(self, data: bytes, headers: dict[str, str]) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._answer(206 if "Range" in self.headers else 200, data[start:], headers)

    def _exists(self, repository: str, revision: str) -> bool:
        if repository not in self.hub.repositories:
            self._error(404, "RepoNotFound")
        elif revision not in ("main", self.hub.commit):
            self._error(404, "RevisionNotFound")
        else:
            return True
        return False

    def _error(self, status: int, code: str) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if "ETag" in headers and self.hub.cut_after:
            body = body[: self.hub.cut_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

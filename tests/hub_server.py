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
LARGE = (".parquet", ".safetensors", ".model")  # what the hub stores by its sha256, beside git


@dataclass
class Hub:
    """Repositories (``datasets/org/name`` or ``org/name``), other pages, and what is wrong with it.

    A repository is what its branch main has; that of another branch has ``@branch`` after its name. ``commits`` holds
    the commits of those that are not at ``commit``. ``declared`` are sha256 of a listing that are not those of the
    files, ``instead`` what answers in a file's place, once each, and ``listings`` what does in place of every listing.
    Without ``heads`` it refuses HEAD requests, as some proxies do, and has no listing as a tree, as some mirrors.
    Without ``ranges`` it answers a Range with status 416.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    declared: dict[str, str] = field(default_factory=dict)
    instead: dict[str, list[bytes]] = field(default_factory=dict)
    listings: tuple[int, bytes] | None = None
    heads: bool = False
    ranges: bool = True
    commit: str = SHA
    commits: dict[str, str] = field(default_factory=dict)
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
            kind = "/tree/" if "/tree/" in path else "/revision/"
            repository, _, revision = path.removeprefix("api/").removeprefix("models/").partition(kind)
            self._listing(repository, revision or "main", tree=kind == "/tree/")
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
        path = unquote(urlsplit(self.path).path).strip("/")
        repository, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        if not self.hub.heads:
            self._answer(405, b"", {})
        else:
            self._file(repository, revision, name)

    def log_message(self, *arguments: Any) -> None:
        pass

    def _listing(self, repository: str, revision: str, *, tree: bool) -> None:
        if self.hub.listings:
            self._answer(*self.hub.listings, {})
        elif found := self._found(repository, revision):
            siblings = [self._sibling(name, data) for name, data in self.hub.repositories[found].items()]
            document: Any = {
                "id": repository.removeprefix("datasets/"),
                "sha": self.hub.commits.get(found, self.hub.commit),
                "siblings": siblings,
            }
            if tree and self.hub.heads:
                document = [
                    {"type": "file", "path": each["rfilename"], "oid": each["blobId"], "size": each["size"]}
                    for each in siblings
                ]
            self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _sibling(self, name: str, data: bytes) -> dict[str, Any]:
        entry = {"rfilename": name, "size": len(data)}
        if not name.endswith(LARGE):
            return {**entry, "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
        declared = self.hub.declared.get(name, hashlib.sha256(data).hexdigest())
        # Of a large file, git holds a pointer only.
        return {**entry, "blobId": "0" * 40, "lfs": {"sha256": declared, "size": len(data), "pointerSize": 130}}

    def _file(self, repository: str, revision: str, name: str) -> None:
        if not (found := self._found(repository, revision)):
            return
        if repository in self.hub.gated:
            self._error(403, "GatedRepo")
        elif name not in self.hub.repositories[found]:
            self._error(404, "EntryNotFound")
        elif self.hub.instead.get(name):
            page = self.hub.instead[name][0] if self.command == "HEAD" else self.hub.instead[name].pop(0)
            self._answer(200, page, {"Content-Type": "text/html"})
        else:
            data = self.hub.repositories[found][name]
            headers = {"X-Repo-Commit": revision, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            self._content(data, headers)

    def _content(self, data: bytes, headers: dict[str, str]) -> None:
        if "Range" in self.headers and not self.hub.ranges:
            self._answer(416, b"", {})
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._answer(206 if "Range" in self.headers else 200, data[start:], headers)

    def _found(self, repository: str, revision: str) -> str:
        """The repository's branch that has the revision; empty, and answered, where none has."""
        branches = [key for key in self.hub.repositories if key.partition("@")[0] == repository]
        for key in branches:
            if revision in (key.partition("@")[2] or "main", self.hub.commits.get(key, self.hub.commit)):
                return key
        self._error(404, "RevisionNotFound" if branches else "RepoNotFound")
        return ""

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

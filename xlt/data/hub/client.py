"""The hub through its own client: lists what a repository holds, and downloads files into the hub's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Protocol

from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
from huggingface_hub.file_download import REGEX_COMMIT_HASH, http_get
from huggingface_hub.utils.tqdm import tqdm
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, field_validator

from xlt.data.hub.faults import NeverFetched, NotAListing, collecting, disk_full, faults
from xlt.data.hub.lock import RepositoryKind, cache_folder, cached
from xlt.errors import DataFault, XltError
from xlt.files import locked

# Smaller files are downloaded by snapshot_download, several at a time; larger ones one by one, resumed where an earlier
# attempt broke off. snapshot_download cannot resume, since each process writes to a file of its own: a broken download
# of 2 GB of weights would start again from zero.
RESUMED_BYTES = 2**26
LISTING_SECONDS = 60
Digests = dict[str, tuple[int, str]]


class FetchProgress(Protocol):
    """Shows the user what a fetch does."""

    def remark(self, text: str) -> None:
        """Something that the user should know."""

    def plan(self, files: int, here: int, missing: int, free: int) -> None:
        """Before any download: number of wanted files, of those already here, bytes to download, free disk space."""

    def start(self, name: str, missing: int) -> None:
        """A download of so many bytes begins."""

    def advance(self, count: int) -> None:
        """So many bytes were downloaded; a negative number if that many must be downloaded again."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at a commit, and what it must be."""

    kind: RepositoryKind
    repository: str
    revision: str
    path: str
    size: int
    """Its length in bytes, 0 if unknown."""
    digest: str
    """Its sha256 or git blob id, empty if unknown."""

    @property
    def local(self) -> Path:
        """Its path in the hub's cache."""
        return cached(self.kind, self.repository, self.revision, self.path)

    @property
    def partial(self) -> Path:
        """The path of its first bytes until it is complete."""
        return cache_folder(self.kind, self.repository) / "partial" / self.revision / f"{self.path}.part"

    def missing(self) -> int:
        """How many bytes are still to be downloaded."""
        return max(0, self.size - (self.partial.stat().st_size if self.partial.is_file() else 0))

    def sha256(self) -> str:
        """The sha256 of the file in the cache; a wrong file is deleted, with a ``DataFault``."""
        return checked_sha256(self.local, f"'{self.path}' of {self.repository}", self.size, self.digest)


class HubClient:
    """The hub at an address. The token comes from the environment only (HF_TOKEN)."""

    def __init__(self, mirror: str | None, progress: FetchProgress, *, offline: bool) -> None:
        self.offline = offline or constants.is_offline_mode()
        self._progress = progress
        self._endpoint = (mirror or constants.ENDPOINT).rstrip("/")
        self._token = os.environ.get("HF_TOKEN", "")
        self._api = HfApi(endpoint=self._endpoint, token=self._token or False)

    def listing(self, kind: RepositoryKind, repository: str, revision: str, branch: str) -> tuple[str, Digests]:
        """The commit that the hub has as ``revision``, or else as ``branch``, and size and digest of its files."""

        def ask(revision: str) -> _Listing:
            options: dict[str, Any] = {"timeout": LISTING_SECONDS, "files_metadata": True}
            try:
                # Not by snapshot_download(dry_run=True), which tells no digests and asks for every file by itself.
                info: Any = self._api.repo_info(repository, repo_type=kind, revision=revision, **options)
                return _Listing(sha=info.sha, files=[_listed(each) for each in info.siblings or ()])
            # The hub's client takes a server's answer for a listing unseen.
            except (TypeError, KeyError, AttributeError, RecursionError, ValidationError) as error:
                raise NotAListing(str(error)) from error

        with faults(self._endpoint, _page(kind, repository), revision):
            try:
                found = ask(revision)
            except RevisionNotFoundError:
                if not branch:
                    raise
                found = ask(branch)
                self._progress.remark(
                    f"{repository} no longer has {revision}: {found.sha} is taken, which is {branch} now."
                )
                revision = branch
        if REGEX_COMMIT_HASH.match(revision) and revision != found.sha:
            raise DataFault(
                f"{self._endpoint} gives {found.sha} of {repository} where {revision} was asked for.",
                fix="Try without --mirror.",
            )
        return found.sha, {file.path: (file.size, file.digest) for file in found.files}

    def download(self, files: Sequence[RemoteFile], collected: list[XltError]) -> dict[RemoteFile, str]:
        """Downloads files of one repository into the cache; returns the sha256 of each that is complete and right.

        A fault of one file is collected and does not stop the others.
        """
        sha256: dict[RemoteFile, str] = {}
        if not files:
            return sha256
        folder = cache_folder(files[0].kind, files[0].repository)
        with faults(self._endpoint, path=files[0].path):
            (folder / "partial").mkdir(parents=True, exist_ok=True)
        # Two processes that append to the same partial file would make a damaged one of it.
        with locked(folder / "partial", lambda: self._progress.remark(WAITING.format(files[0].repository))):
            self._snapshot([file for file in files if file.size < RESUMED_BYTES])
            for file in files:
                with collecting(collected, one_host=True):
                    if not file.local.is_file():
                        self._resume(file)
                    sha256[file] = file.sha256()
        return sha256

    def _snapshot(self, files: Sequence[RemoteFile]) -> None:
        """Downloads as many of the files as snapshot_download can, in parallel."""
        if len(files) < 2 or self.offline:
            return
        first = files[0]
        self._progress.start(f"{first.repository}: {len(files)} files", sum(file.size for file in files))
        # The client stops at the first fault, if a proxy refuses HEAD requests, and with any exception of Python if a
        # mirror cannot list files as a tree. The caller then downloads what is missing file by file, with GET requests
        # alone, and learns which file has which fault.
        with suppress(Exception):
            snapshot_download(
                first.repository,
                repo_type=first.kind,
                revision=first.revision,
                allow_patterns=[escape(file.path) for file in files],
                endpoint=self._endpoint,
                token=self._token or False,
                tqdm_class=_bar(self._progress),
            )

    def _resume(self, file: RemoteFile) -> None:
        """Downloads one file, from where an earlier attempt broke off."""
        if self.offline:
            raise NeverFetched(file.repository, f"'{file.path}' is absent or damaged.")
        url = hf_hub_url(
            file.repository, file.path, repo_type=file.kind, revision=file.revision, endpoint=self._endpoint
        )
        self._progress.start(f"{file.repository} {file.path}", file.missing())
        with faults(self._endpoint, _page(file.kind, file.repository), file.revision, file.path):
            resume(url, file.partial, file.size, self._progress, self._token)
            file.local.parent.mkdir(parents=True, exist_ok=True)
            file.partial.replace(file.local)


class _ListedFile(BaseModel, strict=True):
    path: str
    size: NonNegativeInt
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$")]

    @field_validator("path")
    @classmethod
    def _below(cls, path: str) -> str:
        if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise ValueError("not a path below the repository")
        return path


class _Listing(BaseModel, strict=True):
    # It names a folder of the cache: nothing but a commit may stand there.
    sha: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    files: list[_ListedFile]


def _listed(file: Any) -> _ListedFile:
    digest = file.lfs.sha256 if file.lfs else file.blob_id or ""
    return _ListedFile(path=file.rfilename, size=file.size or 0, digest=digest)


WAITING = "Another process is fetching {}: waiting until it is done."


def resume(url: str, path: Path, size: int, progress: FetchProgress, token: str = "") -> None:
    """Downloads the rest of the file at ``url`` and appends it to ``path``; ``size`` is 0 if unknown.

    The result must be checked: a server may answer with something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size > size:
        path.unlink()  # it is not the beginning of this file, or the length of the file is unknown
    headers = {"authorization": f"Bearer {token}"} if token else {}
    bar = _bar(progress)
    with path.open("ab") as stream:
        begun = stream.tell()
        try:
            http_get(url, stream, resume_size=begun, headers=headers, expected_size=size or None, tqdm_class=bar)
        except HfHubHTTPError as error:
            # A server that knows no ranges: the next attempt starts from the first byte.
            if begun and error.response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                path.unlink()
                return resume(url, path, size, progress, token)
            raise
        except OSError as error:
            # A plain OSError says that the answer was complete and had another length; the check will find that.
            if type(error) is not OSError or error.errno is not None:
                raise


def _page(kind: RepositoryKind, repository: str) -> str:
    return f"datasets/{repository}" if kind == "dataset" else repository


def _bar(progress: FetchProgress) -> type[tqdm]:
    """A progress bar for the hub's client that shows nothing and passes the counts on to ``progress``."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # A snapshot also makes bars for the number of files and for the bytes on the network.
            name = kwargs.get("name")
            self._counts = name in ("huggingface_hub.snapshot_download", "huggingface_hub.http_get")
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if self._counts:
                with self.get_lock():  # a snapshot counts in several threads
                    progress.advance(int(n or 0))

    return Bar


def checked_sha256(path: Path, name: str, size: int, digest: str) -> str:
    """The sha256 of a downloaded file.

    Raises:
        DataFault: it has another size, sha256 or git blob id, as far as they are known; it is deleted.
    """
    if not (why := _why_wrong(path, size, digest)):
        return digest if digest and not _is_blob_id(digest) else _digest(path)
    path.resolve().unlink()  # in the hub's cache the path is a link to the content
    path.unlink(missing_ok=True)
    raise DataFault(
        f"The download of {name} gave another file than expected, which was deleted.",
        why=why,
        fix="Repeat the command, without --mirror, and after a log-in if the network asks for one. If that does not "
        "help, the file was moved or replaced: see its page.",
    )


def _why_wrong(path: Path, size: int, digest: str) -> str:
    with path.open("rb") as stream:
        if stream.read(100).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return "It is a web page: of the network's log-in, of a proxy, or of a server that has moved the file."
    if size not in (0, length := path.stat().st_size):
        return f"It has {length} bytes, not {size}."
    found = _digest(path, blob_id=_is_blob_id(digest)) if digest else ""
    name = "git blob id" if _is_blob_id(digest) else "sha256"
    return "" if found == digest else f"Its {name} is {found}, not {digest}."


def _is_blob_id(digest: str) -> bool:
    return len(digest) == 40  # a sha256 has 64 digits


def _digest(path: Path, *, blob_id: bool = False) -> str:
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, (lambda: blob) if blob_id else "sha256").hexdigest()


def announce(progress: FetchProgress, folder: Path, *, files: int, here: int, missing: int, offline: bool) -> None:
    """Tells the user what will be downloaded; an ``EnvironmentFault`` if the disk of ``folder`` has no room for it."""
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.is_dir())).free
    progress.plan(files, here, missing, free)
    if missing > free and not offline:
        raise disk_full(f"{missing / 1e9:.2f} GB are still to be downloaded and {free / 1e9:.2f} GB are free.")

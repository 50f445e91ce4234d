"""Brings data sets and models from the hub into its cache, once and for good: what came first is locked."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, constants, hf_hub_url

from xlt.data.hub.faults import faults, never_fetched
from xlt.data.hub.lock import (
    LockedFile,
    LockedRepository,
    RepositoryKind,
    cache_folder,
    cached,
    matching,
    read_lock,
    write_lock,
)
from xlt.data.hub.parquet import row_count
from xlt.data.hub.table import HubPart, languages, on_hub, parts, read_table
from xlt.data.hub.transfer import bring, check_room, free_space, sha256_of
from xlt.errors import DataFault
from xlt.tasks.record import Split, Task

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
MODEL_FILES = ("config.json", "*.safetensors")
# Weights in other formats are several times the size, and never loaded.
OTHER_MODEL_FILES = ("*.json", "*.model", "vocab.txt", "merges.txt")


@dataclass(slots=True)
class Wanted:
    """Files of one repository: a file must match each glob of ``patterns``; ``optional`` ones may be missing.

    ``rows`` is how many rows the files of a pattern have together, where it is known.
    """

    kind: RepositoryKind
    repository: str
    revision: str = "main"
    patterns: dict[str, None] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository; ``size`` is 0 and ``sha256`` empty where neither hub nor lock tells."""

    kind: RepositoryKind
    repository: str
    revision: str
    path: str
    size: int
    sha256: str

    @property
    def local(self) -> Path:
        """Where it lies in the hub's cache."""
        return cached(self.kind, self.repository, self.revision, self.path)

    @property
    def begun(self) -> Path:
        """Where its first bytes lie until it is whole."""
        return cache_folder(self.kind, self.repository) / "begun" / self.revision / f"{self.path}.part"

    def missing(self) -> int:
        """How many bytes are still to come."""
        return max(0, self.size - (self.begun.stat().st_size if self.begun.is_file() else 0))


@dataclass(frozen=True, slots=True)
class FetchedRepository:
    """A repository whose wanted files are in the cache and are what the lock says."""

    kind: RepositoryKind
    repository: str
    revision: str
    files: int
    bytes: int
    downloaded: int


class FetchProgress(Protocol):
    """Is told what a fetch does."""

    def plan(self, files: int, here: int, missing: int, free: int) -> None:
        """Before any download: how many files are wanted and here, bytes still to come, free bytes of the disk."""
        ...

    def start(self, name: str, missing: int) -> None:
        """A file is about to be downloaded, or so many bytes that are left of it."""
        ...

    def advance(self, count: int) -> None:
        """So many bytes have come."""
        ...


def wanted_data(tasks: Iterable[Task], text: Collection[str] = ()) -> list[Wanted]:
    """The files of all splits and languages of the tasks, by repository; the corpus for masked LM only in the
    languages ``text``, where given.

    Raises:
        DataFault: the hub does not have a task in a usable form.
        UsageFault: the corpus does not have a language.
    """
    table = read_table()
    wanted: dict[str, Wanted] = {}
    for task in tasks:
        entry = on_hub(table, task)
        for split in SPLITS:
            known = languages(entry, task, split)
            for language in text if text and known and task.kind == "masked_lm" else known:
                for part in parts(entry, task, split, language):
                    _want(wanted, part)
    return list(wanted.values())


def wanted_model(name: str) -> Wanted:
    """The configuration, tokenizer and safetensors weights of a model of the hub."""
    return Wanted("model", name, patterns=dict.fromkeys(MODEL_FILES), optional=OTHER_MODEL_FILES)


def fetch(
    wanted: list[Wanted], progress: FetchProgress, *, mirror: str | None = None, offline: bool = False
) -> list[FetchedRepository]:
    """Brings every wanted file into the hub's cache and checks it; the same call resumes one that broke off.

    A repository that the lock names is taken at its locked revision, and files at their locked sha256. Any other
    is taken at the commit that its branch now has, checked against the sha256 that the hub declares, and locked
    after its row counts were found right. ``mirror`` is the address of another hub; ``offline`` only checks.

    Raises:
        DataFault: no hub, repository, revision or file; no access; a wrong sha256 or row count; offline, and absent.
        EnvironmentFault: the disk is full, or the lock cannot be written.
        IncompleteFault: the connection broke off.
    """
    hub = _Hub(mirror, offline or constants.is_offline_mode())
    listings = [hub.files(want) for want in wanted]
    every = [file for files in listings for file in files]
    whole = {file: sha256 for file in every if (sha256 := _intact(file))}
    absent = [file for file in every if file not in whole]
    missing = sum(file.missing() for file in absent)
    free = free_space(Path(constants.HF_HUB_CACHE))
    progress.plan(len(every), len(whole), missing, free)
    if absent and hub.offline:
        raise never_fetched(absent[0].repository, f"{len(absent)} files are absent or damaged, first {absent[0].path}.")
    check_room(missing, free)
    fetched = []
    for want, files in zip(wanted, listings, strict=True):
        before = sum(file.missing() for file in files if file not in whole)
        for file in files:
            if file not in whole:
                progress.start(f"{file.repository} {file.path}", file.missing())
                whole[file] = hub.download(file, progress.advance)
        _check_rows(want, files)
        _lock(files, whole)
        if want.kind == "model":
            _name(files[0])
        size = sum(file.local.stat().st_size for file in files)
        fetched.append(FetchedRepository(want.kind, want.repository, files[0].revision, len(files), size, before))
    return fetched


class _Hub:
    """The hub at an address, through its own client. The token comes from the environment only (HF_TOKEN)."""

    def __init__(self, mirror: str | None, offline: bool) -> None:
        self.offline = offline
        self._endpoint = (mirror or constants.ENDPOINT).rstrip("/")
        self._token = os.environ.get("HF_TOKEN", "")
        self._api = HfApi(endpoint=self._endpoint, token=self._token or False)
        self._lock = read_lock()

    def files(self, want: Wanted) -> list[RemoteFile]:
        """The wanted files, as the lock knows them where it does, else as the hub lists them now."""
        locked = self._lock.of(want.kind).get(want.repository)
        if locked and all(matching(locked.files, pattern) for pattern in want.patterns):
            known = {path: (file.size, file.sha256) for path, file in locked.files.items()}
            return _select(want, locked.revision, known)
        if self.offline:
            raise never_fetched(want.repository, "data.lock does not name all its files: they were never fetched.")
        revision = locked.revision if locked else want.revision
        ask = self._api.dataset_info if want.kind == "dataset" else self._api.model_info
        with faults(self._endpoint, _page(want), revision):
            info = ask(want.repository, revision=revision, files_metadata=True)
        listed = {file.rfilename: (file.size or 0, file.lfs.sha256 if file.lfs else "") for file in info.siblings or ()}
        if locked:
            listed.update({path: (file.size, file.sha256) for path, file in locked.files.items()})
        return _select(want, locked.revision if locked else str(info.sha), listed)

    def download(self, file: RemoteFile, advance: Callable[[int], None]) -> str:
        """Brings one file into the cache, from where an earlier attempt broke off; returns its sha256."""
        if file.begun.is_file() and file.begun.stat().st_size > file.size:
            file.begun.unlink()  # no beginning of this file, or one whose length is not known
        url = hf_hub_url(
            file.repository, file.path, repo_type=file.kind, revision=file.revision, endpoint=self._endpoint
        )
        with faults(self._endpoint, _page(file), file.revision, file.path):
            sha256 = bring(url, file.begun, file.sha256, advance, self._token, size=file.size)
            file.local.parent.mkdir(parents=True, exist_ok=True)
            file.begun.replace(file.local)
        return sha256


def _name(file: RemoteFile) -> None:
    """Lets libraries find a model by its name alone, without asking the hub."""
    branch = cache_folder(file.kind, file.repository) / "refs" / "main"
    branch.parent.mkdir(exist_ok=True)
    branch.write_text(file.revision, encoding="ascii")


def _page(of: Wanted | RemoteFile) -> str:
    return f"datasets/{of.repository}" if of.kind == "dataset" else of.repository


def _want(wanted: dict[str, Wanted], part: HubPart) -> None:
    want = wanted.setdefault(part.repository, Wanted("dataset", part.repository, part.revision))
    want.patterns[part.pattern] = None
    if part.rows:
        want.rows[part.pattern] = part.rows


def _select(want: Wanted, revision: str, known: dict[str, tuple[int, str]]) -> list[RemoteFile]:
    for pattern in want.patterns:
        if not matching(known, pattern):
            raise DataFault(
                f"{want.repository} has no file '{pattern}' at the revision {revision}.",
                why="A loading script is never run, nor weights read that are not safetensors."
                if pattern in MODEL_FILES or any(path.endswith(".py") for path in known)
                else "artifact/hub.toml says where the files should lie; the repository may have changed.",
                mend="Get the official files and use --source files, or name another model.",
            )
    paths = {path for pattern in (*want.patterns, *want.optional) for path in matching(known, pattern)}
    return [RemoteFile(want.kind, want.repository, revision, path, *known[path]) for path in sorted(paths)]


def _intact(file: RemoteFile) -> str:
    """The sha256 of a file in the cache if it is what it should be; a damaged one is taken away."""
    if not file.local.is_file():
        return ""
    sha256 = sha256_of(file.local)
    if file.sha256 in ("", sha256) and file.size in (0, file.local.stat().st_size):
        return sha256
    file.local.unlink()
    return ""


def _check_rows(want: Wanted, files: list[RemoteFile]) -> None:
    local = {file.path: file.local for file in files}
    for pattern, expected in want.rows.items():
        found = sum(row_count(local[path]) for path in matching(local, pattern))
        if found != expected:
            raise DataFault(
                f"'{pattern}' of {want.repository} has {found} rows, expected are {expected}.",
                why="The repository is no longer what artifact/hub.toml describes; nothing of it was locked.",
                mend="Look at the repository's page; correct artifact/hub.toml if the data is right all the same.",
            )


def _lock(files: list[RemoteFile], sha256: dict[RemoteFile, str]) -> None:
    lock = read_lock()
    first = files[0]
    locked = lock.of(first.kind).setdefault(first.repository, LockedRepository(revision=first.revision))
    new = {file.path: LockedFile(size=file.local.stat().st_size, sha256=sha256[file]) for file in files}
    if not new.items() <= locked.files.items():
        locked.files.update(new)
        write_lock(lock)

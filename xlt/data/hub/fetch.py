"""Brings data sets and models from the hub into its cache, once and for good: what came first is locked."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.file_download import REGEX_COMMIT_HASH

from xlt.data.hub.faults import collecting, faults, never_fetched, raise_collected
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
from xlt.data.hub.table import HubFiles, HubPins, hub_model, languages, on_hub, parts, read_pins, read_table
from xlt.data.hub.transfer import bring, check_room, free_space, sha256_of, why_wrong
from xlt.errors import DataFault, XltError
from xlt.tasks.record import Split, Task

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
MODEL_FILES = ("config.json", "*.safetensors")
# Weights in other formats are several times the size, and never loaded.
OTHER_MODEL_FILES = ("*.json", "*.model", "vocab.txt", "merges.txt")
LISTING_SECONDS = 60


@dataclass(slots=True)
class Wanted:
    """Files of one repository: a file must match each glob of ``patterns``; ``optional`` ones may be missing.

    With each pattern comes how many rows its files have together, 0 if not known. ``branch`` is what is taken where the
    repository no longer has the commit ``revision``; empty if nothing is.
    """

    kind: RepositoryKind
    repository: str
    revision: str = "main"
    patterns: dict[str, int] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    branch: str = ""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository; ``digest`` is its sha256 or git blob id. It is empty, and ``size`` 0, where not known."""

    kind: RepositoryKind
    repository: str
    revision: str
    path: str
    size: int
    digest: str

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

    def remark(self, text: str) -> None:
        """Something that the user should know."""

    def plan(self, files: int, here: int, missing: int, free: int) -> None:
        """Before any download: how many files are wanted and here, bytes still to come, free bytes of the disk."""

    def start(self, name: str, missing: int) -> None:
        """A file is about to be downloaded, or so many bytes that are left of it."""

    def advance(self, count: int) -> None:
        """So many bytes have come."""


def wanted_data(tasks: Iterable[Task], text: Collection[str] = ()) -> list[Wanted]:
    """The files of all splits and languages of the tasks, by repository; the corpus for masked LM only in the
    languages ``text``, where given.

    Raises:
        DataFault: the hub does not have a task in a usable form.
        UsageFault: the corpus does not have a language.
    """
    table, pins = read_table(), read_pins()
    wanted: dict[str, Wanted] = {}
    for task in tasks:
        entry = on_hub(table, task)
        for split in SPLITS:
            known = languages(entry, task, split)
            for language in text if text and known and task.kind == "masked_lm" else known:
                for part in parts(entry, task, split, language):
                    _want(wanted, part, pins)
    return list(wanted.values())


def wanted_model(name: str) -> Wanted:
    """The configuration, tokenizer and safetensors weights of a model of the hub, by its repository or a short name."""
    model = hub_model(name)
    return Wanted("model", model.repository, model.revision, dict.fromkeys(MODEL_FILES, 0), OTHER_MODEL_FILES)


def fetch(
    wanted: list[Wanted], progress: FetchProgress, *, mirror: str | None = None, offline: bool = False
) -> list[FetchedRepository]:
    """Brings every wanted file into the hub's cache and checks it; the same call resumes one that broke off.

    A repository that the lock names is taken at its locked revision, and files at their locked sha256. Any other is
    taken at the commit that ``artifact/hub.toml`` or its branch has, checked against what the table and the hub say,
    and locked after its row counts were found right. What is wrong with one file keeps no other from being fetched.
    ``mirror`` is the address of another hub; ``offline`` only checks.

    Raises:
        DataFault: no hub, repository, revision or file; no access; another file or row count; offline, and absent.
        EnvironmentFault: the disk is full, or the lock cannot be written.
        IncompleteFault: the connection broke off.
        SeveralFaults: several of these; all else was fetched.
    """
    hub = _Hub(mirror, progress, offline=offline or constants.is_offline_mode())
    collected: list[XltError] = []
    listings: list[tuple[Wanted, list[RemoteFile]]] = []
    for want in wanted:
        with collecting(collected, one_host=True):
            listings.append((want, hub.files(want, collected)))
    every = [file for _, files in listings for file in files]
    whole = {file: sha256 for file in every if (sha256 := _intact(file))}
    missing = sum(file.missing() for file in every if file not in whole)
    free = free_space(Path(constants.HF_HUB_CACHE))
    progress.plan(len(every), len(whole), missing, free)
    check_room(0 if hub.offline else missing, free)
    fetched = []
    for want, files in listings:
        absent = [file for file in files if file not in whole]
        before = sum(file.missing() for file in absent)
        for file in absent:
            with collecting(collected, one_host=True):
                whole[file] = hub.download(file)
        if sound := _sound(want, files, whole, collected):
            _lock(sound, whole)
            size = sum(file.local.stat().st_size for file in sound)
            fetched.append(FetchedRepository(want.kind, want.repository, sound[0].revision, len(sound), size, before))
    raise_collected(collected)
    return fetched


class _Hub:
    """The hub at an address, through its own client. The token comes from the environment only (HF_TOKEN)."""

    def __init__(self, mirror: str | None, progress: FetchProgress, *, offline: bool) -> None:
        self.offline = offline
        self._progress = progress
        self._endpoint = (mirror or constants.ENDPOINT).rstrip("/")
        self._token = os.environ.get("HF_TOKEN", "")
        self._api = HfApi(endpoint=self._endpoint, token=self._token or False)
        self._lock, self._pins = read_lock(), read_pins()

    def files(self, want: Wanted, collected: list[XltError]) -> list[RemoteFile]:
        """The wanted files, as the lock knows them where it does, else as the hub lists them now."""
        locked = self._lock.of(want.kind).get(want.repository)
        revision = locked.revision if locked else want.revision
        known = {path: (file.size, file.sha256) for path, file in locked.files.items()} if locked else {}
        if not all(matching(known, pattern) for pattern in want.patterns):
            if self.offline:
                raise never_fetched(want.repository, "data.lock does not name all its files: they were never fetched.")
            revision, listed = self._list(want, revision, "" if locked else want.branch)
            known = listed | known
        # The digests that the project knows are those of the pinned commit, and of no other.
        is_pinned = revision == want.revision
        for path, sha256 in self._pins.sha256.get(want.repository, {}).items() if is_pinned else ():
            if path in known:
                known[path] = (known[path][0], sha256)
        return _select(want, revision, known, collected)

    def _list(self, want: Wanted, revision: str, branch: str) -> tuple[str, dict[str, tuple[int, str]]]:
        """The commit that the hub has as ``revision``, or else as ``branch``, and size and digest of its files."""
        of_kind = self._api.dataset_info if want.kind == "dataset" else self._api.model_info
        ask = partial(of_kind, want.repository, timeout=LISTING_SECONDS, files_metadata=True)
        with faults(self._endpoint, _page(want), revision):
            try:
                info = ask(revision=revision)
            except RevisionNotFoundError:
                if not branch:
                    raise
                info = ask(revision=branch)
                self._progress.remark(
                    f"{want.repository} no longer has {revision}: {info.sha} is taken, which is {branch} now."
                )
                revision = branch
        if REGEX_COMMIT_HASH.match(revision) and revision != info.sha:
            raise DataFault(
                f"{self._endpoint} gives {info.sha} of {want.repository} where {revision} was asked for.",
                fix="Try without --mirror.",
            )
        siblings = info.siblings or ()
        return str(info.sha), {
            file.rfilename: (file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id or "") for file in siblings
        }

    def download(self, file: RemoteFile) -> str:
        """Brings one file into the cache, from where an earlier attempt broke off; returns its sha256."""
        if self.offline:
            raise never_fetched(file.repository, f"'{file.path}' is absent or damaged.")
        url = hf_hub_url(
            file.repository, file.path, repo_type=file.kind, revision=file.revision, endpoint=self._endpoint
        )
        self._progress.start(f"{file.repository} {file.path}", file.missing())
        with faults(self._endpoint, _page(file), file.revision, file.path):
            advance = self._progress.advance
            sha256 = bring(url, file.begun, advance, self._token, size=file.size, digest=file.digest)
            file.local.parent.mkdir(parents=True, exist_ok=True)
            file.begun.replace(file.local)
        return sha256


def _page(of: Wanted | RemoteFile) -> str:
    return f"datasets/{of.repository}" if of.kind == "dataset" else of.repository


def _want(wanted: dict[str, Wanted], part: HubFiles, pins: HubPins) -> None:
    # A converted branch may be written anew, by the hub's own bot, whose old commits then are gone.
    revision, branch = pins.revisions.get(part.repository, part.branch), "" if part.branch == "main" else part.branch
    want = wanted.setdefault(part.repository, Wanted("dataset", part.repository, revision, branch=branch))
    want.patterns[part.path] = part.rows


def _select(
    want: Wanted, revision: str, known: dict[str, tuple[int, str]], collected: list[XltError]
) -> list[RemoteFile]:
    for pattern in want.patterns:
        if not matching(known, pattern):
            fault = DataFault(
                f"{want.repository} has no file '{pattern}' at the revision {revision}.",
                why="A loading script is never run, nor weights read that are not safetensors."
                if pattern in MODEL_FILES or any(path.endswith(".py") for path in known)
                else "artifact/hub.toml says where the files should lie; the repository may have changed.",
                fix="Get the official files and use --source files, or name another model.",
            )
            if want.kind == "model":
                raise fault  # its other files are of no use
            collected.append(fault)
    paths = {path for pattern in (*want.patterns, *want.optional) for path in matching(known, pattern)}
    return [RemoteFile(want.kind, want.repository, revision, path, *known[path]) for path in sorted(paths)]


def _intact(file: RemoteFile) -> str:
    """The sha256 of a file in the cache if it is what it should be; a damaged one is taken away."""
    if not file.local.is_file():
        return ""
    if not why_wrong(file.local, file.size, file.digest):
        return sha256_of(file.local, file.digest)
    file.local.unlink()
    return ""


def _sound(
    want: Wanted, files: list[RemoteFile], whole: Collection[RemoteFile], collected: list[XltError]
) -> list[RemoteFile]:
    """The files of the patterns that are wholly here with the right number of rows; a model's all or none."""
    if want.kind == "model":
        return files if all(file in whole for file in files) else []
    local = {file.path: file for file in files}
    sound: dict[str, RemoteFile] = {}
    for pattern, expected in want.patterns.items():
        of_pattern = {path: local[path] for path in matching(local, pattern)}
        if not of_pattern or not all(file in whole for file in of_pattern.values()):
            continue
        with collecting(collected):
            if expected and (found := sum(row_count(file.local) for file in of_pattern.values())) != expected:
                raise DataFault(
                    f"'{pattern}' of {want.repository} has {found} rows, expected are {expected}.",
                    why="The repository is no longer what artifact/hub.toml describes; these files were not locked.",
                    fix="Look at the repository's page; correct artifact/hub.toml if the data is right all the same.",
                )
            sound |= of_pattern
    return list(sound.values())


def _lock(files: list[RemoteFile], sha256: dict[RemoteFile, str]) -> None:
    lock = read_lock()
    first = files[0]
    locked = lock.of(first.kind).setdefault(first.repository, LockedRepository(revision=first.revision))
    new = {file.path: LockedFile(size=file.local.stat().st_size, sha256=sha256[file]) for file in files}
    if not new.items() <= locked.files.items():
        locked.files.update(new)
        write_lock(lock)
    if first.kind == "model":
        # Lets libraries find a model by its name alone, without asking the hub.
        branch = cache_folder(first.kind, first.repository) / "refs" / "main"
        branch.parent.mkdir(exist_ok=True)
        branch.write_text(first.revision, encoding="ascii")

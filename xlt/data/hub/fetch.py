"""Downloads data sets and models of the hub into its cache; what came first is locked."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import constants
from safetensors import SafetensorError, safe_open

from xlt.data.hub.client import Digests, FetchProgress, HubClient, RemoteFile, announce
from xlt.data.hub.faults import NeverFetched, collecting, faults, raise_collected
from xlt.data.hub.lock import (
    LockedFile,
    LockedRepository,
    RepositoryKind,
    cache_folder,
    lock_for_writing,
    matching,
    read_lock,
)
from xlt.data.hub.parquet import row_count
from xlt.data.hub.table import TOKENIZER_FILES, WEIGHT_FILES, hub_model, languages, on_hub, parts, read_pins, read_table
from xlt.errors import DataFault, XltError
from xlt.files import check_writable
from xlt.tasks.record import Split, Task

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
MODEL_FILES = ("config.json", WEIGHT_FILES)


@dataclass(slots=True)
class Wanted:
    """Files of one repository."""

    kind: RepositoryKind
    repository: str
    revision: str = "main"
    patterns: dict[str, int] = field(default_factory=dict)
    """Globs, each of which must match a file, with the number of rows that their files have together, 0 if unknown."""
    optional: tuple[str, ...] = ()
    """Globs of further files, which may be missing."""
    branch: str = ""
    """The branch to take if the repository no longer has the commit ``revision``; empty if there is none."""


@dataclass(frozen=True, slots=True)
class FetchedRepository:
    """A repository whose wanted files are in the cache, as ``data.lock`` says."""

    kind: RepositoryKind
    """``dataset`` or ``model``."""
    repository: str
    """Its name on the hub, OWNER/NAME."""
    revision: str
    """The commit."""
    files: int
    """How many files are in the cache and sound."""
    bytes: int
    """The bytes of these files."""
    downloaded: int
    """The bytes that this command had to download."""


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
                    # The hub's bot may convert a repository again: then the converted branch has no old commits.
                    revision = pins.revisions.get(part.repository, part.branch)
                    branch = "" if part.branch == "main" else part.branch
                    want = Wanted("dataset", part.repository, revision, branch=branch)
                    wanted.setdefault(part.repository, want).patterns[part.path] = part.rows
    return list(wanted.values())


def wanted_model(name: str) -> Wanted:
    """The configuration, tokenizer and safetensors weights of a model of the hub, by its repository or a short name."""
    model = hub_model(name)
    return Wanted("model", model.repository, model.revision, dict.fromkeys(MODEL_FILES, 0), TOKENIZER_FILES)


def fetch(
    wanted: list[Wanted], progress: FetchProgress, *, mirror: str | None = None, offline: bool = False
) -> list[FetchedRepository]:
    """Downloads every wanted file into the hub's cache and checks it; the same call resumes one that broke off.

    A repository that the lock names is taken at its locked revision, and files at their locked sha256. Any other is
    taken at the commit that ``artifact/hub.toml`` or its branch has, checked against what the table and the hub say,
    and locked if its row counts are right. A fault of one file does not stop the others.
    ``mirror`` is the address of another hub; ``offline`` only checks.

    Raises:
        DataFault: no hub, repository, revision or file; no access; another file or row count; offline, and absent.
        EnvironmentFault: the disk is full, or the lock cannot be written.
        IncompleteFault: the connection broke off.
        SeveralFaults: several of these; all else was fetched.
    """
    hub, cache = HubClient(mirror, progress, offline=offline), Path(constants.HF_HUB_CACHE)
    if not offline:
        check_writable(cache, "HF_HOME", "the hub's cache")
    collected: list[XltError] = []
    listings: list[tuple[Wanted, list[RemoteFile]]] = []
    for want in wanted:
        with collecting(collected, one_host=True):
            listings.append((want, _files(hub, want, collected)))
    every = [file for _, files in listings for file in files]
    whole: dict[RemoteFile, str] = {}
    for file in every:
        if file.local.is_file():
            with suppress(DataFault):  # a damaged one is deleted
                whole[file] = file.sha256()
    missing = sum(file.missing() for file in every if file not in whole)
    announce(progress, cache, files=len(every), here=len(whole), missing=missing, offline=hub.offline)
    fetched = []
    for want, files in listings:
        absent = [file for file in files if file not in whole]
        before = sum(file.missing() for file in absent)
        whole |= hub.download(absent, collected)
        if sound := _sound(want, files, whole, collected):
            _lock(sound, whole)
            size = sum(file.local.stat().st_size for file in sound)
            fetched.append(FetchedRepository(want.kind, want.repository, sound[0].revision, len(sound), size, before))
    raise_collected(collected)
    return fetched


def _files(hub: HubClient, want: Wanted, collected: list[XltError]) -> list[RemoteFile]:
    """The wanted files, as the lock knows them where it does, else as the hub lists them now."""
    locked = read_lock().of(want.kind).get(want.repository)
    revision = locked.revision if locked else want.revision
    known = {path: (file.size, file.sha256) for path, file in locked.files.items()} if locked else {}
    if not all(matching(known, pattern) for pattern in want.patterns):
        if hub.offline:
            raise NeverFetched(want.repository)
        revision, listed = hub.listing(want.kind, want.repository, revision, "" if locked else want.branch)
        known = listed | known
    # The digests in artifact/hub.toml are those of the pinned commit only.
    is_pinned = revision == want.revision
    for path, sha256 in read_pins().sha256.get(want.repository, {}).items() if is_pinned else ():
        if path in known:
            known[path] = (known[path][0], sha256)
    return _select(want, revision, known, collected)


def _select(want: Wanted, revision: str, known: Digests, collected: list[XltError]) -> list[RemoteFile]:
    for pattern in want.patterns:
        if not matching(known, pattern):
            fault = DataFault(
                f"{want.repository} has no file '{pattern}' at the revision {revision}.",
                why="xlt runs no loading scripts, and reads weights from safetensors files only."
                if pattern in MODEL_FILES or any(path.endswith(".py") for path in known)
                else "artifact/hub.toml says where the files should be; the repository may have changed.",
                fix="Get the official files and use --source files, or name another model.",
            )
            if want.kind == "model":
                raise fault  # its other files are of no use
            collected.append(fault)
    paths = {path for pattern in (*want.patterns, *want.optional) for path in matching(known, pattern)}
    return [RemoteFile(want.kind, want.repository, revision, path, *known[path]) for path in sorted(paths)]


def _sound(
    want: Wanted, files: list[RemoteFile], whole: Collection[RemoteFile], collected: list[XltError]
) -> list[RemoteFile]:
    """The files of the patterns that are wholly here with the right number of rows; a model's all or none."""
    if want.kind == "model":
        if not all(file in whole for file in files):
            return []
        faults_before = len(collected)
        with collecting(collected):
            for file in files:
                _check_model_file(file)
        return files if len(collected) == faults_before else []
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
                    fix="Look at the repository's page; if the new data is right, correct artifact/hub.toml.",
                )
            sound |= of_pattern
    return list(sound.values())


def _check_model_file(file: RemoteFile) -> None:
    """What is wrong even if a server declares neither size nor digest: a file that is empty, cut or no JSON."""
    try:
        if file.path.endswith(".safetensors"):
            with safe_open(file.local, framework="numpy"):
                pass  # its header is read, and says how long the file is
        elif file.path.endswith(".json"):
            json.loads(file.local.read_bytes())
    except (SafetensorError, ValueError) as error:
        file.local.unlink()
        raise DataFault(
            f"'{file.path}' of {file.repository} is damaged as the hub has it; it was deleted.",
            why=f"{type(error).__name__}: {error}",
            fix="Try without --mirror, or name another model.",
        ) from error


def _lock(files: list[RemoteFile], sha256: dict[RemoteFile, str]) -> None:
    first = files[0]
    new = {file.path: LockedFile(size=file.local.stat().st_size, sha256=sha256[file]) for file in files}
    with lock_for_writing() as lock:
        every = lock.of(first.kind)
        every.setdefault(first.repository, LockedRepository(revision=first.revision)).files.update(new)
    if first.kind == "model":
        # The cache's own file for the branch main: with it libraries find the model by its name alone, offline.
        branch = cache_folder(first.kind, first.repository) / "refs" / "main"
        if not branch.is_file() or branch.read_text("ascii") != first.revision:
            with faults(constants.ENDPOINT, path=branch.name):
                branch.parent.mkdir(exist_ok=True)
                branch.write_text(first.revision, encoding="ascii")

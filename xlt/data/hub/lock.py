"""What the hub's files must be: revision, size and sha256, written by the first real fetch (``data.lock``)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from pydantic import BaseModel, ValidationError

from xlt.artifact import artifact_root
from xlt.errors import DataFault, EnvironmentFault

RepositoryKind = Literal["dataset", "model"]


class LockedFile(BaseModel):
    """A file as it was when it was first fetched."""

    size: int
    sha256: str


class LockedRepository(BaseModel):
    """A repository's revision (a commit) and its files that were fetched, by path."""

    revision: str
    files: dict[str, LockedFile] = {}


class DataLock(BaseModel):
    """The repositories that were fetched, by name, and the archives, by address."""

    format: Literal[1] = 1
    datasets: dict[str, LockedRepository] = {}
    models: dict[str, LockedRepository] = {}
    archives: dict[str, LockedFile] = {}

    def of(self, kind: RepositoryKind) -> dict[str, LockedRepository]:
        """The repositories of one kind."""
        return self.datasets if kind == "dataset" else self.models


def lock_path() -> Path:
    """The file that a fetch writes: ``XLT_DATA_LOCK``, else ``artifact/data.lock``."""
    return Path(os.environ.get("XLT_DATA_LOCK") or artifact_root() / "data.lock")


def read_lock() -> DataLock:
    """The lock; a repository that the project's own ``artifact/data.lock`` names has the revision and the files that it
    says there, and those others that were fetched at the same revision.

    Raises:
        DataFault: a lock is damaged.
    """
    lock = DataLock()
    for path in dict.fromkeys((lock_path(), artifact_root() / "data.lock")):
        if not path.is_file():
            continue
        try:
            found = DataLock.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DataFault(
                f"'{path.name}' is damaged.",
                why=str(error),
                fix="Restore it: git checkout -- artifact/data.lock; the file that XLT_DATA_LOCK names: delete it.",
            ) from error
        for earlier, later in ((lock.datasets, found.datasets), (lock.models, found.models)):
            for name, repository in later.items():
                if name in earlier and earlier[name].revision == repository.revision:
                    repository.files = {**earlier[name].files, **repository.files}
                earlier[name] = repository
        lock.archives.update(found.archives)
    return lock


def write_lock(lock: DataLock) -> None:
    """Writes the lock in one step, in an order that does not depend on that of the fetches.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    path = lock_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.draft")
        draft.write_text(json.dumps(lock.model_dump(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise EnvironmentFault(
            f"'{path.name}' cannot be written, which records what was fetched.",
            why=str(error),
            fix="Set XLT_DATA_LOCK to a file that you may write, for this and all later commands.",
        ) from error


def matching(files: Iterable[str], pattern: str) -> list[str]:
    """The paths that match a glob whose ``*`` stays within one folder, sorted: shards come in their order."""
    return sorted(path for path in files if path.count("/") == pattern.count("/") and fnmatchcase(path, pattern))


def cached(kind: RepositoryKind, repository: str, revision: str, path: str) -> Path:
    """Where the file lies in the hub's cache, by the cache's documented layout, if it was fetched."""
    return cache_folder(kind, repository) / "snapshots" / revision / path


def cache_folder(kind: RepositoryKind, repository: str) -> Path:
    """The folder of a repository in the hub's cache."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)

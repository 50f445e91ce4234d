"""Which files and columns of the hub hold each task (``artifact/hub.toml``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter

from xlt.artifact import read_toml
from xlt.errors import DataFault, UsageFault
from xlt.tasks.record import Split, Task

ENGLISH = "en"


class HubFiles(BaseModel):
    """The parquet files of one repository that hold a split, or a part of it; ``{lang}`` stands for the language."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    path: str
    revision: str = "main"
    id: str = ""
    only: str = ""
    rows: int = 0
    rows_in: dict[str, int] = {}
    first: int = 0
    languages: tuple[str, ...] = ()


class Archive(BaseModel):
    """A tar file of an official release and what of it belongs below the data root; ``{lang}`` as above."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    take: str
    into: str = ""


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class HubTask(BaseModel):
    """A task on the hub; the head of ``artifact/hub.toml`` says what each field means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, Annotated[tuple[str, ...], BeforeValidator(_listed)]] = {}
    labels: tuple[str, ...] = ()
    codes: dict[str, str] = {}
    note: str = ""
    absent: str = ""
    archives: list[Archive] = []
    train: list[HubFiles] = []
    dev: list[HubFiles] = []
    test: list[HubFiles] = []

    def column(self, use: str) -> str:
        """The one column of that use; empty where the task has none."""
        return self.columns.get(use, ("",))[0]


@dataclass(frozen=True, slots=True)
class HubPart:
    """The files (a glob) that hold one split of a task in one language, or a part of it.

    ``id`` is the column of the rows' ids, empty where there is none, and ``only`` what they begin with; ``rows`` is
    how many rows the files have, 0 if not known, and ``first`` how many are read, 0 if all.
    """

    repository: str
    revision: str
    pattern: str
    id: str
    only: str
    rows: int
    first: int


def read_table() -> dict[str, HubTask]:
    """The table of ``artifact/hub.toml``, by task key."""
    return TypeAdapter(dict[str, HubTask]).validate_python(read_toml("hub.toml"))


def on_hub(table: dict[str, HubTask], task: Task) -> HubTask:
    """The entry of a task.

    Raises:
        DataFault: the hub does not have the task in a usable form.
    """
    entry = table.get(task.key, HubTask(absent="artifact/hub.toml does not name it."))
    if entry.absent:
        raise DataFault(
            f"{task.name} is not taken from the hub.",
            why=entry.absent,
            mend=f"xlt fetch {task.key} --data-root DIR"
            if entry.archives
            else f"Get the official files{task.address and f' from {task.address}'} and add --data-root DIR.",
        )
    return entry


def languages(entry: HubTask, task: Task, split: Split) -> tuple[str, ...]:
    """The languages in which the hub has the split, in the task's order: English alone where no path names one."""
    if not getattr(entry, split):
        return ()
    first: HubFiles = getattr(entry, split)[0]
    if "{lang}" not in first.path + first.only:
        return (ENGLISH,)
    return tuple(
        language
        for language in task.languages or first.languages
        if first.rows or not first.rows_in or language in first.rows_in
    )


def parts(entry: HubTask, task: Task, split: Split, language: str) -> list[HubPart]:
    """Where the rows of a split in one language lie, in their order.

    Raises:
        UsageFault: the hub has no such split or language.
    """
    present = languages(entry, task, split)
    if language not in present:
        raise UsageFault(
            f"The hub has no split '{split}' of '{task.key}' in the language '{language}'.",
            why=f"Languages there: {' '.join(present) or 'none'}. {entry.note}".strip(),
            mend=f"xlt tasks show {task.key}",
        )
    code = entry.codes.get(language, language)
    return [
        HubPart(
            files.repository,
            files.revision,
            files.path.replace("{lang}", code),
            files.id or entry.column("id"),
            files.only.replace("{lang}", code),
            files.rows_in.get(language, files.rows),
            files.first,
        )
        for files in getattr(entry, split)
    ]


class HubModel(BaseModel):
    """STUB until the hub branch is merged."""

    repository: str
    revision: str = "main"
    config: dict[str, int] = {}


def hub_model(name: str) -> HubModel:
    """STUB"""
    return HubModel(repository=name)

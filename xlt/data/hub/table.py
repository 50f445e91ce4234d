"""Which files and columns of the hub hold each task (``artifact/hub.toml``)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, TypeAdapter

from xlt.artifact import read_toml
from xlt.data.hub.lock import LockedFile
from xlt.data.source import lacks
from xlt.errors import DataFault
from xlt.frozen import Frozen
from xlt.tasks.record import ENGLISH, Split, Task

# What is read of a model's folder. Weights in other formats are several times the size, and never loaded.
WEIGHT_FILES = "*.safetensors"
TOKENIZER_FILES = ("*.json", "*.model", "*.txt", "*.spm", "*.codes", "*.tokenizer")
"""Configuration and every file that a tokenizer of transformers names as its own."""
# The table has one text in the place of a list of one.
Listed = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class HubFiles(Frozen):
    """The parquet files of one repository (a glob) that hold a split, or a part of it; ``{lang}`` stands for the
    language until ``parts`` has put its name there, which then is ``language``."""

    repository: str
    path: str
    branch: str = "main"
    id: str = ""
    only: str = ""
    rows: int = 0
    rows_in: dict[str, int] = {}
    first: int = 0
    languages: tuple[str, ...] = ()
    language: str = ""


class Archive(Frozen):
    """A tar file of an official release and what of it belongs below the data root; ``{lang}`` as above."""

    address: str
    take: Listed
    """Globs of its members."""
    languages: tuple[str, ...] = ()
    """The languages that it has, where not all."""
    into: str = ""
    """The folder below the data root that the members go to."""


class HubTask(Frozen):
    """A task on the hub; the head of ``artifact/hub.toml`` says what each field means."""

    columns: dict[str, Listed] = {}
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


class HubModel(Frozen):
    """A model on the hub: its repository, the commit to take, and sizes that its configuration must have.

    ``pieces`` is how many its tokenizer has, where the configuration's ``vocab_size`` was not seen.
    """

    repository: str
    revision: str = "main"
    config: dict[str, int] = {}
    pieces: int = 0


class HubPins(BaseModel):
    """What public sources say of the files, before anybody has fetched them."""

    revisions: dict[str, str] = {}
    """The commit of each repository."""
    models: dict[str, HubModel] = {}
    """Models by their short names."""
    sha256: dict[str, dict[str, str]] = {}
    """Digests by repository and path."""
    archives: dict[str, LockedFile] = {}
    """Archives by address."""


def read_table() -> dict[str, HubTask]:
    """The tasks of ``artifact/hub.toml``, by key."""
    tables = {key: table for key, table in read_toml("hub.toml").items() if key not in HubPins.model_fields}
    return TypeAdapter(dict[str, HubTask]).validate_python(tables)


def read_pins() -> HubPins:
    """The rest of ``artifact/hub.toml``."""
    return HubPins.model_validate(read_toml("hub.toml"))


def hub_model(name: str) -> HubModel:
    """The model with that short name or repository; one that ``artifact/hub.toml`` does not name has no known sizes."""
    models = read_pins().models
    named = models.get(name) or next((model for model in models.values() if model.repository == name), None)
    return named or HubModel(repository=name)


def on_hub(table: dict[str, HubTask], task: Task) -> HubTask:
    """The entry of a task; a ``DataFault`` where the hub does not have the task in a usable form."""
    entry = table.get(task.key, HubTask(absent="artifact/hub.toml does not name it."))
    if entry.absent:
        raise DataFault(
            f"{task.name} is not taken from the hub.",
            why=entry.absent,
            fix=f"xlt fetch {task.key} --data-root DIR"
            if entry.archives
            else f"Get the official files{task.address and f' from {task.address}'} and add --data-root DIR.",
        )
    return entry


def languages(entry: HubTask, task: Task, split: Split) -> tuple[str, ...]:
    """The languages in which the hub has the split, in the task's order: English alone where no path names one."""
    found: list[HubFiles] = getattr(entry, split)
    if not found:
        return ()
    if "{lang}" not in found[0].path + found[0].only:
        return (ENGLISH,)
    return tuple(
        language for language in task.languages or found[0].languages if any(has(files, language) for files in found)
    )


def has(files: HubFiles, language: str) -> bool:
    """Whether these files, or a part of them, are of the language."""
    counted = files.rows or not files.rows_in or language in files.rows_in
    return bool(counted) and (not files.languages or language in files.languages)


def parts(entry: HubTask, task: Task, split: Split, language: str) -> list[HubFiles]:
    """Where the rows of a split in one language lie, in their order, ``id`` and ``rows`` filled in."""
    present = languages(entry, task, split)
    if language not in present:
        raise lacks("The hub", task, split, language, present, entry.note)
    code = entry.codes.get(language, language)
    return [
        files.model_copy(
            update={
                "path": files.path.replace("{lang}", code),
                "only": files.only.replace("{lang}", code),
                "id": files.id or entry.column("id"),
                "rows": files.rows_in.get(language, files.rows),
                "language": code,
            }
        )
        for files in getattr(entry, split)
        if has(files, language)
    ]

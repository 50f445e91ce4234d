"""``xlt fetch``: the data of tasks and public models, downloaded once.

xlt fetch mnli xnli --model xlm-roberta-large
xlt fetch tatoeba --mirror https://hub.example.org
xlt fetch --tier pocket --part A1              # what a part of a tier needs
xlt fetch bucc2018 --data-root DIR             # official archives, which the hub does not carry
xlt fetch mnli --offline                       # is it here and unchanged?
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from xlt.cli import options
from xlt.cli.lazy import lazily
from xlt.cli.output import Shown, emit, say
from xlt.errors import UsageFault, XltError
from xlt.printable import counted
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import Task

with lazily():
    from xlt import files
    from xlt.cli import progress
    from xlt.data.hub import archives, faults, table
    from xlt.data.hub import fetch as hub
    from xlt.pipeline import needs


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is here after a fetch, whether it was downloaded now or before."""

    repositories: list[hub.FetchedRepository]
    """The repositories of the hub that were asked for."""
    archives: dict[str, list[str]]
    """The files unpacked into the data root, by the address of the official archive."""


def fetch(
    keys: Annotated[list[str] | None, typer.Argument(metavar="TASK", help="Fetch the data of these tasks.")] = None,
    model: Annotated[str, "Also this model of the hub."] = "",
    tier: Annotated[str, "All tasks and models that this tier needs of the hub."] = "",
    part: options.Parts = None,
    mirror: Annotated[str, "Another address of the hub. Default: HF_ENDPOINT, else the hub's own."] = "",
    data_root: Annotated[Path | None, "Folder for official archives of tasks that the hub does not carry."] = None,
    language: Annotated[list[str] | None, "Only this language of the masked-LM text (repeatable)."] = None,
    offline: Annotated[bool, "Do not use the network; only check the cache."] = False,
) -> None:
    """Download the data of tasks, and models, from the hub.

    What is already here is not downloaded again; the same command resumes.
    """
    if part and not tier:
        fix = f"Add --tier pocket, or leave --part {part[0]} away."
        raise UsageFault("--part names a part of a tier.", fix=fix)
    named = needs.tier_needs(tier, part or ()) if tier else None
    of_tier = [task.key for task in named.tasks] if named else []
    tasks = [get_task(key) for key in dict.fromkeys([*(keys or ()), *of_tier])]
    models = sorted({model, *(named.models if named else ())} - {""})
    if not tasks and not models:
        raise UsageFault("Nothing to fetch was named.", fix="xlt fetch mnli xnli --model xlm-roberta-large")
    if language and MASKED_LM not in tasks:
        raise UsageFault("--language chooses among the texts of mlm, which is not fetched.", fix="Add mlm, or omit it.")
    from_hub, official = _by_origin(tasks, set(keys or ()), data_root)
    if official and data_root:
        files.check_writable(data_root, "--data-root", "the folder for official archives")
    wanted = [*hub.wanted_data(from_hub, language or ()), *map(hub.wanted_model, models)]
    result = Fetched([], {})
    collected: list[XltError] = []
    with progress.DownloadBars() as bars:
        with faults.collecting(collected):
            if wanted:
                result.repositories.extend(hub.fetch(wanted, bars, mirror=mirror or None, offline=offline))
        with faults.collecting(collected):
            packed = archives.wanted_archives(official)
            result.archives.update(archives.fetch_archives(packed, data_root or Path(), bars, offline=offline))
    faults.raise_collected(collected)
    emit(result, _fetched(result))


def _by_origin(tasks: list[Task], asked: set[str], data_root: Path | None) -> tuple[list[Task], list[Task]]:
    """The tasks to take from the hub, and those to take from official archives; says under which licence each is."""
    carried = table.read_table()
    from_hub: list[Task] = []
    official: list[Task] = []
    for task in tasks:
        entry = carried.get(task.key, table.HubTask())
        say(f"{task.name}: licence {task.licence}; {task.address}")
        if data_root and entry.archives:
            official.append(task)
        elif entry.absent and task.key not in asked:
            say(f"  Not fetched: {entry.absent}" + (" Add --data-root DIR." if entry.archives else ""))
        else:
            from_hub.append(task)
            if entry.note:
                say(f"  {entry.note}")
    return from_hub, official


def _fetched(result: Fetched) -> Shown:
    for each in result.repositories:
        size = progress.size(each.bytes)
        yield f"{each.repository} at {each.revision}: {counted(each.files, 'file')}, {size}, as data.lock says"
    for address, files in result.archives.items():
        yield f"{address}: {counted(len(files), 'file')} in the data root"

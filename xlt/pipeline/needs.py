"""What a tier needs of others: public models and the data of tasks, under their licences."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from xlt.data.files.source import FilesSource
from xlt.errors import DataFault, UsageFault
from xlt.pipeline.checkpoint import checkpoint_folder
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import ENGLISH, Split, Task


@dataclass(frozen=True, slots=True)
class TierNeeds:
    """What the runs of a tier take from the hub."""

    tasks: list[Task]
    """The tasks whose data they read, with those that these are trained on."""
    models: list[str]
    """The public models that they start from."""
    licensed: list[Task]
    """Those of the tasks that a run does without where its data is absent: not everybody may have it."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """What of this is not here."""

    models: list[str]
    """The public models that are absent."""
    tasks: list[Task]
    """The tasks without any data."""
    in_part: list[Task]
    """Those of whose official files some are here: a set is absent, or a language of XTREME."""


def tier_needs(name: str, asked: Collection[str] = ()) -> TierNeeds:
    """What the parts of a tier that are ``asked`` for need, or all parts that are made unless one is named.

    Raises:
        UsageFault: there is no such tier or part, or the tier takes nothing from the hub.
    """
    tier = read_tier(name)
    if "hub" not in tier.sources:
        why = f"It runs on: {', '.join(tier.sources)}."
        raise UsageFault(f"The tier '{name}' takes nothing from the hub.", why=why, fix=f"xlt reproduce --tier {name}")
    plan, parts = tier.plan("hub"), tier.chosen_parts("hub", asked)
    arms = [arm for arm in plan.arms.values() if not arm.part or arm.part in parts]
    named = [get_task(key) for arm in arms for key in (*arm.intermediate, *arm.targets)]
    keys = {key for task in named for key in (task.key, task.trains_on) if key}
    if any(arm.masked_lm for arm in arms):
        keys.add(MASKED_LM.key)
    return TierNeeds(
        tasks=[get_task(key) for key in sorted(keys)],
        models=sorted({(arm.backbone or plan.backbone).name for arm in arms} - {""}),
        licensed=[get_task(key) for key in sorted({key for arm in arms for key in arm.licensed})],
    )


def lacking(needs: TierNeeds, data_root: Path | None) -> Lacking:
    """What was not fetched, by names and sizes; official files below ``data_root`` count."""
    # Imported here: it loads pyarrow.
    from xlt.data.hub.source import HubSource

    files = FilesSource(data_root) if data_root else None
    source, absent = HubSource(), []
    for model in needs.models:
        try:
            checkpoint_folder(model)
        except DataFault:
            absent.append(model)
    lacks = [task for task in needs.tasks if not source.has_files(task)]
    found = {task.key: _official(files, task) if files else [] for task in lacks}
    return Lacking(
        models=absent,
        tasks=[task for task in lacks if not any(found[task.key])],
        in_part=[task for task in lacks if any(found[task.key]) and not all(found[task.key])],
    )


def _official(files: FilesSource, task: Task) -> list[bool]:
    """Whether the official files of each set are here, of the test set in each language of XTREME."""
    wanted: list[tuple[Split, str]] = [(split, ENGLISH) for split in task.files if split != "test"]
    tested = task.benchmarks.get("xtreme", ENGLISH).split() if "test" in task.files else []
    wanted += [("test", language) for language in tested]
    return [language in files.languages(task, split) for split, language in wanted]

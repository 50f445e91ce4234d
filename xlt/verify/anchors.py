"""Anchors: what others printed of models that a tier uses for nothing else, each measured by an arm of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from xlt.pipeline.spec import Backbone
from xlt.tasks.catalogue import get_task
from xlt.verify.claims import Claim, Printed
from xlt.verify.looks import CellVerdict
from xlt.verify.paper import ClaimVerdict, Paper, failures_first, judge_claim
from xlt.verify.printed import judge_printed
from xlt.verify.scores import Scores, tasks_of


def judge_anchors(
    asked: Sequence[Claim],
    scores: Scores,
    cells: Sequence[Printed],
    backbones: Mapping[str, Backbone],
    tier: str,
    command: str,
    *,
    but: str = "",
) -> Paper:
    """A verdict on each of the claims, which arms of ``tier`` measure, and on the printed values of what was run.

    ``backbones`` has the model of each arm that was run; ``command`` makes the results, ``--part`` one of the anchors.
    ``but`` says in words why nothing that was run is comparable; empty if it is.
    """
    claims: list[ClaimVerdict] = []
    judged: list[CellVerdict] = []
    for claim in asked:
        # What else the folder holds, the command keeps without being told.
        arm, fix = claim.measured_by[tier], f"{re.sub(r' --part [^ ]+', '', command)} --part {claim.id}"
        own = [cell.model_copy(update={"arm": arm}) for cell in cells if cell.arm == claim.row]
        backbone = backbones.get(arm)
        if backbone is None:
            why = f"the part {claim.id} of the tier was not run"
            found = ClaimVerdict(claim=claim, verdict="not run", reason=why, fix=f"{fix} ({claim.cost})")
        elif why := but or _another_model(claim, backbone) or _fewer_rows(claim, arm, own, scores):
            found = ClaimVerdict(claim=claim, verdict="not verifiable", reason=why)
        else:
            layer = backbone.retrieval_layer
            found = judge_claim(claim.model_copy(update={"row": arm}), scores, own, layer, fix)
            found = _as_given(found.model_copy(update={"claim": claim}), backbone)
            judged += judge_printed([cell for cell in own if cell.table in claim.tables], scores, layer, fix)
        claims.append(found.model_copy(update={"optional": True}))
    return Paper(seeds=scores.seeds, claims=failures_first(claims), cells=failures_first(judged))


def _of_folder(backbone: Backbone) -> bool:
    return backbone.name.startswith("folder:")  # as ``xlt.pipeline.single`` calls it


def _another_model(claim: Claim, backbone: Backbone) -> str:
    """Why the model that was run is not the one of the claim, in words; a model from a folder may be it."""
    from xlt.data.hub.table import hub_model

    if backbone.prefix or backbone.pooling != "mean":
        return f"the sentences were read with the prefix '{backbone.prefix}' and the pooling '{backbone.pooling}'"
    names = {hub_model(name).repository for name in (claim.backbone, backbone.name)}
    if _of_folder(backbone) or len(names) == 1:
        return ""
    return f"the claim is about {claim.backbone}; the results are of {backbone.name}"


def _as_given(found: ClaimVerdict, backbone: Backbone) -> ClaimVerdict:
    """The verdict on a model that came from a folder: nothing says that it is the published one."""
    if not _of_folder(backbone):
        return found
    word = "consistent" if found.verdict == "reproduced" else found.verdict
    why = f"the model is from a folder ({backbone.name}), which may hold another one: never more than consistent"
    return found.model_copy(update={"verdict": word, "reason": f"{found.reason}; {why}"})


def _fewer_rows(claim: Claim, arm: str, cells: Sequence[Printed], scores: Scores) -> str:
    """Where the claim was measured on a part of the rows that the printed values are of, in words."""
    from xlt.data.hub.table import has, read_table

    table = read_table()
    for task in dict.fromkeys(task for cell in cells if cell.table in claim.tables for task in tasks_of(cell.quantity)):
        split = claim.split if claim.split in get_task(task).files else "test"
        found = scores.table[(scores.table["arm"] == arm) & (scores.table["task"] == task)]
        for language, count in found[found["split"] == split].groupby("language")["n"].min().items():
            parts = (files for files in getattr(table[task], split) if has(files, language))
            published = sum(files.rows_in.get(language, files.rows) for files in parts)
            if count < published:
                return f"{task} {split} has {count} rows in '{language}' here, and {published} in the published set"
    return ""

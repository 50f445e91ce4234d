"""Where what a grid reports is not quite what its name says."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict

from xlt.pipeline.spec import RunSpec


class Deviation(BaseModel):
    """One of them, in words, with a source that can be opened.

    It is one of a grid that scores a task of ``scores`` (if empty: any) and chooses a checkpoint on the English dev
    split of one of ``chooses`` (if empty: of none or any).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scores: tuple[str, ...] = ()
    chooses: tuple[str, ...] = ()
    what: str
    source: str


JIANT = "https://github.com/nyu-mll/jiant"
DEVIATIONS = {
    "xquad_from_squad_dev": Deviation(
        scores=("xquad",),
        chooses=("squad", "squad_v2"),
        what="XQuAD's questions are translations of questions of SQuAD's dev split, on which the checkpoint of every "
        "SQuAD training is chosen: its scores, English first of all, are of items that took part in the choice.",
        source="https://github.com/google-deepmind/xquad",
    ),
    "tydiqa_one_split": Deviation(
        scores=("tydiqa",),
        what="TyDiQA-GoldP has one labelled split beside its training set, and that is what is reported: no checkpoint "
        "is chosen, the last state of the training counts.",
        source="https://github.com/google-research-datasets/tydiqa",
    ),
    "bucc2018_threshold": Deviation(
        scores=("bucc2018",),
        what="BUCC's dev score is at the threshold that is best for the same sentences, as in the authors' code; its "
        "test score is at that threshold too.",
        source=JIANT,
    ),
    "whole_dev": Deviation(
        chooses=tuple(
            "anli_plus mnli qqp squad_v2 squad hellaswag ccg cosmosqa commonsenseqa pawsx udpos panx".split()
        ),
        what="Checkpoints are chosen on the whole English dev split, also at the end of every epoch; the authors' code "
        "takes 500 of its examples.",
        source=JIANT,
    ),
    "bucc2018_block": Deviation(
        scores=("bucc2018",),
        what="BUCC is read at block 14 in the authors' code, at block 20 of XLM-R Large by XTREME's script: 71.5 "
        "(dev) and 66.0 (test) are both printed for one model. The block of these results stands in their spec.",
        source="https://github.com/jiant-dev/jiant-dev/pull/128",
    ),
    "udpos_f1": Deviation(
        scores=("udpos",),
        what="Parts of speech are scored by F1 over runs of equal tags, as XTREME's code and leaderboard do; its paper "
        "says accuracy, which is higher (78.2 for 74.2). Runs are those of seqeval 0.0.12, which the authors' code "
        "pins; XTREME's pins no version, and 1.2.2 takes CCONJ and SCONJ for one tag and X for none.",
        source="https://github.com/google-research/xtreme/issues/56",
    ),
    "tatoeba_36": Deviation(
        scores=("tatoeba",),
        what="Tatoeba has 36 languages in both published codes; XTREME's table says 33. XTREME prints 57.3 where the "
        "authors' code gives 31.0 for the same model.",
        source="https://github.com/jiant-dev/jiant-dev/pull/128",
    ),
    "tagging_split": Deviation(
        scores=("udpos", "panx"),
        what="Sentences that are too long are split at words, as in XTREME's code; the authors' code truncates them.",
        source="https://github.com/jiant-dev/jiant-dev/pull/132",
    ),
}


def deviations(runs: Collection[RunSpec]) -> dict[str, Deviation]:
    """Those of a grid with these runs, by name; none on the constructed world, whose items are nobody else's."""
    runs = [run for run in runs if run.source.name != "world"]
    scored = {key for run in runs for key in run.evaluate}
    chosen_on = {key for run in runs for key in run.train if run.recipe.get("evaluate_every")}
    return {
        name: each
        for name, each in DEVIATIONS.items()
        if (not each.scores or scored.intersection(each.scores))
        and (not each.chooses or chosen_on.intersection(each.chooses))
    }

"""The training variants of the paper, through the executor: with masked LM, on translations."""

from __future__ import annotations

import json
from pathlib import Path

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.model.encoder import PackedModel

ARMS = """
mixed = { intermediate = ["squad"], masked_lm = true, targets = ["tatoeba"] }
mnli_de = { intermediate = ["mnli"], translated = ["de"], targets = ["tatoeba"] }
"""


def test_masked_lm_and_translations_train_what_they_say(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    recipe = "mixed = { steps = 12, batch_size = 8, learning_rate = 5e-4 }"
    variants = tiny_grid.with_arms(tmp_path, ARMS, recipe=recipe)
    # The English training set is gone: what is trained can only be the translation.
    translation = variants.files / "translated/de/mnli/multinli_1.0_train.jsonl"
    translation.parent.mkdir(parents=True)
    (variants.files / "mnli/multinli_1.0_train.jsonl").rename(translation)
    store = variants.run(tmp_path / "results", Watcher())
    runs = {run.name: run for run in variants.grid().runs}

    assert (runs["mixed"].train, runs["mixed"].evaluate) == (("squad", "mlm"), ("squad",))
    assert (runs["mixed"].recipe["learning_rate"], runs["mixed"].recipe["steps"]) == (5e-4, 12)
    folder = store.path(runs["mixed"].folder)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    assert {line["task"] for line in log} == {"squad", "mlm"}
    before = PackedModel.load(str(store.path(runs["mlm"].folder) / "model"))
    after = PackedModel.load(str(folder / "model"))
    assert set(after.heads) == {"squad"}
    assert before.lm_head is not None
    assert after.lm_head is not None
    # It is the head of phase 1, trained a few steps more, not a new one.
    old, new = (dict(head.named_parameters())["dense.weight"] for head in (before.lm_head, after.lm_head))
    assert 0 < (old - new).norm() < 0.5 * old.norm()

    assert set(runs["mnli_de"].data) == {"mnli/train/de", "mnli/dev/en"}
    assert runs["mnli_de"].translated == ("de",)
    assert len((store.path(runs["mnli_de"].folder) / "log.jsonl").read_text("utf-8").splitlines()) == 8

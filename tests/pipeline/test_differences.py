"""The known differences of a grid, and no others."""

from __future__ import annotations

from pathlib import Path

from xlt.data.files.source import FilesSource
from xlt.data.world import WorldSource
from xlt.pipeline.differences import known_differences
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.tiers import read_tier


def test_dev_items_that_are_reported_are_named_where_a_checkpoint_was_chosen_on_them(
    world: WorldSource, tmp_path: Path
) -> None:
    core = GridBuilder(read_tier("core"), FilesSource(tmp_path), seed=0, precision="fp32", fingerprints=False).grid()
    found = known_differences(core.runs)
    assert {"xquad_from_squad_dev", "tydiqa_one_split", "bucc2018_threshold", "dev_scores"} <= set(found)
    assert "SQuAD's dev split" in found["xquad_from_squad_dev"].what
    assert all(each.source.startswith("https://") for each in found.values())
    assert "tydiqa_one_split" not in known_differences([run for run in core.runs if "tydiqa" not in run.evaluate])
    # The recipes score as many examples of it as the authors' code.
    assert "whole_dev" not in found
    whole = [run.model_copy(update={"recipe": {**run.recipe, "dev_examples": 0}}) for run in core.runs]
    assert "whole_dev" in known_differences(whole)
    unchosen = [run.model_copy(update={"recipe": {**run.recipe, "evaluate_every": 0}}) for run in core.runs]
    assert not {"xquad_from_squad_dev", "whole_dev", "dev_scores"} & set(known_differences(unchosen))
    smoke = GridBuilder(read_tier("smoke"), world, seed=0, precision="fp32").grid()
    assert known_differences(smoke.runs) == {}

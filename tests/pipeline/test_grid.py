"""The grid of a tier: every run once, parents first, hashes that follow the data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipeline.conftest import TinyGrid
from xlt.data.files.source import FilesSource
from xlt.data.source import evaluated
from xlt.data.world import WorldSource
from xlt.errors import DataFault, UsageFault
from xlt.pipeline.grid import Grid, GridBuilder, present_arms
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import get_task


def build(tier: Path, source: FilesSource, seed: int = 0) -> Grid:
    return GridBuilder(read_tier(str(tier)), source, seed=seed, precision="fp32").grid()


def test_runs_of_the_grid(tiny_tier: Path, tiny_files: Path) -> None:
    grid = build(tiny_tier, FilesSource(tiny_files))
    assert [f"{run.phase} {run.name}" for run in grid.runs] == [
        "pretrain mlm",
        "intermediate mnli",
        "intermediate both",
        "target baseline.xnli",
        "target baseline.xquad",
        "target baseline.tatoeba",
        "target mnli.xnli",
        "target mnli.xquad",
        "target mnli.tatoeba",
        "target both.tatoeba",
    ]
    hashes = [run.hash for run in grid.runs]
    assert len(set(hashes)) == len(hashes)
    for place, run in enumerate(grid.runs):
        assert run.parent is None or run.parent in hashes[:place]
    for intermediate in (run for run in grid.runs if run.phase == "intermediate"):
        targets = [run for run in grid.runs if run.arm == intermediate.arm and run.phase == "target"]
        assert {run.parent for run in targets} == {intermediate.hash}


def test_tasks_trained_together_are_one_run_with_a_recipe_of_its_own(tiny_tier: Path, tiny_files: Path) -> None:
    joint = next(run for run in build(tiny_tier, FilesSource(tiny_files)).runs if run.name == "both")
    assert joint.train == joint.evaluate == ("mnli", "squad")
    assert (joint.recipe["steps"], joint.max_lengths) == (10, {"mnli": 128, "squad": 192})
    assert {"mnli/train/en", "squad/train/en", "mnli/dev/en", "squad/dev/en"} == set(joint.data)


def test_targets_with_one_training_set_share_a_run(world: WorldSource) -> None:
    grid = GridBuilder(read_tier("smoke"), world, seed=0, precision="fp32").grid()
    runs = {run.name: run for run in grid.runs}
    assert runs["baseline.xquad+mlqa"].train == ("squad",)
    assert runs["baseline.xquad+mlqa"].evaluate == ("xquad", "mlqa")
    assert runs["multi.bucc2018+tatoeba"].train == ()
    assert len(runs["multi"].train) == 9


def test_a_target_trained_like_a_phase_2_model_is_scored_with_that_model(world: WorldSource) -> None:
    runs = {run.name: run for run in GridBuilder(read_tier("smoke"), world, seed=0, precision="fp32").grid().runs}
    assert (runs["baseline.xnli"].train, runs["baseline.xnli"].parent) == ((), runs["mnli"].hash)
    assert runs["baseline.pawsx"].parent == runs["mlm"].hash


def test_retrieval_trains_nothing_and_targets_train_on_english_of_their_training_task(
    tiny_tier: Path, tiny_files: Path
) -> None:
    runs = {run.name: run for run in build(tiny_tier, FilesSource(tiny_files)).runs}
    assert runs["baseline.tatoeba"].train == ()
    assert [key for key in runs["baseline.xnli"].data if "/train/" in key] == ["mnli/train/en"]
    assert [key for key in runs["baseline.xquad"].data if "/train/" in key] == ["squad/train/en"]
    assert not any("/test/" in key for key in runs["mlm"].data)


def test_the_same_tier_gives_the_same_hashes_and_another_seed_others(tiny_tier: Path, tiny_files: Path) -> None:
    again = [run.hash for run in build(tiny_tier, FilesSource(tiny_files)).runs]
    assert again == [run.hash for run in build(tiny_tier, FilesSource(tiny_files)).runs]
    assert not set(again) & {run.hash for run in build(tiny_tier, FilesSource(tiny_files), seed=1).runs}


def test_a_changed_row_changes_the_runs_that_read_it(tiny_tier: Path, tiny_files: Path, tmp_path: Path) -> None:
    changed = tmp_path / "data"
    shutil.copytree(tiny_files, changed)
    path = changed / "xnli" / "test-sw.tsv"
    path.write_text(path.read_text("utf-8").replace("neutral", "entailment", 1), encoding="utf-8")
    before = {run.name: run.hash for run in build(tiny_tier, FilesSource(tiny_files)).runs}
    after = {run.name: run.hash for run in build(tiny_tier, FilesSource(changed)).runs}
    assert {name for name in before if before[name] != after[name]} == {"baseline.xnli", "mnli.xnli"}


def test_without_data_the_grid_is_the_same_but_for_the_hashes(
    tiny_tier: Path, tiny_files: Path, tmp_path: Path
) -> None:
    whole = build(tiny_tier, FilesSource(tiny_files))
    builder = GridBuilder(
        read_tier(str(tiny_tier)), FilesSource(tmp_path), seed=0, precision="fp32", fingerprints=False
    )
    bare = builder.grid()

    def links(grid: Grid) -> list[tuple[str, str | None]]:
        return [(run.name, run.parent and grid.find(run.parent).name) for run in grid.runs]

    assert links(bare) == links(whole)
    assert not any(run.data for run in bare.runs)


def test_what_is_licensed_or_given_falls_away_where_it_is_absent(
    tiny_grid: TinyGrid, tmp_path: Path, world: WorldSource
) -> None:
    arms = """
    baseline = { targets = ["tatoeba"] }
    both = { intermediate = ["mnli", "squad", "ccg"], licensed = ["ccg"], targets = ["tatoeba"] }
    ccg = { intermediate = ["ccg"], licensed = ["ccg"], targets = ["tatoeba"] }
    mnli_de = { intermediate = ["mnli"], translated = ["de"], targets = ["tatoeba"] }
    from_de = { source_language = "de", targets = ["xnli", "tatoeba"] }
    """
    variants = tiny_grid.with_arms(tmp_path, arms, recipe="both = { steps = 7 }")
    grid = variants.grid()
    assert [run.name for run in grid.runs if run.phase == "intermediate"] == ["both2"]
    joint = next(run for run in grid.runs if run.name == "both2")
    assert (joint.arm, joint.train, joint.recipe["steps"]) == ("both2", ("mnli", "squad"), 7)
    assert {run.arm for run in grid.runs} == {"", "baseline", "both2"}
    assert (
        grid.as_json()["left_out"]
        == grid.left_out
        == {
            "both": "no training data for ccg, which is licensed; trained on the other 2 tasks as both2",
            "ccg": "no training data for ccg, which is licensed",
            "mnli_de": "no training data is given for mnli in de",
            "from_de": "no training data is given for mnli in de",
        }
    )
    present, left_out = present_arms(read_tier(str(variants.tier)).plan("files").arms, world)
    assert (list(present), list(left_out), present["both"].label) == (
        *(["baseline", "both", "ccg"], ["mnli_de", "from_de"]),
        "",
    )


def test_targets_are_trained_in_the_arm_s_language(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    arms = """
    baseline = { targets = ["xnli", "tatoeba"] }
    from_de = { source_language = "de", targets = ["xnli", "tatoeba"] }
    """
    variants = tiny_grid.with_arms(tmp_path, arms)
    shutil.copytree(variants.files / "mnli", variants.files / "translated/de/mnli")
    runs = {run.name: run for run in variants.grid().runs}
    english, german = runs["baseline.xnli"], runs["from_de.xnli"]
    assert (english.translated, german.translated) == ((), ("de",))
    assert ("mnli/train/en" in english.data, "mnli/train/de" in german.data) == (True, True)
    assert english.hash != german.hash
    # Retrieval trains nothing, in no language: it is the baseline's.
    assert (runs["from_de.tatoeba"].train, runs["from_de.tatoeba"].translated) == ((), ())


PARTS = """
first = { part = "grid", targets = ["xnli", "tatoeba"] }
other = { part = "A1", targets = ["tatoeba"], backbone = { vocabulary = 90, retrieval_layer = 1 }, \
recipes = { default = { test_examples = 3 } } }
late = { part = "A2", targets = ["tatoeba"] }
"""
ABOUT = """
parts.grid = { about = "a" }
parts.A1 = { about = "b" }
parts.A2 = { about = "c", on_request = true }
"""


def test_a_part_is_run_alone_and_what_takes_long_only_on_request(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    tiny = tiny_grid.with_arms(tmp_path, PARTS, plan=ABOUT)

    def arms(*parts: str) -> tuple[set[str], tuple[str, ...]]:
        tier = read_tier(str(tiny.tier))
        grid = GridBuilder(tier, tiny.source, seed=0, precision="fp32", parts=parts).grid()
        assert grid.as_json()["parts"] == list(grid.parts)
        return {run.arm for run in grid.runs if run.arm}, grid.parts

    assert arms() == ({"first", "other"}, ("grid", "A1"))
    assert arms("A2", "A1") == ({"other", "late"}, ("A1", "A2"))
    with pytest.raises(UsageFault, match="has no part 'A9'"):
        arms("A9")


def test_an_arm_may_have_a_backbone_and_recipes_of_its_own(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    tiny = tiny_grid.with_arms(tmp_path, PARTS, plan=ABOUT)
    runs = {run.name: run for run in tiny.grid().runs}
    first, other = runs["first.tatoeba"], runs["other.tatoeba"]
    assert (other.backbone.vocabulary, other.recipe["test_examples"]) == (90, 3)
    assert first.backbone == runs["first.xnli"].backbone != other.backbone
    assert first.recipe["test_examples"] == 0
    # Rows that are not the same have another fingerprint.
    assert first.data.keys() == other.data.keys()
    assert all(first.data[key] != other.data[key] for key in first.data)


def test_a_second_attempt_takes_the_place_of_a_run_and_of_all_that_start_from_it(world: WorldSource) -> None:
    grid = GridBuilder(read_tier("smoke"), world, seed=0, precision="fp32").grid()
    first = next(run for run in grid.runs if run.name == "mnli")
    retried = grid.retry(first)
    second = next(run for run in retried.runs if run.name == "mnli")
    assert (second.retry, second.seed, retried.collapsed) == (1, first.seed, (first,))
    assert second.hash != first.hash
    changed = {old.name for old, new in zip(grid.runs, retried.runs, strict=True) if old != new}
    assert changed == {"mnli", *(run.name for run in grid.runs if run.hash in grid.below(first.hash))}
    assert {run.parent for run in retried.runs if run.name in ("baseline.xnli", "mnli.pawsx")} == {second.hash}
    assert not {"collapsed", "left_out"} & set(grid.as_json())


def test_only_a_run_that_selects_a_checkpoint_is_named_by_how_many_dev_rows_choose_it(
    tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    arms = 'both = { intermediate = ["mnli", "squad"], targets = ["tatoeba"] }'

    def first(recipe: str) -> RunSpec:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        runs = tiny_grid.with_arms(folder, arms, recipe=recipe).grid().runs
        return next(run for run in runs if run.name == "both")

    plain, unused = first("both = { steps = 9 }"), first("both = { steps = 9, dev_examples = 7 }")
    assert (unused.hash, unused.recipe["dev_examples"]) == (plain.hash, 0)
    used = [first(f"both = {{ steps = 9, evaluate_every = 4, dev_examples = {count} }}") for count in (0, 7)]
    assert [run.recipe["dev_examples"] for run in used] == [0, 7]
    assert used[0].hash != used[1].hash
    assert used[0].data == used[1].data


def test_only_what_has_dev_data_is_watched_for_collapse(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    arms = """
    baseline = { targets = ["xnli", "tatoeba"] }
    mixed = { intermediate = ["mnli"], masked_lm = true, targets = ["tatoeba"] }
    """
    variants = tiny_grid.with_arms(tmp_path, arms, plan="collapse_after = 0.4", recipe="mixed = { steps = 4 }")
    runs = variants.grid().runs
    watched = [("mlm", 0.0), ("mixed", 0.4), ("baseline.xnli", 0.4), ("baseline.tatoeba", 0.0), ("mixed.tatoeba", 0.0)]
    assert [(run.name, run.collapse_after) for run in runs] == watched
    assert set(runs[1].data) == {"mnli/train/en", "mnli/dev/en", "mlm/train/all"}
    tydiqa = GridBuilder(read_tier("core"), variants.source, seed=0, precision="fp32", fingerprints=False).grid()
    assert {run.collapse_after for run in tydiqa.runs if run.train == ("tydiqa",)} == {0.0}


def test_a_language_that_is_not_there_is_refused_with_a_suggestion(tiny_files: Path) -> None:
    with pytest.raises(UsageFault, match="no language 'zw'") as caught:
        evaluated(get_task("xnli"), FilesSource(tiny_files), languages=["zw"])
    assert caught.value.fix.startswith("--language zh")
    with pytest.raises(UsageFault, match="no split 'train'"):
        evaluated(get_task("xnli"), FilesSource(tiny_files), splits=["train"])
    assert evaluated(get_task("xnli"), FilesSource(tiny_files), languages=["sw"], splits=["test"]) == [("test", "sw")]


def test_a_limit_keeps_the_first_rows_and_is_part_of_the_spec(tiny_tier: Path, tiny_files: Path) -> None:
    task = get_task("xnli")
    limited = open_source(SourceOptions(name="files", data_root=tiny_files, limit=5))
    assert limited.rows(task, "test", "sw") == FilesSource(tiny_files).rows(task, "test", "sw")[:5]
    assert limited.settings == {"limit": 5}
    whole = {run.hash for run in build(tiny_tier, FilesSource(tiny_files)).runs}
    builder = GridBuilder(read_tier(str(tiny_tier)), limited, seed=0, precision="fp32")
    assert not whole & {run.hash for run in builder.grid().runs}


def test_mining_without_the_dev_set_of_its_threshold_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for name, text in {"de": "de-1\teins\n", "en": "en-1\tone\n", "gold": "de-1\ten-1\n"}.items():
        path = tmp_path / "bucc2018" / "de-en" / f"de-en.training.{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataFault, match="best on its dev split, which the source 'files' lacks") as caught:
        evaluated(get_task("bucc2018"), FilesSource(tmp_path))
    assert "xlt fetch bucc2018 --data-root DIR" in caught.value.fix

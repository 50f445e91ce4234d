"""Tiers are data; a wrong one is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlt.errors import UsageFault
from xlt.pipeline.tiers import Tier, read_tier, tier_names
from xlt.tasks.adversarial import Adversarial
from xlt.tasks.catalogue import INTERMEDIATE, TARGET, TASKS, get_task


def test_every_tier_of_the_project_can_be_read() -> None:
    assert "smoke" in tier_names()
    for name in tier_names():
        tier = read_tier(name)
        assert tier.name == name
        for source, plan in tier.sources.items():
            for arm in plan.arms.values():
                for target in arm.targets:
                    recipe = tier.recipe(target, source, arm)
                    assert bool(recipe.steps) != bool(recipe.epochs) or get_task(target).trains_on is None


def test_the_recipe_of_the_tier_replaces_that_of_the_catalogue(tiny_tier: Path) -> None:
    recipe = read_tier(str(tiny_tier)).recipe("xnli", "files")
    assert (recipe.steps, recipe.epochs, recipe.weight_decay) == (9, 0, 0.01)


def test_adversarial_training_is_a_setting_of_a_recipe(tiny_tier: Path, tmp_path: Path) -> None:
    path, written = tmp_path / "robust.toml", tiny_tier.read_text("utf-8")
    table = 'adversarial = { method = "freelb", steps = 3 }'
    path.write_text(written + f"mnli = {{ {table} }}\n", "utf-8")
    tier = read_tier(str(path))
    found = tier.recipe("mnli", "files")
    assert (found.adversarial, found.passes) == (Adversarial.of({"method": "freelb", "steps": 3}), 3)
    assert tier.recipe("xquad", "files").adversarial is None
    path.write_text(
        written.replace("default = {", f"default = {{ {table},") + "mnli = { adversarial = false }\n", "utf-8"
    )
    assert [read_tier(str(path)).recipe(key, "files").passes for key in ("mnli", "xquad")] == [1, 3]
    path.write_text(written + f"mnli = {{ {table.replace('steps', 'stages')} }}\n", "utf-8")
    with pytest.raises(UsageFault) as told:
        read_tier(str(path))
    assert "freelb has no setting 'stages'" in str(told.value.why)
    for given, why in (
        ('"freelb"', "adversarial is 'freelb', not a table such as"),
        ('{ method = "freelb", step_size = 1e300 }', "step_size of freelb is 1e+300, not a number from 1e-08 to 1000"),
        ('{ method = "pgd", radius = nan }', "radius of pgd is nan, not 0 or a number"),
        ('{ method = "freelb", steps = 1.5 }', "steps of freelb is 1.5, not a whole number from 1 to 100"),
        ('{ method = "freelb", steps = [2] }', "steps of freelb is [2], not a whole number"),
    ):
        path.write_text(written + f"mnli = {{ adversarial = {given} }}\n", "utf-8")
        with pytest.raises(UsageFault) as told:
            read_tier(str(path))
        assert f"the recipe 'mnli': {why}" in str(told.value.why)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("batch_size = 0", "batch_size 0: at least 1"),
        ("steps = -5", "steps -5: at least 0"),
        ("max_length = 3", "max_length 3: at least 8"),
        ("learning_rate = -1.0", "learning_rate -1.0: above 0"),
        ("learning_rate = nan", "learning_rate nan: above 0"),
    ],
)
def test_a_recipe_that_trains_nothing_is_refused(tiny_tier: Path, tmp_path: Path, setting: str, why: str) -> None:
    path = tmp_path / "impossible.toml"
    path.write_text(tiny_tier.read_text("utf-8") + f"mnli = {{ {setting} }}\n", "utf-8")
    with pytest.raises(UsageFault) as told:
        read_tier(str(path))
    assert why in str(told.value.why)


def test_a_tier_says_how_its_backbone_is_read(tiny_tier: Path, tmp_path: Path) -> None:
    assert read_tier(str(tiny_tier)).plan("files").backbone.prefix == ""
    written = tiny_tier.read_text("utf-8").replace("retrieval_layer = 1", 'prefix = "query: "\npooling = "first"')
    path = tmp_path / "e5.toml"
    path.write_text(written, "utf-8")
    backbone = read_tier(str(path)).plan("files").backbone
    assert (backbone.prefix, backbone.pooling) == ("query: ", "first")
    path.write_text(written.replace('"first"', '"middle"'), "utf-8")
    with pytest.raises(UsageFault, match="is not a tier"):
        read_tier(str(path))


@pytest.mark.parametrize(
    ("name", "singles", "seeds"),
    [
        ("core", {"mnli", "squad", "squad_v2", "hellaswag"}, [0, 1, 2, 3, 4]),
        ("paper", {task.key for task in INTERMEDIATE}, [0]),
    ],
)
def test_core_and_paper_have_the_arms_of_the_paper(name: str, singles: set[str], seeds: list[int]) -> None:
    tier = read_tier(name)
    assert tier.seeds == seeds
    assert list(tier.sources) == ["hub", "files"]
    assert tier.plan("files") == tier.plan("hub")
    plan = tier.plan("hub")
    assert (plan.backbone.name, plan.backbone.retrieval_layer) == ("xlm-roberta-large", 14)
    plain = {key: arm for key, arm in plan.arms.items() if not arm.masked_lm and not arm.translated}
    assert set(plain) == {"baseline", "multi"} | singles
    assert plan.arms["baseline"].intermediate == []
    assert all(plan.arms[key].intermediate == [key] for key in singles)
    assert set(plan.arms["multi"].intermediate) == {task.key for task in INTERMEDIATE}
    # Nobody can fetch CCGbank: an arm that wants it must be able to do without.
    assert all(arm.licensed == ["ccg"] for arm in plan.arms.values() if "ccg" in arm.intermediate)
    assert plan.collapse_after == 0.5
    assert all(set(arm.targets) == {task.key for task in TARGET} for arm in plan.arms.values())
    assert all(tier.recipe(key, "hub") == get_task(key).recipe for key in TASKS)


def test_paper_has_the_variants_of_the_paper_and_a_recipe_for_each() -> None:
    tier = read_tier("paper")
    arms = tier.plan("hub").arms
    mixed = {name: arm for name, arm in arms.items() if arm.masked_lm}
    assert list(mixed) == ["mnli_mlm", "squad_mlm", "hellaswag_mlm", "multi_mlm"]
    for name, arm in mixed.items():
        without = name.removesuffix("_mlm")
        recipe, plain = tier.recipe(name, "hub"), tier.recipe(without, "hub")
        assert arm.intermediate == arms[without].intermediate
        assert recipe.learning_rate == plain.learning_rate / 2
        assert (recipe.epochs, recipe.batch_size) == (plain.epochs, plain.batch_size)
        assert (recipe.evaluate_every, recipe.patience) == (1000, 30)
        if without != "multi":
            assert recipe.examples_cap == get_task(without).train_rows
    translated = {name: (arm.intermediate, arm.translated) for name, arm in arms.items() if arm.translated}
    assert translated == {f"{key}_mt": ([key], ["de", "ru", "sw"]) for key in ("mnli", "qqp", "hellaswag")}


def test_smoke_looks_for_no_collapse() -> None:
    assert {plan.collapse_after for plan in read_tier("smoke").sources.values()} == {0.0}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name = ", "Invalid value"),
        ('name = "x"', "Field required"),
        ('name="x"\nabout=""\nsources={}\nmore=1', "Extra inputs"),
        ('name="x"\nabout=""\n[sources]\nfiles="hub"', "SourcePlan"),
        ('name="x"\nabout=""\n[sources.world]\nbackbone={}\n[sources.world.recipes]\nxnli={lr=1}', "lr"),
    ],
)
def test_a_broken_tier_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageFault, match="is not a tier") as caught:
        read_tier(str(path))
    assert why in caught.value.why
    assert "\n" not in caught.value.why


def test_unknown_names_are_refused_with_those_there_are(tiny_tier: Path) -> None:
    with pytest.raises(UsageFault, match="no tier 'grand'") as caught:
        read_tier("grand")
    assert "smoke" in caught.value.why
    with pytest.raises(UsageFault, match="does not run on the source 'hub'"):
        read_tier(str(tiny_tier)).plan("hub")


def measured(name: str, memory: float) -> Tier:
    """The tier as if a run of each part that needs not be named took so much memory."""
    tier = read_tier(name)
    plan = tier.plan("hub")
    parts = {
        key: part if part.on_request else part.model_copy(update={"memory": memory}) for key, part in plan.parts.items()
    }
    return tier.model_copy(update={"sources": {"hub": plan.model_copy(update={"parts": parts})}})


@pytest.mark.parametrize(
    ("cores", "free", "count", "why"),
    [
        (4, 4.0, 1, "GB of memory, and 4.0 GB are free"),
        (2, 16.0, 2, "the machine has 2 cores"),
        (4, 16.0, 4, "as the tier says"),
        (64, 512.0, 4, "as the tier says"),
        (4, None, 4, "as the tier says"),
        (1, 0.5, 1, "GB of memory, and 0.5 GB are free"),
    ],
)
def test_a_machine_makes_as_many_runs_at_a_time_as_it_has_cores_and_memory_for(
    cores: int, free: float | None, count: int, why: str
) -> None:
    tier = measured("pocket", 3.5)
    found = tier.runs_at_once("hub", tier.chosen_parts("hub", ()), cores=cores, free=free and int(free * 10**9))
    assert found[0] == count
    assert found[1].endswith(why)


def test_a_run_of_the_pocket_tier_takes_less_than_4_5_gb_and_three_fit_into_16() -> None:
    tier = read_tier("pocket")
    parts = tier.chosen_parts("hub", ())
    assert all(tier.plan("hub").parts[name].memory < 4.5 for name in parts)
    assert tier.runs_at_once("hub", parts, cores=4, free=4 * 10**9)[0] == 1
    assert tier.runs_at_once("hub", parts, cores=4, free=16 * 10**9)[0] == 3
    assert tier.accumulation == 4


def test_runs_whose_memory_nobody_measured_are_made_one_by_one() -> None:
    tier = measured("pocket", 3.5)
    assert tier.runs_at_once("hub", ["A3", "grid"], cores=8, free=None)[0] == 1
    count, why = tier.runs_at_once("hub", ["A1", "grid"], cores=8, free=None, larger=True)
    assert count == 1
    assert why == "nobody measured how much memory one takes with this model (part A1, grid)"
    # A tier that says nothing of memory is limited by its cores alone.
    assert read_tier("smoke").runs_at_once("world", (), cores=2, free=1)[0] == 2


def test_a_part_that_is_not_there_is_answered_with_all_parts_and_none_of_them_is_advised() -> None:
    tier = read_tier("pocket")
    with pytest.raises(UsageFault, match="has no part 'nope'") as fault:
        tier.chosen_parts("hub", ["nope"])
    assert len(fault.value.why.splitlines()) == len(tier.plan("hub").parts)
    assert "A2: XLM-R Large as it is" in fault.value.why
    assert fault.value.fix == "Name one of these parts."
    with pytest.raises(UsageFault) as fault:
        tier.chosen_parts("hub", ["grd"])
    assert fault.value.fix == "--part grid"

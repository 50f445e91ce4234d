"""Tiers are data; a wrong one is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlt.errors import UsageFault
from xlt.pipeline.tiers import read_tier, tier_names
from xlt.tasks.catalogue import INTERMEDIATE, TARGET, TASKS, get_task


def test_every_tier_of_the_project_can_be_read() -> None:
    assert "smoke" in tier_names()
    for name in tier_names():
        tier = read_tier(name)
        assert tier.name == name
        for source, plan in tier.sources.items():
            for arm in plan.arms.values():
                for target in arm.targets:
                    recipe = tier.task(target, source).recipe
                    assert bool(recipe.steps) != bool(recipe.epochs) or tier.task(target, source).trains_on is None


def test_the_recipe_of_the_tier_replaces_that_of_the_catalogue(tiny_tier: Path) -> None:
    recipe = read_tier(str(tiny_tier)).task("xnli", "files").recipe
    assert (recipe.steps, recipe.epochs, recipe.weight_decay) == (9, 0, 0.01)


@pytest.mark.parametrize(
    ("name", "singles", "seeds"),
    [
        ("core", {"mnli", "squad", "squad_v2", "hellaswag"}, [0, 1, 2]),
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
    assert set(plan.arms) == {"baseline", "multi"} | singles
    assert plan.arms["baseline"].intermediate == []
    assert all(plan.arms[key].intermediate == [key] for key in singles)
    assert set(plan.arms["multi"].intermediate) == {task.key for task in INTERMEDIATE}
    assert all(set(arm.targets) == {task.key for task in TARGET} for arm in plan.arms.values())
    assert all(tier.recipe(key, "hub") == get_task(key).recipe for key in TASKS)


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


def test_unknown_names_are_refused_with_those_there_are(tiny_tier: Path) -> None:
    with pytest.raises(UsageFault, match="no tier 'grand'") as caught:
        read_tier("grand")
    assert "smoke" in caught.value.why
    with pytest.raises(UsageFault, match="does not run on the source 'hub'"):
        read_tier(str(tiny_tier)).plan("hub")

"""Tiers are data; a wrong one is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlt.errors import UsageFault
from xlt.pipeline.tiers import read_tier, tier_names


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
    ("text", "why"),
    [
        ("name = ", "Invalid value"),
        ('name = "x"', "Field required"),
        ('name="x"\nabout=""\nsources={}\nmore=1', "Extra inputs"),
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

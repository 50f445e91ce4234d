"""A run's hash covers what determines its numbers and nothing else."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from pydantic import ValidationError

from xlt.pipeline.spec import Backbone, RunSpec, SourceSpec
from xlt.tasks.adversarial import DEFAULTS, Adversarial
from xlt.tasks.record import Recipe

SPEC = RunSpec(
    phase="target",
    name="baseline.xnli",
    arm="baseline",
    train=("mnli",),
    evaluate=("xnli",),
    backbone=Backbone(name="xlm-roberta-large"),
    parent=None,
    source=SourceSpec(name="world", settings={"seed": 0}),
    data={"mnli/train/en": "ab", "xnli/test/sw": "cd"},
    recipe={"learning_rate": 1e-5, "steps": 10},
    max_lengths={"mnli": 128, "xnli": 128},
    seed=1,
    precision="fp32",
)


def test_the_hash_is_fixed_for_ever() -> None:
    # A change of this value renames every run of every evaluator: raise ``format`` if it must change.
    assert SPEC.hash == "ac6047856605"
    assert SPEC.folder == f"target/baseline.xnli-{SPEC.hash}"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"precision": "bf16"},
        {"parent": "0123456789ab"},
        {"data": {"mnli/train/en": "ab", "xnli/test/sw": "ce"}},
        {"recipe": {"learning_rate": 2e-5, "steps": 10}},
        {"max_lengths": {"mnli": 128, "xnli": 256}},
        {"train": ("mnli", "squad")},
        {"translated": ("de",)},
        {"collapse_after": 0.5},
        {"retry": 1},
        {"engine": "graph"},
        {"source": SourceSpec(name="world", settings={"seed": 1})},
        {"backbone": Backbone(name="xlm-roberta-large", retrieval_layer=13)},
        {"backbone": Backbone(name="xlm-roberta-large", pooling="first")},
        {"backbone": Backbone(name="xlm-roberta-large", prefix="query: ")},
    ],
)
def test_whatever_determines_the_numbers_changes_the_hash(change: dict[str, object]) -> None:
    assert SPEC.model_copy(update=change).hash != SPEC.hash


def test_a_value_that_is_the_default_names_the_same_run() -> None:
    spelled_out = {**SPEC.recipe, "weight_decay": Recipe().weight_decay}
    assert SPEC.model_copy(update={"recipe": spelled_out}).hash == SPEC.hash
    assert SPEC.model_copy(update={"recipe": {**SPEC.recipe, "weight_decay": 0.0}}).hash != SPEC.hash
    assert "engine" not in SPEC.identity()


def test_adversarial_training_names_a_run_by_what_it_sets() -> None:
    def with_it(**settings: float | str) -> RunSpec:
        given = asdict(Adversarial.of({"method": "freelb", **settings}))
        return SPEC.model_copy(update={"recipe": {**SPEC.recipe, "adversarial": given}})

    assert len({SPEC.hash, with_it().hash, with_it(radius=0.0).hash, with_it(steps=3).hash}) == 4
    assert with_it(radius=0.3).hash == with_it().hash
    free = with_it(radius=0.0)
    assert RunSpec.model_validate_json(free.canonical()) == free
    assert (SPEC.title, free.title) == (SPEC.name, f"{SPEC.name} (freelb)")
    assert free.training_recipe().adversarial == Adversarial.of({"method": "freelb", "radius": 0.0})


def test_a_spec_survives_its_file() -> None:
    assert RunSpec.model_validate_json(SPEC.canonical()) == SPEC


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError):
        RunSpec.model_validate({**SPEC.model_dump(), "surprise": 1})


def test_adversarial_training_is_read_as_it_is_written() -> None:
    for method in DEFAULTS:
        plain = Adversarial.read(method)
        assert Adversarial.read(str(plain)) == plain
    assert str(Adversarial.read("freelb")) == "freelb,steps=2,step_size=0.1,radius=0.3,noise=0.1"  # SEEN: xlt/tasks
    assert Adversarial.read("freelb, steps=3 , radius=0.4") == Adversarial.read("freelb,steps=3,radius=0.4")

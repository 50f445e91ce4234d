"""Anchors on made-up scores: what others printed, beside what an arm of its own measured."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import pytest

from xlt.data.hub.table import hub_model, read_table
from xlt.pipeline.spec import Backbone
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import get_task
from xlt.verify.anchors import judge_anchors
from xlt.verify.cells import Cell
from xlt.verify.claims import Claim, Printed, read_claims, read_literature
from xlt.verify.paper import ClaimVerdict, Paper
from xlt.verify.scores import Scores, table_of

ANCHORS = {claim.id: claim for claim in read_claims().claims if "pocket" in claim.measured_by}
LITERATURE = read_literature()
PRINTED = LITERATURE.cells()
Aim = Callable[[Printed, int], float]


def as_printed(cell: Printed, seed: int) -> float:
    return cell.expected or 0.0


def moved(points: float, language: str = "") -> Aim:
    """As printed and so many points more, in one language or all."""
    return lambda cell, seed: as_printed(cell, seed) + (points if language in ("", cell.language) else 0.0)


def rows_of(task: str, language: str) -> int:
    return sum(files.rows_in.get(language, files.rows) for files in read_table()[task].test)


def measured(claim: Claim, aim: Aim, *, seeds: int = 1, rows: Callable[[str, str], int] = rows_of) -> Scores:
    """Scores of the anchor's arm in all its languages, with what ``aim`` says of each printed cell."""
    import pandas as pd

    tables = []
    for seed in range(seeds):
        scored: dict[tuple[str, str], dict[str, float]] = {}
        for cell in PRINTED:
            if cell.table in claim.tables and cell.language and cell.arm == claim.row:
                task, _, metric = cell.quantity.partition("/")
                if claim.quantities and task not in claim.quantities:
                    continue
                named = metric or ("f1" if get_task(task).metric == "tag_f1" else "accuracy")
                scored.setdefault((task, cell.language), {"exact_match": 40.0})[named] = aim(cell, seed)
        found = [
            Cell(
                arm=claim.measured_by["pocket"],
                task=task,
                split="test",
                language=language,
                metrics={"accuracy": 50.0} | metrics,
                chance={"accuracy": 1.0, "f1": 1.0, "exact_match": 0.0},
                majority=None,
                examples=rows(task, language),
                n_trials=1000,
                predictions="",
                run="",
            )
            for (task, language), metrics in scored.items()
        ]
        tables.append(table_of(found, seed, {claim.measured_by["pocket"]: 14}))
    return Scores(pd.concat(tables), tuple(range(seeds)), LITERATURE.languages)


def judged(name: str, aim: Aim = as_printed, *, model: str = "", layer: int = 0, **how: object) -> ClaimVerdict:
    claim = ANCHORS[name]
    layer = layer or (12 if name == "A1" else 14)
    backbones = {claim.measured_by["pocket"]: Backbone(name=model or claim.backbone, retrieval_layer=layer)}
    scores = measured(claim, aim, **how)  # type: ignore[arg-type]
    (found,) = judge_anchors([claim], scores, PRINTED, backbones, "pocket", "xlt reproduce --tier pocket").claims
    return found


def test_there_are_five_each_with_a_model_a_protocol_and_margins_with_their_reasons():
    assert list(ANCHORS) == ["A1", "A2", "A3", "A4", "A5"]
    tables = {table.name: table for table in LITERATURE.tables}
    for claim in ANCHORS.values():
        assert claim.backbone
        for name in claim.tables:
            assert tables[name].source.startswith("https://")
            assert tables[name].margin > 0
            assert tables[name].name == "replication" or tables[name].protocol


@pytest.mark.parametrize(
    "name", ["e5-small-tatoeba", "minilm-xnli", "minilm-mlqa", "xlm-r-large-xnli", "xlm-r-large-mlqa"]
)
def test_printed_means_are_those_of_the_printed_languages(name: str):
    cells = [cell for cell in PRINTED if cell.table == name]
    for mean in (cell for cell in cells if not cell.language):
        own = {c.language: c.expected for c in cells if c.language and c.quantity == mean.quantity}
        task = mean.quantity.partition("/")[0]
        assert set(own) == set(LITERATURE.languages["test"][task].split())
        assert fmean(own.values()) == pytest.approx(mean.expected, abs=0.06)


def test_of_printed_seeds_the_means_follow():
    cells = {cell.key: cell for cell in PRINTED}
    mean = cells["xlm-r-base-xquad.baseline.xquad/f1"]
    assert [round(value, 2) for value in mean.seeds] == [71.66, 71.86, 71.56, 72.01, 71.85]
    assert mean.expected == pytest.approx(71.79, abs=0.005)
    assert cells["xlm-r-base-wikiann.baseline.panx"].expected == pytest.approx(61.6, abs=0.05)
    assert len(cells["xlm-r-base-wikiann.baseline.panx.th"].seeds) == 5


@pytest.mark.parametrize("name", list(ANCHORS))
def test_an_anchor_as_printed_is_reproduced_with_one_seed(name: str):
    assert judged(name).verdict == "reproduced"


@pytest.mark.parametrize(("points", "word"), [(0.4, "reproduced"), (1.4, "consistent"), (5.0, "deviates")])
def test_one_seed_of_a_training_is_judged_by_the_spread_that_others_found(points: float, word: str):
    assert judged("A3", moved(points)).verdict == word


@pytest.mark.parametrize("name", list(ANCHORS))
def test_an_anchor_far_from_what_is_printed_deviates(name: str):
    assert judged(name, moved(-8.0)).verdict == "deviates"


def test_what_was_measured_stands_beside_what_is_printed_in_a_sentence():
    found = judged("A1", moved(5.9, "jv"))
    assert found.verdict == "reproduced"
    assert found.beside == "tatoeba 87.0 here, 86.9 printed (+0.1), farthest of 36 languages jv +5.9"


def test_a_language_beyond_its_own_margin_is_named_and_fails_nothing():
    found = judged("A1", moved(-7.0, "sw"))
    assert found.verdict == "consistent"
    assert "e5-small-tatoeba.a1.tatoeba.sw" in found.reason


def test_the_mean_has_a_narrower_margin_than_a_language():
    assert judged("A1", moved(-1.4)).verdict == "reproduced"
    assert judged("A1", moved(-1.6)).verdict == "deviates"


def test_xtreme_s_other_value_is_shown_beside_and_decides_nothing():
    found = judged("A2")
    (part,) = (part for part in found.parts if part.name == "xtreme-retrieval.a2.tatoeba")
    assert (part.expected, part.decides) == (57.3, False)
    assert part.reason.startswith("31.0 here (-26.3)")
    assert judged("A2", moved(26.3)).verdict == "deviates"


def test_printed_seeds_are_the_spread_by_which_one_seed_is_judged():
    found = judged("A4")
    assert "a new seed there in 71.2 to 72.3" in found.beside  # 71.79 ± 2.776 × 0.18 × √(6/5)
    xquad = next(part for part in found.parts if part.name == "xlm-r-base-xquad.a4.xquad/f1")
    assert (xquad.verdict, xquad.seeds) == ("reproduced", (0,))
    assert xquad.low == pytest.approx(71.79 - 0.54, abs=0.03)


def test_more_seeds_here_narrow_the_interval_and_a_wide_spread_of_them_is_not_hidden():
    def scattered(cell: Printed, seed: int) -> float:
        return as_printed(cell, seed) + 4.0 * (seed - 1)

    one, three, wide = judged("A3"), judged("A3", seeds=3), judged("A3", scattered, seeds=3)
    width = [found.parts[0].high - found.parts[0].low for found in (one, three, wide)]
    assert width[1] < width[0] < width[2]
    assert (three.verdict, wide.verdict) == ("reproduced", "consistent")


def test_a_part_that_was_not_run_is_no_gap_and_says_what_runs_it():
    nothing = measured(ANCHORS["A1"], as_printed)
    found = judge_anchors(list(ANCHORS.values()), nothing, PRINTED, {}, "pocket", "xlt reproduce --tier pocket")
    assert {each.verdict for each in found.claims} == {"not run"}
    assert found.words == set()
    fixes = {each.claim.id: each.fix for each in found.claims}
    assert fixes["A3"].startswith("xlt reproduce --tier pocket --part A3")


def test_another_model_is_not_judged_and_one_from_a_folder_is_never_more_than_consistent():
    assert judged("A1", model="xlm-roberta-base").verdict == "not verifiable"
    assert judged("A1", model="intfloat/multilingual-e5-small").verdict == "reproduced"
    given = judged("A1", model="folder:71b39420efc321ca")
    assert given.verdict == "consistent"
    assert "from a folder (folder:71b39420efc321ca)" in given.reason
    assert judged("A1", moved(-8.0), model="folder:71b39420efc321ca").verdict == "deviates"


def test_another_block_is_not_judged():
    assert judged("A1", layer=11).verdict == "not verifiable"


def test_a_part_of_the_rows_is_not_the_published_set():
    found = judged("A3", rows=lambda task, language: 500)
    assert found.verdict == "not verifiable"
    assert "xnli test has 500 rows" in found.reason
    assert "and 5010 in the published set" in found.reason


def test_verdicts_come_failures_first():
    far = measured(ANCHORS["A1"], moved(-9.0))
    backbones = {"a1": Backbone(name="multilingual-e5-small", retrieval_layer=12)}
    paper = judge_anchors(list(ANCHORS.values()), far, PRINTED, backbones, "pocket", "xlt reproduce")
    assert isinstance(paper, Paper)
    assert paper.claims[0].claim.id == "A1"
    assert paper.words == {"deviates"}
    assert paper.cells[0].verdict == "deviates"


@pytest.mark.parametrize("claim", ANCHORS.values(), ids=list(ANCHORS))
def test_the_tier_measures_each_with_its_model_on_all_rows(claim: Claim):
    tier = read_tier("pocket")
    plan = tier.plan("hub")
    arm = plan.arms[claim.measured_by["pocket"]]
    assert arm.part == claim.id
    backbone = arm.backbone or plan.backbone
    assert hub_model(backbone.name).repository == hub_model(claim.backbone).repository
    cells = [cell for cell in PRINTED if cell.table in claim.tables]
    tasks = {*claim.quantities} or {cell.quantity.partition("/")[0] for cell in cells}
    assert {*arm.targets} == tasks
    for task in tasks:
        recipe = tier.recipe(task, "hub", arm)
        assert recipe.test_examples == 0
        assert recipe.train_examples == 0 or get_task(task).trains_on is None
        if get_task(task).kind == "retrieval":
            assert {cell.layer for cell in cells} == {backbone.retrieval_layer}
            assert (backbone.prefix, backbone.pooling) == ("", "mean")


def test_sentences_with_a_prefix_are_not_what_was_printed():
    claim = ANCHORS["A1"]
    backbones = {"a1": Backbone(name=claim.backbone, retrieval_layer=12, prefix="query: ")}
    (found,) = judge_anchors([claim], measured(claim, as_printed), PRINTED, backbones, "pocket", "").claims
    assert found.verdict == "not verifiable"
    assert "the prefix 'query: '" in found.reason

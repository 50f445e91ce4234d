"""Results of the pocket tier, from files to the verdict on an anchor and the exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from xlt.data.hub.table import read_table
from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow, Row, TextRow
from xlt.errors import ExitCode
from xlt.pipeline.checkpoint import pinned
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import read_tier
from xlt.tasks.record import Split, Task
from xlt.verify.claims import read_literature
from xlt.verify.judge import join, recompute, scores_of
from xlt.verify.selection import select

from .built import said, write_results

TABLE = next(table for table in read_literature().tables if table.name == "e5-small-tatoeba")
PRINTED = TABLE.rows[0].by_language["tatoeba"]
(PUBLISHED,) = read_table()["tatoeba"].test


@dataclass
class Tatoeba:
    """Tatoeba in all its languages, each with as many rows as are published, or a ``share`` of them."""

    share: float = 1.0
    name: str = "files"
    settings: dict[str, int | str] = field(default_factory=dict)

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        return task.languages if task.key == "tatoeba" and split == "test" else ()

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        count = int(PUBLISHED.rows_in.get(language, PUBLISHED.rows) * self.share)
        return [BitextRow(f"{language}-{n}", f"{n}", f"{language} {n}") for n in range(count)]

    def pretraining_text(self) -> list[TextRow]:
        return []


def results(root: Path, source: Tatoeba) -> Path:
    """The part A1 as a model would leave it that scores what is printed in every language."""
    tier = read_tier("pocket")
    plan = tier.plan("files")
    # As a fetched checkpoint is named; none is here.
    backbone = pinned(plan.backbone).model_copy(update={"digest": "constructed"})
    tier = tier.model_copy(update={"sources": {"files": plan.model_copy(update={"backbone": backbone})}})
    grid = GridBuilder(tier, source, seed=0, precision="fp32", parts=["A1"]).grid()

    def predict(spec: RunSpec, task: Task, split: Split, language: str, rows: list[Row]) -> list[Prediction]:
        right = round(PRINTED.get(language, 50.0) / 100 * len(rows))
        return said(task, rows, [2] * right + [0] * (len(rows) - right))

    return write_results(root, grid, source, predict, {"device": "none: constructed", "world_size": 1})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("whole"), Tatoeba())


def test_a_part_that_was_run_is_judged_and_those_that_were_not_fail_nothing(whole: Path):
    found = join([recompute(whole, Tatoeba())])
    assert not found.problems
    assert found.paper is not None
    words = {each.claim.id: each.verdict for each in found.paper.claims}
    assert words == {"A1": "reproduced", "A2": "not run", "A3": "not run", "A4": "not run", "A5": "not run"}
    assert found.exit_code == ExitCode.OK
    assert found.backbones["a1"].name == "intfloat/multilingual-e5-small"
    assert select(found, claims=("A1",)).exit_code == ExitCode.OK
    asked = select(found, claims=("A3",))
    assert asked.exit_code == ExitCode.INCOMPLETE
    assert asked.paper is not None
    assert "xlt reproduce --tier pocket" in asked.paper.claims[0].fix
    # Of the part that was run nothing is said twice.
    assert asked.paper.claims[0].fix.count("--part") == 1
    assert "--part A3" in asked.paper.claims[0].fix


def test_the_arms_of_a_tier_of_anchors_are_not_those_of_the_paper(whole: Path):
    """Its multi8 may lack another task than the paper's reading of that name, and it has gains all the same."""
    found = join([recompute(whole, Tatoeba())])
    own = found.runs[0].model_copy(update={"phase": "intermediate", "arm": "multi8", "train": ("mnli", "squad")})
    trained = found.model_copy(update={"runs": (*found.runs, own)})
    assert not scores_of(trained).excluded
    assert ("multi8", "") in scores_of(trained.model_copy(update={"tier": "core"})).excluded


def test_where_no_anchor_can_be_judged_nothing_was(tmp_path: Path):
    source = Tatoeba(share=0.02)
    found = join([recompute(results(tmp_path, source), source)])
    assert found.exit_code == ExitCode.INCOMPLETE
    assert found.nothing_judged
    # An anchor that cannot be judged is no success where it alone is asked for.
    asked = select(found, claims=("A1",))
    assert asked.exit_code == ExitCode.INCOMPLETE
    assert "tatoeba test has 20 rows" in asked.nothing_judged
    assert select(found, cells=("tatoeba",)).exit_code == ExitCode.INCOMPLETE


def test_a_limit_is_the_reason_of_what_was_run_alone(tmp_path: Path):
    source = Tatoeba(share=0.02, settings={"limit": 20})
    found = join([recompute(results(tmp_path, source), source)])
    assert found.paper is not None
    reasons = {each.claim.id: each.reason for each in found.paper.claims}
    assert reasons["A1"] == "the results are of the first 20 rows of each split (--limit)"
    assert reasons["A2"] == "the part A2 of the tier was not run"
    assert not found.paper.cells


def test_a_part_is_shown_without_the_tables_of_the_others(
    invoke: Invoke, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: Tatoeba())
    short = invoke("verify", "--no-golden", "--results", str(whole))
    assert "A1  multilingual" in short.out
    assert all(len(line) <= 80 for line in short.out.splitlines()[:-1])  # the last is a command with the folder in it
    shown = invoke("verify", "--no-golden", "--results", str(whole), "--all")
    assert shown.code == ExitCode.OK, shown.err
    assert "A1  multilingual" in shown.out
    assert "A2  XLM-R" not in shown.out
    (line,) = [line for line in shown.out.splitlines() if "A2, A3, A4, A5" in line]
    assert line.startswith("Not run, each a part of the tier by itself: A2, A3, A4, A5.")
    assert "xlm-r" not in shown.out.replace(line, "")


def test_the_command_shows_the_sentence_of_an_anchor(
    invoke: Invoke, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: Tatoeba())
    shown = invoke("verify", "--no-golden", "--results", str(whole), "--claim", "A1")
    assert shown.code == ExitCode.OK, shown.err
    text = " ".join(shown.out.split())
    assert "Published anchors" in text
    assert "A1: tatoeba 86.9 here, 86.9 printed (" in text

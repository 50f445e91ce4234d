"""The capsule for a blind evaluation: it is current, judges as it says, and its answers travel nowhere."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from artifact.documents import capsule
from tests.conftest import PROJECT, unpacked
from xlt.verify.recorded import read_references

ANSWERS: dict[str, dict[str, Any]] = json.loads(capsule.files()["answers.json"])["answers"]


def honest() -> dict[str, Any]:
    """A report whose numbers lie in the middle of their intervals."""
    report: dict[str, Any] = {key: (each["low"] + each["high"]) / 2 for key, each in ANSWERS.items() if "low" in each}
    best = max(capsule.COMPARED, key=lambda name: float(report[name])).partition("/")[0]
    return report | {key: each["value"] for key, each in ANSWERS.items() if "value" in each} | {capsule.BEST: best}


def test_the_files_are_what_the_recorded_seeds_give() -> None:
    for name, text in capsule.files().items():
        stored = (PROJECT / "artifact" / "capsule" / name).read_text("utf-8")
        assert stored == text, "python -m artifact.documents.capsule"


def test_the_questions_are_of_a_seed_that_nobody_recorded_and_tell_no_answer() -> None:
    assert capsule.SEED not in {run.seed for run in capsule.recorded_runs()}
    shown = "".join(capsule.files()[name] for name in ("prompt.md", "questions.json", "report.schema.json"))
    assert not [each for each in ANSWERS.values() if "low" in each and (f"{each['low']}" in shown)]
    assert (ANSWERS["means"]["value"], ANSWERS["runs"]["value"]) == (31, 18)  # SEEN: the output in README.md


def test_an_interval_is_students_for_one_more_value() -> None:
    values = [60.0, 62.0, 61.0, 65.0]
    low, high = capsule.prediction_interval(values)
    # DERIVED: mean 62, standard deviation by n - 1, of one more value.
    half = stats.t.ppf(0.975, 3) * stats.tstd(values) * (1 + 1 / 4) ** 0.5
    assert (low, high) == (pytest.approx(62 - half), pytest.approx(62 + half))


def test_all_recorded_seeds_pass_when_they_are_judged_by_the_others() -> None:
    runs, passed = capsule.recorded_runs(), 0
    for run in runs:
        _, answers = capsule.questions_and_answers([other for other in runs if other is not run])
        report = {name: run.means[name].value for name in capsule.ASKED} | {"means": 31, "runs": 18}
        report[capsule.BEST] = max(capsule.COMPARED, key=lambda name: run.means[name].value).partition("/")[0]
        passed += capsule.passes(capsule.judge(report, answers), answers)
    assert passed == len(runs) == 27


@pytest.mark.parametrize(
    ("wrong", "counts"),
    [
        ({}, True),
        ({"baseline/xnli/test": 0.0, "multi/ccg/dev": 50}, True),
        ({"baseline/xnli/test": 0.0, "multi/ccg/dev": 50, "multi/udpos/test": None}, False),
        ({"runs": 17}, False),
        ({"means": 31.0}, False),
        ({"means": True}, False),
        ({capsule.BEST: "none"}, False),
        ({"baseline/tatoeba/test": "50.0"}, False),
    ],
)
def test_an_answer_counts_with_two_numbers_missed_and_with_no_count_or_word(
    wrong: dict[str, Any], counts: bool
) -> None:
    judged = capsule.judge(honest() | wrong, ANSWERS)
    assert capsule.passes(judged, ANSWERS) == counts


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of the recorded seed 0, of which the artifact has all but the models."""
    archive = PROJECT / "artifact/measured/smoke-world/seed-0-portable.tar.gz"
    return unpacked(archive, tmp_path_factory.mktemp("recorded")) / "seed-0"


def test_numbers_that_no_run_gave_do_not_count_beside_the_run(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def judged(answer: dict[str, Any], *results: Path) -> tuple[int, str]:
        (report := tmp_path / "report.json").write_text(json.dumps(answer))
        code = capsule.main([str(report), *map(str, results)])
        return code, "".join(capsys.readouterr())

    made_up = honest()
    assert judged(made_up)[0] == 0
    assert "no run was seen, and numbers may be made up" in judged(made_up)[1]
    code, said = judged(made_up, recorded)
    assert (code, "holds no run of seed 2027" in said) == (4, True)
    monkeypatch.setattr(capsule, "SEED", 0)
    code, said = judged(made_up, recorded)
    assert (code, "the capsule does not count" in said) == (1, True)
    answers = []
    for run in (run for run in read_references("smoke", "world").runs if run.seed == 0):
        read = made_up | {name: round(run.means[name].value, 1) for name in capsule.ASKED}
        read[capsule.BEST] = max(capsule.COMPARED, key=lambda name: run.means[name].value).partition("/")[0]
        answers.append(judged(read, recorded))
    # Of the recorded runs of that seed one is that of the archive; the other was made with other numerics.
    assert sorted(code for code, _ in answers) == [0, *[1] * (len(answers) - 1)], answers


@pytest.mark.parametrize("text", [None, "[1]", "not json", '{"asked by nobody": 1}'])
def test_what_is_no_answer_is_refused_in_a_line(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    if text:
        report.write_text(text)
    assert capsule.main([str(report)]) == 2
    assert "is no answer: " in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_the_image_is_not_built_of_the_answers() -> None:
    """What wheel and source archive hold is told by tests/test_release.py."""
    rules = (PROJECT / ".dockerignore").read_text("utf-8").split()
    assert rules[0] == "*"  # nothing but what is named after it
    deciding = [rule for rule in rules if fnmatch.fnmatch("artifact/capsule/answers.json", f"{rule.lstrip('!')}*")]
    assert deciding[-1] == "artifact/capsule"  # the last rule that fits a path decides

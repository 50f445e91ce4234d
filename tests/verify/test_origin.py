"""Where reference runs were made, and why a run is not exact."""

from __future__ import annotations

import json
from pathlib import Path

from xlt.verify.judge import verify
from xlt.verify.origin import origins
from xlt.verify.recorded import ReferenceRun

from .test_sites import on
from .tiny_results import shifted


def edited(path: Path, **facts: object) -> None:
    document = json.loads(path.read_text("utf-8"))
    document["platform"] |= facts
    path.write_text(json.dumps(document), "utf-8")


def test_it_is_said_in_what_the_reference_runs_differ(make, recorded):
    for path in recorded.glob("seed-*.json"):
        edited(path, cpu="AMD EPYC", cpu_threads=1)
    edited(recorded / "seed-1.json", commit="f" * 40, cpu_threads=[2, 1], packages={"torch": "2.12.0", "numpy": "2"})
    found = verify(*_judged(make))
    said = {each.what: str(each) for each in found.origins}
    assert set(said) == {"processor", "threads", "libraries", "version of the code"}
    assert said["processor"] == "processor AMD EPYC, here Intel Xeon"
    assert said["threads"] == "threads 1 in 7; 2 and 1 in 1, here not known"
    assert (
        said["libraries"]
        == "libraries torch 2.13.0, numpy – in 7; torch 2.12.0, numpy 2 in 1, here torch 2.13.0, numpy –"
    )
    assert said["version of the code"] == "version of the code c0ffee in 7; ffffffffffff in 1, here c0ffee"


def _judged(make):
    made = on(make().fill(shifted(-1)), "Intel Xeon")
    return made.root, made.source


def test_what_is_the_same_everywhere_is_not_said():
    run = ReferenceRun(tier="t", source="s", seed=1, date="", platform={"cpu": "x"}, means={}, cells={})
    assert origins({"cpu": "x"}, [run]) == ()
    assert origins({"cpu": "x"}, []) == ()


def test_the_reason_why_no_mean_is_exact_names_both_places(make, recorded):
    edited(recorded / "seed-3.json", cpu="AMD EPYC")
    made = on(make("three", seed=3).fill(shifted(2)), "Intel Xeon")
    assert verify(made.root, made.source).not_exact == (
        "No mean is exact. The recorded run of seed 3 (recorded on 2026-01-02, made on AMD EPYC) differs from this "
        "one: processor AMD EPYC, here Intel Xeon."
    )


def test_other_predictions_on_the_same_machine_are_worth_a_look(make, recorded):
    made = make("three", seed=3).fill(shifted(2), seconds=2)
    assert "the same processor, libraries and version of the code: look" in verify(made.root, made.source).not_exact


def test_a_seed_that_is_not_recorded_cannot_be_exact(make, recorded):
    assert verify(*_judged(make)).not_exact == (
        "No mean is exact: no run of seed 0 is recorded (recorded: 1, 2, 3, 4, 5, 6, 7, 8)."
    )
    itself = make("copied", seed=3).fill(shifted(3))
    assert "no run of seed 3 is recorded but for this very run" in verify(itself.root, itself.source).not_exact


def test_nothing_is_said_where_all_are_exact_or_nothing_is_recorded(make, recorded):
    same = make("same", seed=3).fill(shifted(3), seconds=2)
    assert verify(same.root, same.source).not_exact == ""
    for path in recorded.glob("*"):
        path.unlink()
    assert verify(same.root, same.source).not_exact == ""


def test_of_two_runs_of_a_seed_one_counts_and_either_can_be_exact(make, recorded):
    """With other numerics the same seed is nearly the same draw."""
    document = json.loads((recorded / "seed-3.json").read_text("utf-8"))
    for cell in document["cells"].values():
        cell["predictions"] = "portable"
    document["platform"]["numerics"] = "portable"
    (recorded / "seed-3-portable.json").write_text(json.dumps(document), "utf-8")
    found = verify(*_judged(make))
    assert "seeds 1, 2, 3, 4, 5, 6, 7, 8 (left out: 1 of a seed that another one stands for)" in found.references[0]
    same = make("same", seed=3).fill(shifted(3), seconds=2)
    assert verify(same.root, same.source).counts == {"exact": 7}

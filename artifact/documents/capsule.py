"""A capsule for a blind evaluation, in the form of CORE-Bench: ``artifact/capsule``, and how an answer is judged.

    python -m artifact.documents.capsule                        # writes artifact/capsule
    python -m artifact.documents.capsule report.json RESULTS    # judges an answer by the run that it is from

Whoever is evaluated, a person or an agent, gets the image or the wheel, ``prompt.md``, ``questions.json`` and
``report.schema.json``, and writes ``report.json``. ``answers.json`` is for the judge alone: neither the image nor the
wheel nor the source archive has it. A number is right inside the 95 % prediction interval that the recorded seeds give
for one more seed, and where it is what the predictions in RESULTS give: the intervals are as wide as seeds of so small
a model differ, and whoever has read the recorded seeds can name a number inside. Without RESULTS the judge says that
it saw no run. Which arm is best depends on the seed: that answer must agree with the means beside it. The capsule
counts (exit code 0, else 1) where no count and no word is wrong, and at most two numbers: the recorded seeds, each
judged by the others, all pass. The form is CORE-Bench's as it is remembered; its capsules were not opened for this.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from xlt.artifact import artifact_root
from xlt.errors import DataFault, ExitCode, XltError
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.tiers import read_tier
from xlt.strict_json import parse_json, reason
from xlt.verify.judge import recompute
from xlt.verify.recorded import ReferenceRun, read_references
from xlt.verify.stored import read_grid

SEED = 2027  # nobody has recorded it: what a run of it gives stands nowhere
COMMAND = f"xlt reproduce --tier smoke --seed {SEED}"
LEVEL = 0.975
ASKED = (
    *("baseline/xnli/test", "baseline/pawsx/test", "baseline/udpos/test", "baseline/panx/test"),
    *("baseline/bucc2018/test", "mnli/mnli/dev", "mnli/xquad/test", "multi/udpos/test", "multi/ccg/dev"),
    *(COMPARED := ("baseline/tatoeba/test", "mnli/tatoeba/test", "multi/tatoeba/test")),
)
BEST = "the arm that is best at Tatoeba"
MOST_MISSES = 2
ROUNDED = 0.05  # an answer has one decimal at least
PROMPT = f"""\
# Task

Reproduce the smoke tier of xlt with a seed that nobody has recorded, and answer the questions in `questions.json`.

1. Run `{COMMAND}`. It needs no GPU, no download and about ten minutes of two cores.
   Its exit code may be 0 or 1.
2. Read `report/report.json` or `report/cells.csv` of the results folder. A mean is the unweighted mean over the
   languages of a task, in percent, as in `verdicts[].value`; it is named ARM/TASK/SPLIT.
3. Write `report.json`: a JSON object with exactly the keys of `questions` in `questions.json`, and for each a value of
   the type that `report.schema.json` gives. Numbers are percentages with at least one decimal.

No file of the artifact holds the answers, since none holds this seed. The recorded runs of other seeds, which
`xlt verify` needs, do lie in it: numbers that are taken from them and not from a run can lie in the intervals, so hand
in the results folder too. The judge recomputes the means from its predictions.
"""
Answer = dict[str, Any]


def recorded_runs() -> list[ReferenceRun]:
    """The recorded runs of the smoke tier on its own source, one for each seed."""
    by_seed: dict[int, ReferenceRun] = {}
    for run in read_references("smoke", "world").runs:
        by_seed.setdefault(run.seed, run)
    return list(by_seed.values())


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval in which one more value lies, as CORE-Bench's: by Student's t, between 0 and 100."""
    half = float(stdtrit(len(values) - 1, LEVEL)) * stdev(values) * math.sqrt(1 + 1 / len(values))
    return max(0.0, fmean(values) - half), min(100.0, fmean(values) + half)


def questions_and_answers(runs: Sequence[ReferenceRun]) -> tuple[dict[str, str], dict[str, Answer]]:
    """The questions by key, and what is right for each: an interval, or one value."""
    asked: dict[str, str] = {}
    right: dict[str, Answer] = {}
    for name in ASKED:
        low, high = prediction_interval([run.means[name].value for run in runs])
        asked[name], right[name] = f"The mean {name}, in percent.", {"low": round(low, 2), "high": round(high, 2)}
    asked[BEST] = f"Which arm has the highest of the means {', '.join(COMPARED)}?"
    right[BEST] = {"highest_of": list(COMPARED)}
    asked["means"] = "How many means got a verdict (the sum of counts)?"
    right["means"] = {"value": len(runs[0].means)}
    grid = GridBuilder(
        read_tier("smoke"), open_source(SourceOptions()), seed=SEED, precision="fp32", fingerprints=False
    ).grid()
    asked["runs"] = "How many runs does the grid have?"
    right["runs"] = {"value": len(grid.runs)}
    return asked, right


def report_schema(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """The JSON schema of an answer; it tells types, and no value."""
    types = {"low": "number", "highest_of": "string", "value": "integer"}
    kinds = {key: types[next(iter(each))] for key, each in answers.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in kinds.items()},
        "required": list(kinds),
        "additionalProperties": False,
    }


def means_of(results: Path) -> dict[str, float]:
    """The means that the predictions in a results folder give, by ARM/TASK/SPLIT.

    Raises:
        XltError: it is no whole run of ``COMMAND``, or something in it was edited.
    """
    grid = read_grid(results)
    if (grid.tier, grid.seed) != ("smoke", SEED):
        raise DataFault(f"'{results}' holds no run of seed {SEED} of the smoke tier.", fix=COMMAND)
    found = recompute(results, open_source(SourceOptions()))
    if any(run.state != "done" for run in found.runs):
        raise DataFault(f"The run in '{results}' is not whole.", fix=f"{COMMAND} --results {results}")
    if found.problems:
        raise DataFault(
            f"'{results}' cannot be trusted: {found.problems[0].what}", fix=f"xlt verify --results {results}"
        )
    return {"/".join(each.key): each.value for each in found.verdicts if each.value is not None}


def judge(
    report: Mapping[str, Any], answers: Mapping[str, Answer], means: Mapping[str, float] | None = None
) -> dict[str, bool]:
    """For each question whether it was answered right, and a number as the ``means`` of a run, if they are given, have
    it; an answer that is absent or of another type is wrong."""
    return {
        key: _is_right(report.get(key), each, report)
        and (means is None or "low" not in each or abs(report[key] - means[key]) <= ROUNDED + 1e-9)
        for key, each in answers.items()
    }


def _is_right(said: Any, answer: Answer, report: Mapping[str, Any]) -> bool:
    if "low" in answer:
        return _is_number(said) and bool(answer["low"] <= said <= answer["high"])
    if "highest_of" in answer:
        means = {name.partition("/")[0]: report.get(name) for name in answer["highest_of"]}
        return all(map(_is_number, means.values())) and said == max(means, key=lambda arm: means[arm] or 0.0)
    return type(said) is int and said == answer["value"]


def _is_number(said: Any) -> bool:
    return isinstance(said, int | float) and not isinstance(said, bool)


def passes(judged: Mapping[str, bool], answers: Mapping[str, Answer]) -> bool:
    """Whether the whole capsule counts as answered."""
    missed = [key for key, right in judged.items() if not right]
    return len(missed) <= MOST_MISSES and all("low" in answers[key] for key in missed)


def files() -> dict[str, str]:
    """The files of the capsule by name."""
    runs = recorded_runs()
    asked, right = questions_and_answers(runs)
    return {
        "prompt.md": PROMPT,
        "questions.json": _json({"capsule": "xlt-smoke", "command": COMMAND, "questions": asked}),
        "report.schema.json": _json(report_schema(right)),
        "answers.json": _json({"capsule": "xlt-smoke", "seeds": [run.seed for run in runs], "answers": right}),
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the capsule, or judge the answer in a file; the exit code."""
    folder = artifact_root() / "capsule"
    if not arguments:
        folder.mkdir(exist_ok=True)
        for name, text in files().items():
            (folder / name).write_text(text, encoding="utf-8")
        return 0
    answers = json.loads((folder / "answers.json").read_text("utf-8"))["answers"]
    try:
        report = parse_json(Path(arguments[0]).read_bytes())
        if not isinstance(report, dict):
            raise ValueError("it is no JSON object")
        if unknown := report.keys() - answers.keys():
            raise ValueError(f"no question has the key '{min(unknown)}'")
        means = means_of(Path(arguments[1])) if arguments[1:] else None
    except (OSError, ValueError) as error:
        print(f"'{arguments[0]}' is no answer: {reason(error)}", file=sys.stderr)
        return int(ExitCode.USAGE)
    except XltError as error:
        print(f"{error.what} {error.why}\n  Fix: {error.fix}", file=sys.stderr)
        return int(error.exit_code)
    found = judge(report, answers, means)
    for key, right in found.items():
        print(f"{'right' if right else 'WRONG'}  {key}")
    counts = passes(found, answers)
    end = "the capsule counts" if counts else "the capsule does not count"
    if means is None:
        end += ", by the report alone: no run was seen, and numbers may be made up (give RESULTS too)"
    print(f"{sum(found.values())} of {len(found)} questions are answered right: {end}.")
    return 0 if counts else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

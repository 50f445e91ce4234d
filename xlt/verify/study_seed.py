"""What the answer of a study says of one of its seeds, beside what this seed's predictions give."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from xlt.data.perturb import Perturbation
from xlt.data.perturbed import PERTURB
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore, read_spec
from xlt.pipeline.studies import KEPT, Study
from xlt.strict_json import read_bytes
from xlt.verify import stored
from xlt.verify.checks import Checks
from xlt.verify.judge import Verification, exit_code, worst_code
from xlt.verify.singles import perturbed_grids
from xlt.verify.stored import Problem, read_grid
from xlt.verify.study import ANSWER, Perturbed, observe
from xlt.verify.study_numbers import difficulties_of, numbers_of

NUMBER_APART = 1e-6


def with_study(found: Verification, results: Path, data_root: Path | None) -> Verification:
    """``found``, the verification of a results folder, with what the answer of a study says of this seed of it; as it
    is where the folder is no study's seed.

    The numbers in ``study.json`` are computed anew, from predictions on clean and on perturbed rows.

    Raises:
        DataFault: the source has no data.
    """
    name, dash, size = found.tier.partition("-")
    if not dash or not (results.parent / KEPT).is_file():
        return found
    fix = f"xlt reproduce --study {name} --tier {size}, which writes it anew, with the same --results"
    try:
        study = Study.model_validate(tomllib.loads(read_bytes(results.parent / KEPT).decode("utf-8")))
        form = study.forms[size]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        what = f"It is not the file of the study {name} with a form for {size}."
        return _with(found, [Problem(kind="grid", run="", where=KEPT, what=what, fix=fix)], checked="", absent=[])
    store, perturbed = RunStore(results), list[Perturbed]()
    asked = {str(Perturbation.parse(text)) for text in form.perturbations}
    for grid in perturbed_grids(results, read_grid(results)):
        if grid.source.settings[PERTURB] not in asked:
            continue
        specs = [read_spec(store.path(run.folder)) for run in grid.runs]
        perturbed.append((stored.source_in(grid, data_root), [(_arm(spec), spec) for spec in specs]))
    count = sum(len(runs) for _, runs in perturbed)
    wanted = len(form.perturbations) * sum(key in arm.targets for key in form.perturbed for arm in form.arms.values())
    absent = [f"study: {wanted - count} of {wanted} evaluations on perturbed rows are not here"] * (count < wanted)
    path = results.parent / ANSWER
    if not path.is_file():
        return _with(found, [], checked="", absent=[*absent, f"study: there is no {ANSWER} yet"])
    seen = observe(results, stored.source_of(results, data_root), perturbed)
    numbers = {f"the test '{name}'": value for name, value in numbers_of(study, form, seen).items()}
    numbers |= {_difficulty(arm): value for arm, value in difficulties_of(form, seen).items()}
    wrong = _contradictions(path, found.seed, numbers)
    problems = [Problem(kind="disagreement", run="", where=ANSWER, what=what, fix=fix) for what in wrong]
    checked = f"study: the numbers of seed {found.seed} in {ANSWER}, computed anew for {len(form.tests)} tests"
    return _with(found, problems, checked=checked, absent=absent)


def _arm(spec: RunSpec) -> str:
    """The arm whose model a run evaluates, as ``perturbed_runs`` puts it into the name."""
    return spec.name.partition(".evaluate.")[0]


def _difficulty(arm: str) -> str:
    return f"the difficulty of '{arm}'"


def _contradictions(path: Path, seed: int, numbers: Mapping[str, float | None]) -> Iterator[str]:
    """What the answer says of a seed otherwise than its predictions."""
    try:
        document = json.loads(read_bytes(path))
        said = {f"the test '{test['name']}'": test["per_seed"].get(str(seed)) for test in document["tests"]}
        hard = document.get("difficulties", {}).items()
        said |= {_difficulty(arm): by_seed.get(str(seed)) for arm, by_seed in hard}
        values = {name: None if value is None else float(value) for name, value in said.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        yield "It cannot be read."
        return
    for name, wanted in numbers.items():
        value = values.get(name)
        same = value == wanted if None in (value, wanted) else math.isclose(value, wanted, abs_tol=NUMBER_APART)  # type: ignore[arg-type]
        if not same:
            there, here = ("none" if each is None else f"{each:.6g}" for each in (value, wanted))
            yield f"For {name} it has the number {there} of seed {seed}; the predictions give {here}."


def _with(found: Verification, problems: list[Problem], *, checked: str, absent: list[str]) -> Verification:
    before = found.checks or Checks(checked=(), not_checked=(), recheck=None)
    notes = {"checked": (*before.checked, *filter(None, [checked])), "not_checked": (*before.not_checked, *absent)}
    code = worst_code({found.exit_code, exit_code(problems, (), ())})
    changed = {"problems": (*found.problems, *problems), "checks": before.model_copy(update=notes), "exit_code": code}
    return found.model_copy(update=changed)

"""What the answer of a study says of one of its seeds, beside what this seed's predictions give."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xlt.artifact import artifact_root
from xlt.data.perturb import Perturbation
from xlt.data.perturbed import PERTURB
from xlt.errors import ExitCode
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore, read_spec
from xlt.pipeline.studies import KEPT, Form, Study
from xlt.strict_json import read_bytes
from xlt.verify import stored
from xlt.verify.checks import Checks
from xlt.verify.judge import Verification, exit_code, worst_code
from xlt.verify.singles import perturbed_grids
from xlt.verify.stored import Problem, read_grid
from xlt.verify.study import ANSWER, Perturbed, StudyAnswer, answer, observe
from xlt.verify.study_numbers import Observed, difficulties_of, numbers_of

NUMBER_APART = 1e-6
LONGEST = 60


@dataclass(frozen=True, slots=True)
class _Seed:
    """A seed of a study, and what its predictions give."""

    study: Study
    size: str
    observed: Observed
    fix: str


def with_studies(found: Sequence[tuple[Verification, Path]], data_root: Path | None) -> list[tuple[Verification, Path]]:
    """``found``, verifications of results folders, with what the answer of a study says of those that are its seeds.

    The numbers in ``study.json`` are computed anew, from predictions on clean and on perturbed rows. Where all seeds of
    a study are here, its tests are made anew too.

    Raises:
        DataFault: the source has no data.
    """
    changed, of_studies = list[Verification](), dict[Path, list[tuple[int, _Seed]]]()
    for count, (verified, folder) in enumerate(found):
        noted, seed = _seed(verified, folder, data_root)
        changed.append(noted)
        if seed:
            of_studies.setdefault(folder.parent, []).append((count, seed))
    for study, seeds in of_studies.items():
        (first, one), path = seeds[0], study / ANSWER
        if {seed.observed.seed for _, seed in seeds} == {*one.study.form(one.size).seeds}:
            changed[first] = _with_answer(changed[first], path, [seed for _, seed in seeds])
            continue
        for count, seed in seeds:
            changed[count] = _with_numbers(changed[count], path, seed)
    return [(verified, folder) for verified, (_, folder) in zip(changed, found, strict=True)]


def _seed(found: Verification, results: Path, data_root: Path | None) -> tuple[Verification, _Seed | None]:
    """What was ``found`` in a folder, and the seed of a study that it is; None where it is none's, or where there is no
    answer."""
    name, dash, size = found.tier.partition("-")
    if not dash or not (results.parent / KEPT).is_file():
        return found, None
    fix = f"xlt reproduce --study {name} --tier {size}, which writes it anew, with the same --results"
    try:
        study = Study.model_validate(tomllib.loads(read_bytes(results.parent / KEPT).decode("utf-8")))
        form = study.forms[size]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        what = f"It is not the file of the study {name} with a form for {size}."
        return _with(found, [Problem(kind="grid", run="", where=KEPT, what=what, fix=fix)]), None
    perturbed = list(_perturbed(form, results, data_root))
    count = sum(len(runs) for _, runs in perturbed)
    wanted = len(form.perturbations) * sum(key in arm.targets for key in form.perturbed for arm in form.arms.values())
    absent = [f"study: {wanted - count} of {wanted} evaluations on perturbed rows are not here"] * (count < wanted)
    if not (results.parent / ANSWER).is_file():
        return _with(found, absent=[*absent, f"study: there is no {ANSWER} yet"]), None
    observed = observe(results, stored.source_of(results, data_root), perturbed)
    return _with(found, absent=absent), _Seed(study, size, observed, fix)


def _perturbed(form: Form, results: Path, data_root: Path | None) -> Iterator[Perturbed]:
    """The perturbed rows that a form asks for, and the runs on them in the folder of a seed."""
    store, asked = RunStore(results), {str(Perturbation.parse(text)) for text in form.perturbations}
    for grid in perturbed_grids(results, read_grid(results)):
        if grid.source.settings[PERTURB] in asked:
            specs = [read_spec(store.path(run.folder)) for run in grid.runs]
            yield stored.source_in(grid, data_root), [(_arm(spec), spec) for spec in specs]


def _with_numbers(found: Verification, path: Path, seed: _Seed) -> Verification:
    """With what the answer says of the numbers of one seed."""
    form, number = seed.study.form(seed.size), seed.observed.seed
    numbers = {f"the test '{name}'": value for name, value in numbers_of(seed.study, form, seed.observed).items()}
    numbers |= {_difficulty(arm): value for arm, value in difficulties_of(form, seed.observed).items()}
    problems = _problems(_contradictions(path, number, numbers), seed.fix)
    checked = f"study: the numbers of seed {number} in {ANSWER}, computed anew for {len(form.tests)} tests"
    return _with(found, problems, checked=checked)


def _with_answer(found: Verification, path: Path, seeds: Sequence[_Seed]) -> Verification:
    """With what the answer says of all seeds: its tests, and all that is told of them."""
    study, size = seeds[0].study, seeds[0].size
    seen = {seed.observed.seed: seed.observed for seed in seeds}
    wanted = answer(study, size, found.source, [seen[seed] for seed in study.form(size).seeds])
    if wanted.left_out:  # as it is where the study is answered
        found = found.model_copy(update={"exit_code": worst_code({found.exit_code, ExitCode.DEVIATES})})
    problems = _problems(_differences(path, wanted), seeds[0].fix)
    checked = f"study: {ANSWER} of all {len(seeds)} seeds, computed anew with its {len(wanted.tests)} tests"
    fixed = artifact_root() / "studies" / f"{study.name}.toml"
    if not fixed.is_file() or fixed.read_bytes() != read_bytes(path.with_name(KEPT)):
        other = f"study: {KEPT} is not the file of {study.name} that this version has"
        return _with(found, problems, checked=checked, absent=[other])
    return _with(found, problems, checked=checked, answer="" if problems else wanted.answer)


def _differences(path: Path, wanted: StudyAnswer) -> Iterator[str]:
    """What an answer says otherwise than one that was computed anew."""
    try:
        said = StudyAnswer.model_validate_json(read_bytes(path))
    except (OSError, ValueError, RecursionError):
        yield "It cannot be read."
        return
    here, there = (dict(_leaves(each.model_dump(exclude={"problems"}))) for each in (wanted, said))
    for place in dict.fromkeys((*here, *there)):
        ours, theirs = here.get(place), there.get(place)
        if isinstance(ours, float) and isinstance(theirs, float):
            if not math.isclose(ours, theirs, rel_tol=NUMBER_APART, abs_tol=NUMBER_APART):
                yield f"For {place} it has {theirs:.6g}; the predictions give {ours:.6g}."
        elif ours != theirs:
            yield f"For {place} it has {_short(theirs)}; the predictions give {_short(ours)}."


def _leaves(value: object, place: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    """The single values of a document, each by its place."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, (*place, str(key)))
    elif isinstance(value, list):
        for count, each in enumerate(value):
            name = each["name"] if isinstance(each, Mapping) and "name" in each else count
            yield from _leaves(each, (*place, str(name)))
    else:
        yield ".".join(place), value


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


def _problems(wrong: Iterable[str], fix: str) -> list[Problem]:
    return [Problem(kind="disagreement", run="", where=ANSWER, what=what, fix=fix) for what in wrong]


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _with(
    found: Verification,
    problems: Sequence[Problem] = (),
    *,
    checked: str = "",
    absent: Sequence[str] = (),
    answer: str = "",
) -> Verification:
    before = found.checks or Checks(checked=(), not_checked=(), recheck=None)
    notes = {"checked": (*before.checked, *filter(None, [checked])), "not_checked": (*before.not_checked, *absent)}
    code = worst_code({found.exit_code, exit_code(problems, (), ())})
    changed = {"problems": (*found.problems, *problems), "checks": before.model_copy(update=notes), "exit_code": code}
    return found.model_copy(update={**changed, "study_answer": answer})

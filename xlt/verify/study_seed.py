"""What the answer of a study says of one of its seeds, beside what this seed's predictions give."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xlt.data.perturb import Perturbation
from xlt.data.perturbed import PERTURB
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore, read_spec
from xlt.pipeline.studies import Form, Study, read_study, study_names
from xlt.pipeline.study_folder import ANSWER, KEPT, study_kept_in
from xlt.strict_json import parse_json, read_bytes
from xlt.verify import stored
from xlt.verify.checks import Checks
from xlt.verify.judge import Verification, exit_code, worst_code
from xlt.verify.singles import perturbed_grids
from xlt.verify.stored import Problem, read_grid
from xlt.verify.study import Perturbed, StudyAnswer, answer, observe
from xlt.verify.study_numbers import Observed, difficulties_of, numbers_of

NUMBER_APART = 1e-6
LONGEST = 400
# What was fixed before any run; what else a study's file says may be put better later.
DECIDING = ("question", "hypothesis", "decision", "forms")


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
        lacking = {*one.study.form(one.size).seeds} - {seed.observed.seed for _, seed in seeds}
        named = ", ".join(map(str, sorted(lacking)))
        note = f"the tests of the study, which need all of its seeds, also {named}: --results STUDY, the folder of all"
        changed[first] = _with(changed[first], absent=[note])
    return [(verified, folder) for verified, (_, folder) in zip(changed, found, strict=True)]


def _seed(found: Verification, results: Path, data_root: Path | None) -> tuple[Verification, _Seed | None]:
    """What was ``found`` in a folder, and the seed of a study that it is; None where it is none's, or where there is no
    answer."""
    name, dash, size = found.tier.partition("-")
    number, of = results.name.removeprefix("seed-"), study_kept_in(results.parent)
    if of and number.isdecimal() and (name, str(found.seed)) != (of, number):
        what = f"It is of the tier {found.tier} and seed {found.seed}, in the place of seed {number} of the study {of}."
        fix = f"xlt reproduce --study {of}, with another --results, and this folder under another name"
        return _with(found, [Problem(kind="grid", run="", where="grid.json", what=what, fix=fix)]), None
    if not dash or not any((results.parent / name).is_file() for name in (KEPT, ANSWER)):
        return found, None
    fix = f"xlt reproduce --study {name} --tier {size}, which writes it anew, with the same --results"
    try:
        study = Study.model_validate(tomllib.loads(read_bytes(results.parent / KEPT).decode("utf-8")))
        form = study.forms[size]
        if study.name != name:
            raise ValueError("it is another study's")
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        what = f"It is not here, or not the file of the study {name} with a form for {size}, of which this seed is."
        restore = f"Restore it: artifact/studies/{name}.toml of the version that made the runs."
        return _with(found, [Problem(kind="grid", run="", where=KEPT, what=what, fix=restore)]), None
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
    problems = _problems(_differences(path, wanted), seeds[0].fix)
    checked = f"study: {ANSWER} of all {len(seeds)} seeds, computed anew with its {len(wanted.tests)} tests"
    fixed = read_study(study.name) if study.name in study_names() else None
    if fixed is None or any(getattr(fixed, each) != getattr(study, each) for each in DECIDING):
        other = f"the answer of the study, since {KEPT} does not ask what {study.name} of this version asks"
        return _with(found, problems, checked=checked, absent=[other])
    told = {"study_answer": "" if problems else wanted.answer, "study_left_out": tuple(wanted.left_out)}
    return _with(found, problems, checked=checked).model_copy(update=told)


def _differences(path: Path, wanted: StudyAnswer) -> Iterator[str]:
    """What an answer says otherwise than one that was computed anew."""
    try:
        said = StudyAnswer.model_validate(parse_json(read_bytes(path)))
    except (OSError, ValueError, RecursionError):
        yield "It cannot be read."
        return
    if said.problems and not wanted.problems:
        yield f"It names problems where there are none: {_short(said.problems[0])}"
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
            named = f" ({each['name']})" if isinstance(each, Mapping) and "name" in each else ""
            yield from _leaves(each, (*place, f"{count}{named}"))
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
        document = parse_json(read_bytes(path))
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
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _with(
    found: Verification,
    problems: Sequence[Problem] = (),
    *,
    checked: str = "",
    absent: Sequence[str] = (),
) -> Verification:
    before = found.checks or Checks(checked=(), not_checked=(), recheck=None)
    notes = {"checked": (*before.checked, *filter(None, [checked])), "not_checked": (*before.not_checked, *absent)}
    code = worst_code({found.exit_code, exit_code(problems, (), ())})
    changed = {"problems": (*found.problems, *problems), "checks": before.model_copy(update=notes), "exit_code": code}
    return found.model_copy(update=changed)

"""The project's own hygiene: what its files say, how large they are, what its locks hold, what make says."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from xlt import __version__

PROJECT = Path(__file__).parent.parent
LOCKS = PROJECT / "artifact" / "lock"
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
# What was reached; the aim is 12,500 and 2,700. Whoever needs more lines takes a concept out elsewhere.
MOST_LINES = {"xlt without bench": 32_062, "bench": 4_134}

# Written in parts, or this file would name them too.
INDEX_OPTIONS = re.compile(
    "|".join("-".join(words) for words in (("index", "url"), ("trusted", "host"), ("find", "links")))
)
# A folder of somebody's machine: below a home or below the place where this project was written.
ABSOLUTE_HOME = re.compile(r"(?<![\w.~*-])/(?:home/\w|Users/\w|root/|work/)")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@cache
def project_files() -> tuple[Path, ...]:
    """The files that git tracks, and those that it would if they were added."""
    if not shutil.which("git") or not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the project is not known")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip(f"git does not list this checkout: {listing.stderr.strip()}")
    paths = (PROJECT / name for name in listing.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def python_files(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in project_files():
        if path.suffix == ".py" and path.relative_to(PROJECT).parts[0] in folders:
            yield path.relative_to(PROJECT), ast.parse(path.read_text(encoding="utf-8"))


def lines_that_match(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in project_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(PROJECT)
        found += [f"{name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if pattern.search(line)]
    return found


def locked(name: str) -> dict[str, Version]:
    """The pins of a lock, by canonical name."""
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (LOCKS / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(package): Version(version) for package, version in pins}


@cache
def declared() -> dict[str, list[Requirement]]:
    """What pyproject.toml asks for: under "" always, else for an extra."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {group: [Requirement(line) for line in lines] for group, lines in groups.items()}


# What the files say


def test_no_file_names_a_package_index() -> None:
    found = lines_that_match(INDEX_OPTIONS)
    assert not found, "\n".join(found)


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    found = lines_that_match(ABSOLUTE_HOME)
    assert not found, "\n".join(found)


def test_the_patterns_find_what_they_look_for() -> None:
    assert INDEX_OPTIONS.search("--extra-" + "index-" + "url=x")
    for folder in ("home/me/x", "Users/me/x", "root/.cache", "work/main"):
        assert ABSOLUTE_HOME.search(f'path = "/{folder}"')
    assert not ABSOLUTE_HOME.search("results/home/x and ~/work/x and https://example.org/root/x")


def test_licence_is_apache_2() -> None:
    text = (PROJECT / "LICENSE").read_text(encoding="utf-8")
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text
    assert all(f"\n   {clause}. " in text for clause in range(1, 10))


def test_all_that_names_the_project_agrees() -> None:
    """CITATION.cff, codemeta.json, .zenodo.json and pyproject.toml: names, version, licence, authors, and the paper."""
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    meta, zenodo = (
        json.loads((PROJECT / name).read_text(encoding="utf-8")) for name in ("codemeta.json", ".zenodo.json")
    )
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["cff-version"] == "1.2.0"
    assert {cited["version"], meta["version"], zenodo["version"], __version__} == {project["version"]}
    assert {cited["license"], meta["license"].removeprefix("https://spdx.org/licenses/"), zenodo["license"]} == {
        project["license"]
    }
    authors = [author["name"] for author in cited["authors"]]
    assert [each["name"] for each in meta["author"]] == [each["name"] for each in zenodo["creators"]] == authors
    assert cited["keywords"] == meta["keywords"] == zenodo["keywords"]
    assert (meta["name"], meta["description"]) == (project["name"], project["description"])
    assert zenodo["title"] == cited["title"]
    assert zenodo["description"].startswith(f"{project['description']}. ")
    assert meta["programmingLanguage"]["version"] == project["requires-python"]
    paper, its = cited["preferred-citation"], meta["referencePublication"]
    assert (
        paper["title"]
        == its["name"]
        == "English Intermediate-Task Training Improves Zero-Shot Cross-Lingual Transfer Too"
    )
    named = [(each["given-names"], each["family-names"]) for each in paper["authors"]]
    assert named == [(each["givenName"], each["familyName"]) for each in its["author"]]
    assert ("Jason", "Phang") in named
    preprint = paper["identifiers"][0]["value"]
    assert preprint == zenodo["related_identifiers"][0]["identifier"]
    assert its["sameAs"] == f"https://arxiv.org/abs/{preprint.removeprefix('arXiv:')}"
    assert str(paper["year"]) == its["datePublished"]
    for page in ("SECURITY.md", "CHANGELOG.md"):
        assert project["version"] in (PROJECT / page).read_text(encoding="utf-8"), page


def test_artifact_files_parse() -> None:
    artifact = PROJECT / "artifact"
    configurations = sorted(artifact.glob("deepspeed/*.json"))
    tables = sorted(artifact.glob("**/*.toml"))
    assert configurations
    assert any(path.parent.name == "tiers" for path in tables)
    assert all(isinstance(json.loads(path.read_text(encoding="utf-8")), dict) for path in configurations)
    assert all(tomllib.loads(path.read_text(encoding="utf-8")) for path in tables)


# How the code is built


def test_no_file_or_function_is_too_long() -> None:
    long = []
    for name, tree in python_files("xlt", "kernels", "artifact"):
        lines = len((PROJECT / name).read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_FILE:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    assert not long, "\n".join(long)


def test_the_package_does_not_grow() -> None:
    lines = {"xlt without bench": 0, "bench": 0}
    for name, _ in python_files("xlt"):
        part = "bench" if name.parts[1] == "bench" else "xlt without bench"
        lines[part] += len((PROJECT / name).read_text(encoding="utf-8").splitlines())
    assert all(0 < lines[part] <= most for part, most in MOST_LINES.items()), lines


def test_everything_public_says_what_it_is() -> None:
    silent = []
    for name, tree in python_files("xlt", "kernels", "artifact"):
        public = (node for node in tree.body if isinstance(node, Definition) and not node.name.startswith("_"))
        silent += [f"{name}:{node.lineno} {node.name}" for node in public if not ast.get_docstring(node)]
    assert not silent, "\n".join(silent)


def test_the_package_loads_no_pickles() -> None:
    """They run what whoever wrote them likes. What submitit loads, the same command's jobs have just written; and what
    the benchmark of checkpoints loads by DeepSpeed, that benchmark itself."""
    loading = (
        r"\b(pickle|cloudpickle|joblib|dill|shelve|marshal)\b|torch\.load\(|load_checkpoint\(|np\.load\(|yaml\.load\("
    )
    found = []
    for name, tree in python_files("xlt", "kernels"):
        calls = (
            ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call | ast.Import | ast.ImportFrom)
        )
        found += [f"{name}: {call}" for call in calls if re.search(loading, call)]
    assert found == ["xlt/bench/checkpoint.py: deepspeed.load_checkpoint(str(theirs), tag='state')"]


def test_every_test_asserts_something() -> None:
    functions = {
        (name, node.name): node
        for name, tree in python_files("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    asserting = functions_that_assert(functions.values())
    idle = [
        f"{name}:{test.lineno} {test.name}"
        for (name, _), test in functions.items()
        if test.name.startswith("test_") and test.name not in asserting
    ]
    assert not idle, "\n".join(idle)


def functions_that_assert(functions: Iterable[ast.FunctionDef]) -> set[str]:
    """The names of functions that hold ``assert``, call ``pytest.raises`` and its kind, or call such a function."""
    asserting: set[str] = set()
    waiting = list(functions)
    while True:
        found = {each.name for each in waiting if any(_asserts(node, asserting) for node in ast.walk(each))}
        if found <= asserting:
            return asserting
        asserting |= found


def _asserts(node: ast.AST, asserting: set[str]) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    # A method is never taken for a helper of the tests: `store.check(run)` is the product's own.
    called = ast.unparse(node.func)
    return called in asserting or bool(re.fullmatch(r"pytest\.(raises|warns|fail)|([\w.]+\.)?assert_\w+", called))


def test_a_test_that_calls_the_products_own_check_asserts_nothing() -> None:
    tree = ast.parse(
        "def helper():\n    assert 1\n"
        "def test_by_helper():\n    helper()\n"
        "def test_raises():\n    with pytest.raises(KeyError):\n        {}[1]\n"
        "def test_hollow():\n    store.check(run)\n    expected.render()\n    self.helper()\n"
    )
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions_that_assert(functions) == {"helper", "test_by_helper", "test_raises"}


def test_the_folder_kernels_hides_no_package_of_that_name(tmp_path: Path) -> None:
    """transformers imports the hub's package ``kernels``, also where the working directory is this checkout."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("", encoding="utf-8")
    code = f"import sys; sys.path[:] = ['', *sys.path, {str(tmp_path)!r}]; import kernels; print(kernels.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(tmp_path / "kernels" / "__init__.py")


# The locks


@pytest.mark.parametrize("lock", ["build.lock", "torch-cpu.lock", "cpu.lock", "dev.lock", "gpu.lock", "sbom.lock"])
def test_every_pin_of_a_lock_has_a_hash_and_nothing_else_stands_in_it(lock: str) -> None:
    text = (LOCKS / lock).read_text(encoding="utf-8").replace("\\\n", "")
    entries = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(entries) == len(locked(lock)) > 0
    wrong = [
        line for line in entries if not re.fullmatch(r"[\w.-]+==[^\s;]+(?:\s+--hash=sha256:[0-9a-f]{64})+\s*", line)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("lock", "group"), [("cpu.lock", "cpu"), ("gpu.lock", "gpu"), ("dev.lock", "dev")])
def test_a_lock_holds_what_the_project_asks_for(lock: str, group: str) -> None:
    pins = locked(lock)
    asked = declared()[group] + ([] if group == "dev" else declared()[""])
    if lock == "cpu.lock":
        assert "torch" not in pins
        asked = [requirement for requirement in asked if requirement.name != "torch"]
    assert [r.name for r in asked if canonicalize_name(r.name) not in pins] == []
    assert [str(r) for r in asked if not r.specifier.contains(pins[canonicalize_name(r.name)])] == []


def test_the_locks_agree_with_each_other() -> None:
    everything = locked("gpu.lock")
    for lock in ("cpu.lock", "build.lock", "dev.lock"):
        pins = locked(lock)
        assert {name: pins[name] for name in pins.keys() & everything} == {
            name: everything[name] for name in pins.keys() & everything
        }
    assert locked("torch-cpu.lock") == {"torch": Version(f"{everything['torch']}+cpu")}
    assert f"{everything['torch']}+cpu\n" in (LOCKS / "torch-cpu.in").read_text(encoding="utf-8")


# The commands a user types


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs make here, without what an outer make or the shell has set of the Makefile's variables."""
    set_outside = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VENV", "RESULTS", "TIER", "ARGS", "WORKERS"}
    inherited = {name: value for name, value in os.environ.items() if name not in set_outside}
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=inherited | environment, capture_output=True, text=True)


def test_make_alone_prints_its_targets_on_one_screen() -> None:
    shown = make()
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) <= 24
    for target in ("install", "reproduce", "verify", "report", "test", "lint", "lock", "image", "clean"):
        assert f"make {target} " in shown.stdout


def test_make_passes_tier_results_and_further_options_on() -> None:
    planned = make("--dry-run", "reproduce", "TIER=core", "RESULTS=elsewhere", "ARGS=--seed 3")
    assert "bin/xlt reproduce --tier core --results elsewhere --seed 3\n" in planned.stdout
    assert "--tier smoke --results results" in make("--dry-run", "reproduce").stdout


def test_install_says_what_the_machine_lacks(tmp_path: Path) -> None:
    refused = make("install", f"VENV={tmp_path / 'venv'}", CXX="no-such-compiler")
    assert refused.returncode != 0
    assert "a C++ compiler (g++)" in refused.stderr
    assert "apt-get install python3-venv python3-dev g++ make" in refused.stderr
    assert not (tmp_path / "venv").exists()

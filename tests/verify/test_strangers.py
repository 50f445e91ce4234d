"""A results folder that a stranger sent: each file damaged on purpose, and names and links that lead elsewhere.

Whoever damages here is careful and writes the manifest anew; ``test_fuzzed_results`` does it by chance.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from xlt.errors import DataFault, ExitCode, IncompleteFault, UsageFault
from xlt.pipeline.store import MANIFEST, check_folder
from xlt.verify.crate import crate
from xlt.verify.export import ship
from xlt.verify.judge import verify
from xlt.verify.log import read_log
from xlt.verify.report import write_report
from xlt.verify.selection import select
from xlt.verify.stored import read_grid, source_of
from xlt.verify.submit import write_submission

from .tiny_results import Results

RUN = "baseline.xnli"
DEEP = b'{"a":' * 100_000
HALF = b'{"\\ud800": 1}'
TWICE = b'{"device": "a", "device": "b"}'
FORM = "metrics.json cannot be read as {task: {split: {language: {metric: number}}}}. "


@pytest.fixture
def opened(results: Results, monkeypatch: pytest.MonkeyPatch) -> Results:
    """The results, with the source that the commands open."""
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: results.source)
    return results


def put(results: Results, name: str, content: bytes, run: str = RUN) -> None:
    path = results.run(run) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    results.seal(run)


BROKEN_METRICS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda whole: whole[:40], "EOF"),
    "a list": (lambda whole: b"[]", "Input should be a valid dictionary"),
    "a number for a task": (lambda whole: b'{"xquad": 5}', "xquad: Input should be a valid dictionary"),
    "a byte order mark": (lambda whole: b"\xef\xbb\xbf" + whole, "it begins with a byte order mark"),
    "deep": (lambda whole: DEEP, "recursion limit exceeded"),
    "half a pair": (lambda whole: HALF, "hex escape"),
    "text for a number": (
        lambda whole: whole.replace(b"80.0", b'"80.0"', 1),
        "xnli.dev.de.accuracy: Input should be a valid number",
    ),
    "true": (lambda whole: whole.replace(b"80.0", b"true", 1), "xnli.dev.de.accuracy: Input should be"),
    "not a number": (lambda whole: whole.replace(b"80.0", b"NaN", 1), "expected value"),
    "400 digits": (
        lambda whole: whole.replace(b"80.0", b"8" * 400, 1),
        "xnli.dev.de.accuracy: Input should be a valid number",
    ),
    "many digits": (lambda whole: whole.replace(b"80.0", b"8" * 10_000, 1), "number out of range"),
    "a task twice": (lambda whole: whole[:-1] + b', "xnli": {}}', "'xnli' stands twice in one object"),
}


@pytest.mark.parametrize("name", BROKEN_METRICS)
def test_metrics_that_cannot_be_read_disagree(opened: Results, invoke: Invoke, name: str):
    damage, why = BROKEN_METRICS[name]
    put(opened, "metrics.json", damage((opened.run(RUN) / "metrics.json").read_bytes()))
    outcome = invoke("verify", "--results", str(opened.root), "--json")
    assert outcome.code == ExitCode.DEVIATES
    (problem,) = outcome.document["problems"]
    assert (problem["kind"], problem["where"]) == ("disagreement", "metrics.json")
    assert problem["run"] == f"target/{opened.run(RUN).name}"
    assert problem["what"].startswith(FORM)
    assert why in problem["what"]
    assert {cell["metrics"]["accuracy"] for cell in outcome.document["cells"] if cell["run"] == problem["run"]}


LINE = b'{"id":"test-0","prediction":"entailment","score":0.5}\n'
PREDICTIONS = "predictions/xnli.test.de.jsonl.gz"


@pytest.mark.parametrize(
    ("name", "content", "kind", "what"),
    [
        ("spec.json", DEEP, "spec", "its spec.json cannot be read. recursion limit"),
        ("spec.json", b"[]", "spec", "its spec.json cannot be read. Input should be"),
        ("provenance.json", HALF, "spec", "provenance.json cannot be read."),
        ("provenance.json", TWICE, "spec", "provenance.json cannot be read. 'device' stands twice"),
        ("provenance.json", b'{"device": ["cpu"]}', "spec", "provenance.json cannot be read. device: Input should be"),
        ("provenance.json", b'{"seconds": {"train": "x"}}', "spec", "provenance.json cannot be read. seconds.train"),
        (
            "provenance.json",
            b'{"world_size": 1' + b"0" * 400 + b"}",
            "spec",
            "provenance.json cannot be read. world_size",
        ),
        ("log.jsonl", DEEP, "spec", "log.jsonl ends with step 0"),
        ("log.jsonl", b'{"step": 1e999, "task": "mnli", "loss": 1, "tokens": 1}', "spec", "log.jsonl ends with step 0"),
        ("log.jsonl", b'{"step": 1, "task": "mnli", "loss": 1e300, "tokens": 1}', "spec", "log.jsonl ends with step 0"),
        ("model/config.json", b"[]", "spec", "config.json cannot be read."),
        ("model/config.json", DEEP, "spec", "config.json cannot be read."),
        (PREDICTIONS, gzip.compress(DEEP, mtime=0), "predictions", "xnli.test.de.jsonl.gz:1: not a line of JSON."),
        (
            PREDICTIONS,
            gzip.compress(LINE.replace(b"0.5", b"1" + b"0" * 400), mtime=0),
            "predictions",
            "not a finite number",
        ),
        *(
            (
                PREDICTIONS,
                gzip.compress(LINE.replace(b"0.5", large), mtime=0),
                "predictions",
                "finite number of 32 bits",
            )
            for large in (b"1e308", b"-1e39", b"1" + b"0" * 39)
        ),
        (PREDICTIONS, gzip.compress(LINE.replace(b"test-0", b"\\ud800"), mtime=0), "predictions", "not a line of JSON"),
    ],
)
def test_every_other_file_of_a_run_is_a_problem(results: Results, name: str, content: bytes, kind: str, what: str):
    put(results, name, content)
    found = verify(results.root, results.source)
    assert found.exit_code == ExitCode.DEVIATES
    (problem,) = found.problems
    assert (problem.kind, problem.run) == (kind, f"target/{results.run(RUN).name}")
    assert what in problem.what
    json.dumps(found.model_dump(mode="json"), ensure_ascii=False, allow_nan=False).encode()
    write_report(found, results.root)


@pytest.mark.parametrize("value", [b"1e308", b"-1e308", b"8e9"])
def test_metrics_that_no_predictions_give_disagree(opened: Results, invoke: Invoke, value: bytes):
    whole = (opened.run(RUN) / "metrics.json").read_bytes()
    put(opened, "metrics.json", whole.replace(b"80.0", value, 1))
    outcome = invoke("verify", "--results", str(opened.root))
    assert outcome.code == ExitCode.DEVIATES
    assert f"metrics.json says {float(value)}; from the predictions it is 80.0." in outcome.out


@pytest.mark.parametrize("what", ["device", "python", "commit", "cpu"])
def test_what_a_provenance_says_steers_no_terminal(opened: Results, invoke: Invoke, what: str):
    provenance = json.loads((opened.run(RUN) / "provenance.json").read_text("utf-8"))
    put(opened, "provenance.json", json.dumps({**provenance, what: "\x1b[2J\nPROBLEM"}).encode())
    for command in ("verify", "report"):
        outcome = invoke(command, "--results", str(opened.root))
        assert outcome.code in (ExitCode.OK, ExitCode.INCOMPLETE)
        assert all(each.isprintable() or each == "\n" for each in outcome.out + outcome.err)
        assert "\nPROBLEM" not in outcome.out


@pytest.mark.parametrize("score", [b"1.01", b"-0.5", b"3e38"])
def test_a_score_that_is_no_probability_is_a_problem_where_it_must_be_one(results: Results, score: bytes):
    text = gzip.decompress((results.run(RUN) / PREDICTIONS).read_bytes())
    put(results, PREDICTIONS, gzip.compress(re.sub(rb"0\.[56]\d*", score, text, count=1), mtime=0))
    (problem,) = verify(results.root, results.source).problems
    assert (problem.kind, problem.where) == ("predictions", "xnli.test.de")
    assert "1 predictions have a score that is no probability: test-0." in problem.what


def in_grid(*keys: Any, value: Any) -> Callable[[dict[str, Any]], str]:
    def change(grid: dict[str, Any]) -> str:
        place: Any = grid
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return json.dumps(grid)

    return change


OUTSIDE = "target/../../elsewhere/baseline.xnli-0123456789ab"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda grid: "", "EOF"),
        (lambda grid: "[]", "Input should be"),
        (lambda grid: DEEP.decode(), "recursion limit"),
        (lambda grid: "\ufeff" + json.dumps(grid), "byte order mark"),
        (lambda grid: json.dumps(grid)[:-1] + ', "seed": 1}', "'seed' stands twice"),
        (in_grid("tier", value="../../elsewhere/tiny"), "tier: Value error, it is no name"),
        (in_grid("tier", value="tiny\nPROBLEM"), "tier: Value error, it is no name"),
        (in_grid("tier", value="\ud800"), "hex escape"),
        (in_grid("runs", 0, "folder", value=OUTSIDE), "runs.0.folder: Value error, it is no folder of a run"),
        (in_grid("runs", 0, "folder", value=f"target/{'x' * 5000}-0123456789ab"), "it is no folder of a run"),
        (in_grid("runs", 0, "arm", value="\x1b[2J"), "runs.0.arm: Value error, it is no name"),
        (in_grid("source", "settings", value={"limit": "few"}), "the setting 'limit' of the source is no whole number"),
        (in_grid("left_out", value={"tiny": 5}), "left_out.tiny: Input should be a valid string"),
        (in_grid("seed", value=-1), "seed: Input should be"),
        (lambda grid: json.dumps(grid | {"runs": grid["runs"] + grid["runs"][:1]}), "is listed twice"),
    ],
)
def test_a_grid_file_that_leads_elsewhere_or_cannot_be_read_is_one_fault(
    results: Results, invoke: Invoke, change: Callable[[dict[str, Any]], str], why: str
):
    path = results.root / "grid.json"
    path.write_text(change(json.loads(path.read_text("utf-8"))), "utf-8")
    with pytest.raises(DataFault, match=r"grid\.json of the results folder cannot be read") as caught:
        read_grid(results.root)
    assert why in caught.value.why
    for command in ("verify", "report"):
        assert invoke(command, "--results", str(results.root)).code == ExitCode.DATA
    with pytest.raises(DataFault):
        source_of(results.root, None)


def test_no_grid_file_is_no_results_and_a_pipe_is_not_waited_for(results: Results):
    path = results.root / "grid.json"
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(IncompleteFault):
        read_grid(results.root)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataFault):
        read_grid(results.root)


def test_a_command_to_give_runs_nothing_that_a_stranger_wrote(results: Results):
    path = results.root / "grid.json"
    path.write_text(in_grid("tier", value="smoke; rm -rf $HOME")(json.loads(path.read_text("utf-8"))), "utf-8")
    assert (
        read_grid(results.root).command == "xlt reproduce --tier 'smoke; rm -rf $HOME.toml' --source tiny --results DIR"
    )


def test_a_world_that_is_not_shipped_is_no_reason_to_write_another_one(
    results: Results, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("XLT_ARTIFACT")
    path = results.root / "grid.json"
    change = in_grid("source", value={"name": "world", "settings": {"seed": 9}})
    path.write_text(change(json.loads(path.read_text("utf-8"))), "utf-8")
    with pytest.raises(DataFault) as caught:
        source_of(results.root, None)
    assert caught.value.what == "The constructed world that grid.json names is not the one that is shipped."
    assert "generator" not in caught.value.fix


@pytest.mark.parametrize("name", ["a missing folder", "a file", "an archive"])
def test_what_is_no_results_folder_is_told_from_one_without_a_grid(tmp_path: Path, invoke: Invoke, name: str):
    path = tmp_path / ("seed-0.tar.gz" if name == "an archive" else "here")
    if name != "a missing folder":
        path.touch()
    outcome = invoke("verify", "--results", str(path), "--json")
    assert outcome.code == (ExitCode.INCOMPLETE if name == "a missing folder" else ExitCode.USAGE)
    error = outcome.document["error"]
    said = "There is no results folder" if name == "a missing folder" else "is a file; results are a folder"
    assert said in error["what"]
    assert ("tar xzf" in error["fix"]) == (name == "an archive")


def test_commands_that_are_shown_name_the_folder_and_documents_do_not(opened: Results, invoke: Invoke):
    (opened.run(RUN) / "metrics.json").write_text("{}")
    shown = invoke("verify", "--results", str(opened.root))
    assert f"→ xlt reproduce --tier tiny --source tiny --results {opened.root}\n" in shown.out
    assert "--results DIR" in invoke("verify", "--results", str(opened.root), "--json").document["problems"][0]["fix"]
    assert invoke("report", "--results", str(opened.root)).code == ExitCode.DEVIATES


def test_an_archive_is_a_gzipped_tar_and_a_kernel_has_a_name(
    opened: Results, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    refused = invoke("report", "--results", str(opened.root), "--ship", str(tmp_path / "x.zip"), "--json")
    assert (refused.code, refused.document["error"]["fix"]) == (ExitCode.USAGE, f"--ship {tmp_path / 'x'}.tar.gz")
    monkeypatch.setenv("XLT_KERNELS", "-gelu, -layernorm")
    refused = invoke("tasks", "ls", "--json")
    assert refused.code == ExitCode.USAGE
    assert "'-layernorm', which is no kernel" in refused.document["error"]["what"]
    monkeypatch.setenv("XLT_KERNELS", "-gelu,-layer_norm")
    assert invoke("tasks", "ls", "--json").code == ExitCode.OK


def test_a_cell_is_shown_by_itself_beside_the_verdict_on_its_mean(opened: Results, invoke: Invoke):
    shown = invoke("verify", "--results", str(opened.root), "--cell", "xnli.qaf").out
    rows = [line.split("│")[1:-1] for line in shown.splitlines() if "xnli" in line and "qaf" in line]
    found = [[each.strip() for each in row] for row in rows]
    assert ["baseline", "xnli", "test", "qaf", "70.0", "33.3", "yes", "60"] in found
    assert "means over all languages" in shown
    with pytest.raises(UsageFault, match="has no claims of the paper") as caught:
        select(verify(opened.root, opened.source), ["C3"])
    assert "--cell TASK" in caught.value.fix


NAMES = {
    b"caf\xe9": r"caf\udce9",
    b"a\nPROBLEM  b": r"a\nPROBLEM  b",
    b"\x1b[2J": r"\x1b[2J",
    "\u202e".encode(): r"\u202e",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["file", "pipe", "link", "link to a folder"])
def test_a_strange_name_is_shown_and_steers_nothing(opened: Results, invoke: Invoke, name: bytes, what: str):
    path = os.fsencode(opened.run(RUN)) + b"/" + name
    if what == "file":
        os.mknod(path)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        os.symlink("predictions" if what == "link to a folder" else "nowhere", path)
    outcome = invoke("verify", "--results", str(opened.root))
    assert outcome.code == ExitCode.DEVIATES
    assert f"The run is damaged: {NAMES[name]} is not in the manifest.\n" in outcome.out
    assert all(each.isprintable() or each == "\n" for each in outcome.out + outcome.err)
    document = invoke("report", "--results", str(opened.root), "--json").document
    assert NAMES[name] in json.loads(Path(document["document"]).read_text("utf-8"))["problems"][0]["what"]


@pytest.mark.parametrize("name", ["metrics.json", "spec.json", "provenance.json", "log.jsonl", PREDICTIONS])
@pytest.mark.parametrize("what", ["folder", "pipe", "link to nowhere", "loop", "unreadable"])
def test_what_is_no_file_is_damage(results: Results, monkeypatch: pytest.MonkeyPatch, name: str, what: str):
    path = results.run(RUN) / name
    if what == "unreadable":  # not by its mode: the superuser reads everything
        opens = Path.open

        def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return opens(self, *arguments, **options)

        monkeypatch.setattr(Path, "open", refuse)
    else:
        path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what in ("link to nowhere", "loop"):
        path.symlink_to("nowhere" if what == "link to nowhere" else path.name)
    (problem,) = verify(results.root, results.source).problems
    assert problem.kind == "run"
    said = "is missing" if what == "folder" else "cannot be read: "
    assert problem.what.startswith(f"The run is damaged: {name} {said}")
    assert str(results.root) not in problem.what


@pytest.mark.parametrize("name", ["metrics.json", PREDICTIONS, "predictions", ""])
def test_a_run_that_lies_elsewhere_is_damage(opened: Results, invoke: Invoke, tmp_path: Path, name: str):
    """A link to the very same content: what is there may change after the run was verified, or be somebody else's."""
    path = opened.run(RUN) / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    outcome = invoke("verify", "--results", str(opened.root), "--json")
    assert outcome.code == ExitCode.DEVIATES
    said = {"": "its folder is a link", "predictions": "predictions/xnli.dev.de.jsonl.gz is missing"}
    (problem,) = outcome.document["problems"]
    assert problem["what"].startswith("The run is damaged: " + said.get(name, f"{name} cannot be read: it is a link"))


@pytest.mark.parametrize("name", ["metrics.json", PREDICTIONS])
def test_a_pipe_in_the_place_of_a_pruned_file_is_not_waited_for(results: Results, name: str):
    folder = results.run(RUN)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    manifest["files"][name]["pruned"] = True
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    (problem,) = verify(results.root, results.source).problems
    assert problem.what == f"The run is damaged: {name} cannot be read: it is not a file."


def test_a_folder_deeper_than_the_stack_is_looked_through_and_is_one_fault_to_remove(results: Results):
    spec = next(run for run in results.grid.runs if run.name == RUN)
    top = bottom = results.run(RUN) / "d"
    try:
        for _ in range(1500):
            bottom = bottom / "d"
            bottom.mkdir(parents=True)
        assert check_folder(results.run(RUN), spec).state == "done"
        (bottom / "x").touch()
        check = check_folder(results.run(RUN), spec)
        assert check.state == "damaged"
        assert check.problem.endswith("d/d/x is not in the manifest")
        fault = None
        try:
            with results.store.writing(spec):
                pass
        except DataFault as error:  # of Python 3.12 and before, whose shutil recurses
            fault = error
        assert fault is None or fault.fix.startswith("rm -r ")
        assert (check_folder(results.run(RUN), spec).state == "done") == (fault is None)
    finally:
        subprocess.run(["rm", "-rf", top], check=True)


def test_a_report_is_written_through_no_link(results: Results, tmp_path: Path):
    found = verify(results.root, results.source)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("mine", "utf-8")
    report = results.root / "report"
    report.symlink_to(mine)
    with pytest.raises(UsageFault, match="is a link"):
        write_report(found, results.root)
    report.unlink()
    report.mkdir()
    for name in ("index.html", "index.html.tmp", "report.json.tmp"):
        (report / name).symlink_to(mine / "index.html")
    write_report(found, results.root)
    assert [path.name for path in mine.iterdir()] == ["index.html"]
    assert (mine / "index.html").read_text("utf-8") == "mine"
    assert not (report / "index.html").is_symlink()
    (report / "index.html").unlink()
    (report / "index.html").mkdir()
    with pytest.raises(UsageFault, match=r"the folder 'index.html' stands in the place of a file"):
        write_report(found, results.root)


@pytest.mark.parametrize(("time", "date"), [(0, None), (86_400, "1970-01-02"), (-86_400, "1969-12-31"), (2**40, None)])
def test_times_that_no_calendar_has_are_left_out(
    results: Results, monkeypatch: pytest.MonkeyPatch, time: int, date: str | None
):
    # Not by the files' own times: few file systems hold one of the year 36812.
    asks = Path.stat

    def stat(self: Path, **options: Any) -> os.stat_result:
        found = asks(self, **options)
        return os.stat_result((*found[:8], time, found[9])) if self.name == MANIFEST else found

    monkeypatch.setattr(Path, "stat", stat)
    document = crate(verify(results.root, results.source), results.root)
    root = next(each for each in document["@graph"] if each["@id"] == "./")
    assert root.get("datePublished") == date


def test_a_damaged_first_attempt_is_a_problem_and_no_part_of_the_crate(artifact: Path, make: Callable[..., Results]):
    results = make().fill()
    grid = results.grid.retry(next(run for run in results.grid.runs if run.name == "mnli"))
    first = results.run("mnli")
    results.remove("mnli.xnli")
    both = Results(results.root, grid, results.source).fill()
    assert verify(both.root, both.source).problems == ()
    put(results, "provenance.json", DEEP, "mnli")
    found = verify(both.root, both.source)
    (problem,) = found.problems
    assert (problem.kind, problem.run) == ("spec", f"intermediate/{first.name}")
    assert found.exit_code == ExitCode.DEVIATES
    write_report(found, both.root)
    assert first.name not in (both.root / "ro-crate-metadata.json").read_text("utf-8")
    with pytest.raises(IncompleteFault):
        ship(found, (both.root,), both.root.parent / "x.tar.gz")
    results.remove("mnli")
    sound = verify(both.root, both.source)
    assert sound.problems == ()
    ship(sound, (both.root,), both.root.parent / "x.tar.gz")
    with tarfile.open(both.root.parent / "x.tar.gz") as tar:
        assert not any(first.name in name for name in tar.getnames())


@pytest.mark.parametrize(
    ("run", "name", "before", "after"),
    [
        ("baseline.xquad", "xquad.test.de", b'"prediction":[8,12]', b'"prediction":"zeta"'),
        ("baseline.xnli", "xnli.test.de", b'"prediction":"neutral"', b'"prediction":"neutral\\nneutral"'),
        ("baseline.tatoeba", "tatoeba.test.de", b'"prediction":"test-3"', b'"prediction":"nobody"'),
    ],
)
def test_a_prediction_that_its_row_cannot_have_is_not_submitted(
    results: Results, tmp_path: Path, run: str, name: str, before: bytes, after: bytes
):
    path = results.run(run) / f"predictions/{name}.jsonl.gz"
    text = gzip.decompress(path.read_bytes())
    assert before in text
    put(results, f"predictions/{name}.jsonl.gz", gzip.compress(text.replace(before, after)), run)
    with pytest.raises(DataFault, match=r"predict characters outside|something else than"):
        write_submission(results.root, results.source, ["baseline"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_log_that_holds_what_no_training_writes_is_none(tmp_path: Path):
    line = {"step": 1, "task": "mnli", "loss": 0.5, "tokens": 9}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    assert read_log(tmp_path) is not None
    for change in ({"step": -1}, {"step": 10**400}, {"tokens": 2.5}, {"task": 5}, {"loss": "much"}, {"loss": 1e300}):
        (tmp_path / "log.jsonl").write_text(json.dumps(line | change) + "\n", "utf-8")
        assert read_log(tmp_path) is None, change

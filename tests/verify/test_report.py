"""The report: whole, well formed, alone, the same each time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from pydantic import BaseModel
from scipy.stats import t

from xlt.artifact import artifact_root
from xlt.errors import ExitCode
from xlt.verify.added import read_added
from xlt.verify.charts import line_chart
from xlt.verify.comparison import VERDICT_WORDS
from xlt.verify.evidence import GoldenCheck
from xlt.verify.judge import Verification, join, recompute, verify
from xlt.verify.report import MARKS, render, schema, write_report
from xlt.verify.scores import COLUMNS
from xlt.verify.stored import GridRun
from xlt.verify.tables import language_tables, means_rows, metrics_text, trained_elsewhere
from xlt.verify.verdicts import Verdict

from .core_results import ConstructedSource, write_core_artifact, write_every_verdict
from .tiny_results import shifted

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects ids, links and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def found(results) -> Verification:
    return verify(results.root, results.source)


def test_the_page_is_well_formed_and_holds_every_value(results, found):
    page = write_report(found, results.root).read_text("utf-8")
    outline = Outline(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    for cell in found.cells:
        assert metrics_text(cell.metrics, cell.task) in outline.text
        assert metrics_text(cell.chance, cell.task) in outline.text
    for verdict in found.verdicts:
        assert f"{verdict.value:.1f}" in outline.text
    assert "not verifiable" in outline.text
    assert "−10.0" in outline.text or "-10.0" in outline.text
    for fingerprint in found.fingerprints.values():
        assert fingerprint in outline.text
    assert '<details class="files"><summary>Fingerprints' in page  # which are not printed on paper


def test_links_lead_to_runs_and_files_that_exist(results, found):
    page = write_report(found, results.root)
    outline = Outline(page.read_text("utf-8"))
    anchors = [link[1:] for link in outline.links if link.startswith("#")]
    assert set(anchors) <= set(outline.ids)
    assert {f"run-{run.hash}" for run in found.runs} <= set(outline.ids)
    files = [link for link in outline.links if not link.startswith(("#", "https://"))]  # sources may be far away
    assert len(files) >= 2 * len(found.runs)
    for link in files:
        assert (page.parent / link).is_file()


def test_the_page_needs_nothing_else(results, found):
    page = render(found, results.root)
    assert not re.search(r"http://|<script|@import|url\(|<img|<link|src=", page)
    assert page.count("https://") == page.count('<a href="https://')
    assert str(results.root) not in page


def test_text_from_the_results_is_escaped(results, found):
    bad = "<script>alert('x')</script>"
    verdicts = [
        Verdict(arm=bad, task=bad, split="test", verdict="not run", reason=bad, fix=bad),
        *found.verdicts,
    ]
    page = render(found.model_copy(update={"verdicts": tuple(verdicts), "references": (bad,)}), results.root)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert Outline(page).open == []
    assert bad not in line_chart({bad: [(0, 1), (1, 2)]}, x_label=bad, y_label=bad)


BAD = "<script>'\"&"
# Texts by which other things are found.
NAMES = {
    ".verdicts[].verdict",
    ".runs[].folder",
    *(f".cells[].{part}{{k}}" for part in ("chance", "majority", "metrics")),
}


def strings(value: Any, path: str = "") -> Iterator[str]:
    """Where texts stand in a value: the path to each."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from strings(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, tuple | list):
        for each in value:
            yield from strings(each, f"{path}[]")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from (*strings(key, f"{path}{{k}}"), *strings(each, f"{path}{{}}"))
    elif isinstance(value, str):
        yield path


def with_markup(value: Any, where: str, path: str = "") -> Any:
    """The value with markup at the end of all texts that stand at that path."""
    if isinstance(value, BaseModel):
        names = type(value).model_fields
        changed = {name: with_markup(getattr(value, name), where, f"{path}.{name}") for name in names}
        return value.model_copy(update=changed)
    if isinstance(value, tuple | list):
        return type(value)(with_markup(each, where, f"{path}[]") for each in value)
    if isinstance(value, dict):
        both = ((f"{path}{{k}}", f"{path}{{}}"),) * len(value)
        return {
            with_markup(key, where, its): with_markup(each, where, there)
            for (key, each), (its, there) in zip(value.items(), both, strict=True)
        }
    return value + BAD if path == where and isinstance(value, str) else value


def test_every_text_of_a_verification_is_escaped(results, found):
    shown = set()
    for where in {*strings(found)} - NAMES:
        page = render(with_markup(found, where), results.root)
        assert BAD[:8] not in page, where
        shown |= {where} if "&lt;script&gt;" in page else set()
    assert {".runs[].arm", ".verdicts[].reason", ".platform{}{}", ".fingerprints{k}", ".command"} <= shown


def test_the_report_is_the_same_each_time(results, found):
    page = write_report(found, results.root)
    data = page.with_name("report.json")
    first = page.read_bytes(), data.read_bytes()
    write_report(verify(results.root, results.source), results.root)
    assert (page.read_bytes(), data.read_bytes()) == first
    assert Verification.model_validate(json.loads(first[1])) == found


def test_missing_runs_and_problems_come_first_with_their_commands(results):
    results.remove("mnli.xnli")
    (results.run("baseline.xquad") / "metrics.json").write_text("{}", "utf-8")
    found = verify(results.root, results.source)
    page = render(found, results.root)
    text = Outline(page).text
    assert text.index("Problems") < text.index("What failed or was not judged") < text.index("Means over languages")
    assert text.index("○ not run") < text.index("– not verifiable")
    assert found.command in text
    assert "metrics.json has 2 bytes" in text


def test_the_smoke_tier_says_what_it_is_not(results, found):
    assert "never stand for the paper" not in render(found, results.root)
    smoke = found.model_copy(update={"tier": "smoke", "source": found.source.model_copy(update={"name": "world"})})
    page = render(smoke, results.root)
    assert "Constructed languages" in page
    assert "scores are not comparable with the paper" in page
    assert "no gain from intermediate training" in page


def test_a_long_line_is_thinned_and_a_flat_or_empty_one_drawn():
    chart = line_chart({"loss": [(n, 5.0) for n in range(5000)]}, x_label="step", y_label="loss")
    points = re.search(r'points="([^"]*)"', chart)
    assert points is not None
    assert len(points[1].split()) == 120
    assert line_chart({}, x_label="x", y_label="y") == ""
    assert "polyline" in line_chart({"one": [(3, 0)]}, x_label="x", y_label="y")


def test_what_an_arm_gains_is_shown_with_its_interval_over_recorded_seeds_or_not_at_all(make, recorded, results):
    for number, path in enumerate(sorted(recorded.glob("seed-*.json"))):
        raised = json.loads(path.read_text("utf-8"))
        for name, cell in raised["cells"].items():
            if name.startswith("mnli/xnli"):
                cell["metrics"]["accuracy"] += 2 + number % 2
        raised["means"]["mnli/xnli/test"]["value"] += 2 + number % 2
        path.write_text(json.dumps(raised), "utf-8")
    found = verify(results.root, results.source)
    rows = {task: verdicts for task, _, verdicts in means_rows(found)}
    (_, none), (_, gain) = rows["xnli"]
    assert none is None
    half = t.ppf(0.975, 7) * (2 / 7) ** 0.5 / 8**0.5
    assert (gain.value, gain.half_width, gain.seeds) == (pytest.approx(2.5), pytest.approx(half), 8)
    assert f"(+2.5 ± {half:.1f})" in render(found, results.root)
    for path in recorded.glob("*"):
        path.unlink()
    bare = verify(results.root, results.source)
    assert bare.gains == ()
    means = re.search('id="means".*?</table>', render(bare, results.root), re.DOTALL)
    assert means is not None
    assert "(+" not in means[0]


def conclusion_of(found: Verification, root: Path) -> str:
    """The first box of the page, as text."""
    page = render(found, root)
    box = re.search('<div class="conclusion.*?</div>', page, re.DOTALL)
    assert box is not None
    assert page.index(box[0]) < page.index("runs complete")
    return " ".join(Outline(box[0]).text.split())


def test_the_page_begins_with_what_it_comes_to_and_the_exit_code(make, recorded):
    sound = make().fill(shifted(-1))
    text = conclusion_of(verify(sound.root, sound.source), sound.root)
    assert text.startswith("Passed (exit code 0) 7 of 7 means lie where the recorded seeds say that a sound run lies.")
    assert "No mean is exact: no run of seed 0 is recorded" in text
    same = make("same", seed=3).fill(shifted(3), seconds=2)
    text = conclusion_of(verify(same.root, same.source), same.root)
    exact = "Every prediction is that of the recorded run of this seed: this machine computes what that did."
    assert text == f"Passed (exit code 0) {exact}"
    single = verify(same.root, same.source).model_copy(update={"tier": ""})
    assert conclusion_of(single, same.root).startswith("Recomputed, and nothing is expected of single runs")
    check = GoldenCheck(name="losses of mnli", holds=True, difference=1e-6, tolerance=1e-5)
    golden = verify(same.root, same.source, golden=[check])
    assert conclusion_of(golden, same.root).startswith("Passed (exit code 0) Golden evidence: all 1 checks hold")
    bad = make("bad").fill(shifted(-20, "mnli", "xnli"))
    text = conclusion_of(verify(bad.root, bad.source), bad.root)
    assert text.startswith("Failed (exit code 1) 1 of the means over languages deviate or collapsed.")


def test_the_page_says_what_is_missing_or_edited(results, artifact):
    text = conclusion_of(verify(results.root, results.source), results.root)
    assert text.startswith("Nothing is shown yet (exit code 5) Nothing was judged, which is no success: ")
    (results.run("baseline.xquad") / "metrics.json").write_text("{}", "utf-8")
    results.remove("mnli.xnli")
    text = conclusion_of(verify(results.root, results.source), results.root)
    assert text.startswith("Failed (exit code 1) ")
    assert "1 run is not there." in text


def test_what_is_shown_only_is_one_line_and_no_expectation(make, recorded):
    for number, path in enumerate(sorted(recorded.glob("seed-*.json"))):
        wild = json.loads(path.read_text("utf-8"))
        for name, cell in wild["cells"].items():
            if "/xnli/" in name:
                cell["metrics"]["accuracy"] = 40.0 + 50 * (number % 2)
        for arm in ("baseline", "mnli"):
            wild["means"][f"{arm}/xnli/test"]["value"] = 40.0 + 50 * (number % 2)
        path.write_text(json.dumps(wild), "utf-8")
    made = make().fill(shifted(-1))
    found = verify(made.root, made.source)
    page = render(found, made.root)
    text = " ".join(Outline(page).text.split())
    line = "2 means are shown only: the loss of half of what lies above a guess would not leave the band."
    assert text.count(line) == 1
    assert f"{line} baseline → XNLI test, mnli → XNLI test" in text
    assert "expected 0.0" not in text
    assert "consistent 5 of 5 means" in text
    assert [each.band for each in found.verdicts if each.diagnostic] == [None, None]


def test_the_judged_metric_is_first_and_named(core):
    found, folders = core
    headings = {table.task: table.metric for table in language_tables(found)}
    assert headings["udpos"] == "F1 (judged) / accuracy / P / R"
    assert headings["xquad"] == "F1 / EM (judged by their mean)"
    assert headings["xnli"] == "accuracy"
    cell = next(cell for cell in found.cells if cell.task == "udpos")
    assert metrics_text(cell.metrics, "udpos").startswith(f"{cell.metrics['f1']:.1f} / {cell.metrics['accuracy']:.1f}")
    assert "UD-POS 2.5, test: F1 (judged) / accuracy / P / R" in render(found, *folders)


@pytest.mark.parametrize(("right", "label"), [(12, "below chance"), (23, "at chance"), (54, "")])
def test_a_score_below_that_of_a_guess_is_called_below_chance(make, right: int, label: str):
    """A third of sixty examples is what a guess has."""
    made = make().fill(lambda spec, task, split, language: right)
    found = verify(made.root, made.source)
    cell = next(cell for cell in found.cells if (cell.task, cell.language) == ("xnli", "de"))
    assert cell.standing == label
    assert (f'<small class="low">{label}</small>' in render(found, made.root)) == bool(label)


def test_a_baseline_that_takes_the_model_of_another_arm_says_so(results, found):
    runs = {run.folder: run for run in found.runs}
    folder = next(each.run for each in found.verdicts if (each.arm, each.task) == ("baseline", "xnli"))
    parent = next(run for run in found.runs if run.phase == "intermediate")
    moved = runs[folder].model_copy(update={"train": (), "parent": parent.hash})
    changed = found.model_copy(update={"runs": tuple(moved if run.folder == folder else run for run in found.runs)})
    assert trained_elsewhere(found) == {}
    assert trained_elsewhere(changed) == {folder: "MNLI"}
    assert render(changed, results.root).count("the model trained on MNLI") == 1


def test_where_the_reference_runs_are_from_and_what_was_added_is_on_the_page(make, recorded):
    for path in recorded.glob("seed-*.json"):
        path.write_text(path.read_text("utf-8").replace("c0ffee", "decaff"), "utf-8")
    made = make().fill(shifted(-1))
    page = render(recompute(made.root, made.source, added=read_added(recorded / "seed-1.json")), made.root)
    text = " ".join(Outline(page).text.split())
    assert "In what these runs differ from this one: version of the code decaff, here c0ffee." in text
    assert "seed-1.json, seed 1, not known, taken on trust, not counted: it is the recorded run of seed 1." in text
    assert "Without the 8 reference runs of not known: 7 means consistent → not verifiable" in text


def test_tasks_of_english_alone_share_a_table(results, found):
    alone = [each for each in language_tables(found) if each.languages == ["en"]]
    assert [(each.task, each.split, each.metric) for each in alone] == [("mnli", "dev", "accuracy")]
    page = render(found, results.root)
    english = page[page.index("English only") : page.index("Transfer from English")]
    assert english.count('<tr><th scope="row">') == 1
    assert "<h3>MNLI" not in page[: page.index("English only")]


def test_a_joint_training_has_a_line_per_task(results, found):
    log = results.run("mnli") / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    for number, line in enumerate(lines):
        line["task"] = ("mnli", "squad")[number % 2]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    page = render(found, results.root)
    assert "loss by step: MNLI, SQuAD v1.1" in page
    assert re.search(r'class="key">.*s0.*MNLI.*s1.*SQuAD v1.1', page)


def test_the_published_schema_is_the_current_one_and_fits_a_report(results, found, monkeypatch):
    document = json.loads(write_report(found, results.root).with_name("report.json").read_text("utf-8"))
    monkeypatch.delenv("XLT_ARTIFACT")
    published = (artifact_root() / "schema" / "report.schema.json").read_text("utf-8")
    assert published == schema(), "python -m xlt.verify.report > artifact/schema/report.schema.json"
    described = json.loads(published)["$defs"]["Verification"]
    assert set(described["required"]) <= set(document) == set(described["properties"])
    assert described["additionalProperties"] is False
    with pytest.raises(ValueError, match="more"):
        Verification.model_validate(document | {"more": 1})


def test_every_field_of_the_schema_says_what_it_is():
    silent = [
        f"{kind}.{name}"
        for kind, shape in json.loads(schema())["$defs"].items()
        for name, field in shape.get("properties", {}).items()
        if not field.get("description")
    ]
    assert not silent


def test_the_table_of_scores_is_written_whole_and_as_it_is_judged(results, found):
    folder = write_report(found, results.root).parent
    table, typed = pd.read_csv(folder / "cells.csv", keep_default_na=False), pd.read_parquet(folder / "cells.parquet")
    written = ["guess" if name == "chance" else name for name in COLUMNS]
    assert list(table.columns) == list(typed.columns) == written
    assert len(table) == len(typed) == sum(len(cell.metrics) + 1 for cell in found.cells)
    place = ["arm", "task", "split"]
    for row in (table, typed):
        means = row[row["metric"] == "score"].groupby(place)["value"].mean()
        assert means.to_dict() == {each.key: pytest.approx(each.value) for each in found.means}
        cell = found.cells[0]
        here = row[(row[place] == [cell.arm, cell.task, cell.split]).all(axis=1) & (row["language"] == cell.language)]
        assert dict(zip(here["metric"], here["value"], strict=True)) == {"score": cell.score, **cell.metrics}
        assert set(here["predictions"]) == {cell.predictions}


def test_a_run_that_collapsed_is_named_with_the_one_in_its_place(results, found):
    listed = found.runs[0].model_dump(include={"phase", "arm", "train", "evaluate", "parent"})
    run = GridRun(folder="target/first-000000000000", hash="000000000000", **listed)
    page = render(found.model_copy(update={"collapsed": (run,)}), results.root)
    text = " ".join(Outline(page).text.split())
    assert (
        f"{run.folder} was at chance on English dev, or diverged (log); a second attempt with another seed took its "
        "place"
    ) in text
    assert f'took its place: <a href="#run-{found.runs[0].hash}">' in page


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Verification, list[Path]]]:
    """Constructed results of the core tier in which every verdict occurs."""
    root, source = tmp_path_factory.mktemp("core"), ConstructedSource(most=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLT_ARTIFACT", str(write_core_artifact(root / "artifact", source)))
        folders = write_every_verdict(root, source)
        yield join([recompute(folder, source) for folder in folders]), folders


def test_the_page_of_several_seeds_has_claims_tables_and_gains_with_links_that_lead_somewhere(core):
    found, folders = core
    page = write_report(found, *folders)
    text = page.read_text("utf-8")
    outline = Outline(text)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    anchors = {link[1:] for link in outline.links if link.startswith("#")}
    assert anchors <= set(outline.ids)
    for link in outline.links:
        assert link.startswith(("#", "https://")) or (page.parent / unquote(link)).is_file(), link
    assert {f"claim-{each.claim.id}" for each in found.paper.claims} <= set(outline.ids)
    order = [text.index(f'id="claim-{each.claim.id}"') for each in found.paper.claims]
    assert order == sorted(order)
    words = " ".join(outline.text.split())
    for part in (
        found.paper.summary,
        "To fill it: xlt reproduce --tier core",
        "Gains over the baseline",
        "printed 79.2 ± 2.3",
    ):
        assert part in words
    judged = next(each for each in found.paper.cells if each.key == "xtreme.baseline.xnli")
    assert f"{judged.value:.1f} ({judged.low:.1f} to {judged.high:.1f})" in words
    runs = {seed.runs[0].hash for seed in (found, *found.further)}
    assert {f"run-{name}" for name in runs} <= set(outline.ids)
    assert "Means over languages, seed 1" in words
    assert "The band: the printed value with its margin." in words
    printed = [each for each in found.paper.cells if each.cell.expected is not None and not each.cell.language]
    assert text.count('<g class="point ') - text.count('class="chart" viewBox="0 0 16 16"') == sum(
        each.value is not None for each in printed
    )


def test_every_verdict_occurs_and_is_on_the_page_with_a_mark_besides_its_colour(core):
    found, folders = core
    page = write_report(found, *folders)
    document = json.loads(page.with_name("report.json").read_text("utf-8"))
    means = [each for seed in (document, *document["further"]) for each in seed["verdicts"]]
    cells = document["paper"]["cells"]
    assert {each["verdict"] for each in (*means, *cells)} == set(VERDICT_WORDS)
    claims = {each["claim"]["id"]: each["verdict"] for each in document["paper"]["claims"]}
    assert claims == {
        "C2": "collapsed",
        "C1": "deviates",
        "C3": "not run",
        "C7": "not verifiable",
        "C4": "consistent",
        "C5": "not verifiable",
        "C8": "reproduced",
        "A2": "reproduced",
        "A5": "consistent",
    }
    assert set(VERDICT_WORDS) - set(claims.values()) == {"exact"}  # nobody has the predictions behind printed values
    assert document["exit_code"] == ExitCode.DEVIATES
    text = " ".join(Outline(page.read_text("utf-8")).text.split())
    for word in VERDICT_WORDS:
        assert f"{MARKS[word]} {word}" in text


def test_what_others_printed_of_other_models_is_called_an_anchor_and_not_the_papers(core):
    found, folders = core
    page = render(found, *folders)
    assert "The paper’s claims" in page
    assert "is an anchor: a number that others printed" in page
    anchors = tuple(each for each in found.paper.claims if each.claim.measured_by)
    assert anchors
    only = found.model_copy(update={"paper": found.paper.model_copy(update={"claims": anchors})})
    page = render(only, *folders)
    assert "Published claims" in page
    assert "The paper’s" not in page


def test_constructed_results_say_so_on_top_and_on_every_printed_page(core):
    found, folders = core
    text = render(found, *folders)
    assert "<title>CONSTRUCTED, " in text
    assert '@page { @top-center { content: "CONSTRUCTED' in text
    assert re.search(r'<body>\s*<p class="constructed">CONSTRUCTED: no model made these results</p>', text)  # sticky
    assert text.index("CONSTRUCTED: no model made these results. They") < text.index("runs complete")

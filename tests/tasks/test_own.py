"""Records of tasks in a user's file: read with the checks of the package's, refused with a reason and the fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from xlt.errors import ExitCode, UsageFault
from xlt.tasks import own
from xlt.tasks.catalogue import TASKS

GOOD = """
[my_nli]
kind = "pair_classification"
layout = "pair_tsv"
files = { train = "my/train.tsv", dev = "my/dev.tsv" }
labels = ["yes", "no"]
"""


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    with own.for_one_command():
        yield


def written(folder: Path, text: str, name: str = "my.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_record_is_known_by_its_key_and_named_by_it_unless_it_says_a_name(tmp_path: Path) -> None:
    own.add_files([written(tmp_path, GOOD)])
    task = TASKS["my_nli"]
    assert (task.key, task.name, task.trains_on, task.languages) == ("my_nli", "my_nli", "my_nli", ("en",))


def test_retrieval_trains_on_nothing_unless_it_says_so(tmp_path: Path) -> None:
    text = '[mine]\nkind = "retrieval"\nlanguages = ["de"]\nlayout = "bitext"\nfiles = { test = "{lang}.a {lang}.b" }'
    own.add_files([written(tmp_path, text)])
    assert TASKS["mine"].trains_on is None


def test_what_is_stored_with_a_run_gives_the_same_record(tmp_path: Path) -> None:
    [task] = own.read_tasks(written(tmp_path, GOOD))
    own.add_tasks([task], "here")
    records = own.records_of(["mnli", "my_nli"])
    assert own.task_of("my_nli", records["my_nli"]) == task
    assert records.keys() == {"my_nli"}  # the package's are known anywhere


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("pair_classification", "pairs", "the kind 'pairs' of the task 'my_nli' is none of"),
        ("labels", 'metric = "bleu"\nlabels', "the metric 'bleu' of the task 'my_nli' is none of"),
        ("labels", 'metric = "squad"\nlabels', "is scored by accuracy, not by squad"),
        ("labels", "label", "has a field 'label', which no record has; did you mean 'labels'?"),
        ("labels", "recipe = { epoch = 3 }\nlabels", "my_nli.recipe has a field 'epoch'"),
        ("labels", "recipe = { epochs = 3, steps = 5 }\nlabels", "neither epochs nor steps, or with both"),
        ("labels", 'languages = ["../x"]\nlabels', "has a language '../x'"),
        ("labels", 'languages = ["en", "de"]\nlabels', "has the same dev file for all its languages"),
        ("pair_tsv", "squad_json", "names the layout 'squad_json'; those of the kind pair_classification are"),
        ("my/dev.tsv", "../dev.tsv", "names a file of the dev split that is not below the data root"),
        ("my/dev.tsv", "/etc/passwd", "names a file of the dev split that is not below the data root"),
        ('["yes", "no"]', '["yes"]', "has fewer than two labels"),
        ('["yes", "no"]', '["yes", "no", "no"]', "has a label twice"),
        ('["yes", "no"]', '["yes", "yes"]', "has a label twice"),
        ('["yes", "no"]', '"yes"', """labels of the task 'my_nli' is a list: labels = ["yes"]"""),
        ("labels", 'languages = "en"\nlabels', """languages of the task 'my_nli' is a list: languages = ["en"]"""),
        ('train = "my/train.tsv", ', "", "has no training file"),
        ("labels", "recipe = { epochs = -1 }\nlabels", "epochs -1: at least 0"),
        ("labels", "recipe = { epochs = 3, batch_size = 0 }\nlabels", "batch_size 0: at least 1"),
        ("labels", "recipe = { epochs = 3, max_length = 2 }\nlabels", "max_length 2: at least 8"),
        ("labels", "recipe = { epochs = 3, learning_rate = -1.0 }\nlabels", "learning_rate -1.0: above 0"),
        ("[my_nli]", "[My.NLI]", "'My' is no key"),
        ("[my_nli]", "[my_nli]\n[my_nli]", "Cannot declare"),
        ('["yes", "no"]', "7", "my_nli.labels: Input should be a valid tuple"),
    ],
)
def test_a_wrong_record_is_refused_with_the_reason(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UsageFault) as caught:
        own.add_files([path])
    assert caught.value.exit_code == ExitCode.USAGE
    assert why in caught.value.why
    assert "README.md" in caught.value.fix
    assert "my_nli" not in TASKS


def test_keys_are_taken_once(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="another task 'mnli'") as of_the_package:
        own.add_files([written(tmp_path, GOOD.replace("my_nli", "mnli"))])
    assert of_the_package.value.fix == "Give yours another key."
    first = written(tmp_path, GOOD)
    own.add_files([first, first])  # the same record may come again
    with pytest.raises(UsageFault, match="another task 'my_nli'"):
        own.add_files([written(tmp_path, GOOD.replace('"yes", "no"', '"no", "yes"'), "other.toml")])


def test_a_test_set_names_a_task_that_is_there(tmp_path: Path) -> None:
    text = GOOD.replace("labels", 'trains_on = "nothing"\nlabels')
    with pytest.raises(UsageFault, match="trains on 'nothing', which is no task"):
        own.add_files([written(tmp_path, text)])


def test_the_files_of_the_environment_are_read_and_an_absent_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    one = written(tmp_path, GOOD)
    other = written(tmp_path, GOOD.replace("my_nli", "my_other"), "other.toml")
    monkeypatch.setenv("XLT_TASKS", f"{one}:{other}")
    known = {task["key"] for task in invoke("tasks", "ls", "--json").document["tasks"]}
    assert {"my_nli", "my_other"} <= known
    assert "my_nli" not in TASKS
    monkeypatch.setenv("XLT_TASKS", "nowhere.toml")
    refused = invoke("tasks", "ls")
    assert refused.code == ExitCode.USAGE
    assert "There is no file 'nowhere.toml'" in refused.err
    assert invoke("version").code == ExitCode.OK  # which has no use for tasks

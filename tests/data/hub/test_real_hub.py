"""``artifact/hub.toml`` beside a second list of what the hub has, and a first fetch of all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.data.hub import real_hub
from tests.data.hub.test_fetch import Told
from tests.hub_home import WEIGHTS, own_home
from tests.hub_server import Hub, serving
from xlt.data.hub.faults import SeveralFaults
from xlt.data.hub.fetch import fetch, wanted_data, wanted_model
from xlt.data.hub.lock import matching
from xlt.data.hub.source import HubSource
from xlt.data.hub.table import languages, parts, read_pins, read_table
from xlt.tasks.catalogue import MASKED_LM, TASKS
from xlt.tasks.record import Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
HERE = [task for key, task in TASKS.items() if not read_table()[key].absent]
BRANCH = "refs/convert/parquet"  # of these
CONVERTED = ("allenai/cosmos_qa", "allenai/social_i_qa", "aps/super_glue", "unimelb-nlp/wikiann")
MODEL = {"config.json": b"{}", "tokenizer.json": b"{ }", "sentencepiece.bpe.model": b"s", "model.safetensors": WEIGHTS}


def test_every_row_count_is_that_of_the_second_list() -> None:
    table, listed = read_table(), real_hub.rows()
    used: dict[str, set[str]] = {}
    for task in HERE:
        for split in SPLITS:
            for language in languages(table[task.key], task, split):
                for part in parts(table[task.key], task, split, language):
                    (path,) = matching(listed[part.repository], part.path)
                    used.setdefault(part.repository, set()).add(path)
                    if task is not MASKED_LM:
                        assert part.rows == listed[part.repository][path], (task.key, split, language)
    assert used["google/xtreme"] == {
        path
        for path in listed["google/xtreme"]
        if not path.startswith(tuple(f"udpos.{real_hub.UDPOS[code][0]}/" for code in real_hub.UDPOS_MIXED))
    }
    assert all(paths == set(listed[name]) for name, paths in used.items() if name != "google/xtreme")


def test_the_second_list_adds_up() -> None:
    assert sum(train for _, train, _ in real_hub.TYDIQA.values()) == 49_881
    assert sum(test for _, _, test in real_hub.TYDIQA.values()) == 5077
    # As many languages as the benchmark has.
    sizes = [len(each) for each in (real_hub.UDPOS, real_hub.PANX, real_hub.MLQA, real_hub.TATOEBA, real_hub.TYDIQA)]
    assert sizes == [33, 40, 7, 36, 9]


def rows_to_read() -> dict[tuple[str, str, str], int]:
    """What the source is to read, by task, split and language."""
    english = {
        ("mnli", 392_702, 9815),
        (
            "anli_plus",
            1_104_934,
            3200 + 10_000 - 158 + 9815,
        ),  # the paper's training size; rows without a label left out
        ("qqp", 363_846, 40_430),
        ("squad", 87_599, 10_570),
        ("squad_v2", 130_319, 11_873),
        ("hellaswag", 39_905, 10_042),
        ("cosmosqa", 25_262, 2985),
        ("commonsenseqa", 9741, 1221),
        ("siqa", 33_410, 1954),
        ("copa", 400, 100),
    }
    found = {(task, split, "en"): n for task, *counts in english for split, n in zip(SPLITS, counts, strict=False)}
    for task, rows in (("pawsx", 49_401), ("udpos", 21_253), ("panx", 20_000), ("tydiqa", 3696)):
        found[task, "train", "en"] = rows
    found |= {("mlm", "train", code): 200 for code in real_hub.WIKIPEDIA}
    found |= {("xquad", "test", code): 1190 for code in real_hub.XQUAD}
    found |= {("tatoeba", "test", code): rows for code, (_, rows) in real_hub.TATOEBA.items()}
    found |= {("bucc2018", "test", code): 4 * pairs for code, pairs in real_hub.BUCC.items()}
    found |= {("tydiqa", "test", code): test for code, (_, _, test) in real_hub.TYDIQA.items()}
    tagged = {code: counts for code, counts in real_hub.UDPOS.items() if code not in real_hub.UDPOS_MIXED}
    for number, split in enumerate(("dev", "test"), start=1):
        found |= {("xnli", split, code): (2490, 5010)[number - 1] for code in real_hub.XNLI}
        found |= {("pawsx", split, code): 2000 for code in real_hub.PAWSX}
        found |= {("panx", split, code): rows for code, rows in (real_hub.PANX | real_hub.WIKIANN).items()}
        found |= {("xcopa", split, code): (100, 500)[number - 1] for code in real_hub.XCOPA}
        found |= {("mlqa", split, code): counts[number] for code, counts in real_hub.MLQA.items()}
        found |= {("udpos", split, code): counts[number] for code, counts in tagged.items() if counts[number]}
    return found


@pytest.mark.slow
def test_a_first_fetch_brings_everything_and_every_task_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_home(tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**20)
    pins = read_pins()
    repositories = {
        f"datasets/{name}": {path: real_hub.content(name, path, count) for path, count in files.items()}
        for name, files in real_hub.rows().items()
    }
    for name in CONVERTED:
        repositories[f"datasets/{name}@{BRANCH}"] = repositories.pop(f"datasets/{name}")
        repositories[f"datasets/{name}"] = {f"{name.partition('/')[2]}.py": b"import datasets", "README.md": b"x"}
    repositories["FacebookAI/xlm-roberta-large"] = {**MODEL, "pytorch_model.bin": b"x", "onnx/config.json": b"x"}
    commits = {f"datasets/{name}": commit for name, commit in pins.revisions.items()}
    commits |= {f"datasets/{name}@{BRANCH}": commits.pop(f"datasets/{name}") for name in CONVERTED}
    commits["FacebookAI/xlm-roberta-large"] = pins.models["xlm-roberta-large"].revision
    wanted = [*wanted_data(HERE), wanted_model("xlm-roberta-large")]
    with serving(Hub(repositories, commits=commits)) as hub:
        # These files are not the real ones: those whose digest is known are refused, and nothing else is.
        with pytest.raises(SeveralFaults) as caught:
            fetch(wanted, Told(), mirror=hub.address)
        refused = {fault.what.split("'")[1] for fault in caught.value.faults}
        assert refused == {path for paths in pins.sha256.values() for path in paths}
        table = tmp_path / "artifact" / "hub.toml"
        table.write_text(re.sub(r"\[sha256[^\[]*", "", table.read_text("utf-8")), encoding="utf-8")
        fetched = fetch(wanted, Told(), mirror=hub.address)
    assert len(fetched) == 21
    found = {}
    for task in HERE:
        source = HubSource()  # a new one, or the rows of all would be kept
        for split in SPLITS:
            for language in source.languages(task, split):
                found[task.key, split, language] = len(source.rows(task, split, language))
    assert found == rows_to_read()

"""What XTREME-R adds, from files of the official forms to scores: trained in two steps, and searched in one pool."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from tests.conftest import SYLLABLES
from xlt.cli import app
from xlt.data.files.source import FilesSource
from xlt.data.predictions import read_predictions
from xlt.data.rows import CandidateRow, QueryRow
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.model.encoder import PackedModel
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.store import prediction_name
from xlt.pipeline.tiers import read_tier
from xlt.retrieval import embed
from xlt.tasks.catalogue import get_task

CONFIG = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def words(draw: Random, count: int = 5) -> str:
    return " ".join(draw.choices(SYLLABLES[:40], k=count))


def lines(path: Path, *records: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The right choice begins with "ba"; an answer's sentence in every language repeats its question."""
    root, draw = tmp_path / "data", Random(0)
    for name, rows in (("trn", 60), ("dev", 12)):
        situations = []
        for number in range(rows):
            answers = {
                f"answer{each}": ("ba " if number % 3 == place else "") + words(draw)
                for place, each in enumerate("ABC")
            }
            situations.append({"context": words(draw), "question": "Why?", **answers, "correct": "ABC"[number % 3]})
        lines(root / f"siqa/socialIQa_v1.4_{name}.jsonl", *situations)
    for name, rows in (
        ("copa/train", 40),
        ("copa/val", 12),
        ("xcopa/data/et/test.et", 24),
        ("xcopa/data/sw/val.sw", 24),
    ):
        premises = []
        for number in range(rows):
            choices = {f"choice{place + 1}": ("ba " if number % 2 == place else "") + words(draw) for place in range(2)}
            premises.append(
                {"premise": words(draw), **choices, "question": "cause", "label": number % 2, "idx": number}
            )
        lines(root / f"{name}.jsonl", *premises)
    questions = [words(draw, 6) for _ in range(12)]
    for language in get_task("lareqa").languages:
        context = "".join(f"{question}. " for question in questions)
        breaks, at = [], 0
        for question in questions:
            breaks.append([at, at + len(question) + 1])
            at += len(question) + 2
        asked = [
            {"id": f"q{n}", "question": each, "answers": [{"text": each, "answer_start": breaks[n][0]}]}
            for n, each in enumerate(questions)
        ]
        paragraph = {"context": context, "sentence_breaks": breaks, "qas": asked}
        lines(root / f"lareqa/xquad-r/{language}.json", {"data": [{"title": "t", "paragraphs": [paragraph]}]})
    return root


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    train_tokenizer([" ".join(Random(n).choices(SYLLABLES, k=8)) for n in range(300)], 100, folder)
    torch.manual_seed(0)
    PackedModel.fresh({**CONFIG, "vocab_size": len(load_tokenizer(str(folder)))}).save(folder)
    return folder


def test_social_iqa_then_copa_then_xcopa_and_a_pool_of_answers(
    data: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"

    def xlt(*arguments: str) -> Any:
        common = ("--source", "files", "--data-root", str(data), "--results", str(results), "--json")
        assert app.run([*arguments, *common]) == 0
        return json.loads(capfd.readouterr().out)

    short = ("--steps", "40", "--learning-rate", "3e-3", "--batch-size", "16")
    first = xlt("train", "siqa", "--model", str(model), *short)
    assert first["folder"].startswith("runs/intermediate/train.siqa-")
    second = xlt("train", "xcopa", "--model", str(results / first["folder"]), *short)
    # Each language that the files have, and nothing of English, which is only trained on.
    assert {split: {*found} for split, found in second["metrics"]["xcopa"].items()} == {"dev": {"sw"}, "test": {"et"}}
    assert second["metrics"]["xcopa"]["test"]["et"]["accuracy"] > 75

    monkeypatch.setattr("xlt.pipeline.run.evaluation_tokens", lambda: 1000)
    read: list[int] = []
    made = embed._vectors
    monkeypatch.setattr(embed, "_vectors", lambda *given: read.append(len(given[2])) or made(*given))
    found = xlt("retrieve", "lareqa", "--model", str(results / first["folder"]), "--layer", "1")
    scores = found["metrics"]["lareqa"]["test"]
    assert list(scores) == list(get_task("lareqa").languages)
    # All languages have the same sentences here, so that of the twelve in each the right ones are as near as any.
    assert all(set(each) == {"map@20", "accuracy"} and 0 < each["map@20"] <= 100 for each in scores.values())
    rows = FilesSource(data).rows(get_task("lareqa"), "test", "de")
    queries, pool = ([row for row in rows if isinstance(row, kind)] for kind in (QueryRow, CandidateRow))
    assert (len(queries), len(pool)) == (12, 132)
    stored = read_predictions(results / found["folder"] / prediction_name("lareqa", "test", "de"))
    assert all(len(str(each.prediction).split()) == 20 for each in stored)
    # The pool was embedded once, and of what was kept of it the last batch is compared for each other language.
    assert 132 + 11 * 12 <= sum(read) < 11 * (132 + 12) / 2
    assert app.run(["retrieve", "lareqa", "--model", str(model), "--readings", "--data-root", str(data)]) == 2


def test_the_tier_of_xtreme_r_does_before_each_task_what_the_benchmark_does(tmp_path: Path) -> None:
    tier = read_tier("xtreme-r")
    runs = GridBuilder(tier, FilesSource(tmp_path), seed=0, precision="fp32", fingerprints=False).grid().runs
    names = {run.hash: run.name for run in runs}
    found = {run.name: (run.train, run.evaluate, names.get(run.parent or "", "")) for run in runs}
    assert found["squad.tatoeba+lareqa+mewslix"] == ((), ("tatoeba", "lareqa", "mewslix"), "squad")
    assert found["siqa.xcopa"] == (("copa",), ("xcopa",), "siqa")
    # SQuAD is trained on once.
    assert found["baseline.xquad+mlqa"] == ((), ("xquad", "mlqa"), "squad")
    evaluated = [key for run in runs for key in run.evaluate]
    assert sorted(evaluated) == sorted(
        "siqa squad xnli udpos panx xquad mlqa tydiqa xcopa tatoeba lareqa mewslix".split()
    )

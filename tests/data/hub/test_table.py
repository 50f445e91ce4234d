"""``artifact/hub.toml``: everything is pinned, and what a missing official file says names the hub's copy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.data.hub.test_real_hub import CONVERTED, HERE
from xlt.data.files.source import FilesSource
from xlt.data.hub.archives import wanted_archives
from xlt.data.hub.fetch import wanted_data, wanted_model
from xlt.data.hub.table import has, hub_model, read_pins, read_table
from xlt.errors import DataFault
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split

SHA256 = re.compile("[0-9a-f]{64}")
COMMIT = re.compile("[0-9a-f]{40}")
ENTRIES = [files for task in read_table().values() for files in (*task.train, *task.dev, *task.test)]


def test_every_repository_is_pinned_and_has_one_branch() -> None:
    pins = read_pins()
    # Nobody was seen to name a commit of XCOPA's.
    assert {files.repository for files in ENTRIES} - {"cambridgeltl/xcopa"} == set(pins.revisions)
    assert all(COMMIT.fullmatch(commit) for commit in pins.revisions.values())
    branches = {(files.repository, files.branch) for files in ENTRIES}
    assert len(branches) == len(pins.revisions) + 1
    assert {branch for _, branch in branches} == {"main", "refs/convert/parquet"}
    assert {name for name, branch in branches if branch != "main"} == {*CONVERTED}
    # A digest is of a file that is wanted.
    wanted = {want.repository: want for want in wanted_data(HERE)}
    wanted |= {model.repository: wanted_model(model.repository) for model in pins.models.values()}
    assert set(pins.sha256) <= set(wanted)
    assert all(SHA256.fullmatch(digest) for paths in pins.sha256.values() for digest in paths.values())


def test_what_is_wanted_is_wanted_at_its_pin() -> None:
    # As datasets' and mteb's own sources name these commits.
    for task, repository, revision, branch in (
        ("xquad", "google/xquad", "51adfef1c1287aab1d2d91b5bead9bcfb9c68583", ""),
        ("bucc2018", "mteb/BUCC", "414572247440f0ccacf7eb0bb70a31533a0e5443", ""),
        ("cosmosqa", "allenai/cosmos_qa", "ed50fe83db62b355759053b1cd5eef344ee371e0", "refs/convert/parquet"),
    ):
        (want,) = wanted_data([get_task(task)])
        assert (want.repository, want.revision, want.branch) == (repository, revision, branch)


def test_of_two_repositories_each_has_its_own_languages() -> None:
    for split in ("dev", "test"):
        found = {
            language: [files.repository for files in getattr(read_table()["panx"], split) if has(files, language)]
            for language in get_task("panx").languages
        }
        added = {language for language, repositories in found.items() if repositories == ["unimelb-nlp/wikiann"]}
        assert added == set("az gu lt pa pl qu ro uk".split())
        assert all(found[language] == ["google/xtreme"] for language in found if language not in added)


@pytest.mark.parametrize(
    ("name", "repository", "sizes"),
    [
        ("xlm-roberta-large", "FacebookAI/xlm-roberta-large", (24, 1024, 250002)),
        ("xlm-roberta-base", "FacebookAI/xlm-roberta-base", (12, 768, 250002)),
        ("bert-base-multilingual-cased", "google-bert/bert-base-multilingual-cased", (12, 768, 119547)),
    ],
)
def test_models_are_known_by_their_short_names(name: str, repository: str, sizes: tuple[int, ...]) -> None:
    model = hub_model(name)
    assert model == hub_model(repository)
    assert model.repository == wanted_model(name).repository == repository
    assert tuple(model.config[key] for key in ("num_hidden_layers", "hidden_size", "vocab_size")) == sizes
    assert COMMIT.fullmatch(model.revision) or name.startswith("bert")


def test_every_archive_but_one_has_a_known_size_and_digest() -> None:
    archives = wanted_archives([get_task("bucc2018"), get_task("udpos")])
    assert len(archives) == 2 * 4 + 2
    pins = read_pins().archives
    (other,) = {archive.address for archive in archives} - set(pins)
    assert other.endswith("11234/1-3424/ud-treebanks-v2.7.tgz")
    # Each release has the languages that XTREME-R reads of it, and no others.
    codes = [{pattern.split("/")[-1][:2] for pattern in archive.take} for archive in archives[-2:]]
    assert (len(codes[0]), codes[1]) == (33, {"lt", "pl", "ro", "uk", "wo"})
    assert not codes[0] & codes[1]
    assert all(SHA256.fullmatch(pin.sha256) for pin in pins.values())
    # Where LINDAT's new server has the files of a release, and the archive as pyconll's tests have it.
    place = "https://lindat.mff.cuni.cz/repository/server/api/core/bitstreams/handle/11234/1-3105"
    treebanks = pins[f"{place}/ud-treebanks-v2.5.tgz"]
    assert treebanks.size == 355_216_681
    assert treebanks.sha256.startswith("5ff973e44345a5f6")


@pytest.mark.parametrize(
    ("task", "split", "language"), [("hellaswag", "train", "en"), ("pawsx", "dev", "ko"), ("tydiqa", "test", "sw")]
)
def test_where_the_official_files_are_hard_to_get_the_fix_names_the_hub(
    tmp_path: Path, task: str, split: Split, language: str
) -> None:
    with pytest.raises(DataFault) as caught:
        FilesSource(tmp_path).rows(get_task(task), split, language)
    assert f"xlt fetch {task}, and --source hub" in caught.value.fix
    assert str(tmp_path) in caught.value.fix


def test_licences_say_what_is_known_and_what_is_not() -> None:
    assert "takedown notice" in get_task("hellaswag").licence
    assert get_task("panx").licence.startswith("not stated")

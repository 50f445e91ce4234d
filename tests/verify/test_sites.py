"""Reference runs that others give: what is seen of a forged or repeated one, and what each site changes."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from tests.conftest import unpacked
from xlt.errors import DataFault, ExitCode, UsageFault
from xlt.verify.added import read_added
from xlt.verify.export import reference_run, ship_one
from xlt.verify.judge import Verification, recompute, verify
from xlt.verify.sites import AddedFile

from .tiny_results import Results, TinySource, shifted

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch) -> TinySource:
    tiny = TinySource()
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: tiny)
    return tiny


@pytest.fixture
def judged(make: Callable[..., Results], recorded: Path) -> Results:
    """Results that are judged by eight recorded seeds."""
    return make().fill(shifted(-1))


@pytest.fixture
def another(make: Callable[..., Results]) -> Results:
    """Results of a seed that is not recorded, from an Intel processor."""
    return on(make("another", seed=20).fill(shifted(5)), "Intel Xeon")


def on(made: Results, cpu: str, **facts: str) -> Results:
    """The results as if made on a processor."""
    for run in made.grid.runs:
        path = made.store.path(run.folder) / "provenance.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"cpu": cpu, **facts}), "utf-8")
        made.seal(run.name)
    return made


def record_of(made: Results, path: Path, change: Change = lambda record: None) -> Path:
    """The record of results, changed as a forger would."""
    document = json.loads(reference_run(verify(made.root, made.source), "2026-01-03").text())
    change(document)
    path.write_text(json.dumps(document), "utf-8")
    return path


def with_files(judged: Results, *paths: Path) -> Verification:
    return recompute(judged.root, judged.source, added=[run for path in paths for run in read_added(path)])


def only(found: Verification) -> AddedFile:
    (added,) = found.added
    return added


def test_an_archive_is_recomputed_and_becomes_a_reference(judged, another):
    archive = ship_one(verify(another.root, another.source), another.root)
    found = with_files(judged, archive)
    added = only(found)
    assert (added.seed, added.site, added.evidence, added.counted) == (20, "Intel Xeon", "recomputed", True)
    assert added.file == f"{archive.name}: seed-20"
    band, before = found.verdicts[0].band, verify(judged.root, judged.source).verdicts[0].band
    assert (band.seeds, before.seeds) == ((*range(1, 9), 20), tuple(range(1, 9)))
    assert band.mean > before.mean
    assert "9 reference runs" in found.references[0]


def test_a_record_without_predictions_is_taken_on_trust(judged, another, tmp_path):
    added = only(with_files(judged, record_of(another, tmp_path / "record.json")))
    assert (added.evidence, added.counted, len(added.sha256)) == ("taken on trust", True, 64)


def test_what_each_site_does_to_the_verdicts_is_shown(judged, another, tmp_path):
    found = with_files(judged, record_of(another, tmp_path / "record.json"))
    ours, theirs = found.sites
    assert (ours.site, ours.runs, theirs.site, theirs.runs) == ("not known", 8, "Intel Xeon", 1)
    assert set(ours.changed) == {"/".join(each.key) for each in found.verdicts}  # one run alone is no reference
    assert set(ours.changed.values()) == {("consistent", "not verifiable")}
    assert theirs.changed == {}
    assert ours.summary == (
        "Without the 8 reference runs of not known: 7 means consistent → not verifiable; "
        "all means together not verifiable"
    )


def test_the_same_record_counts_once(judged, recorded, another, tmp_path):
    assert only(with_files(judged, recorded / "seed-3.json")).why == "it is the recorded run of seed 3"
    first, second = (record_of(another, tmp_path / name) for name in ("one.json", "two.json"))
    found = with_files(judged, first, second)
    assert [each.counted for each in found.added] == [True, False]
    assert found.added[1].why == "it is one.json"
    assert found.verdicts[0].band.seeds == (*range(1, 9), 20)


@pytest.mark.parametrize("whose", ["a recorded seed", "another file", "the run that is judged"])
def test_the_same_predictions_under_another_seed_are_refused(judged, recorded, another, tmp_path, whose):
    def reseeded(record: dict[str, Any]) -> None:
        record["seed"] = 99

    theirs = record_of(another, tmp_path / "theirs.json")
    mine = judged if whose == "the run that is judged" else another
    forged = record_of(mine, tmp_path / "forged.json", reseeded)
    if whose == "a recorded seed":
        forged.write_text((recorded / "seed-3.json").read_text("utf-8").replace('"seed": 3', '"seed": 99'), "utf-8")
    with pytest.raises(DataFault, match=r"'forged\.json' has the seed 99 and the predictions of"):
        with_files(judged, theirs, forged)


def test_one_copied_cell_is_enough(judged, another, recorded, tmp_path):
    copied = json.loads((recorded / "seed-3.json").read_text("utf-8"))["cells"]["baseline/xnli/test/de"]

    def mixed(record: dict[str, Any]) -> None:
        record["cells"]["baseline/xnli/test/de"] = copied
        cells = [record["cells"][f"baseline/xnli/test/{code}"]["metrics"]["accuracy"] for code in ("en", "de", "qaf")]
        record["means"]["baseline/xnli/test"]["value"] = round(sum(cells) / 3, 6)

    with pytest.raises(DataFault, match="the predictions of the recorded run of seed 3"):
        with_files(judged, record_of(another, tmp_path / "forged.json", mixed))


def test_two_seeds_may_agree_where_everything_is_right(judged, make, tmp_path):
    def perfect(spec: object, task: str, split: str, language: str) -> int:
        return 60 if task == "tatoeba" else 20

    one = record_of(make("one", seed=30).fill(perfect), tmp_path / "one.json")
    other = make("two", seed=31).fill(lambda spec, task, split, lang: 60 if task == "tatoeba" else 21)
    found = with_files(judged, one, record_of(other, tmp_path / "two.json"))
    assert [each.counted for each in found.added] == [True, True]


def test_the_same_predictions_from_another_place_are_refused(judged, another, tmp_path):
    theirs = record_of(another, tmp_path / "theirs.json")
    moved = record_of(another, tmp_path / "moved.json", lambda record: record["platform"].update(cpu="AMD EPYC"))
    with pytest.raises(DataFault, match="from another place"):
        with_files(judged, theirs, moved)


def test_a_repetition_with_portable_numerics_is_no_new_draw(judged, make, tmp_path):
    paths = []
    for cpu in ("AMD EPYC", "Intel Xeon"):
        made = on(make(cpu, seed=20).fill(shifted(5)), cpu, numerics="portable")
        paths.append(record_of(made, tmp_path / f"{cpu}.json"))
    _, second = with_files(judged, *paths).added
    assert not second.counted
    assert "to the last bit on Intel Xeon" in second.why


def raised(record: dict[str, Any]) -> None:
    record["means"]["baseline/xnli/test"]["value"] += 1


def raised_cell(record: dict[str, Any]) -> None:
    record["cells"]["baseline/xnli/test/de"]["metrics"]["accuracy"] += 1


@pytest.mark.parametrize("change", [raised, raised_cell])
def test_edited_means_and_edited_cells_contradict_each_other(judged, another, tmp_path, change):
    with pytest.raises(DataFault, match=r"'record\.json' is no record") as caught:
        with_files(judged, record_of(another, tmp_path / "record.json", change))
    assert "the means do not follow from the cells" in caught.value.why


def test_other_numbers_for_known_predictions_are_refused(judged, another, tmp_path):
    def consistently(record: dict[str, Any]) -> None:
        record["cells"]["baseline/tatoeba/test/de"]["metrics"]["accuracy"] += 2
        record["means"]["baseline/tatoeba/test"]["value"] += 1

    theirs = record_of(another, tmp_path / "theirs.json")
    with pytest.raises(DataFault, match="gives other numbers to the same predictions"):
        with_files(judged, theirs, record_of(another, tmp_path / "edited.json", consistently))


def test_an_archive_with_edited_predictions_is_refused(judged, another, tmp_path):
    """Unsealed, and sealed so that only metrics.json contradicts them."""
    for seal in (False, True):
        path = another.run("baseline.xnli") / "predictions" / "xnli.test.de.jsonl.gz"
        archive = ship_one(verify(another.root, another.source), another.root)
        place = unpacked(archive, tmp_path / f"unpacked-{seal}")
        edited = place / "seed-20" / path.relative_to(another.root)
        lines = gzip.decompress(edited.read_bytes()).replace(b"contradiction", b"neutral", 1)
        edited.write_bytes(gzip.compress(lines))
        if seal:
            Results(place / "seed-20", another.grid, another.source).seal("baseline.xnli")
        forged = tmp_path / f"forged-{seal}.tar.gz"
        with tarfile.open(forged, "w:gz") as tar:
            for each in sorted(place.rglob("*")):
                if each.is_file():
                    tar.add(each, each.relative_to(place))
        with pytest.raises(DataFault, match="have problems") as caught:
            read_added(forged)
        assert ("metrics.json says" in caught.value.why) == seal


@pytest.mark.parametrize("what", ["cut", "no results", "a link", "upwards", "no record"])
def test_a_damaged_file_is_refused(another, tmp_path, what):
    archive = ship_one(verify(another.root, another.source), another.root)
    path = tmp_path / "damaged"
    path.write_bytes(archive.read_bytes()[:-3000] if what == "cut" else b"{}")
    if what in ("no results", "a link", "upwards"):
        with tarfile.open(path, "w:gz") as tar:
            entry = tarfile.TarInfo("../outside.json" if what == "upwards" else "seed-1/grid.json")
            if what == "a link":
                entry.type, entry.linkname = tarfile.SYMTYPE, str(another.root / "grid.json")
            elif what == "no results":
                entry.name = "README.txt"
            tar.addfile(entry, io.BytesIO())
    with pytest.raises(DataFault, match="'damaged'"):
        read_added(path)
    assert not (tmp_path / "outside.json").exists()
    with pytest.raises(DataFault, match=r"'nothing\.json' cannot be read"):
        read_added(tmp_path / "nothing.json")


def test_another_tier_is_refused(judged, another, tmp_path):
    other = record_of(another, tmp_path / "other.json", lambda record: record.update(tier="core"))
    with pytest.raises(UsageFault, match="is of the tier 'core'"):
        with_files(judged, other)


def test_the_run_that_is_judged_is_never_its_own_reference_and_nothing_added_makes_it_exact(judged, make, tmp_path):
    def anonymous(record: dict[str, Any]) -> None:
        for mean in record["means"].values():
            del mean["execution"]

    for path in (record_of(judged, tmp_path / "own.json"), record_of(judged, tmp_path / "bare.json", anonymous)):
        found = with_files(judged, path)
        assert only(found).why == "it is the run that is judged"
        assert found.counts == {"consistent": 7}
    again = make("again").fill(shifted(7))
    found = with_files(judged, record_of(again, tmp_path / "again.json"))
    assert only(found).why == "it has the seed of the run that is judged"


def test_a_second_run_of_a_seed_and_one_of_another_recipe_are_listed_and_do_not_count(judged, make, tmp_path):
    def recipe(record: dict[str, Any]) -> None:
        record["seed"] = 21
        for mean in record["means"].values():
            mean["recipe"] = "another"

    twin = make("twin", seed=3).fill(shifted(6))
    assert "two runs of one seed" in only(with_files(judged, record_of(twin, tmp_path / "twin.json"))).why
    other = make("other", seed=21).fill(shifted(6))
    added = only(with_files(judged, record_of(other, tmp_path / "other.json", recipe)))
    assert added.why == "recorded with another recipe"


def test_the_command_lists_every_file_with_hash_and_site(judged, another, tmp_path, invoke: Invoke):
    path = record_of(another, tmp_path / "record.json")
    shown = invoke("verify", "--results", str(judged.root), "--with", str(path))
    assert shown.code == ExitCode.OK
    text = " ".join(shown.out.split())
    assert "Added: record.json, seed 20, Intel Xeon, taken on trust, counted. SHA-256 " in text
    assert "Without the 1 reference run of Intel Xeon: no verdict on a mean changes" in text
    document = invoke("verify", "--results", str(judged.root), "--with", str(path), "--json").document
    assert document["added"][0]["sha256"] in text
    assert [site["site"] for site in document["sites"]] == ["not known", "Intel Xeon"]
    (tmp_path / "bad.json").write_text("{", "utf-8")
    assert invoke("verify", "--results", str(judged.root), "--with", str(tmp_path / "bad.json")).code == ExitCode.DATA


def test_record_writes_an_archive_that_others_can_add(judged, another, invoke: Invoke):
    shown = invoke("verify", "--results", str(another.root), "--record")
    assert "For others, with all predictions: " in shown.out + shown.err
    (archive,) = another.root.glob("tiny-tiny-seed-20-*.tar.gz")
    added = only(with_files(judged, archive))
    # It is recorded here as well: what was recorded is not counted twice.
    assert added.why == "it is the recorded run of seed 20"


def test_what_others_add_never_excuses_a_run(make: Callable[..., Results], recorded: Path, tmp_path: Path) -> None:
    judged = make().fill(shifted(-12))
    assert verify(judged.root, judged.source).exit_code == ExitCode.DEVIATES
    # Runs as bad as this one, from a place that nobody knows: the bands become so wide that they tell nothing.
    added = [
        record_of(on(make(f"other-{seed}", seed=seed).fill(shifted(-12 - seed % 3)), "Fake"), tmp_path / f"{seed}.json")
        for seed in (20, 21, 22)
    ]
    found = with_files(judged, *added)
    assert all(file.counted for file in found.added), found.added
    assert not {"deviates", "collapsed"} & {each.verdict for each in found.verdicts if not each.diagnostic}
    assert found.exit_code == ExitCode.DEVIATES

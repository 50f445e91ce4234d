"""The archive of recorded results that the project carries: it verifies without training, and is the recorded run."""

from __future__ import annotations

from pathlib import Path

from xlt.artifact import artifact_root
from xlt.verify import added, recorded

FOLDER: Path = artifact_root() / "measured" / "smoke-world"


def test_the_shipped_results_are_those_of_the_recorded_run() -> None:
    """Every number is recomputed from the predictions in the archive; every prediction is as recorded beside it."""
    (shipped,) = added.read_added(FOLDER / "seed-0-portable.tar.gz")
    known = recorded.REFERENCE_RUN.validate_json((FOLDER / "seed-0-portable.json").read_bytes())
    assert shipped.file.evidence == "recomputed"
    assert shipped.run.cells == known.cells
    assert len(known.means) == 31
    for name, mean in known.means.items():
        assert shipped.run.means[name].value == mean.value, name


def test_the_page_beside_it_is_of_the_same_run() -> None:
    page = (FOLDER / "report.html").read_text("utf-8")
    known = recorded.REFERENCE_RUN.validate_json((FOLDER / "seed-0-portable.json").read_bytes())
    for mean in known.means.values():
        assert f">{mean.value:.1f}<" in page

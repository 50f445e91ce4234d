"""The table of perturbations in scripts of all kinds."""

from __future__ import annotations

from artifact.documents.perturbations import SENTENCES, lines
from xlt.data.perturb import KINDS


def test_every_kind_changes_what_its_scripts_have_a_place_for() -> None:
    table = [line.strip("| ").split(" | ") for line in lines(1.0)]
    assert table[2][1:] == [*SENTENCES.values()]
    shown = {kind: [text != "–" for text in texts] for kind, *texts in table[3:]}
    assert [*shown] == [*KINDS]
    unchanged = {
        kind: [name for name, changed in zip(SENTENCES, its, strict=True) if not changed] for kind, its in shown.items()
    }
    uncased, spaceless = [*SENTENCES][2:], [*SENTENCES][5:]
    assert unchanged["case"] == uncased
    assert unchanged["homoglyphs"] == uncased[1:]
    assert unchanged["diacritics"] == ["Devanagari (hi)", "Han (zh)"]
    assert all(unchanged[kind] == spaceless for kind in ("word-drop", "word-swap", "word-repeat", "code-mixing"))
    assert all(unchanged[kind] == [] for kind in ("letter-swap", "letter-drop", "distraction"))

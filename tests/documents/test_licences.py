"""artifact/LICENCES.md and what it is made of."""

from __future__ import annotations

from collections import Counter
from importlib import metadata

from artifact.documents import licences
from tests.conftest import PROJECT
from xlt.tasks.catalogue import TASKS


def test_the_page_is_what_locks_and_catalogue_give() -> None:
    page = licences.render()
    assert (PROJECT / "artifact" / "LICENCES.md").read_text("utf-8") == page, "stale: run make expected"
    assert [task.key for task in TASKS.values() if not task.licence or task.licence not in page] == []


def test_every_locked_package_has_one_licence_and_it_is_what_the_package_states() -> None:
    known = licences.read_licences()
    listed = Counter([*known.unstated, *(name for names in known.packages.values() for name in names)])
    assert (set(listed), set(listed.values())) == (set(licences.locked()), {1})
    checked = 0
    for licence, names in known.packages.items():
        for name in names:
            try:
                installed = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
            if installed in licences.locked()[name].values():
                assert licences.stated(name) == licence, name
                checked += 1
    assert checked > 20

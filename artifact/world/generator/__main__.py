"""Write the data set: ``python -m artifact.world.generator`` in the project's folder.

It replaces ``artifact/world/data`` and ``artifact/world/world.json``. Another ``--seed`` makes another world, of which
no run is recorded; ``git checkout -- artifact/world`` brings the shipped one back.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from artifact.world.generator.grammar import lexicon_of
from artifact.world.generator.language import CODES, FOREIGN, LANGUAGES
from artifact.world.generator.layouts import LAYOUTS, OWN, json_lines
from artifact.world.generator.world import LINES_PER_LANGUAGE, SIZES, VERSION, World, languages
from xlt.data.perturbed import LEXICON
from xlt.data.world import MINING_ORDER, TEXT, in_world
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split, Task

ROOT = Path(__file__).parent.parent


def contents(world: World) -> Iterator[tuple[str, str]]:
    """Every file of the data set: its name below ``data``, without ``.gz``, and its text."""
    yield TEXT, json_lines(map(asdict, world.text))
    for code in FOREIGN:
        words = lexicon_of(code, world.seed).items()
        yield LEXICON.format(lang=code), "".join(f"{word}\t{english}\n" for word, english in words)
    for key, sizes in SIZES.items():
        task = in_world(get_task(key), {"languages": CODES, "tasks": OWN})
        for split in sizes:
            for language in languages(get_task(key), split):
                rows = world.rows(task, split, language)
                yield from zip(_names(task, split, language), LAYOUTS[task.layout](rows), strict=True)
                if task.layout == "bucc":
                    name = MINING_ORDER.format(lang=language, split=split)
                    yield name, "".join(f"{row.id}\n" for row in rows)


def _names(task: Task, split: Split, language: str) -> list[str]:
    """The first of the record's alternatives that names its files without patterns and without English names."""
    alternatives = task.files[split].split("|")
    return next(each for each in alternatives if "*" not in each and "{name}" not in each).format(lang=language).split()


def compressed(text: str) -> bytes:
    """gzip without a time stamp or a name, so that the same text gives the same bytes; another zlib may give others."""
    stream = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=9, mtime=0) as file:
        file.write(text.encode())
    return stream.getvalue()


def about(seed: int, files: dict[str, bytes]) -> dict[str, Any]:
    """What ``world.json`` says of the world of ``seed`` in these ``files``."""
    return {
        "settings": {"seed": seed, "lines_per_language": LINES_PER_LANGUAGE, "version": VERSION},
        "languages": {code: {"name": each.name, "distance": each.distance()} for code, each in LANGUAGES.items()},
        "tasks": OWN,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }


def write(seed: int, root: Path) -> None:
    """Write the data set of the world of ``seed`` in the place of the one below ``root``."""
    files = {f"{name}.gz": compressed(text) for name, text in contents(World(seed))}
    shutil.rmtree(root / "data", ignore_errors=True)
    for name, data in files.items():
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    text = json.dumps(about(seed, files), ensure_ascii=False, indent=1)
    (root / "world.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m artifact.world.generator", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    write(parser.parse_args().seed, ROOT)

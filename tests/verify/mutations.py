"""Seeded damage to a results folder: one file is cut, changed, renamed or replaced, by chance or with care."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from xlt.pipeline.spec import RunSpec

JUNK = (
    b"\xef\xbb\xbf",
    b"\0",
    b"\xff",
    b"\\ud800",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 10_000,
    b"1e999",
    b"NaN",
    b"\x1b[2J",
    b"\n",
    b",",
    b'"',
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1e308, 5e-324, 10**30, 10**400, float("nan"), float("inf")),
    *(
        "",
        "x",
        "en",
        "5",
        "a/b",
        "../../x",
        "a\0b",
        "a\nPROBLEM  b",
        "\x1b[31mred",
        "[/red]",
        "\ud800",
        "\u202e",
        "x" * 5000,
    ),
    *([], {}, [[]], {"a": {}}, [1, 2], json.loads("[" * 150 + "]" * 150)),
)
NAMES = (b"\xff\xfe", b"a\nb", b"\x1b[2J", b"[red]", b"x" * 250, "é\u202e".encode(), b"MANIFEST.json.tmp")
Node = tuple[Any, Any]


def nodes(value: Any) -> Iterator[Node]:
    """Every place in a JSON value: the list or object, and the index or name in it."""
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in places:
        yield value, key
        yield from nodes(inner)


def change_value(document: Any, rng: Random) -> bytes:
    """A JSON document of which one value is another, or one name is dropped, added or repeated."""
    places = list(nodes(document))
    if not places:
        return json.dumps(rng.choice(VALUES)).encode()
    holder, key = rng.choice(places)
    other, from_key = rng.choice(places)
    kind = rng.choice(("other", "other", "nudge", "copy", "drop", "add", "repeat"))
    value = rng.choice(VALUES)
    if kind == "nudge" and isinstance(holder[key], int | float):
        holder[key] += rng.choice((1e-7, 0.05, 1, -1))
    elif kind == "copy":
        holder[key] = copy.deepcopy(other[from_key])
    elif kind == "drop":
        del holder[key]
    elif kind in ("add", "repeat") and isinstance(holder, dict):
        name = str(rng.choice(VALUES)) if kind == "add" else key
        holder["@@new@@"] = rng.choice((value, copy.deepcopy(holder[key])))
        return json.dumps(document).replace('"@@new@@"', json.dumps(name)).encode()
    else:
        holder[key] = value
    return json.dumps(document).encode()


def change_bytes(content: bytes, rng: Random) -> bytes:
    """Content that is cut, has a bit flipped, or has junk in it."""
    place = rng.randrange(len(content) + 1)
    kind = rng.choice(("cut", "flip", "insert", "begin", "overwrite"))
    if kind == "cut":
        return content[:place]
    if kind == "flip" and place < len(content):
        return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
    junk = rng.choice(JUNK)
    if kind == "insert":
        return content[:place] + junk + content[place:]
    return junk + content if kind == "begin" else junk


def change_lines(content: bytes, rng: Random) -> bytes:
    """Lines of JSON of which one is changed, dropped, repeated or moved."""
    lines = content.splitlines(keepends=True)
    if not lines:
        return rng.choice(JUNK)
    place, kind = rng.randrange(len(lines)), rng.choice(("value", "value", "drop", "repeat", "move"))
    if kind == "value":
        lines[place] = change_value(json.loads(lines[place]), rng) + b"\n"
    elif kind == "repeat":
        lines.append(lines[place])
    else:
        line = lines.pop(place)
        lines[rng.randrange(len(lines) + 1) :] += [line] if kind == "move" else []
    return b"".join(lines)


def change_content(path: Path, rng: Random) -> None:
    """Write a file anew with a change in it; its old bytes may be shared with another folder."""
    content, packed = path.read_bytes(), path.suffix == ".gz"
    if packed and rng.random() < 0.8:
        unpacked = gzip.decompress(content)
        changed = gzip.compress(rng.choice((change_lines, change_lines, change_bytes))(unpacked, rng), mtime=0)
    elif path.suffix == ".jsonl":
        changed = rng.choice((change_lines, change_bytes))(content, rng)
    elif path.suffix == ".json" and rng.random() < 0.7:
        changed = change_value(json.loads(content), rng)
    else:
        changed = change_bytes(content, rng)
    path.unlink()
    path.write_bytes(changed)


def named(folder: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


def change_place(path: Path, rng: Random) -> None:
    """Put something else where a file is, or something strange beside it."""
    beside = [each for each in sorted(path.parent.iterdir()) if each.is_file() and each != path]
    kind = rng.choice(
        ("remove", "folder", "dangling", "link", "outside", "pipe", "rename", "add", "swap", "time", "loop")
    )
    if kind == "time":
        kept = path.read_bytes()
        path.unlink()
        path.write_bytes(kept)
        os.utime(path, (0, rng.choice((-1e10, 4e11, 9e11))))
        return
    if kind == "add":
        strange = named(path.parent, rng.choice(NAMES))
        rng.choice((Path.touch, Path.mkdir, os.mkfifo, lambda each: each.symlink_to("nowhere")))(strange)  # type: ignore[operator]
        return
    if kind == "rename":
        path.rename(named(path.parent, rng.choice(NAMES)))
        return
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "swap" and beside:
        path.write_bytes(rng.choice(beside).read_bytes())
    elif kind != "remove":
        targets = {"link": beside[0].name if beside else "x", "outside": "/etc/passwd", "loop": path.name}
        path.symlink_to(targets.get(kind, "nowhere"))


def change_folder(path: Path, rng: Random) -> None:
    """Put something else where a run's folder is, or its folder elsewhere."""
    other = rng.choice([each for each in sorted(path.parent.parent.glob("*/*")) if each.is_dir()])
    kind = rng.choice(("file", "dangling", "away", "strange", "copy", "link"))
    if kind == "copy" and other != path:
        shutil.rmtree(path)
        shutil.copytree(other, path)
        return
    path.rename(named(path.parent, rng.choice(NAMES) if kind == "strange" else b"away"))
    if kind == "file":
        path.touch()
    elif kind in ("dangling", "link"):
        path.symlink_to("away" if kind == "link" else "nowhere")


def seal(folder: Path) -> None:
    """Write the manifest of a run anew over whatever lies in its folder."""
    files = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and each.name != "MANIFEST.json"):
        content = path.read_bytes()
        entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        files[path.relative_to(folder).as_posix()] = entry
    (folder / "MANIFEST.json").unlink(missing_ok=True)
    (folder / "MANIFEST.json").write_text(json.dumps({"format": 1, "files": files}), "utf-8")


def name_anew(root: Path, folder: Path) -> bool:
    """Give a run the folder and the place in the grid that its changed spec names, if it still is a spec."""
    try:
        spec = RunSpec.model_validate_json((folder / "spec.json").read_bytes())
        new = root / "runs" / spec.folder
        grid = json.loads((root / "grid.json").read_bytes())
        if os.path.normpath(new.parent.parent) != str(root / "runs"):
            return False
        folder.rename(new)
    except (OSError, ValueError):
        return False
    listed: dict[str, Any] = {"folder": spec.folder, "hash": spec.hash, "phase": spec.phase, "arm": spec.arm}
    listed |= {"train": spec.train, "evaluate": spec.evaluate, "parent": spec.parent}
    old = folder.relative_to(root / "runs").as_posix()
    grid["runs"] = [listed if run["folder"] == old else run for run in grid["runs"]]
    (root / "grid.json").unlink()
    (root / "grid.json").write_text(json.dumps(grid), "utf-8")
    seal(new)
    return True


WEIGHTS = {"grid.json": 12, "metrics.json": 6, "spec.json": 3, "log.jsonl": 2, "config.json": 3, "heads.json": 2}
CHANGES: tuple[Callable[[Path, Random], None], ...] = (change_content, change_content, change_content, change_place)


def mutate(root: Path, rng: Random) -> tuple[str, bool]:
    """Change one file of a results folder; what was changed, and whether a run was renamed to fit its changed spec.

    In two of three cases the manifest is written anew, as who changes a file with care would do.
    """
    files = [each for each in sorted(root.rglob("*")) if each.is_file()]
    path = rng.choices(files, [WEIGHTS.get(each.name, 1) for each in files])[0]
    parts = path.relative_to(root).parts
    folder = root.joinpath(*parts[:3]) if len(parts) > 3 else None
    if folder and rng.random() < 0.05:
        change_folder(folder, rng)
        return f"folder {folder.name}", False
    change = rng.choice(CHANGES)
    change(path, rng)
    sealed = bool(folder) and path.name != "MANIFEST.json" and rng.random() < 0.67
    if folder and sealed:
        if path.name == "spec.json" and path.is_file() and rng.random() < 0.5 and name_anew(root, folder):
            return f"{change.__name__} of {path.name}, renamed", True
        seal(folder)
    return f"{change.__name__} of {'/'.join(parts)}{', sealed' if sealed else ''}", False

"""Sequences kept on disk: a set of rows is tokenized once, not again by every run that reads it.

A file is found by a hash of all that decides its sequences, and read only if it is as it was written. Whatever is wrong
with it, with the folder or with the disk, the sequences are made again: nothing here is an error.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from xlt.data.packing import Encoded
from xlt.data.rows import Row, fingerprint
from xlt.data.tokenizer import tokenizer_digest

# Fewer rows are tokenized in less than a tenth of a second.
FEWEST_ROWS = 500
# A token takes 4 bytes, in question answering 12.
MOST_BYTES = 4 * 2**30
Ints = npt.NDArray[np.int32]
Arrays = dict[str, Ints]
_folder: Path | None = None


def encodings_folder() -> Path | None:
    """Where sequences are kept: ``XLT_ENCODINGS`` (``off``: nowhere), else ``xlt/encodings`` in the user's cache."""
    named = os.environ.get("XLT_ENCODINGS", "")
    if named == "off":
        return None
    with suppress(RuntimeError):  # no home
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return Path(named or cache / "xlt" / "encodings")
    return None


@contextmanager
def keeping(folder: Path | None) -> Iterator[None]:
    """Keep sequences in the ``folder`` from here to the end of the block; with ``None`` none are kept or read."""
    global _folder
    before, _folder = _folder, folder
    try:
        yield
    finally:
        _folder = before


def kept(
    make: Callable[[], list[Encoded]],
    rows: Sequence[Row] | Sequence[str],
    ids: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *decided_by: str,
) -> list[Encoded]:
    """What ``make`` makes of the rows, from the disk if it was made before.

    It must depend on the ``rows``, the ``tokenizer`` and the texts ``decided_by`` alone. ``ids`` are those of the rows,
    and each sequence has one of them.
    """
    if _folder is None or len(rows) < FEWEST_ROWS or not (digest := tokenizer_digest(tokenizer)):
        return make()
    decided_by = _code(), digest, fingerprint(rows), *decided_by
    key = hashlib.sha256("\0".join(decided_by).encode()).hexdigest()
    path = _folder / f"{key}.safetensors"
    if (arrays := _read(path, key)) is not None:
        with suppress(OSError):
            os.utime(path)  # the longest unread files are the first to go
        return _sequences(arrays, ids)
    sequences = make()
    if sequences:
        with suppress(OSError, SafetensorError):
            _write(path, key, _arrays(sequences, ids))
    return sequences


@cache
def _code() -> str:
    """What makes and keeps sequences: whoever changes it need not think of what is kept."""
    return "".join(Path(__file__).with_name(name).read_text("utf-8") for name in ("features.py", "encodings.py"))


def kept_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    return sum(size for _, size, _ in _files(folder))


def _arrays(sequences: Sequence[Encoded], ids: Sequence[str]) -> Arrays:
    """Everything that the sequences hold, end to end; in the place of an id, which row has it."""
    places = {id_: place for place, id_ in enumerate(ids)}
    columns: dict[str, list[Ints] | list[tuple[int, ...]]] = {
        "input_ids": [each.input_ids for each in sequences],
        "label": [each.label for each in sequences],
        "lengths": [each.lengths for each in sequences],
        "offsets": [part for each in sequences if (part := each.offsets) is not None],
        "words": [part for each in sequences if (part := each.words) is not None],
    }
    arrays = {"rows": np.array([places[each.example_id] for each in sequences], dtype=np.int32)}
    for name, values in columns.items():
        if values:
            joined = np.concatenate(values) if isinstance(values[0], np.ndarray) else [*chain.from_iterable(values)]
            arrays[name] = np.asarray(joined, dtype=np.int32)
            arrays[f"{name}.sizes"] = np.array([len(value) for value in values], dtype=np.int32)
    return arrays


def _sequences(arrays: Arrays, ids: Sequence[str]) -> list[Encoded]:
    tuples = {name: map(tuple, _cut(arrays[name].tolist(), arrays, name)) for name in ("label", "lengths")}
    parts = {
        name: _cut(arrays[name], arrays, name) if name in arrays else repeat(None)
        for name in ("input_ids", "offsets", "words")
    }
    columns = parts["input_ids"], tuples["label"], parts["offsets"], parts["words"], tuples["lengths"]
    # Not strict: what is absent in all of them has no end.
    return [Encoded(ids[row], *values) for row, *values in zip(arrays["rows"].tolist(), *columns, strict=False)]


def _cut(joined: Any, arrays: Arrays, name: str) -> Iterator[Any]:
    ends = np.cumsum(arrays[f"{name}.sizes"], dtype=np.int64).tolist()
    return (joined[start:end] for start, end in pairwise([0, *ends]))


def _read(path: Path, key: str) -> Arrays | None:
    """The arrays of a file that this module wrote under that key, unless a byte of them has changed."""
    with suppress(OSError, SafetensorError, KeyError, TypeError, ValueError):
        if path.is_file():
            with safe_open(path, framework="numpy") as file:
                written = file.metadata()
                if written["key"] == key:
                    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
                    if _digest(arrays) == written["sha256"]:
                        return arrays
    return None


def _write(path: Path, key: str, arrays: Arrays) -> None:
    """Write the file so that it appears whole, in the place of those that nobody has read for the longest time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: another process may be writing the same.
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    os.close(descriptor)
    try:
        save_file(arrays, name, metadata={"key": key, "sha256": _digest(arrays)})
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    left = MOST_BYTES
    for _, size, each in sorted(_files(path.parent), reverse=True):
        left -= size
        if left < 0:
            each.unlink(missing_ok=True)


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each file of the folder was last read or written, its size and its path."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                yield found.st_mtime, found.st_size, Path(entry.path)

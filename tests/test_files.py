"""Tests of xlt.files: the errors of a full disk, in whatever form a library raises them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError
from tokenizers import Tokenizer, models

from xlt.errors import EnvironmentFault
from xlt.files import writable

# What safetensors and tokenizers say on a full disk (a tmpfs of 150 and 300 kB).
RUST = "I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError(f"Error while serializing: {RUST}")]
)
def test_a_full_disk_is_named_as_such_by_whatever_library_it_stops(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(EnvironmentFault, match="is full"), writable(tmp_path):
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_file_that_lies_elsewhere_is_named_itself(tmp_path: Path, number: int) -> None:
    root = tmp_path / "results"
    with pytest.raises(EnvironmentFault) as caught, writable(root):
        raise OSError(number, "no", str(tmp_path / "home" / ".cache"))
    assert caught.value.what == f"'{tmp_path}/home/.cache' cannot be written."
    with pytest.raises(EnvironmentFault, match="results folder"), writable(root):
        raise OSError(number, "no", str(root / "grid.json"))


def test_other_errors_of_such_a_library_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"\(os error 2\)") as other, writable(tmp_path):
        Tokenizer(models.BPE()).save(str(tmp_path / "absent" / "tokenizer.json"))
    assert not isinstance(other.value, EnvironmentFault)


def test_what_cannot_be_written_is_called_what_it_is_and_as_its_option(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught, writable(tmp_path, "--ship", "the folder of the archive"):
        raise PermissionError(errno.EACCES, "no")
    assert caught.value.what == f"The folder of the archive '{tmp_path}' cannot be written."
    assert caught.value.fix == "Choose another with --ship, or change its permissions."

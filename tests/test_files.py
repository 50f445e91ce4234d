"""Tests of xlt.files: the errors of a full disk, in whatever form a library raises them."""

from __future__ import annotations

import errno
import io
import tarfile
from pathlib import Path

import pytest
from safetensors import SafetensorError
from tokenizers import Tokenizer, models

from xlt.errors import EnvironmentFault, UsageFault
from xlt.files import check_writable, check_writable_file, unpack_file, writable

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


def test_a_folder_is_tried_before_anything_is_written_and_nothing_is_left_there(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "results")
    check_writable_file(tmp_path / "new" / "x.tar.gz", "--ship", "the archive")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no such file system here")
def test_a_folder_in_which_no_file_can_be_made_is_refused_whatever_its_permissions_say(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    for folder in (Path("/proc/x"), Path("/proc/x/y"), tmp_path / "link" / "x", tmp_path / ("n" * 1000)):
        with pytest.raises(EnvironmentFault, match=r"^The results folder '.*' cannot be written") as caught:
            check_writable(folder)
        assert caught.value.fix.startswith("Choose another with --results")
    with pytest.raises(EnvironmentFault, match=r"^The folder of the archive '/proc' cannot be written"):
        check_writable_file(Path("/proc/x.tar.gz"), "--ship", "the archive")


def test_what_is_in_the_way_of_a_folder_or_a_file_is_told_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "results"):
        with pytest.raises(UsageFault, match="a file is in its way"):
            check_writable(folder)
    with pytest.raises(UsageFault, match="a folder of that name is there"):
        check_writable_file(tmp_path, "--ship", "the archive")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("../out", tarfile.REGTYPE), ("a/../../out", tarfile.REGTYPE), ("link", tarfile.SYMTYPE), ("a", tarfile.DIRTYPE)],
)
def test_of_an_archive_only_files_are_written_and_only_below_the_folder(tmp_path: Path, name: str, kind: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    sound = tarfile.TarInfo("./a/b")
    sound.size, sound.mode = 4, 0o4777
    with tarfile.open(tmp_path / "archive.tar", "w") as archive:
        archive.addfile(sound, io.BytesIO(b"text"))
        archive.addfile(member)
    folder = tmp_path / "folder"
    with tarfile.open(tmp_path / "archive.tar") as archive:
        first, second = archive.getmembers()
        unpack_file(archive, first, folder)
        with pytest.raises(tarfile.TarError, match="is no file, or leads out"):
            unpack_file(archive, second, folder)
        # Nor does a name that begins at the root, which tarfile has without its slash in some versions only.
        second.name, second.type = str(tmp_path / "out"), tarfile.REGTYPE
        with pytest.raises(tarfile.TarError, match="is no file, or leads out"):
            unpack_file(archive, second, folder)
    written = folder / "a" / "b"
    assert (written.read_bytes(), written.stat().st_mode & 0o7000) == (b"text", 0)
    assert not (tmp_path / "out").exists()

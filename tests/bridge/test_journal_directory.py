"""The journal's folder: one process at a time, an identity that a copy does not share."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import exits, journal_directory
from bridge.exits import Exit
from bridge.journal import JournalFailed
from tests.bridge.journals import opened, put_many, tmpfs
from tests.bridge.processes import ROOT

MIB = 1 << 20


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes the journal in `tmp_path / "journal"`."""
    command = [sys.executable, "-m", "tests.bridge.appender", str(tmp_path / "journal"), "never"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as reports:
        assert "ready\n" in iter(reports.readline, "")
        yield process
        process.kill()
        process.wait()


def test_a_second_open(tmp_path: Path) -> None:
    """A journal that is open cannot be opened: 73, and what to do; it can when it is closed."""
    journal = opened(tmp_path)
    for _ in range(2):
        with pytest.raises(Exit) as caught:
            opened(tmp_path)
        assert caught.value.code == exits.TAKEN
        assert str(caught.value) == (
            f"journal.directory: another bridge writes to {tmp_path}; stop it, or name another "
            "folder"
        )
    journal.close()
    opened(tmp_path).close()


def test_another_process(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    """Neither can one that another process has open, until that is gone, however it ended."""
    with pytest.raises(Exit) as caught:
        opened(tmp_path / "journal")
    assert caught.value.code == exits.TAKEN
    other.send_signal(signal.SIGKILL)
    other.wait()
    opened(tmp_path / "journal").close()


def test_a_child_does_not_keep_it(tmp_path: Path) -> None:
    """A process that was started meanwhile does not hold the journal when its parent has ended."""
    journal = opened(tmp_path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        journal.close()
        opened(tmp_path).close()
        child.kill()


def test_a_refused_open_changes_nothing(tmp_path: Path) -> None:
    """Who is refused leaves every file as it was."""
    journal = opened(tmp_path)
    put_many(journal, 5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Exit):
        opened(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    journal.close()


# Identity.


def test_identity_is_kept(tmp_path: Path) -> None:
    """It is made at first use, and the same ever after, wherever the folder is moved to."""
    here = tmp_path / "here"
    here.mkdir()
    uuid, is_copy = journal_directory.identity(here)
    assert (len(uuid), is_copy) == (32, False)
    assert journal_directory.identity(here) == (uuid, False)
    here.rename(tmp_path / "there")
    assert journal_directory.identity(tmp_path / "there") == (uuid, False)


def test_a_copy_has_its_own(tmp_path: Path) -> None:
    """A copy is told from the original once, and then has an identity that stays."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    uuid, _ = journal_directory.identity(here)
    shutil.copytree(here, there)
    copied, is_copy = journal_directory.identity(there)
    assert (copied != uuid, is_copy) == (True, True)
    assert journal_directory.identity(there) == (copied, False)
    assert journal_directory.identity(here) == (uuid, False)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"uuid": 1}', '{"inode": 1}'])
def test_an_identity_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """An identity that cannot be read is replaced by a new one."""
    (tmp_path / "journal.json").write_text(text)
    uuid, _ = journal_directory.identity(tmp_path)
    assert len(uuid) == 32
    assert journal_directory.identity(tmp_path) == (uuid, False)


def test_a_copy_on_another_disk(tmp_path: Path) -> None:
    """A copy on another file system is told too, where files may get the same numbers."""
    uuids = []
    with tmpfs(tmp_path / "one", MIB) as one, tmpfs(tmp_path / "two", MIB) as two:
        opened(one / "journal").close()
        shutil.copytree(one / "journal", two / "journal")
        for folder in (one, two):
            journal = opened(folder / "journal")
            uuids.append(journal.head.uuid)
            journal.close()
    assert uuids[0] != uuids[1]


# Files.


def test_preallocated(tmp_path: Path) -> None:
    """A preallocated file is zero, and has its place on the disk."""
    path = tmp_path / "file"
    path.write_bytes(b"former content")
    journal_directory.preallocate(path, MIB)
    assert path.read_bytes() == bytes(MIB)
    assert path.stat().st_blocks * 512 >= MIB


def test_preallocated_without_room(tmp_path: Path) -> None:
    """Without room there is an error, and no file."""
    with tmpfs(tmp_path / "disk", MIB) as disk:
        with pytest.raises(OSError, match="No space left"):
            journal_directory.preallocate(disk / "file", 2 * MIB)
        assert not (disk / "file").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_run_id_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """A server that cannot be read is one that is not known."""
    assert journal_directory.read_run_id(tmp_path) is None
    journal_directory.write_run_id(tmp_path, "4f5e")
    assert journal_directory.read_run_id(tmp_path) == "4f5e"
    (tmp_path / "server.json").write_text(text)
    assert journal_directory.read_run_id(tmp_path) is None


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """What is no segment is neither read nor removed."""
    strangers = [tmp_path / name for name in ("notes.txt", "1.seg", "0000000009.seg.damaged")]
    for path in strangers:
        path.write_text("mine")
    journal = opened(tmp_path)
    put_many(journal, 200)
    journal.close()
    opened(tmp_path).close()
    assert [path.read_text() for path in strangers] == ["mine"] * 3


def test_the_folder_is_gone(tmp_path: Path) -> None:
    """A folder that was removed under a running journal is a failure at the next segment."""
    journal = opened(tmp_path / "journal")
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    (tmp_path / "journal").rmdir()
    with pytest.raises(JournalFailed):
        put_many(journal, 300)
    journal.close()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """A name that is no folder: 74."""
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(Exit) as caught:
        opened(path)
    assert caught.value.code == exits.CANNOT_RECORD

"""acceptance/record.py: where a result is written to, and what is left when it cannot be."""

import os
import resource
from pathlib import Path
from threading import Thread

import pytest

from acceptance import record
from tests.acceptance.rigs import result

BASE = result()


def test_a_symlink_stays_one(tmp_path: Path) -> None:
    """The file that it names is written, whether it is there already or not."""
    link, target = tmp_path / "link.json", tmp_path / "elsewhere" / "result.json"
    target.parent.mkdir()
    link.symlink_to(target)

    for _ in range(2):
        record.save(BASE, link)
        assert link.is_symlink() and record.load(target) == BASE
    assert [*target.parent.iterdir()] == [target]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """What is no regular file gets the bytes, and is never replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=record.save, args=(BASE, pipe), daemon=True)
    writer.start()

    with pipe.open("rb") as file:
        assert file.read() == record.dumps(BASE)

    writer.join(10)
    assert pipe.is_fifo() and [*tmp_path.iterdir()] == [pipe]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Neither fails, and whoever reads meanwhile finds a whole result."""
    target, problems = tmp_path / "result.json", []
    record.save(BASE, target)

    def write() -> None:
        try:
            for _ in range(30):
                record.save(BASE, target)
        except OSError as error:
            problems.append(error)

    writers = [Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert target.read_bytes() == record.dumps(BASE)
    assert (problems, [*tmp_path.iterdir()]) == ([], [target])


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """A file that may not grow: the error is raised, the earlier result stays, alone."""
    target = tmp_path / "result.json"
    target.write_text("earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            record.save(BASE, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [
        ("result.json", "earlier")
    ]

"""The open segment: what a kill or a power cut leaves is cut off, all else is damage and stays."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge import exits
from bridge.archive_segments import Damaged
from bridge.archive_verify import verify
from bridge.exits import Exit
from tests.bridge.archives import arcs, feed, kept, opened, snapshot
from tests.bridge.test_archive_crashes import BATCHES, assert_goes_on, lines_of


def damage(line: bytes, how: str) -> bytes:
    """Return a line that was durable as no kill and no power cut leaves it."""
    return {
        "a NUL": line[:20] + b"\0" + line[21:],
        "zeros": line[:20] + bytes(40) + line[60:],
        "all zeros": bytes(len(line)),
        "the line feed": line[:-1] + b"\0",
        "an edit": line.replace(b'"price":"', b'"price":"9'),
    }[how]


@pytest.mark.parametrize("how", ["a NUL", "zeros", "all zeros", "the line feed", "an edit"])
@pytest.mark.parametrize("rest", [b"", b'{"n":9', bytes(100)], ids=["whole", "torn", "zeros"])
def test_what_stands_behind_damage_is_not_cut_off(tmp_path: Path, how: str, rest: bytes) -> None:
    """A line that is damaged with whole ones behind it is 65, and the file stays as it is."""
    archive = opened(tmp_path)
    for batch in BATCHES[:3]:
        feed(archive, batch)
    archive.close()
    path = arcs(tmp_path)[-1]
    lines = lines_of(path)
    for n in range(1 if how == "an edit" else 0, len(lines) - 1):
        path.write_bytes(b"".join([*lines[:n], damage(lines[n], how), *lines[n + 1 :], rest]))
        before = snapshot(tmp_path)
        with pytest.raises(Exit) as caught:
            opened(tmp_path)
        assert caught.value.code == exits.BAD_DATA
        assert snapshot(tmp_path) == before
        found = verify(tmp_path).broken
        assert found is not None
        assert (found.file, found.line) == (path.name, n + 1)


@pytest.mark.parametrize(
    "end", [b"X", b"X\0", b"\0X", b"\0\0{", b"\xff"], ids=["X", "X0", "0X", "00{", "ff"]
)
def test_an_end_that_no_kill_leaves(tmp_path: Path, end: bytes) -> None:
    """What stands for the last line feed is zeros, or it is damage: 65."""
    archive = opened(tmp_path)
    feed(archive, BATCHES[0])
    archive.close()
    path = arcs(tmp_path)[-1]
    data = path.read_bytes()[:-1] + end
    path.write_bytes(data)
    with pytest.raises(Exit) as caught:
        opened(tmp_path)
    assert caught.value.code == exits.BAD_DATA
    assert path.read_bytes() == data


@pytest.mark.parametrize("rest", [b'{"n":5,', b'{"n":5,' + bytes(90), bytes(90)])
def test_what_is_cut_off_is_told(tmp_path: Path, rest: bytes) -> None:
    """How much of a line that was not complete is cut off is in the log, and only then."""
    archive = opened(tmp_path)
    feed(archive, BATCHES[0])
    archive.close()
    with arcs(tmp_path)[-1].open("ab") as file:
        file.write(rest)
    with capture_logs() as logs:
        for _ in range(2):
            opened(tmp_path).close()
    [told] = logs
    assert (told["event"], told["dropped_bytes"]) == ("archive.torn", len(rest))
    assert kept(tmp_path) == BATCHES[0]


@pytest.mark.parametrize("by", [1, 500], ids=["a byte", "lines"])
def test_a_segment_cut_off_while_it_is_open(tmp_path: Path, by: int) -> None:
    """Nothing is taken behind what somebody cut off, nor is it sealed; what is whole is read on."""
    for segment_bytes in (1 << 20, 1):
        directory = tmp_path / str(segment_bytes)
        archive = opened(directory, segment_bytes=segment_bytes)
        feed(archive, BATCHES[0])
        path = arcs(directory)[-1]
        os.truncate(path, path.stat().st_size - by)
        before = snapshot(directory)
        for _ in range(2):
            with pytest.raises(Damaged):
                feed(archive, BATCHES[1])
        assert archive.last == len(BATCHES[0])
        archive.close()
        assert snapshot(directory) == before
        assert_goes_on(directory, 0)

"""`python -m bridge archive verify`: what is printed, the exit codes, beside a writer as well."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import archive_command, exits
from bridge.archive_segments import records
from bridge.archive_verify import verify
from bridge.core import contract
from bridge.exits import Exit
from tests.bridge.archives import arcs, fill
from tests.bridge.processes import ROOT, eventually
from tests.servers import RedisServer

WRITER = """
import sys, pathlib
from tests.bridge.archives import entries, feed, opened
archive = opened(pathlib.Path(sys.argv[1]), segment_bytes=20_000)
print("ready", flush=True)
for first in range(1, 1_000_000, 7):
    feed(archive, entries(first, first + 6))
"""


def test_whole(tmp_path: Path) -> None:
    """Counts and the head; 0. Without --head it says what cannot be seen."""
    heads = fill(tmp_path)
    lines, code = archive_command.report(tmp_path, as_json=False)
    assert code == exits.DONE
    assert lines == [
        f"{len(arcs(tmp_path))} segments, 60 records, whole; head {heads[-1].root}",
        "no --head was given: records that were cut off at the end would not be seen",
    ]
    lines, code = archive_command.report(tmp_path, [heads[-1].root.upper()], as_json=False)
    assert (lines[1], code) == ("all 1 heads are in it", exits.DONE)


def test_the_last_head_of_redis(tmp_path: Path, redis_server: RedisServer) -> None:
    """What was cut off behind the last head in exec:archive shows, when that Redis is named."""
    assert archive_command.published(redis_server.url, "exec:archive") == []
    for head in fill(tmp_path):
        redis_server.client.xadd("exec:archive", contract.head(*head))
    heads = archive_command.published(redis_server.url, "exec:archive")
    assert archive_command.report(tmp_path, heads, as_json=False)[1] == exits.DONE

    last = arcs(tmp_path)[-1]
    last.write_bytes(b"".join(last.read_bytes().splitlines(keepends=True)[:-1]))
    lines, code = archive_command.report(tmp_path, heads, as_json=False)
    assert code == exits.FAILED
    assert f"no record has the head {heads[0]}" in lines[0]


def test_broken(tmp_path: Path) -> None:
    """The first broken record, and how far it is whole; 1."""
    fill(tmp_path)
    path = arcs(tmp_path)[-1]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"100.5", b"900.5", 1))
    lines, code = archive_command.report(tmp_path, as_json=False)
    assert code == exits.FAILED
    offset = data.index(b"\n") + 1
    record = json.loads(data[offset:].partition(b"\t")[0])["n"]
    assert lines[0] == (
        f"BROKEN {path.name}, line 2, byte {offset}: record {record}: edited: it does not match"
        " its digest"
    )
    assert lines[1].startswith(f"whole up to record {record - 1}, head ")


def test_as_json(tmp_path: Path) -> None:
    """The same as one JSON object."""
    heads = fill(tmp_path)
    lines, code = archive_command.report(tmp_path, as_json=True)
    told = json.loads("\n".join(lines))
    assert code == exits.DONE
    assert told["is_whole"] is True
    assert (told["records"], told["root"]) == (60, heads[-1].root)
    arcs(tmp_path)[1].unlink()
    lines, code = archive_command.report(tmp_path, as_json=True)
    told = json.loads("\n".join(lines))
    assert code == exits.FAILED
    assert told["is_whole"] is False
    assert told["broken"]["file"] == "0000000002.arc"
    assert told["broken"]["why"] == "the segment is missing"


def test_no_archive(tmp_path: Path) -> None:
    """A folder that is not there, or holds none: 65. It is not made."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(Exit) as caught:
            archive_command.report(folder, as_json=False)
        assert caught.value.code == exits.BAD_DATA
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("head", ["", "abc", "z" * 64, "0" * 65])
def test_what_is_no_head(tmp_path: Path, head: str) -> None:
    """Something else for a head is a mistake of usage: 2."""
    fill(tmp_path)
    with pytest.raises(Exit) as caught:
        archive_command.report(tmp_path, [head], as_json=False)
    assert caught.value.code == exits.USAGE


def test_beside_a_writer(tmp_path: Path) -> None:
    """While another process appends and seals, the archive is whole at every look, and grows."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        try:
            assert writer.stdout.readline() == "ready\n"
            last = looks = 0

            def is_large() -> bool:
                nonlocal last, looks
                found, looks = verify(tmp_path), looks + 1
                assert found.broken is None, str(found.broken)
                count = sum([1 for _ in records(tmp_path)])
                assert last <= found.records <= count
                last = found.records
                return found.segments > 10

            eventually(is_large, "ten segments")
            assert writer.poll() is None
        finally:
            writer.kill()
    assert looks > 3
    assert verify(tmp_path).broken is None


def test_a_torn_line_is_told(tmp_path: Path) -> None:
    """The begin of a line at the end of the open segment is no damage: it is being written."""
    fill(tmp_path)
    with arcs(tmp_path)[-1].open("ab") as file:
        file.write(b'{"n":61,')
    lines, code = archive_command.report(tmp_path, as_json=False)
    assert code == exits.DONE
    assert lines[0] == "the open segment ends with 8 bytes of a line that is not complete"
    assert lines[1].startswith(f"{len(arcs(tmp_path))} segments, 60 records, whole")

"""`python -m bridge archive verify`: what is printed, the exit codes, beside a writer as well."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import archive_command, exits
from bridge.archive import Head
from bridge.archive_segments import begun, records
from bridge.archive_verify import verify
from bridge.core import contract
from bridge.exits import Exit
from tests.bridge.archives import arcs, entries, feed, fill, opened
from tests.bridge.processes import ROOT, eventually
from tests.servers import RedisServer

STREAM = "shadow:exec:archive"
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
    lines, code = archive_command.report(tmp_path, stream=STREAM, as_json=False)
    assert code == exits.DONE
    assert lines == [
        f"{len(arcs(tmp_path))} segments, 60 records, whole; head {heads[-1].root}",
        f"no head is known, by --head or from {STREAM} of --url: records that were cut off at the"
        " end would not be seen",
    ]
    lines, code = archive_command.report(
        tmp_path, [heads[-1].root.upper()], stream=STREAM, as_json=False
    )
    assert (lines[1], code) == ("all 1 heads are in it", exits.DONE)


def test_the_heads_of_redis(tmp_path: Path, redis_server: RedisServer) -> None:
    """All heads of the archive in exec:archive are looked for, page by page; those of another
    archive, and what is no head, are passed over."""
    url, client = redis_server.url, redis_server.client
    assert archive_command.published(url, "exec:archive", "") == []
    heads = fill(tmp_path)
    known = begun(tmp_path).archive
    client.xadd("exec:archive", contract.head(*heads[0]._replace(root="0" * 64, archive="other")))
    for head in heads:
        client.xadd("exec:archive", contract.head(*head))
    client.xadd("exec:archive", {"root": "none"})
    client.xadd("exec:archive", {"text": "none"})
    with pytest.MonkeyPatch.context() as patch:
        for size in range(1, len(heads) + 5):
            patch.setattr(archive_command, "PAGE_HEADS", size)
            found = archive_command.published(url, "exec:archive", known)
            assert found == [head.root for head in heads]
    lines, code = archive_command.report(tmp_path, found, stream=STREAM, as_json=False)
    assert (lines[1], code) == (f"all {len(heads)} heads are in it", exits.DONE)


def test_cut_off_and_gone_on(tmp_path: Path) -> None:
    """Records that were cut off show by any head behind them, also where others were written."""
    roots = [head.root for head in fill(tmp_path, head_records=1, segment_bytes=1 << 20)]
    path = arcs(tmp_path)[-1]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    heads: list[Head] = []
    archive = opened(tmp_path, head_records=1, segment_bytes=1 << 20, on_head=heads.append)
    feed(archive, entries(90, 99))
    archive.close()
    lost = roots[-2]
    roots += [head.root for head in heads]
    lines, code = archive_command.report(tmp_path, roots, stream=STREAM, as_json=False)
    assert code == exits.FAILED
    assert f"no record has the head {lost} and 1 more: records were cut off" in lines[0]
    lines, code = archive_command.report(
        tmp_path, ["0" * 64, *roots, "1" * 64], stream=STREAM, as_json=False
    )
    assert f"no record has the head {'0' * 64} and 3 more: " in lines[0]


def test_many_heads(tmp_path: Path, redis_server: RedisServer) -> None:
    """A hundred thousand heads are no burden: every record of a large archive may be one."""
    heads = fill(tmp_path)
    pipe = redis_server.client.pipeline(transaction=False)
    for _ in range(100_000 // len(heads)):
        for head in heads:
            pipe.xadd("exec:archive", contract.head(*head))
    pipe.execute()
    known = begun(tmp_path).archive
    found = archive_command.published(redis_server.url, "exec:archive", known)
    assert len(found) == 100_000 // len(heads) * len(heads)
    assert archive_command.report(tmp_path, found, stream=STREAM, as_json=False)[1] == exits.DONE


def test_broken(tmp_path: Path) -> None:
    """The first broken record, and how far it is whole; 1."""
    fill(tmp_path)
    path = arcs(tmp_path)[-1]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"100.5", b"900.5", 1))
    lines, code = archive_command.report(tmp_path, stream=STREAM, as_json=False)
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
    lines, code = archive_command.report(tmp_path, stream=STREAM, as_json=True)
    told = json.loads("\n".join(lines))
    assert code == exits.DONE
    assert told["is_whole"] is True
    assert (told["records"], told["root"]) == (60, heads[-1].root)
    arcs(tmp_path)[1].unlink()
    lines, code = archive_command.report(tmp_path, stream=STREAM, as_json=True)
    told = json.loads("\n".join(lines))
    assert code == exits.FAILED
    assert told["is_whole"] is False
    assert told["broken"]["file"] == "0000000002.arc"
    assert told["broken"]["why"] == "the segment is missing"


def test_no_archive(tmp_path: Path) -> None:
    """A folder that is not there, or holds none: 65. It is not made."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(Exit) as caught:
            archive_command.report(folder, stream=STREAM, as_json=False)
        assert caught.value.code == exits.BAD_DATA
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("head", ["", "abc", "z" * 64, "0" * 65])
def test_what_is_no_head(tmp_path: Path, head: str) -> None:
    """Something else for a head is a mistake of usage: 2."""
    fill(tmp_path)
    with pytest.raises(Exit) as caught:
        archive_command.report(tmp_path, [head], stream=STREAM, as_json=False)
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
                return found.segments > 10 and looks > 3

            eventually(is_large, "ten segments")
            assert writer.poll() is None
        finally:
            writer.kill()
    assert verify(tmp_path).broken is None


def test_a_torn_line_is_told(tmp_path: Path) -> None:
    """The begin of a line at the end of the open segment is no damage: it is being written."""
    fill(tmp_path)
    with arcs(tmp_path)[-1].open("ab") as file:
        file.write(b'{"n":61,')
    lines, code = archive_command.report(tmp_path, stream=STREAM, as_json=False)
    assert code == exits.DONE
    assert lines[0] == "the open segment ends with 8 bytes of a line that is not complete"
    assert lines[1].startswith(f"{len(arcs(tmp_path))} segments, 60 records, whole")

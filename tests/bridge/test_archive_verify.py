"""What `verify` says of an archive: what became of a record, what only a head shows, warnings."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.archive_segments import Damaged, records
from bridge.archive_verify import Broken, verify
from bridge.core import chain
from tests.bridge.archives import arcs, assert_whole, fill, manifests, opened

Change = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("change", "line", "why"),
    [
        (lambda lines: lines[:4] + lines[5:], 5, "missing: record 5 stands in its place"),
        (
            lambda lines: [*lines[:4], lines[6], lines[5], lines[4], *lines[7:]],
            5,
            "out of order: record 6 stands before it",
        ),
        (
            lambda lines: [*lines[:4], lines[4].replace(b'"100.5"', b'"100.6"'), *lines[5:]],
            5,
            "edited: it does not match its digest",
        ),
        (
            lambda lines: [*lines[:4], lines[4].replace(b'"n":4', b'"n":9'), *lines[5:]],
            5,
            "edited: it does not match its digest, nor its number",
        ),
        (
            lambda lines: [*lines[:4], b"what is this\n", *lines[5:]],
            5,
            "edited: it does not match its digest",
        ),
        (
            lambda lines: lines[:4],
            5,
            "missing: the manifest says that the last record is 10",
        ),
        (lambda lines: [*lines[:4], lines[4][:-9]], 5, "cut off: the file ends within it"),
    ],
)
def test_what_is_told(tmp_path: Path, change: Change, line: int, why: str) -> None:
    """A sealed segment: the file, the line, its offset, the record, and what became of it."""
    fill(tmp_path)
    path = arcs(tmp_path)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    path.chmod(0o644)
    path.write_bytes(b"".join(change(lines)))
    offset = len(b"".join(lines[: line - 1]))
    assert verify(tmp_path).broken == Broken(path.name, line, offset, line - 1, why)


def test_the_last_manifest(tmp_path: Path) -> None:
    """A manifest that no segment follows yet is compared with what its own segment holds."""
    fill(tmp_path)
    arcs(tmp_path)[-1].unlink()
    assert_whole(tmp_path)
    path = manifests(tmp_path)[-1]
    said = json.loads(path.read_text())
    for name in set(said) - {"created_ns", "places"}:
        path.unlink()
        path.write_text(json.dumps(said | {name: None}))
        found = verify(tmp_path).broken
        assert found is not None, name
        assert found.file == path.name


def test_a_number_left_out(tmp_path: Path) -> None:
    """A line that follows in the chain, and says that it is another record, is found."""
    fill(tmp_path)
    path, last = arcs(tmp_path)[-1], verify(tmp_path)
    text = chain.encode(last.records + 2, "fills", "", [])
    with path.open("ab") as file:
        file.write(chain.line(text, chain.digest(bytes.fromhex(last.root), text)))
    found = verify(tmp_path).broken
    assert found is not None
    assert (found.record, found.file) == (last.records + 1, path.name)


@pytest.mark.parametrize("number", [0, 1])
def test_readers_refuse_what_is_damaged(tmp_path: Path, number: int) -> None:
    """Whoever reads the records is told of a cut segment; it gets those before it."""
    fill(tmp_path)
    path = arcs(tmp_path)[number]
    whole = sum([json.loads(each.read_text())["records"] for each in manifests(tmp_path)[:number]])
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: data.index(b"\n") + 5])
    found = []
    with pytest.raises(Damaged) as caught:
        found.extend(record.n for record in records(tmp_path))
    assert found == list(range(1, whole + 1))
    assert (caught.value.record, caught.value.path) == (whole + 1, path)


def test_the_end_of_the_open_segment(tmp_path: Path) -> None:
    """Records cut off its end show by a head behind them, and by nothing else."""
    heads = fill(tmp_path)
    path = arcs(tmp_path)[-1]
    data = path.read_bytes()
    path.write_bytes(b"".join(data.splitlines(keepends=True)[:-1]))
    assert_whole(tmp_path, [head.root for head in heads[:-1]])
    found = verify(tmp_path, [head.root for head in heads]).broken
    assert found is not None
    assert (found.file, found.record) == (path.name, heads[-1].last)
    assert f"no record has the head {heads[-1].root}" in found.why


def test_an_archive_written_anew(tmp_path: Path) -> None:
    """Another archive of the same entries is whole, but has none of the heads of the first."""
    heads = fill(tmp_path / "one")
    fill(tmp_path / "other")
    assert_whole(tmp_path / "other")
    assert verify(tmp_path / "other", [heads[0].root]).broken is not None


def test_permissions(tmp_path: Path) -> None:
    """A sealed file that can be written is a warning: nothing in it is changed yet."""
    fill(tmp_path)
    path = manifests(tmp_path)[0]
    path.chmod(0o644)
    report = verify(tmp_path)
    assert report.broken is None
    assert report.warnings == ["0000000001.json is sealed and not read-only"]


def test_a_new_archive_is_whole(tmp_path: Path) -> None:
    """One without records, too, and while it is open."""
    archive = opened(tmp_path)
    report = verify(tmp_path)
    assert (report.broken, report.segments, report.records) == (None, 1, 0)
    archive.close()

"""The archive as a sink: every entry once, found again, and its cursors after any restart."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import archive_segments, exits
from bridge.archive import Archive, Head
from bridge.core.spans import Spans
from bridge.exits import Exit
from bridge.reading import Item, Place, digest_of, item_of
from tests.bridge.archives import (
    PRODUCER,
    SEGMENT_BYTES,
    STREAMS,
    arcs,
    assert_whole,
    entries,
    entry,
    feed,
    fill,
    flat,
    foreign,
    kept,
    manifests,
    opened,
)
from tests.bridge.processes import ROOT

texts = st.binary(max_size=6)
foreigners = st.builds(
    lambda number, pairs: item_of(
        "fills", f"{number}-0", [each for pair in pairs for each in pair]
    ),
    st.integers(1, 5),
    st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
)


def test_what_was_taken_is_there(tmp_path: Path) -> None:
    """Over several segments, in the order in which it was taken, also by another process."""
    archive = opened(tmp_path)
    items = [item for seq in range(1, 41) for item in (entry(seq), entry(seq, "orders"))]
    for at in range(0, len(items), 9):
        feed(archive, items[at : at + 9])
    assert kept(tmp_path) == items == kept(tmp_path)
    assert [record.n for record in archive_segments.records(archive.directory)] == list(
        range(1, 81)
    )
    assert archive.last == 80
    assert len(arcs(tmp_path)) > 3
    archive.close()
    assert_whole(tmp_path)


@given(st.lists(foreigners, max_size=8))
def test_any_entries(tmp_path_factory: pytest.TempPathFactory, items: list[Item]) -> None:
    """Whatever somebody else wrote comes back byte for byte, each entry once."""
    folder = tmp_path_factory.mktemp("archive")
    archive = opened(folder, segment_bytes=300)
    once = list({(item.id, digest_of(item.fields)): item for item in items}.values())
    for item in items:
        feed(archive, [item])
    archive.close()
    assert kept(folder) == once
    assert_whole(folder)


def test_equal_fills_are_two_records(tmp_path: Path) -> None:
    """Entries with the same content are each archived: ours by number, others' by stream id."""
    archive = opened(tmp_path)
    same = [foreign("1-0"), foreign("1-1"), foreign("2-0")]
    feed(archive, [*same, entry(1), entry(2), entry(1, producer="B.00000000.1")])
    archive.close()
    assert len(kept(tmp_path)) == 6


@pytest.mark.parametrize("is_reopened", [False, True])
def test_what_is_known_is_not_taken_again(tmp_path: Path, is_reopened: bool) -> None:
    """The same entries, fed again in any batches, change no file."""
    archive = opened(tmp_path)
    items = [foreign("5-0"), *entries(1, 12), foreign("1009-7"), *entries(13, 20)]
    feed(archive, items[:9])
    feed(archive, items[9:])
    if is_reopened:
        archive.close()
        archive = opened(tmp_path)
    before = kept(tmp_path)
    assert archive.new_ones([items[0], foreign("5-1"), items[13]]) == [foreign("5-1")]
    feed(archive, items)
    feed(archive, [*items[3:6], items[13], items[13]])
    assert kept(tmp_path) == before == items
    feed(archive, [items[0], foreign("5-1"), foreign("5-1"), foreign("5-0", price="8"), entry(21)])
    assert kept(tmp_path)[22:] == [foreign("5-1"), foreign("5-0", price="8"), entry(21)]
    archive.close()


def test_cursors_survive(tmp_path: Path) -> None:
    """Numbers with their holes and the places are known again, whole sealed segments unread."""
    archive = opened(tmp_path)
    feed(archive, [*entries(1, 10), *entries(1, 3, "orders")])
    feed(archive, entries(14, 20))
    feed(archive, entries(22, 30))
    place = Place("2000-9", b"12345678")
    archive.take([], {"account": place})
    feed(archive, entries(31, 40))
    feed(archive, [entry(1, producer="B.00000000.1"), foreign("3000-0", "account")])
    taken, places = dict(archive.taken), dict(archive.places)
    archive.close()
    for path in arcs(tmp_path)[:-1]:
        size = path.stat().st_size
        path.unlink()
        path.write_bytes(bytes(size))
    archive = opened(tmp_path)
    assert archive.taken == taken
    assert taken["fills", PRODUCER] == Spans([(1, 10), (14, 20), (22, 40)])
    last = foreign("3000-0", "account")
    assert archive.places == places
    assert places["account"] == Place("3000-0", digest_of(last.fields))
    assert places["orders"] == Place("1003-0", digest_of(entry(3, "orders").fields))
    archive.close()


def test_a_place_without_entries(tmp_path: Path) -> None:
    """Places that no record tells of are kept by the next manifest."""
    archive = opened(tmp_path, segment_bytes=1)
    place = Place("9-9", b"12345678")
    archive.take([], {"orders": place})
    for seq in (1, 2):
        feed(archive, [entry(seq)])
    archive.close()
    archive = opened(tmp_path)
    assert archive.places["orders"] == place
    archive.close()


def test_find(tmp_path: Path) -> None:
    """Numbers are found in rising order, whatever order they came in, of one producer and kind."""
    archive = opened(tmp_path)
    feed(archive, [*entries(1, 10), *entries(16, 30), *entries(1, 40, producer="B")])
    feed(archive, entries(1, 40, "orders"))
    feed(archive, [*entries(31, 33), *entries(12, 14), foreign("9999-0")])
    found = list(archive_segments.find(archive.directory, "fills", PRODUCER, 5, 32))
    assert found == [*entries(5, 10), *entries(12, 14), *entries(16, 32)]
    assert not list(archive_segments.find(archive.directory, "fills", "C", 1, 10))
    assert not list(archive_segments.find(archive.directory, "fills", PRODUCER, 34, 99))
    assert list(archive_segments.find(archive.directory, "fills", PRODUCER, 11, 12)) == [entry(12)]
    archive.close()
    assert list(archive_segments.find(archive.directory, "orders", PRODUCER, 40, 99)) == [
        entry(40, "orders")
    ]


def test_cursors_beside_a_writer(tmp_path: Path) -> None:
    """Another process reads what was taken, of the open segment too, and changes nothing."""
    archive = opened(tmp_path)
    for first in (1, 11, 21):
        feed(archive, entries(first, first + 9))
        read = archive_segments.cursors(tmp_path)
        assert read.taken == archive.taken
        assert read.places == archive.places
    archive.close()


def test_heads(tmp_path: Path) -> None:
    """A head every so many records, at each seal and at the end: each the digest of a record."""
    heads = fill(tmp_path, head_records=20)
    roots = {}
    tally = archive_segments.Tally()
    for number in archive_segments.segment_numbers(tmp_path):
        for record, _ in archive_segments.read_all(tmp_path, number, tally):
            roots[record.n] = (number, tally.first, tally.root.hex())
    for head in heads:
        assert (head.segment, head.first, head.root) == roots[head.last]
        assert head.records == head.last - head.first + 1
    lasts = [head.last for head in heads]
    assert lasts == sorted(set(lasts))
    sealed = [json.loads(path.read_text())["last"] for path in manifests(tmp_path)]
    assert set(sealed) <= set(lasts)
    assert lasts[-1] == 60
    assert_whole(tmp_path, [head.root for head in heads])


def test_heads_between_seals(tmp_path: Path) -> None:
    """In one segment they come every `head_records`, and a restart does not forget those due."""
    heads: list[Head] = []
    options = {"segment_bytes": 1 << 20, "head_records": 10, "on_head": heads.append}
    archive = opened(tmp_path, **options)
    for first in range(1, 29, 4):
        feed(archive, entries(first, first + 3))
    assert [head.last for head in heads] == [12, 24]
    archive.close()
    assert [head.last for head in heads] == [12, 24, 28]
    archive.close()
    assert len(heads) == 3


def test_sealed_files(tmp_path: Path) -> None:
    """A sealed segment and its manifest are 0444; the manifest tells what is in it."""
    fill(tmp_path)
    paths = manifests(tmp_path)
    assert len(paths) == len(arcs(tmp_path)) - 1 > 2
    count = 0
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        segment = path.with_suffix(".arc")
        assert stat.S_IMODE(segment.stat().st_mode) == 0o444
        said = json.loads(path.read_text())
        lines = segment.read_text().splitlines()
        assert said["records"] == len(lines) - 1 == sum(said["counts"].values())
        assert said["first"] == count + 1
        assert said["bytes"] == segment.stat().st_size >= SEGMENT_BYTES
        assert lines[-1].endswith(f"\t{said['root']}")
        count += said["records"]
        assert said["last"] == count


def test_a_second_writer(tmp_path: Path) -> None:
    """An archive that is open cannot be opened, here or elsewhere: 73; it can when it is closed."""
    archive = opened(tmp_path)
    with pytest.raises(Exit) as caught:
        opened(tmp_path)
    assert caught.value.code == exits.TAKEN
    code = (
        "import sys, pathlib; from bridge.exits import Exit\n"
        "from tests.bridge.archives import opened\n"
        "try: opened(pathlib.Path(sys.argv[1]))\nexcept Exit as end: sys.exit(end.code)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, timeout=30).returncode == exits.TAKEN
    archive.close()
    assert subprocess.run(command, cwd=ROOT, timeout=30).returncode == 0
    opened(tmp_path).close()


def test_other_streams(tmp_path: Path) -> None:
    """The archive of other streams is refused: 78; nothing is changed and the folder is free."""
    fill(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Exit) as caught:
        Archive.open(tmp_path, {**STREAMS, "fills": "shadow:fills"})
    assert caught.value.code == exits.CONFIGURATION
    assert "test:fills" in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    opened(tmp_path).close()


@pytest.mark.parametrize("name", ["0000000002.arc", "0000000002.json"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    """The writer does not go on where a file of the archive is missing: 65, which one is said."""
    fill(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(Exit) as caught:
        opened(tmp_path)
    assert caught.value.code == exits.BAD_DATA
    assert name in str(caught.value)


def test_a_damaged_open_segment(tmp_path: Path) -> None:
    """Neither does it cut off what was durable: a changed byte in the open segment is 65."""
    fill(tmp_path)
    path = arcs(tmp_path)[-1]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"100.5", b"900.5", 1))
    with pytest.raises(Exit) as caught:
        opened(tmp_path)
    assert caught.value.code == exits.BAD_DATA
    assert path.read_bytes() == data.replace(b"100.5", b"900.5", 1)
    path.write_bytes(data)
    opened(tmp_path).close()


def test_numbers_without_a_stream_id(tmp_path: Path) -> None:
    """What a history handed on has no id: it moves no place, and is known all the same."""
    archive = opened(tmp_path)
    feed(archive, [entry(1)])
    feed(archive, [entry(2)._replace(id=""), entry(3)])
    feed(archive, [entry(4)._replace(id="")])
    archive.close()
    archive = opened(tmp_path)
    assert archive.places["fills"].id == "1003-0"
    assert archive.taken["fills", PRODUCER] == Spans([(1, 4)])
    archive.close()
    assert [item.id for item in kept(tmp_path)] == ["1001-0", "", "1003-0", ""]
    assert flat([("price", "100.5")]) == list(kept(tmp_path)[3].fields[:2])

"""Opening what was left behind: nothing durable is missing, no number is ever given twice."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import exits, recovery
from bridge.exits import Exit
from bridge.journal import Journal, Limits
from bridge.journal_directory import segment_paths
from bridge.segments import HEAD, MAGIC, Head, Segment, crc32c
from tests.bridge.journals import (
    count,
    descriptors,
    erase,
    flip,
    held,
    killed,
    last_segment,
    opened,
    put,
    put_many,
    records_of,
    restore,
    snapshot,
)


def _left(directory: Path, entries: int, *, claimed: bool = True) -> Journal:
    """Return a journal that was killed with so many entries in its last segment."""
    journal = opened(directory)
    if claimed:
        journal.claim()
    put_many(journal, entries, size=40)
    killed(journal)
    return journal


# A tail that was cut.


def test_cut_anywhere(tmp_path: Path) -> None:
    """Cut at any byte behind the head it opens, with the whole entries before the cut.

    Numbering goes on under a new name when an entry was torn behind the claim, else as it was.
    """
    former = _left(tmp_path, 3).producer
    path = last_segment(tmp_path)
    state, records = snapshot(tmp_path), records_of(path)
    claim, *ends = [each.end for each in records]
    payloads = [each.payload for each in records[1:]]
    for cut in range(Segment.load(path).start, ends[-1] + 1):
        restore(tmp_path, state)
        os.truncate(path, cut)
        journal = opened(tmp_path)
        kept = sum([end <= cut for end in ends])
        assert held(journal).get(former, {}) == dict(enumerate(payloads[:kept], start=1))
        is_torn = cut > claim and cut not in ends
        assert (journal.producer != former) == is_torn
        assert put(journal, b"new") == (1 if is_torn else kept + 1)
        journal.close()


def test_cut_in_the_head(tmp_path: Path) -> None:
    """Cut within its head a segment is damaged, from its first byte on, and says so: 65."""
    _left(tmp_path, 5)
    os.truncate(last_segment(tmp_path), 100)
    with pytest.raises(Exit, match="damaged at byte 0") as caught:
        opened(tmp_path)
    assert caught.value.code == exits.BAD_DATA


def test_killed_before_the_head_was_written(tmp_path: Path) -> None:
    """A segment that is still all zeros was never begun, and holds nothing up."""
    journal = opened(tmp_path)
    put_many(journal, 5)
    journal.close()
    (tmp_path / f"{journal.head.ordinal + 1:010}.seg").write_bytes(bytes(16_384))
    journal = opened(tmp_path)
    assert (count(journal), journal.seqs["orders"]) == (5, 5)
    journal.close()


def test_a_torn_tail_of_an_unclaimed_session(tmp_path: Path) -> None:
    """Torn before Redis confirmed the session it goes on as it was: nothing of it was sent."""
    former = _left(tmp_path, 10, claimed=False).producer
    path = last_segment(tmp_path)
    payloads = [each.payload for each in records_of(path)]
    os.truncate(path, records_of(path)[-1].end - 3)
    journal = opened(tmp_path)
    assert held(journal) == {former: dict(enumerate(payloads[:9], start=1))}
    assert (journal.producer, put(journal, b"new")) == (former, 10)
    journal.close()


def test_a_torn_tail_behind_what_was_verified(tmp_path: Path) -> None:
    """Then it still knows up to which number Redis may have seen it."""
    journal = opened(tmp_path)
    journal.claim()
    former, first = journal.producer, put_many(journal, 4)
    journal.close()
    journal = opened(tmp_path)
    second = put_many(journal, 5)
    killed(journal)
    path = last_segment(tmp_path)
    os.truncate(path, records_of(path)[-1].end - 3)
    journal = opened(tmp_path)
    assert held(journal) == {former: dict(enumerate(first + second[:4], start=1))}
    assert (journal.head.verified["orders"], journal.is_claimed) == (4, False)
    journal.close()


def test_a_claim_whose_segment_is_gone(tmp_path: Path) -> None:
    """What Redis had confirmed keeps its number, also when the claim's segment was dropped."""
    limits = Limits(segment_bytes=16_384, retain_ns=0)
    journal = opened(tmp_path, limits=limits)
    journal.claim()
    put_many(journal, 300)
    former = journal.producer
    journal.acknowledge(former, "orders", 290)
    journal.tidy()
    killed(journal)
    path = last_segment(tmp_path)
    os.truncate(path, records_of(path)[-1].end - 3)
    journal = opened(tmp_path, limits=limits)
    assert set(held(journal)) == {former}
    journal.close()


def test_killed_in_the_middle_of_opening(tmp_path: Path) -> None:
    """A start that is killed once it has cut the torn tail off leaves that known to the next."""
    former = _left(tmp_path, 10).producer
    path = last_segment(tmp_path)
    os.truncate(path, records_of(path)[-1].end - 3)
    recovery.recover(tmp_path, "A")  # and no further
    journal = opened(tmp_path)
    assert journal.producer != former
    journal.close()


# Damage.


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[Path, bytes]]:
    """Return, by whether it was closed, a journal all of which but its last entry was durable."""
    found = {}
    for is_closed in (True, False):
        directory = tmp_path_factory.mktemp("journal")
        journal = opened(directory, limits=Limits(fsync="always", segment_bytes=16_384))
        put_many(journal, 250)
        found[is_closed] = snapshot(directory)
        journal.close()
        if is_closed:
            found[is_closed] = snapshot(directory)
    return found


@settings(derandomize=True, max_examples=100, deadline=None)
@given(is_closed=st.booleans(), segment=st.integers(0, 3), place=st.floats(0, 1))
def test_a_flipped_byte(
    durable: dict[bool, dict[Path, bytes]], is_closed: bool, segment: int, place: float
) -> None:
    """A byte that changed in what was durable: 65, the segment, the record's offset, the remedy."""
    path = list(durable[is_closed])[segment]
    restore(path.parent, durable[is_closed])
    start, records = Segment.load(path).start, records_of(path)
    offset = start + int(place * (records[-2].end - 1 - start))
    flip(path, offset)
    begin = max([start, *[each.end for each in records if each.end <= offset]])
    with pytest.raises(Exit) as caught:
        opened(path.parent)
    assert caught.value.code == exits.BAD_DATA
    assert f"{path}: damaged at byte {begin}: " in str(caught.value)
    assert f"`python -m bridge journal --directory {path.parent} --repair`" in str(caught.value)


@pytest.mark.parametrize("block", [0, 4096])
@pytest.mark.parametrize("segment", [0, 1, 2])
def test_an_erased_block(tmp_path: Path, segment: int, block: int) -> None:
    """A block of zeros in what was durable is damage, at the start of a segment too."""
    journal = opened(tmp_path)
    put_many(journal, 250)
    journal.close()
    erase(segment_paths(tmp_path)[segment], block, block + 4096)
    with pytest.raises(Exit) as caught:
        opened(tmp_path)
    assert caught.value.code == exits.BAD_DATA


@pytest.mark.parametrize("is_torn", [True, False])
def test_a_segment_that_others_follow(tmp_path: Path, is_torn: bool) -> None:
    """A segment that is cut, while those behind it say that it held more, is damaged."""
    journal = opened(tmp_path)
    put_many(journal, 250)
    journal.close()
    path = segment_paths(tmp_path)[1]
    os.truncate(path, records_of(path)[20].end - 3 * is_torn)
    with pytest.raises(Exit) as caught:
        opened(tmp_path)
    assert caught.value.code == exits.BAD_DATA


def test_a_later_version(tmp_path: Path) -> None:
    """A segment of a later version ends in an answer, not in a traceback, and holds nothing."""
    opened(tmp_path).close()
    path = last_segment(tmp_path)
    head, start = Head.read(path)
    text = json.dumps({**asdict(head), "later": 1}).encode()
    data = HEAD.pack(MAGIC, len(text), crc32c(text)) + text + path.read_bytes()[start:]
    path.write_bytes(data)
    with pytest.raises(Exit):
        opened(tmp_path)
    assert descriptors(tmp_path) == []


def test_a_segment_that_is_missing(tmp_path: Path) -> None:
    """A segment that was taken away from between others is a hole, and readers pass it."""
    journal = opened(tmp_path)
    put_many(journal, 250)
    missing = journal.segments[1]
    journal.close()
    missing.path.unlink()
    journal = opened(tmp_path)
    gone = set(range(missing.head.seqs["orders"] + 1, missing.seal.ends["orders"] + 1))
    assert set(held(journal)[journal.producer]) == set(range(1, 251)) - gone
    journal.close()

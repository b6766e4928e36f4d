"""bridge/shipment.py: what of a stream goes next, from memory or from the journal."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bridge.core.contract import entry
from bridge.core.lanes import Kept
from bridge.journal import Chapter
from bridge.shipment import BATCH_BYTES_MAX, Batch, Shipment
from tests.bridge.journal_rig import JournalRig, Session
from tests.proxies import STREAMS, Rig


def begun(session: Session, marks: Mapping[str, int] | None = None) -> Shipment:
    """Return the shipment of a session's orders, begun behind what Redis has of each producer."""
    shipment = Shipment(session.lane.streams["orders"], session.journal)
    chapters = session.journal.chapters("orders")
    known = {chapter.producer: 0 for chapter in chapters}
    shipment.resume(chapters, known | dict(marks or {}))
    return shipment


def taken(shipment: Shipment, entries_max: int = 10) -> list[int]:
    """Take what goes next, as the shipper does; return its numbers."""
    kept = shipment.next_entries(entries_max)
    if kept:
        shipment.cursor = kept[-1].seq + 1
    return [each.seq for each in kept]


def all_taken(shipment: Shipment) -> list[tuple[str, int]]:
    """Take everything; return producer and number of each."""
    found: list[tuple[str, int]] = []
    while seqs := taken(shipment):
        found += [(shipment.producer, seq) for seq in seqs]
    return found


def numbers(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


@pytest.fixture
def rig(tmp_path: Path) -> JournalRig:
    return JournalRig(tmp_path, exec={"in_flight_max": 20})


@pytest.fixture
def session(rig: JournalRig) -> Iterator[Session]:
    """A session without a Redis; the journal holds 15 orders of a former producer."""
    rig.offline(lambda each: each.append("orders", 15))
    rig.producer_id = "U"
    session = Session(rig, 1, None)
    yield session
    session.close()


def test_nothing_goes_before_it_is_claimed(session: Session) -> None:
    """Without a claim nobody knows where to begin."""
    shipment = Shipment(session.lane.streams["orders"], session.journal)

    assert not shipment.is_open
    assert shipment.next_entries(10) == []
    assert (shipment.older_backlog, shipment.entries_in_flight) == (0, 0)


def test_only_what_is_durable_goes(session: Session) -> None:
    """What a power cut could take back is not shown to anybody."""
    shipment = begun(session, {session.journal.chapters("orders")[0].producer: 15})
    session.append("orders", 5)
    assert taken(shipment) == []

    session.journal.sync()
    session.append("orders", 5)

    assert taken(shipment) == numbers(1, 5)
    assert taken(shipment) == []
    session.journal.sync()
    assert taken(shipment) == numbers(6, 10)


def test_former_producers_go_first(session: Session) -> None:
    """Their chapter is read to its end, then the present one's begins; it has no end."""
    session.append("orders", 12)
    session.journal.sync()
    shipment = begun(session)
    former = shipment.producer
    assert former != session.producer
    assert not shipment.is_present

    expected = [(former, seq) for seq in numbers(1, 15)]
    assert all_taken(shipment) == expected + [(session.producer, seq) for seq in numbers(1, 12)]
    assert shipment.is_present
    session.append("orders")
    session.journal.sync()
    assert taken(shipment) == [13]


@pytest.mark.parametrize("mark", [0, 1, 14, 15])
def test_it_begins_behind_the_marks(session: Session, mark: int) -> None:
    """What Redis has of any producer is left out; the rest counts as backlog."""
    session.append("orders", 5)
    session.journal.sync()
    former = session.journal.chapters("orders")[0].producer
    shipment = begun(session, {former: mark, session.producer: 2})

    assert shipment.older_backlog == 15 - mark
    assert [seq for _, seq in all_taken(shipment)] == numbers(mark + 1, 15) + numbers(3, 5)


def test_memory_and_disk_are_one_row(session: Session) -> None:
    """What memory has dropped is read back; where memory begins again it goes on from there."""
    session.append("orders", 50)
    session.journal.sync()
    stream = session.lane.streams["orders"]
    assert stream.window[0].seq == 31
    shipment = begun(session, {session.journal.chapters("orders")[0].producer: 15})

    found: list[Kept] = []
    while kept := shipment.next_entries(7):
        found += kept
        shipment.cursor = kept[-1].seq + 1

    assert [each.seq for each in found] == numbers(1, 50)
    assert (found[0].appended_ns, found[-1].appended_ns > 0) == (0, True), "from disk, from memory"
    assert len({each.data for each in found}) == 50
    assert found[35].data == stream.window[5].data
    assert {each.width for each in found} == {2 * len(STREAMS["orders"].names)}


def test_it_goes_back_where_redis_did(session: Session) -> None:
    """A mark that is lower than before: what was confirmed comes from the disk again."""
    session.append("orders", 30)
    session.journal.sync()
    former = session.journal.chapters("orders")[0].producer
    shipment = begun(session, {former: 15})
    assert [seq for _, seq in all_taken(shipment)] == numbers(1, 30)
    shipment.stream.acknowledge(30)
    assert not shipment.stream.window

    shipment.resume(session.journal.chapters("orders"), {former: 15, session.producer: 4})

    assert [seq for _, seq in all_taken(shipment)] == numbers(5, 30)


def test_a_batch_has_one_width(rig: JournalRig) -> None:
    """Entries with another number of fields begin another batch."""
    rows = [("orders", {f"f{place}": "x" for place in range(w)}) for w in (1, 1, 2, 2, 2, 1)]
    rig.write(rows)
    session = Session(rig, 1, None)
    shipment = begun(session)

    assert [taken(shipment) for _ in range(4)] == [[1, 2], [3, 4, 5], [6], []]
    session.close()


def test_a_batch_has_a_limit(session: Session) -> None:
    """Large entries go in batches of about a mebibyte, a larger one alone."""
    values = dict.fromkeys(STREAMS["orders"].names, "")
    for size in (400_000, 400_000, 400_000, 2 * BATCH_BYTES_MAX, 10):
        session.lane.append(entry("orders", values | {"reason": "x" * size}))
    session.journal.sync()
    shipment = begun(session, {session.journal.chapters("orders")[0].producer: 15})

    assert [taken(shipment) for _ in range(5)] == [[1, 2], [3], [4], [5], []]


def test_behind_a_hole_it_stops(rig: JournalRig) -> None:
    """Entries that do not follow each other are not in one batch: what follows a hole begins it."""
    rig.write([("orders", {"n": str(seq)}) for seq in range(3)])
    with rig.journal() as journal:
        journal.append(0, 7, journal.jseq + 1, 2, b"", b"$1\r\nn\r\n$1\r\n7\r\n")
    session = Session(rig, 1, None)
    shipment = begun(session)

    assert taken(shipment) == [1, 2, 3]
    assert taken(shipment) == [7]
    assert taken(shipment) == []
    session.close()


def test_without_a_journal_memory_is_all() -> None:
    """Entries stay in memory until they are confirmed, and go from there."""
    rig = Rig(1)
    rig.append("orders", 15)
    shipment = Shipment(rig.exec_lane.streams["orders"], None)
    shipment.resume([Chapter("T.0.1", 1, 0)], {"T.0.1": 3})

    assert taken(shipment) == numbers(4, 13)
    assert taken(shipment) == numbers(14, 15)
    assert shipment.is_present
    shipment.resume([Chapter("T.0.1", 1, 0)], {"T.0.1": 0})
    assert taken(shipment) == numbers(1, 10)


def test_what_is_in_flight_is_counted() -> None:
    """Entries on the wire, over all batches."""
    shipment = Shipment(Rig(1).exec_lane.streams["orders"], None)
    shipment.in_flight.extend([Batch("P", 1, 10, 0), Batch("P", 11, 11, 0)])

    assert shipment.entries_in_flight == 11

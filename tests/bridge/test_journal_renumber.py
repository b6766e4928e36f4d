"""Renumbering: entries whose numbers somebody else has given too get new ones, once each."""

from pathlib import Path

from bridge.core.contract import EXEC_KINDS
from bridge.journal import Chapter
from bridge.journal_directory import segment_paths
from tests.bridge.journals import count, held, killed, opened, put, put_many, restore, snapshot


def test_from_one_on(tmp_path: Path) -> None:
    """What lies behind the verified numbers is numbered from 1, in its order, once."""
    journal = opened(tmp_path)
    orders, fills = put_many(journal, 150), put_many(journal, 150, "fills")
    journal.renumber({"orders": 100, "fills": 149}, 7)
    stem = journal.head.stem
    assert journal.producer == f"{stem}.7"
    assert held(journal)[journal.producer] == dict(enumerate(orders[100:], start=1))
    assert held(journal, "fills")[journal.producer] == {1: fills[-1]}
    assert (journal.seqs["orders"], journal.seqs["fills"], journal.jseq) == (50, 1, 51)
    assert journal.synced == 51
    assert journal.chapters("orders")[-1] == Chapter(journal.producer, 1, 50)
    assert (journal.is_claimed, journal.head.verified) == (False, {})
    assert put(journal, b"next") == 51
    journal.close()


def test_nothing_else_is_left_of_it(tmp_path: Path) -> None:
    """No number behind the verified ones is left under the former name, nor after a start."""
    journal = opened(tmp_path)
    former = journal.producer
    orders = put_many(journal, 300)
    journal.renumber({"orders": 120}, 2)
    for _ in range(2):
        found = held(journal)
        assert max(found.get(former, {0: b""})) <= 120
        assert list(found[journal.producer].values()) == orders[120:]
        journal.close()
        journal = opened(tmp_path)
    journal.close()


def test_identities_are_kept(tmp_path: Path) -> None:
    """What must not be kept twice is known by the same identity afterwards."""
    journal = opened(tmp_path)
    put(journal, b"a fill", "fills", bytes(range(16)))
    journal.renumber({}, 2)
    [record] = journal.segments[-1].records()
    assert (record.once, record.width, EXEC_KINDS[record.kind]) == (bytes(range(16)), 2, "fills")
    journal.close()


def test_nothing_to_move(tmp_path: Path) -> None:
    """When all is verified the new name begins empty, and the old entries stay as they were."""
    journal = opened(tmp_path)
    former, orders = journal.producer, put_many(journal, 20)
    journal.renumber({"orders": 20}, 2)
    assert held(journal) == {former: dict(enumerate(orders, start=1))}
    assert journal.seqs["orders"] == 0
    journal.close()


def test_former_producers_stay(tmp_path: Path) -> None:
    """Entries of other names are not touched."""
    journal = opened(tmp_path)
    former, orders = journal.producer, put_many(journal, 20)
    journal.close()
    journal = opened(tmp_path, "B")
    put_many(journal, 5)
    journal.renumber({}, 2)
    assert held(journal)[former] == dict(enumerate(orders, start=1))
    journal.close()


def test_more_than_a_segment(tmp_path: Path) -> None:
    """It moves as much as there is."""
    journal = opened(tmp_path)
    orders = put_many(journal, 2000)
    journal.renumber({}, 2)
    assert list(held(journal)[journal.producer].values()) == orders
    assert len(put_many(journal, 200)) == 200
    journal.close()
    journal = opened(tmp_path)
    assert count(journal) == 2200
    journal.close()


def test_both_are_there(tmp_path: Path) -> None:
    """Killed between the new segment and the removal of the old ones, entries are there once."""
    journal = opened(tmp_path)
    orders = put_many(journal, 300)
    journal.sync()
    before = snapshot(tmp_path)
    journal.renumber({}, 2)
    after = snapshot(tmp_path)
    killed(journal)
    restore(tmp_path, before | after)
    journal = opened(tmp_path)
    assert held(journal) == {journal.producer: dict(enumerate(orders, start=1))}
    assert not set(before) & set(segment_paths(tmp_path))
    journal.close()

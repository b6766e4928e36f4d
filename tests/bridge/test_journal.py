"""The journal at work: what is appended is read back, under which numbers, and what is claimed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.contract import EXEC_KINDS
from bridge.journal import Chapter, Limits
from tests.bridge.journals import held, opened, put, put_many

ENTRIES = st.lists(st.tuples(st.sampled_from(EXEC_KINDS), st.binary(max_size=3000)), max_size=40)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(sessions=st.lists(ENTRIES, min_size=1, max_size=3))
def test_what_was_appended_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, sessions: list[list[tuple[str, bytes]]]
) -> None:
    """Byte for byte and in order, stream by stream, over segments and sessions."""
    directory = tmp_path_factory.mktemp("journal")
    wanted: dict[str, list[bytes]] = {kind: [] for kind in EXEC_KINDS}
    for entries in sessions:
        journal = opened(directory)
        for kind, payload in entries:
            put(journal, payload, kind)
            wanted[kind].append(payload)
        while_open = {kind: held(journal, kind) for kind in EXEC_KINDS}
        journal.close()
    journal = opened(directory)
    for kind, payloads in wanted.items():
        numbered = dict(enumerate(payloads, start=1))
        assert (
            held(journal, kind)
            == while_open[kind]
            == ({journal.producer: numbered} if numbered else {})
        )
    journal.close()


def test_a_new_journal(tmp_path: Path) -> None:
    """It begins with the first incarnation of the name given, and holds nothing."""
    journal = opened(tmp_path / "deep" / "folder", "desk-1")
    assert journal.producer == f"desk-1.{journal.head.uuid[:8]}.1"
    assert (journal.jseq, journal.synced, set(journal.seqs.values())) == (0, 0, {0})
    assert journal.chapters("orders") == [Chapter(journal.producer, 1, 0)]
    journal.close()


def test_numbers_go_on(tmp_path: Path) -> None:
    """After a clean end numbers go on where they ended, under the same name."""
    journal = opened(tmp_path)
    put_many(journal, 5)
    producer = journal.producer
    journal.close()
    journal = opened(tmp_path)
    assert (journal.producer, journal.jseq, journal.synced) == (producer, 5, 5)
    assert journal.seqs["orders"] == journal.opened["orders"] == 5
    assert put(journal, b"next") == 6
    journal.close()


def test_an_entry_larger_than_a_segment(tmp_path: Path) -> None:
    """An entry that no segment has room for gets one of its size."""
    journal = opened(tmp_path)
    payloads = [b"x", b"y" * 100_000, b"z"]
    for payload in payloads:
        put(journal, payload)
    assert list(held(journal)[journal.producer].values()) == payloads
    journal.close()


# What Redis has confirmed.


def test_claims(tmp_path: Path) -> None:
    """A session is claimed from its claim on; the next one is not, and knows what was verified."""
    journal = opened(tmp_path)
    assert (journal.is_claimed, journal.head.verified) == (False, {})
    put_many(journal, 4)
    journal.claim()
    put_many(journal, 3)
    assert journal.is_claimed
    journal.close()
    journal = opened(tmp_path)
    assert not journal.is_claimed
    assert journal.head.verified["orders"] == 7
    put_many(journal, 2)
    journal.close()
    journal = opened(tmp_path)
    assert (journal.seqs["orders"], journal.head.verified["orders"]) == (9, 7)
    journal.close()


def test_a_claim_outlives_its_segment(tmp_path: Path) -> None:
    """A session stays claimed when the segment that the claim stood in is gone."""
    journal = opened(tmp_path, limits=Limits(segment_bytes=16_384, retain_ns=0))
    journal.claim()
    put_many(journal, 300)
    journal.acknowledge(journal.producer, "orders", 150)
    journal.tidy()
    assert journal.chapters("orders")[0].first > 1
    assert journal.is_claimed
    journal.close()
    journal = opened(tmp_path, limits=Limits(segment_bytes=16_384, retain_ns=0))
    assert journal.head.verified.get("orders") == 300
    journal.close()


def test_run_id(tmp_path: Path) -> None:
    """The Redis that was whole is remembered."""
    journal = opened(tmp_path)
    assert journal.run_id is None
    journal.run_id = "4f5e"
    journal.close()
    journal = opened(tmp_path)
    assert journal.run_id == "4f5e"
    journal.close()

"""Under which name a journal goes on: no number is ever given twice under one."""

import shutil
from pathlib import Path

from bridge.journal import Limits
from tests.bridge.journals import count, held, opened, put, put_many


def test_a_copied_folder(tmp_path: Path) -> None:
    """A copy gets a uuid of its own; what it holds stays readable under the former name."""
    journal = opened(tmp_path / "original")
    original, payloads = journal.producer, put_many(journal, 200)
    journal.close()
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    copy, first = opened(tmp_path / "copy"), opened(tmp_path / "original")
    assert first.producer == original
    assert (copy.producer, copy.seqs["orders"]) == (f"A.{copy.head.uuid[:8]}.2", 0)
    assert copy.head.uuid != first.head.uuid
    assert put(copy, b"new") == 1
    assert held(copy)[original] == dict(enumerate(payloads, start=1))
    assert [each.producer for each in copy.chapters("orders")] == [original, copy.producer]
    copy.close()
    first.close()


def test_a_copy_of_a_running_journal(tmp_path: Path) -> None:
    """So does a copy that was made while the original was written."""
    journal = opened(tmp_path / "original")
    put_many(journal, 100)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    put_many(journal, 100)
    copy = opened(tmp_path / "copy")
    assert copy.producer != journal.producer
    assert (count(copy), count(journal)) == (100, 200)
    copy.close()
    journal.close()


def test_a_moved_folder(tmp_path: Path) -> None:
    """A folder that was renamed is the same journal."""
    journal = opened(tmp_path / "here")
    put_many(journal, 5)
    producer = journal.producer
    journal.close()
    (tmp_path / "here").rename(tmp_path / "there")
    journal = opened(tmp_path / "there")
    assert (journal.producer, journal.seqs["orders"]) == (producer, 5)
    journal.close()


def test_the_identity_is_gone(tmp_path: Path) -> None:
    """Without its identity a folder is taken for a copy."""
    journal = opened(tmp_path)
    put_many(journal, 5)
    producer = journal.producer
    journal.close()
    (tmp_path / "journal.json").write_text("{")
    journal = opened(tmp_path)
    assert (journal.producer != producer, journal.seqs["orders"], count(journal)) == (True, 0, 5)
    journal.close()


def test_another_name_and_back(tmp_path: Path) -> None:
    """A producer id that is changed and changed back begins a new incarnation each time."""
    names = []
    for producer_id in ("A", "B", "A", "A", "B"):
        journal = opened(tmp_path, producer_id)
        names.append((journal.producer.partition(".")[0], journal.head.incarnation))
        put_many(journal, 3)
        journal.close()
    assert names == [("A", 1), ("B", 2), ("A", 3), ("A", 3), ("B", 4)]


def test_another_name_and_back_much_later(tmp_path: Path) -> None:
    """Also when nothing of the former time is kept any more."""
    limits = Limits(segment_bytes=16_384, retain_ns=0)
    journal = opened(tmp_path, "A", limits)
    put_many(journal, 3)
    former = journal.producer
    journal.close()
    journal = opened(tmp_path, "B", limits)
    journal.acknowledge(former, "orders", 3)
    journal.tidy()
    journal.close()
    journal = opened(tmp_path, "A", limits)
    assert journal.producer != former
    journal.close()

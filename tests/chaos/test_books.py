"""What is planted in a ledger or an archive is found: the rows of the readers can fail."""

import contextlib
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from bridge.archive import Archive
from bridge.ledger import Ledger
from bridge.reading import Item
from tests.bridge.archives import foreign
from tests.bridge.fills import fill
from tests.chaos import books, checker
from tests.chaos.record import FIELDS, Event, Values
from tests.chaos.rig import KEYS, PRODUCER
from tests.chaos.stories import Stories, Story, Told, counts

OURS = f"{PRODUCER}.0a1b2c3d.1"
SOLD = {"side": "SELL", "qty": "0.4"}
FILLS = [fill(seq, producer=OURS, **(SOLD if seq == 2 else {})) for seq in range(1, 5)]


def keep(folder: Path, archived: Sequence[Item], booked: Sequence[Item]) -> None:
    """Have an archive and a ledger take entries."""
    archive = Archive.open(books.directory(folder), KEYS)
    archive.take(archived, {})
    archive.close()
    ledger = Ledger.open(books.ledger(folder), KEYS)
    ledger.take(booked, {})
    ledger.close()


def emitted(items: Sequence[Item]) -> list[Event]:
    """Return the record of these fills."""
    values = [_values(item) for item in items]
    return [Event(0, told[0], (("fills", told),)) for told in values]


def _values(item: Item) -> Values:
    texts = [each.decode() for each in item.fields]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    return tuple([fields[name] for name in FIELDS["fills"]])


def judged(folder: Path) -> tuple[checker.Verdict, checker.Verdict]:
    """Return the verdicts on archive and ledger of what has emitted `FILLS`."""
    entries = books.archived(books.directory(folder))
    of_ledger = {"fills": books.booked(books.ledger(folder), entries["fills"])}
    records = [emitted(FILLS)]
    return checker.check(records, entries), checker.check(records, of_ledger)


def check_books(folder: Path, **counts: Decimal) -> None:
    books.check_books(folder, books.archived(books.directory(folder))["fills"], counts)


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    """An archive and a ledger of all that was emitted are clean, and the position is right."""
    keep(tmp_path, FILLS, FILLS)
    assert [each.is_clean for each in judged(tmp_path)] == [True, True]
    check_books(tmp_path)


def test_an_entry_that_was_skipped(tmp_path: Path) -> None:
    """It is lost, and its number is a gap, from whichever of the two it is missing."""
    keep(tmp_path, [*FILLS[:1], *FILLS[2:]], [*FILLS[:2], *FILLS[3:]])
    assert [(each.lost, each.gaps) for each in judged(tmp_path)] == [(1, 1), (1, 1)]


def test_an_entry_that_was_taken_twice(tmp_path: Path) -> None:
    """It is doubled in the archive; the ledger, which knows it by its id, has noted it."""
    same = {"fill_id": f"{OURS}-f4", "event_id": f"{OURS}-e4", "trade_id": "4"}
    same["ts_ns"] = _values(FILLS[3])[FIELDS["fills"].index("ts_ns")]
    same |= {"cl_ord_id": f"{OURS}-o4", "venue_order_id": f"{OURS}-v4"}
    again = fill(5, producer=OURS, **same)
    keep(tmp_path, [*FILLS, again], FILLS)
    assert [each.doubled for each in judged(tmp_path)] == [1, 0]
    with pytest.raises(AssertionError, match="told again"):
        keep(tmp_path, [], [again])
        judged(tmp_path)


def test_somebody_elses_entry_twice(tmp_path: Path) -> None:
    """What a stranger wrote once is archived once."""
    one, other = foreign("1-1", status="X-1"), foreign("2-1", status="X-2")
    keep(tmp_path, [one, other], [])
    assert not books.strangers_doubled(books.directory(tmp_path))
    keep(tmp_path, [one._replace(id="3-1")], [])
    assert len(books.strangers_doubled(books.directory(tmp_path))) == 1


def test_a_position_that_is_not_right(tmp_path: Path) -> None:
    """What a fill counts for decides, not what it says."""
    keep(tmp_path, FILLS, FILLS)
    with pytest.raises(AssertionError, match=r"position is 2\.6, and 1\.6 is right"):
        check_books(tmp_path, **{"4": Decimal(0)})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE lot SET qty = '7'", "not what its fills come to"),
        ("UPDATE total SET pnl = '7'", "not what its fills come to"),
    ],
)
def test_books_that_are_not_right(tmp_path: Path, change: str, found: str) -> None:
    """Lots and sums are compared with what the fills come to."""
    keep(tmp_path, FILLS, FILLS)
    with contextlib.closing(sqlite3.connect(books.ledger(tmp_path))) as database, database:
        database.execute(change)
    with pytest.raises(AssertionError, match=found):
        check_books(tmp_path)


def test_a_ledger_that_lacks_a_fill(tmp_path: Path) -> None:
    """It is right in itself, and not what a new ledger makes of the archive."""
    keep(tmp_path, FILLS, FILLS[:3])
    with pytest.raises(AssertionError, match="a new one makes of the archive"):
        check_books(tmp_path)


def test_stories(tmp_path: Path) -> None:
    """What was told is not told again by the next process; what counts is known before."""
    path = tmp_path / "stories"
    fills = [Told("a", "3", 1, True, "-3"), Told("b", "3", 1, False, "0")]
    first = Stories(path)
    assert first.unfinished == []
    first.begin(Story("O-1", "SELL", fills))
    first.tell(fills[0])
    assert Stories(path).unfinished == [Story("O-1", "SELL", fills[1:])]
    assert counts(path) == {"a": Decimal(-3), "b": Decimal(0)}
    Stories(path).tell(fills[1])
    assert Stories(path).unfinished == []

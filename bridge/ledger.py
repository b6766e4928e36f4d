"""The ledger: fills and funding, booked first in, first out, in SQLite.

What is read and what comes of it stand in one transaction: a kill at any moment loses nothing and
doubles nothing. A fill is booked once, whoever tells it and however often.
"""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final, Self

from bridge import ledger_tables
from bridge.core.bookings import State
from bridge.core.fifo import ZERO
from bridge.core.fills import (
    INTEGER,
    INTEGER_MAX,
    NUMBER,
    Fill,
    cost_of,
    fill_of,
    payment_of,
    pays,
)
from bridge.core.spans import Spans
from bridge.ledger_books import Books, Kept
from bridge.ledger_entries import Conflict, check_same, fields_of, in_time, raw
from bridge.ledger_tables import FILL_FIELDS, FUNDING_FIELDS
from bridge.ledger_totals import Sums, add, day_of
from bridge.ledger_view import UNPUBLISHED, LedgerView
from bridge.reading import Dead, Item, Place, Taken, digest_of

FILLS: Final = "fills"
FUNDING: Final = "exec_funding"
NAMES: Final = ("account", "venue", "symbol", "ccy")
# The database, what was committed last, and the lock.
FILES: Final = ("", "-wal", ".lock")

KNOWN_FILL: Final = """
SELECT account, venue, symbol, side, qty, price, fee, fee_ccy, producer, seq, id FROM fill
WHERE fill_id = ?
"""
KNOWN_FOREIGN: Final = "SELECT 1 FROM fill WHERE fill_id = ? AND digest = ? AND producer = ''"
KNOWN_FUNDING: Final = "SELECT 1 FROM funding WHERE producer = '' AND id = ? AND digest = ?"
KNOWN_DEAD: Final = "SELECT 1 FROM dead WHERE producer = '' AND kind = ? AND id = ? AND digest = ?"
SAVE_FILL: Final = f"""
INSERT INTO fill (book, state, cost, cost_ccy, pays, producer, seq, id, digest,
    {", ".join(FILL_FIELDS)})
VALUES ({", ".join("?" * (9 + len(FILL_FIELDS)))})
"""
SAVE_FUNDING: Final = f"""
INSERT INTO funding (producer, seq, id, digest, {", ".join(FUNDING_FIELDS)})
VALUES ({", ".join("?" * (4 + len(FUNDING_FIELDS)))})
"""
SAVE_DEAD: Final = """
INSERT INTO dead (kind, producer, seq, id, digest, error, fields, is_conflict)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


class Ledger(LedgerView):
    """A sink of fills and funding. All of it is called from one thread."""

    name = "ledger"

    def __init__(self, database: sqlite3.Connection, lock: int, path: Path) -> None:
        super().__init__(database)
        self._lock = lock
        self._is_loaded = True
        self._books = Books(database)
        self._taken: dict[tuple[str, str], Spans] = {}
        self._places: dict[str, Place] = {}
        self._load()
        # What is open; SQLite would go on writing to files that stand nowhere any more.
        files = [Path(f"{path}{end}") for end in FILES]
        self._files = {file: file.stat() for file in files}

    @classmethod
    def open(cls, path: Path, streams: Mapping[str, str]) -> Self:
        """Open the ledger of these streams (kind -> name), made where there is none.

        Raises Exit: TAKEN when another process writes to it, BAD_DATA when it is damaged,
        CONFIGURATION when it is that of other streams. Raises OSError, sqlite3.OperationalError.
        """
        with contextlib.ExitStack() as held:
            lock = ledger_tables.lock(path)
            held.callback(os.close, lock)
            database = ledger_tables.opened(path, streams)
            held.callback(database.close)
            try:
                ledger = cls(database, lock, path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                raise ledger_tables.damaged(path, error) from None
            held.pop_all()
            return ledger

    @property
    def taken(self) -> Taken:
        """What was taken, by (kind, producer). Raises sqlite3.Error."""
        self._refresh()
        return self._taken

    @property
    def places(self) -> Mapping[str, Place]:
        """By kind, where to go on reading. Raises sqlite3.Error."""
        self._refresh()
        return self._places

    def close(self) -> None:
        """Let go of the file and of its lock; harmless when repeated."""
        super().close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def new_ones(self, foreign: Sequence[Item]) -> Sequence[Item]:
        """Return those of somebody else's entries that were not taken yet.

        Fills are known by their fill_id, funding by its stream id and content.
        """
        return [item for item in foreign if not self._is_known(item)]

    def take(self, items: Sequence[Item], places: Mapping[str, Place]) -> Sequence[Dead]:
        """Book entries and note the places, in one transaction.

        What was taken before is passed over. Returns what cannot be used. After an error nothing
        of it has happened, or all of it, in a file that was removed. Raises sqlite3.Error, OSError.
        """
        self._refresh()
        try:
            self._check()
            self._database.execute("BEGIN IMMEDIATE")
            dead = self._book(items)
            for kind, producer in {(item.kind, item.producer) for item in items}:
                self._save_taken(kind, producer)
            self._database.executemany(
                "INSERT OR REPLACE INTO place VALUES (?, ?, ?)",
                [(kind, *place) for kind, place in places.items()],
            )
            self._database.execute("COMMIT")
            self._check()
        except BaseException:
            self._is_loaded = False
            with contextlib.suppress(sqlite3.Error):  # the next one tries again
                self._roll_back()
            raise
        self._places.update(places)
        return dead

    @property
    def open_lots(self) -> int:
        """How many lots are open."""
        return self._books.open_lots

    @property
    def sums(self) -> Mapping[str, tuple[Decimal, Decimal, Decimal]]:
        """By currency: price PnL, fees, funding; from memory."""
        return self._books.sums

    def unpublished_dead(self) -> list[Dead]:
        """Return what could not be used, and was not marked yet."""
        return list(self.dead(UNPUBLISHED))

    def mark_published(self) -> None:
        """Mark all that could not be used up to now as told. Raises sqlite3.Error."""
        self._database.execute("UPDATE dead SET is_published = 1 WHERE is_published = 0")

    def _refresh(self) -> None:
        """Have memory as the tables are, after an error."""
        if not self._is_loaded:
            self._roll_back()
            self._load()

    def _check(self) -> None:
        """Raise OSError when what is open is not what stands there: removed, or replaced."""
        for path, opened in self._files.items():
            if not os.path.samestat(path.stat(), opened):
                raise OSError(errno.ESTALE, "it was replaced by another file", str(path))

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _load(self) -> None:
        """Take from the tables what is kept in memory."""
        self._books.load()
        self._taken, self._places = self.taken_now(), self.places_now()
        self._is_loaded = True

    def _book(self, items: Sequence[Item]) -> list[Dead]:
        """Write what is new and book it; return what cannot be used."""
        fills, dead, sums = list[tuple[Fill, Kept]](), list[Dead](), Sums()
        for item in self._new(items):
            try:
                if item.kind == FILLS:
                    fills += self._fill(item)
                else:
                    self._funding(item, sums)
            except (ValueError, ArithmeticError) as error:
                dead.append(self._bury(item, error))
        for fill, kept in in_time(fills):
            self._books.take(fill, kept)
        self._books.save(sums)
        return dead

    def _new(self, items: Sequence[Item]) -> Iterator[Item]:
        """Yield what was not taken before, also not in this batch; note that it is taken."""
        for item in items:
            if item.producer and item.seq <= INTEGER_MAX:
                spans = self._taken.setdefault((item.kind, item.producer), Spans())
                if item.seq not in spans:
                    spans.add(item.seq)
                    yield item
            elif not self._is_known(item):
                yield item._replace(producer="", seq=0)  # nobody counts beyond INTEGER_MAX

    def _is_known(self, item: Item) -> bool:
        """Return whether somebody else's entry was taken before."""
        digest = digest_of(item.fields)
        if self._database.execute(KNOWN_DEAD, (item.kind, item.id, digest)).fetchone():
            return True
        if item.kind == FUNDING:
            known = self._database.execute(KNOWN_FUNDING, (item.id, digest))
        else:
            known = self._database.execute(KNOWN_FOREIGN, (raw(item, b"fill_id"), digest))
        return known.fetchone() is not None

    def _fill(self, item: Item) -> list[tuple[Fill, Kept]]:
        """Write a fill; return it with its book. Nothing comes of one that is known by its id.

        Raises ValueError, ArithmeticError when it cannot be booked.
        """
        fields = fields_of(item)
        fill = fill_of(fields, item.producer, item.seq)
        cost, is_paying = cost_of(fill), pays(fill) is not None
        if is_paying:
            payment_of(fill)
        digest = digest_of(item.fields)
        if (known := self._database.execute(KNOWN_FILL, (fill.fill_id,)).fetchone()) is not None:
            check_same(fill, known)
            if item.producer:
                told = (item.producer, item.seq, item.id, digest, fill.fill_id)
                self._database.execute("INSERT INTO duplicate VALUES (?, ?, ?, ?, ?)", told)
            return []
        kept = self._books.book_of(fill)
        worth = None if cost is not None and not cost.is_priced else cost.amount if cost else ZERO
        self._database.execute(
            SAVE_FILL,
            (
                kept.n,
                State.COUNTED.value,
                None if worth is None else f"{worth:f}",
                cost.ccy if cost else "",
                is_paying,
                item.producer,
                item.seq,
                item.id,
                digest,
                *[fields.get(name, "") for name in FILL_FIELDS],
            ),
        )
        return [(fill, kept)]

    def _funding(self, item: Item, sums: Sums) -> None:
        """Write a settlement of funding. Raises ValueError when it cannot be booked."""
        fields = fields_of(item)
        for name in NAMES:
            if not fields.get(name):
                raise ValueError(f"{name} is missing")
        for name, pattern in (("amount", NUMBER), ("ts_ns", INTEGER)):
            if not pattern.fullmatch(fields.get(name, "")):
                raise ValueError(f"{name} {fields.get(name, '')!r} is not a number")
        account, venue, symbol, ccy = [fields[name] for name in NAMES]
        key = (account, venue, symbol, "", day_of(int(fields["ts_ns"])), ccy)
        self._database.execute(
            SAVE_FUNDING,
            (
                item.producer,
                item.seq,
                item.id,
                digest_of(item.fields),
                *[fields.get(name, "") for name in FUNDING_FIELDS],
            ),
        )
        add(sums, key, funding=Decimal(fields["amount"]))

    def _bury(self, item: Item, error: Exception) -> Dead:
        """Write down what cannot be used."""
        dead = Dead(item.kind, item.id, str(error) or type(error).__name__, item.fields)
        self._database.execute(
            SAVE_DEAD,
            (
                *(item.kind, item.producer, item.seq, item.id, digest_of(item.fields)),
                *(dead.error, ledger_tables.pack(item.fields), isinstance(error, Conflict)),
            ),
        )
        return dead

    def _save_taken(self, kind: str, producer: str) -> None:
        runs = self._taken.get((kind, producer), Spans())
        self._database.execute(
            "DELETE FROM taken WHERE kind = ? AND producer = ?", (kind, producer)
        )
        self._database.executemany(
            "INSERT INTO taken VALUES (?, ?, ?, ?)", [(kind, producer, *run) for run in runs]
        )

"""What a ledger holds, read from its tables: open lots, gains, totals, and what is not settled."""

import sqlite3
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from bridge import ledger_state, ledger_tables
from bridge.core import bookings
from bridge.core.fifo import CONTEXT
from bridge.core.spans import Spans
from bridge.ledger_state import State
from bridge.reading import Dead, Place

COUNTED: Final = bookings.State.COUNTED.value
WAITING: Final = bookings.State.WAITING.value
REPLACED: Final = bookings.State.REPLACED.value


class Total(NamedTuple):
    """What was realized in a currency, by closing strategy and UTC day; each apart.

    `pnl` is before fees; `fees` are costs, a rebate is negative; `funding` is what was received.
    """

    account: str
    venue: str
    symbol: str
    strategy: str
    day: str
    ccy: str
    pnl: Decimal
    fees: Decimal
    funding: Decimal


class OpenLot(NamedTuple):
    """What is left of a fill: signed quantity, its value and its share of the fee."""

    account: str
    venue: str
    symbol: str
    strategy: str
    fill_id: str
    ts_ns: int
    qty: Decimal
    price: Decimal
    value: Decimal
    ccy: str
    fee: Decimal
    fee_ccy: str


class Realized(NamedTuple):
    """A gain: of which lot, by which fill. Fees are the shares of this quantity."""

    account: str
    venue: str
    symbol: str
    strategy: str
    lot: str
    fill_id: str
    opened_ns: int
    closed_ns: int
    qty: Decimal
    open_price: Decimal
    close_price: Decimal
    pnl: Decimal
    ccy: str
    open_fee: Decimal
    open_fee_ccy: str
    close_fee: Decimal
    close_fee_ccy: str
    is_payment: bool


class Open(NamedTuple):
    """Something of a book that is not settled: fees without a price, or without a lot."""

    account: str
    venue: str
    symbol: str
    ccy: str
    amount: Decimal
    fills: int


class Unbooked(NamedTuple):
    """A fill made up in reconciliation that was replaced, or one of the venue's that waits."""

    account: str
    venue: str
    symbol: str
    state: str
    fill_id: str
    qty: Decimal
    price: Decimal


class Entry(NamedTuple):
    """An entry as it was taken; `seq` is 0 for somebody else's. `values` are those of the kind's
    fields, in the order of the contract; empty when it was not booked."""

    producer: str
    seq: int
    id: str
    digest: bytes
    values: Sequence[bytes]


class Counts(NamedTuple):
    """How many there are. `fills` are all in the fill table, also those that do not count;
    `unlotted` counts books; `dead` has all, `own_dead` those of ours, `conflicts` those with a
    known fill_id."""

    fills: int
    funding: int
    provisional: int
    waiting: int
    replaced: int
    unpriced: int
    unlotted: int
    duplicates: int
    dead: int
    own_dead: int
    conflicts: int


DEAD: Final = "SELECT kind, id, error, fields FROM dead"
# Which of the dead.
UNPUBLISHED: Final = "is_published = 0"
CONFLICT: Final = "is_conflict"
NO_CONFLICT: Final = "NOT is_conflict"
BOOK: Final = "b.account, b.venue, b.symbol"
SETTLE: Final = "CASE b.inverse WHEN 1 THEN b.base ELSE b.quote END"
LOTS: Final = f"""
SELECT {BOOK}, f.strategy_id, l.fill_id, l.ts_ns, l.qty, l.price, l.value, {SETTLE}, l.fee,
    f.fee_ccy
FROM lot l JOIN book b ON b.n = l.book JOIN fill f ON f.fill_id = l.fill_id
ORDER BY {BOOK}, l.n
"""
GAINS: Final = f"""
SELECT {BOOK}, c.strategy_id, g.lot, g.fill_id, g.opened_ns, g.closed_ns, g.qty, g.open_price,
    g.close_price, g.pnl, {SETTLE}, g.open_fee, o.fee_ccy, g.close_fee, c.fee_ccy, g.is_payment
FROM gain g JOIN book b ON b.n = g.book
    JOIN fill o ON o.fill_id = g.lot JOIN fill c ON c.fill_id = g.fill_id
ORDER BY {BOOK}, g.n
"""
TOTALS: Final = """
SELECT account, venue, symbol, strategy, day, ccy, pnl, fees, funding FROM total
ORDER BY account, venue, symbol, strategy, day, ccy
"""
UNPRICED_BY: Final = (
    "SELECT producer, count(*) FROM fill WHERE cost IS NULL AND state = 'counted' GROUP BY producer"
)
UNPRICED: Final = (
    "SELECT account, venue, symbol, fee_ccy, fee FROM fill WHERE cost IS NULL AND state = 'counted'"
)
UNLOTTED: Final = f"""
SELECT {BOOK}, base, unlotted, 0 FROM book b WHERE unlotted != '0' ORDER BY {BOOK}
"""
UNBOOKED: Final = f"""
SELECT account, venue, symbol, state, fill_id, qty, price FROM fill WHERE state != '{COUNTED}'
ORDER BY account, venue, symbol, n
"""
# What was booked, with its fields as they are kept, and what was not.
BOOKED: Final = {
    kind: f"""
SELECT producer, seq, id, digest, {", ".join([f"CAST({name} AS BLOB)" for name in names])}
FROM {table}
"""
    for kind, table, names in (
        ("fills", "fill", ledger_tables.FILL_FIELDS),
        ("exec_funding", "funding", ledger_tables.FUNDING_FIELDS),
    )
}
NOT_BOOKED: Final = """
SELECT producer, seq, id, digest FROM dead WHERE kind = ? AND producer != ''
"""
DUPLICATES: Final = "SELECT producer, seq, id, digest FROM duplicate"
COUNTS: Final = f"""
SELECT (SELECT ifnull(max(n), 0) FROM fill), (SELECT ifnull(max(n), 0) FROM funding),
    (SELECT count(*) FROM fill WHERE provisional = '1'),
    (SELECT count(*) FROM fill WHERE state != '{COUNTED}' AND state = '{WAITING}'),
    (SELECT count(*) FROM fill WHERE state != '{COUNTED}' AND state = '{REPLACED}'),
    (SELECT count(*) FROM fill WHERE cost IS NULL AND state = '{COUNTED}'),
    (SELECT count(*) FROM book WHERE unlotted != '0'),
    (SELECT ifnull(max(rowid), 0) FROM duplicate), (SELECT ifnull(max(n), 0) FROM dead),
    (SELECT count(*) FROM dead WHERE producer != ''), (SELECT count(*) FROM dead WHERE is_conflict)
"""


class LedgerView:
    """A ledger to read from, also while another process writes to it. One thread at a time."""

    kinds: tuple[str, ...] = ("fills", "exec_funding")

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """Open the ledger; nothing is changed. Raises Exit (BAD_DATA) where there is none."""
        return cls(ledger_tables.opened_read_only(path))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def freeze(self) -> None:
        """Have everything that is read from now on be of one moment. Not for who writes."""
        self._database.execute("BEGIN")

    def lots(self) -> Iterator[OpenLot]:
        """Yield the open lots, by book, oldest first."""
        for row in self._database.execute(LOTS):
            yield OpenLot._make(_typed(OpenLot, row))

    def gains(self) -> Iterator[Realized]:
        """Yield every gain, by book, in the order they were made."""
        for row in self._database.execute(GAINS):
            yield Realized._make(_typed(Realized, row))

    def totals(self) -> Iterator[Total]:
        """Yield what was realized."""
        for row in self._database.execute(TOTALS):
            total = Total._make(_typed(Total, row))
            if total.pnl or total.fees or total.funding:
                yield total

    def unpriced(self) -> list[Open]:
        """Return the fees that have no price, summed up by book and currency."""
        found: dict[tuple[str, str, str, str], Open] = {}
        for *names, fee in self._database.execute(UNPRICED):
            key = (names[0], names[1], names[2], names[3])
            before = found.get(key, Open(*key, Decimal(0), 0))
            amount = CONTEXT.add(before.amount, Decimal(fee))
            found[key] = before._replace(amount=amount, fills=before.fills + 1)
        return [found[key] for key in sorted(found)]

    def unpriced_by_producer(self) -> dict[str, int]:
        """Return how many fills have a fee without a price, by who told them."""
        return dict(self._database.execute(UNPRICED_BY).fetchall())

    def unlotted(self) -> list[Open]:
        """Return what was paid in fees out of books that did not hold it."""
        return [Open._make(_typed(Open, row)) for row in self._database.execute(UNLOTTED)]

    def unbooked(self) -> Iterator[Unbooked]:
        """Yield the fills that wait or were replaced."""
        for row in self._database.execute(UNBOOKED):
            yield Unbooked._make(_typed(Unbooked, row))

    def dead(self, which: str = "") -> Iterator[Dead]:
        """Yield what could not be used, in the order it came; `which` is a condition on it."""
        where = f"WHERE {which}" if which else ""
        rows = self._database.execute(f"{DEAD} {where} ORDER BY n")
        for kind, entry_id, error, fields in rows:
            yield Dead(kind, entry_id, error, ledger_tables.unpack(fields))

    def counts(self) -> Counts:
        """Return how many there are."""
        [row] = self._database.execute(COUNTS).fetchall()
        return Counts(*row)

    def digests(self, kind: str) -> Iterator[tuple[str, int, bytes]]:
        """Yield (producer, seq, digest) of all that was taken, rising; not of somebody else's."""
        own = [each for each in self.entries(kind) if each.producer]
        yield from sorted([(each.producer, each.seq, each.digest) for each in own])

    def entries(self, kind: str) -> Iterator[Entry]:
        """Yield all that was taken, in any order; what was not booked only when it is ours."""
        for producer, seq, entry_id, digest, *values in self._database.execute(BOOKED[kind]):
            yield Entry(producer, seq, entry_id, digest, values)
        for row in self._database.execute(NOT_BOOKED, (kind,)):
            yield Entry._make((*row, ()))
        for row in self._database.execute(DUPLICATES) if kind == "fills" else ():
            yield Entry._make((*row, ()))

    def state(self) -> State:
        """Return what the tables say, to be compared with `rebuilt`."""
        return ledger_state.state(self._database)

    def rebuilt(self) -> State:
        """Return what comes of the fill and funding tables alone, booked from scratch."""
        return ledger_state.rebuilt(self._database)

    def is_consistent(self) -> bool:
        """Return whether `state` and `rebuilt` are the same, one book at a time in memory."""
        return ledger_state.is_consistent(self._database)

    def taken_now(self) -> dict[tuple[str, str], Spans]:
        """Return what was taken by now, by (kind, producer)."""
        found: dict[tuple[str, str], Spans] = {}
        for kind, producer, first, last in self._database.execute("SELECT * FROM taken"):
            found.setdefault((kind, producer), Spans()).add(first, last)
        return found

    def places_now(self) -> dict[str, Place]:
        """Return by kind where to go on reading."""
        rows = self._database.execute("SELECT kind, id, digest FROM place")
        return {kind: Place(entry_id, digest) for kind, entry_id, digest in rows}


def _typed(record: type[NamedTuple], row: Sequence[Any]) -> Iterator[Any]:
    """Yield the values of a row, numbers and flags as the record has them."""
    for kind, value in zip(record.__annotations__.values(), row, strict=True):
        yield kind(value) if kind in (Decimal, bool) else value

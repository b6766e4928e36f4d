"""The books of the ledger: in memory their open lots, in the tables everything they ever did.

A fill is put on top of its book. Where it does not belong on top (it is late, or replaces one that
was made up in reconciliation) the book is built again from the fill table.
"""

import contextlib
import gc
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from bridge.core import bookings
from bridge.core.bookings import Front, Key, State
from bridge.core.fifo import CONTEXT, ZERO, Book, Gain, Lot, Terms, Trade
from bridge.core.fills import (
    BookKey,
    Cost,
    Fill,
    Pair,
    cost_of,
    holds,
    key_of,
    payment_of,
    pays,
    terms_of,
    trade_of,
)
from bridge.ledger_fills import OF_BOOK, OF_PAIR, fills_of
from bridge.ledger_totals import Sums, save_totals, sum_up

SAVE_BOOK: Final = "UPDATE book SET unlotted = ?, front = ? WHERE n = ?"
SAVE_LOT: Final = """
INSERT INTO lot (book, fill_id, ts_ns, qty, price, value, fee) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (book, fill_id) DO UPDATE
    SET qty = excluded.qty, value = excluded.value, fee = excluded.fee
"""
TOTALS_OF: Final = """
SELECT ccy, pnl, fees FROM total WHERE account = ? AND venue = ? AND symbol = ?
"""
SAVE_GAIN: Final = """
INSERT INTO gain (book, lot, fill_id, opened_ns, closed_ns, qty, open_price, close_price, pnl,
    open_fee, close_fee, is_payment)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(slots=True)
class Kept:
    """A book in memory, and what the batch at hand has changed about it."""

    n: int
    key: BookKey
    book: Book
    front: Front
    pair: Pair | None
    is_late: bool = False
    gains: list[Gain] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    applied: dict[str, str] = field(default_factory=dict)  # fill id -> strategy

    def put(self, place: Key, fill: Fill, trade: Trade) -> None:
        """Take a fill, or what it pays, on top."""
        self.gains += self.book.apply(trade)
        self.front.put(place, fill)
        self.applied[fill.fill_id] = fill.strategy_id

    def settled(self) -> None:
        """Forget what the batch has changed."""
        self.is_late, self.gains, self.costs, self.applied = False, [], [], {}


class Books:
    """All books: `load` them first, and after each transaction of `take` and `save` that failed."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._books: dict[BookKey, Kept] = {}
        self._holders: dict[Pair, list[Kept]] = {}
        self._touched: dict[int, Kept] = {}
        self._sums: dict[str, list[Decimal]] = {}

    def load(self) -> None:
        """Read the books and their open lots from the tables."""
        self._books, self._holders, self._touched, self._sums = {}, {}, {}, {}
        for ccy, *amounts in self._database.execute("SELECT ccy, pnl, fees, funding FROM total"):
            self._sum_up(ccy, map(Decimal, amounts))
        lots: dict[int, list[Lot]] = {}
        for n, fill_id, ts_ns, *numbers in self._database.execute(
            "SELECT book, fill_id, ts_ns, qty, price, value, fee FROM lot ORDER BY n"
        ):
            lots.setdefault(n, []).append(Lot(fill_id, ts_ns, *map(Decimal, numbers)))
        for n, account, venue, symbol, *rest in self._database.execute("SELECT * FROM book"):
            base, quote, multiplier, inverse, is_spot, unlotted, front = rest
            key = BookKey(account, venue, symbol)
            book = Book(
                Terms(base, quote, Decimal(multiplier), bool(inverse)),
                lots.get(n, ()),
                Decimal(unlotted),
            )
            pair = Pair(account, venue, base, quote) if is_spot else None
            self._keep(Kept(n, key, book, front_of(key, front), pair))

    @property
    def open_lots(self) -> int:
        """How many there are."""
        return sum([len(kept.book.lots) for kept in self._books.values()])

    @property
    def sums(self) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
        """By currency: price PnL, fees, funding."""
        return {ccy: (pnl, fees, funding) for ccy, (pnl, fees, funding) in self._sums.items()}

    def book_of(self, fill: Fill) -> Kept:
        """Return the book of a fill, made where there is none.

        Raises ValueError when the fill has other terms than its book.
        """
        key, terms = key_of(fill), terms_of(fill)
        known = self._books.get(key)
        if known is None:
            return self._make(key, terms, holds(fill))
        if known.book.terms != terms:
            raise ValueError(f"has other terms than its book: {_told(terms, known.book.terms)}")
        return known

    def take(self, fill: Fill, kept: Kept) -> None:
        """Take a new fill of a book. It must be in the fill table before `save`."""
        self._put(kept, fill, trade_of(fill))
        if not kept.is_late and (cost := cost_of(fill)):
            kept.costs.append(cost)
        pair = pays(fill)
        if pair is not None and (holder := self._holder(pair)) is not None:
            self._put(holder, fill, payment_of(fill))

    def save(self, sums: Sums) -> None:
        """Write what the batch has changed; `sums` is what else it adds to the totals."""
        late = [kept for kept in self._touched.values() if kept.is_late]
        with _collecting_nothing():
            while late:
                late += self._build(late.pop())
        for kept in self._touched.values():
            self._save(kept)
            settle, strategies = kept.book.terms.settle, kept.applied
            sum_up(sums, kept.key, settle, kept.gains, kept.costs, strategies)
            kept.settled()
        self._touched = {}
        save_totals(self._database, sums)
        for key, amounts in sums.items():
            self._sum_up(key[-1], amounts)

    def _sum_up(self, ccy: str, amounts: Iterable[Decimal]) -> None:
        sums = self._sums.setdefault(ccy, [ZERO, ZERO, ZERO])
        sums[:] = [CONTEXT.add(known, new) for known, new in zip(sums, amounts, strict=True)]

    def _keep(self, kept: Kept) -> None:
        self._books[kept.key] = kept
        if kept.pair is not None:
            holders = self._holders.setdefault(kept.pair, [])
            holders.append(kept)
            holders.sort(key=lambda each: each.key.symbol)

    def _holder(self, pair: Pair) -> Kept | None:
        """Return the book that fees are taken from: of several, the first by symbol."""
        holders = self._holders.get(pair)
        return holders[0] if holders else None

    def _make(self, key: BookKey, terms: Terms, pair: Pair | None) -> Kept:
        """Return a new book. It is built from the table: what paid from it may be there already."""
        base, quote, multiplier, inverse = terms
        front = Front(key)
        values = (
            *key,
            base,
            quote,
            f"{multiplier:f}",
            inverse,
            pair is not None,
            "0",
            text_of(front),
        )
        n = self._database.execute(
            "INSERT INTO book VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values
        ).lastrowid
        assert n is not None
        kept = Kept(n, key, Book(terms), front, pair)
        self._keep(kept)
        for each in (kept, *(self._holders[pair] if pair is not None else ())):
            each.is_late = True
            self._touched[each.n] = each
        return kept

    def _put(self, kept: Kept, fill: Fill, trade: Trade) -> None:
        self._touched[kept.n] = kept
        if kept.is_late:
            return
        place = kept.front.next(fill)
        if place is None:
            kept.is_late = True
        else:
            kept.put(place, fill, trade)

    def _build(self, kept: Kept) -> list[Kept]:
        """Build a book from the fill table; return the books that have to be built because of it:
        those from which fills pay that count no more, or again."""
        was, fills = {}, []
        for state, fill in fills_of(self._database, OF_BOOK, kept.n):
            was[fill.fill_id] = state
            fills.append(fill)
        payments, idle = self._payments(kept)
        booked = bookings.book(fills, payments, idle)
        kept.is_late, kept.book, kept.front = False, booked.book, booked.front
        kept.gains, kept.costs = booked.gains, booked.costs
        kept.applied = {fill.fill_id: fill.strategy_id for fill in (*fills, *payments)}
        changed = [
            fill
            for fill in fills
            if was[fill.fill_id] != booked.states.get(fill.fill_id, State.COUNTED)
        ]
        self._database.executemany(
            "UPDATE fill SET state = ? WHERE fill_id = ?",
            [
                (booked.states.get(fill.fill_id, State.COUNTED).value, fill.fill_id)
                for fill in changed
            ],
        )
        self._database.execute("DELETE FROM lot WHERE book = ?", (kept.n,))
        self._database.execute("DELETE FROM gain WHERE book = ?", (kept.n,))
        for ccy, *amounts in self._database.execute(TOTALS_OF, kept.key):
            self._sum_up(ccy, [*[Decimal(text).copy_negate() for text in amounts], ZERO])
        self._database.execute(
            "UPDATE total SET pnl = '0', fees = '0' WHERE account = ? AND venue = ? AND symbol = ?",
            kept.key,
        )
        return self._paid_by(changed)

    def _payments(self, kept: Kept) -> tuple[list[Fill], set[str]]:
        """Return the fills of other books that pay from this one, and which do not count."""
        if kept.pair is None or self._holder(kept.pair) is not kept:
            return [], set()
        found = list(fills_of(self._database, OF_PAIR, *kept.pair))
        idle = {fill.fill_id for state, fill in found if state != State.COUNTED}
        return [fill for _, fill in found], idle

    def _paid_by(self, fills: Sequence[Fill]) -> list[Kept]:
        found: dict[int, Kept] = {}
        for fill in fills:
            pair = pays(fill)
            if pair is not None and (holder := self._holder(pair)) is not None:
                found[holder.n] = self._touched[holder.n] = holder
        return list(found.values())

    def _save(self, kept: Kept) -> None:
        """Write a book: the oldest lot when something was taken from it, and those on top that are
        new. What closed in between is gone."""
        lots, changed = kept.book.lots, list[Lot]()
        closed = dict.fromkeys([gain.lot for gain in kept.gains])
        for lot in reversed(lots):
            if lot.fill_id not in kept.applied:
                break
            changed.append(lot)
        if lots and len(changed) < len(lots) and lots[0].fill_id in closed:
            changed.append(lots[0])
        for lot in changed:
            closed.pop(lot.fill_id, None)
        self._database.executemany(
            "DELETE FROM lot WHERE book = ? AND fill_id = ?", [(kept.n, each) for each in closed]
        )
        self._database.executemany(
            SAVE_LOT,
            [
                (kept.n, *lot[:2], *[f"{number:f}" for number in lot[2:]])
                for lot in reversed(changed)
            ],
        )
        self._database.executemany(SAVE_GAIN, [_row(kept.n, gain) for gain in kept.gains])
        values = (f"{kept.book.unlotted:f}", text_of(kept.front), kept.n)
        self._database.execute(SAVE_BOOK, values)


@contextlib.contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Keep the garbage collector out of what makes many objects and no cycles: it stops the whole
    process, and trading with it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def front_of(key: BookKey, text: str) -> Front:
    """Return the front that `text_of` wrote."""
    last, told, open_orders = json.loads(text)
    return Front(
        key,
        Key(*last) if last else None,
        {producer: (seq, at_ns) for producer, seq, at_ns in told},
        {(order, side): ts_ns for order, side, ts_ns in open_orders},
    )


def text_of(front: Front) -> str:
    """Return a front as text."""
    told = [(producer, *at) for producer, at in front.told.items()]
    open_orders = [(*order, ts_ns) for order, ts_ns in front.open.items()]
    return json.dumps([front.last, told, open_orders])


def _row(n: int, gain: Gain) -> tuple[object, ...]:
    lot, fill_id, opened_ns, closed_ns, *numbers, is_payment = gain
    return (n, lot, fill_id, opened_ns, closed_ns, *[f"{each:f}" for each in numbers], is_payment)


def _told(terms: Terms, known: Terms) -> str:
    differing = [
        f"{name} {said!s} instead of {wanted!s}"
        for name, said, wanted in zip(Terms._fields, terms, known, strict=True)
        if said != wanted
    ]
    return ", ".join(differing)

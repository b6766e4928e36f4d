"""What the ledger holds, as the ops page shows it: open positions, their lots, the day's gain."""

import contextlib
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from bridge import ledger_tables
from bridge.core.fifo import CONTEXT, ZERO, Terms, divided
from bridge.core.limits import DOLLARS
from bridge.ledger_totals import day_of
from bridge.ledger_view import LedgerView

LOTS_MAX: Final = 20
POSITIONS_MAX: Final = 100
# An average has so many digits more than the prices it was made from.
DIGITS_MORE: Final = 4
LOTS: Final = """
SELECT b.account, b.venue, b.symbol, b.base, b.quote, b.multiplier, b.inverse,
    l.qty, l.price, l.value, l.ts_ns
FROM lot l JOIN book b ON b.n = l.book ORDER BY b.account, b.venue, b.symbol, l.n
"""
COUNT: Final = "SELECT count(DISTINCT book) FROM lot"
LAST: Final = "SELECT ts_ns FROM fill ORDER BY n DESC LIMIT 1"
USD: Final = "USD"

# Venue, as the streams have it, and symbol -> the middle price.
type Marks = Mapping[tuple[str, str], Decimal]
type Realized = Mapping[tuple[str, str, str, str], Decimal]


class Lot(NamedTuple):
    """What is left of a fill, `qty` signed."""

    qty: Decimal
    price: Decimal
    ts_ns: int


class Holding(NamedTuple):
    """One book that is open: its position, signed, what that cost in the currency of settlement,
    its average price, how many `lots` there are, and the `oldest` of them.

    `realized` is the gain by price, less fees, plus funding, in that currency.
    """

    account: str
    venue: str
    symbol: str
    terms: Terms
    qty: Decimal
    value: Decimal
    average: Decimal
    lots: int
    oldest: tuple[Lot, ...]
    realized: Decimal


class Holdings(NamedTuple):
    """The open positions, of `total` that there are the first; what was realized since midnight
    UTC, by currency, dollars of all kinds as USD.

    `taken` is the number of the last fill that was taken, by its producer; `booked_ns` the time of
    the last that was booked.
    """

    open: tuple[Holding, ...]
    total: int
    day: Mapping[str, Decimal]
    taken: Mapping[str, int]
    booked_ns: int | None

    def behind(self, told: Mapping[str, int]) -> int:
        """Return how many fills were not taken, of those that are numbered up to `told`."""
        return sum([max(0, last - self.taken.get(name, 0)) for name, last in told.items()])


def read(ledger: Path, now_ns: int) -> Holdings:
    """Return what a ledger holds. Raises Exit (BAD_DATA: there is none), sqlite3.Error."""
    realized: dict[tuple[str, str, str, str], Decimal] = {}
    day, today = {USD: ZERO}, day_of(now_ns)
    with contextlib.closing(ledger_tables.opened_read_only(ledger)) as database:
        view = LedgerView(database)
        view.freeze()
        for total in view.totals():
            net = CONTEXT.add(CONTEXT.subtract(total.pnl, total.fees), total.funding)
            key = total.account, total.venue, total.symbol, total.ccy
            realized[key] = CONTEXT.add(realized.get(key, ZERO), net)
            if total.day == today:
                ccy = USD if total.ccy in DOLLARS else total.ccy
                day[ccy] = CONTEXT.add(day.get(ccy, ZERO), net)
        taken = {
            producer: spans.last
            for (kind, producer), spans in view.taken_now().items()
            if kind == "fills"
        }
        [(count,)] = database.execute(COUNT).fetchall()
        last = database.execute(LAST).fetchone()
        opened = tuple(_open(database, realized))
        return Holdings(opened, count, day, taken, None if last is None else int(last[0]))


def _open(database: sqlite3.Connection, realized: Realized) -> Iterator[Holding]:
    books = itertools.groupby(database.execute(LOTS), key=lambda row: row[:7])
    for book, rows in itertools.islice(books, POSITIONS_MAX):
        account, venue, symbol, base, quote, multiplier, inverse = book
        terms = Terms(base, quote, Decimal(multiplier), bool(inverse))
        gained = realized.get((account, venue, symbol, terms.settle), ZERO)
        yield Holding(account, venue, symbol, terms, *_summed(rows), gained)


def _summed(
    rows: Iterable[tuple[Any, ...]],
) -> tuple[Decimal, Decimal, Decimal, int, tuple[Lot, ...]]:
    """Return position, value, average price, how many lots, and the oldest of them."""
    qty = value = cost = ZERO
    digits, count = 0, 0
    oldest: list[Lot] = []
    for *_, lot_qty, lot_price, lot_value, ts_ns in rows:
        lot = Lot(Decimal(lot_qty), Decimal(lot_price), ts_ns)
        qty = CONTEXT.add(qty, lot.qty)
        value = CONTEXT.add(value, Decimal(lot_value))
        cost = CONTEXT.add(cost, CONTEXT.multiply(lot.qty, lot.price))
        digits = max(digits, -int(lot.price.as_tuple().exponent))
        count += 1
        if count <= LOTS_MAX:
            oldest.append(lot)
    average = round(divided(cost, qty), digits + DIGITS_MORE) if qty else ZERO
    return qty, value, average, count, tuple(oldest)


def unrealized(holding: Holding, mark: Decimal) -> Decimal:
    """Return what closing a position at a price would gain, in its currency of settlement."""
    closing = holding.terms.value(-holding.qty, mark)
    worth = CONTEXT.add(holding.value, closing)
    return worth if holding.terms.inverse else -worth


def positions(holdings: Holdings, marks: Marks) -> list[dict[str, Any]]:
    """Return the open positions as the page's document has them; amounts are exact text."""
    prices = {key: mark for key, mark in marks.items() if mark.is_finite() and mark}
    return [_position(each, prices.get((each.venue, each.symbol))) for each in holdings.open]


def day(holdings: Holdings) -> list[dict[str, str]]:
    """Return what the day brought, as the page's document has it: dollars first."""
    return [{"amount": plain(amount), "ccy": ccy} for ccy, amount in holdings.day.items()]


def _position(holding: Holding, mark: Decimal | None) -> dict[str, Any]:
    return {
        "account": holding.account,
        "venue": holding.venue,
        "symbol": holding.symbol,
        "side": "LONG" if holding.qty > 0 else "SHORT",
        "qty": f"{abs(holding.qty):f}",
        "avg_px": plain(holding.average),
        "realized_pnl": plain(holding.realized),
        "unrealized_pnl": "" if mark is None else plain(unrealized(holding, mark)),
        "ccy": holding.terms.settle,
        "lots_total": holding.lots,
        "lots": [
            {"qty": f"{lot.qty:f}", "price": f"{lot.price:f}", "ts_ns": lot.ts_ns}
            for lot in holding.oldest
        ],
    }


def plain(amount: Decimal) -> str:
    """Return an amount without idle zeros behind the point."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

"""The fill table as books need it, and all books built from it alone."""

import sqlite3
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from bridge.core import bookings
from bridge.core.bookings import Booked
from bridge.core.fills import Fill, Pair, holds

# What of the fill table a book is built from; `_fills` reads it.
FILLS: Final = """
SELECT state, fill_id, producer, seq, ts_ns, account, venue, symbol, side, qty, price, fee, fee_ccy,
    fee_quote, base_ccy, quote_ccy, multiplier, inverse, venue_order_id, cl_ord_id, strategy_id,
    provisional
FROM fill
"""
OF_BOOK: Final = f"{FILLS} WHERE book = ? ORDER BY n"
OF_PAIR: Final = f"""{FILLS}
WHERE pays = 1 AND account = ? AND venue = ? AND fee_ccy = ? AND quote_ccy = ? ORDER BY n
"""


def fills_of(
    database: sqlite3.Connection, query: str, *values: object
) -> Iterator[tuple[str, Fill]]:
    """Yield state and fill of each row of FILLS; equal texts and numbers are kept once."""
    texts: dict[str, str] = {}
    numbers: dict[str, Decimal] = {}

    def text(value: str) -> str:
        return texts.setdefault(value, value)

    def number(value: str) -> Decimal:
        known = numbers.get(value)
        if known is None:
            known = numbers[value] = Decimal(value)
        return known

    for row in database.execute(query, values):
        (
            state, fill_id, producer, seq, ts_ns, account, venue, symbol, side, qty, price, fee,
            fee_ccy, fee_quote, base, quote, multiplier, inverse, venue_order_id, cl_ord_id,
            strategy_id, provisional,
        ) = row  # fmt: skip
        yield (
            state,
            Fill(
                fill_id, text(producer), seq, int(ts_ns), text(account), text(venue), text(symbol),
                text(side), number(qty), number(price), number(fee), text(fee_ccy),
                number(fee_quote) if fee_quote else None, text(base), text(quote),
                number(multiplier), inverse == "1", venue_order_id or cl_ord_id,
                text(strategy_id), provisional == "1",
            ),
        )  # fmt: skip


def booked_again(
    database: sqlite3.Connection,
) -> Iterator[tuple[Booked, list[Fill], list[Fill]]]:
    """Yield every book as built from the fill table alone, with its fills, and those of others
    that pay from it. Raises ValueError when fills do not belong to one book."""
    holders: dict[Pair, int] = {}
    books = []
    for (n,) in database.execute("SELECT n FROM book ORDER BY symbol").fetchall():
        found = next(fills_of(database, f"{OF_BOOK} LIMIT 1", n), None)
        if found is None:
            continue  # nobody books nothing
        books.append(n)
        _, fill = found
        if (pair := holds(fill)) is not None:
            holders.setdefault(pair, n)
    held = {n: pair for pair, n in holders.items()}
    idle: set[str] = set()
    for (n,) in database.execute("SELECT DISTINCT book FROM fill WHERE provisional = '1'"):
        idle |= bookings.book(*_of_book(database, n, held)).states.keys()
    for n in books:
        fills, payments = _of_book(database, n, held)
        yield bookings.book(fills, payments, idle), fills, payments


def _of_book(
    database: sqlite3.Connection, n: int, held: Mapping[int, Pair]
) -> tuple[list[Fill], list[Fill]]:
    """Return the fills of a book, and those of others that pay from it."""
    fills = [fill for _, fill in fills_of(database, OF_BOOK, n)]
    paying = fills_of(database, OF_PAIR, *held[n]) if n in held else ()
    return fills, [fill for _, fill in paying]

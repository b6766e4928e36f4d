"""bridge/core/fifo.py against beancount's FIFO booking, on random books."""

import datetime
import itertools
import random
from decimal import Decimal

from beancount import loader
from beancount.core import data

from bridge.core.fifo import Book, Trade
from tests.bridge.core.books import LINEAR

D = Decimal
BOOKS = 200
EPOCH = datetime.date(1970, 1, 1)

# Quantity, opening price and day, closing price and day.
type Closed = tuple[Decimal, Decimal, int, Decimal, int]
type Open = tuple[Decimal, Decimal, int]


def random_trades(rng: random.Random) -> list[Trade]:
    """Return up to 40 trades, a day apart, with as many digits as exchanges use."""
    sizes = rng.choice(
        [[D(1), D(2), D(5)], [D(rng.randint(1, 10**8)).scaleb(-6) for _ in range(9)]]
    )
    trades = []
    for day in range(1, rng.randint(2, 40)):
        qty = rng.choice(sizes) * rng.choice([1, -1])
        trades.append(Trade(str(day), day, qty, D(rng.randint(1, 10**7)).scaleb(-2)))
    return trades


def ledger_of(name: str, trades: list[Trade]) -> str:
    """Return trades as beancount's text; a flip is split into its close and its open."""
    lines, position = [f'1970-01-01 open {name} "FIFO"'], D(0)
    for trade in trades:
        day = EPOCH + datetime.timedelta(trade.ts_ns)
        closes = position * trade.qty < 0
        closing = max(-abs(position), -abs(trade.qty)).copy_sign(trade.qty) if closes else D(0)
        for qty, cost in ((closing, "{}"), (trade.qty - closing, f"{{{trade.price} USD}}")):
            if qty:
                lines.append(f'{day} * "{trade.fill_id}"')
                lines.append(f"  {name}  {qty:f} X {cost} @ {trade.price} USD")
                lines.append("  Equity:All")
        position += trade.qty
    return "\n".join(lines)


def booked(name: str, entries: data.Entries) -> tuple[list[Closed], list[Open]]:
    """Return what beancount closed, in its order, and what it left open."""
    closed, lots = [], dict[int, list[Decimal]]()
    for entry in entries:
        if not isinstance(entry, data.Transaction) or entry.postings[0].account != name:
            continue
        now = (entry.date - EPOCH).days
        for posting in entry.postings:
            if posting.account != name:
                continue
            qty, price, cost = posting.units.number, posting.price.number, posting.cost
            opened = (cost.date - EPOCH).days
            if opened == now:
                lots[opened] = [qty, cost.number]
            else:
                closed.append((-qty, cost.number, opened, price, now))
                lots[opened][0] += qty
    return closed, [(qty, price, day) for day, (qty, price) in lots.items() if qty]


def test_lots_and_gains_are_those_of_beancount() -> None:
    """200 random books: every piece that is closed, its lot and prices, and every lot that is left
    are the same."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    rng = random.Random(seed)
    all_trades = {f"Assets:Book{number}": random_trades(rng) for number in range(BOOKS)}
    texts = itertools.starmap(ledger_of, all_trades.items())
    entries, errors, _ = loader.load_string("\n".join(["1970-01-01 open Equity:All", *texts]))
    assert not errors

    pieces = 0
    for name, trades in all_trades.items():
        book = Book(LINEAR)
        gains = [gain for trade in trades for gain in book.apply(trade)]
        closed, left = booked(name, entries)
        assert closed == [
            (gain.qty, gain.open_price, gain.opened_ns, gain.close_price, gain.closed_ns)
            for gain in gains
        ]
        assert left == [(lot.qty, lot.price, lot.ts_ns) for lot in book.lots]
        for gain, (qty, opened, _, price, _) in zip(gains, closed, strict=True):
            assert gain.pnl == qty * (price - opened)
        pieces += len(closed)
    assert pieces > BOOKS

"""A result out of a program's fills alone, so that any program can be compared.

With the dataset that the program traded on, prices, settlements and equity follow from the fills.
Without it a result holds what fills can say; the gates that need more are then not judged.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Final

import numpy as np

from acceptance import record
from acceptance.events import Window
from acceptance.fills_csv import FillsError
from acceptance.measures import time_text
from acceptance.metrics import of_run
from acceptance.run import fed
from acceptance.shape import EXACT, VERSION, Data, Fill, Record, Run
from integrations.binance.dataset import Funding, Quotes
from integrations.binance.layout import RATE_DECIMALS
from integrations.binance.manifest import Instrument
from integrations.nautilus import books

MINUTE_NS: Final = 60_000_000_000
MONEY: Final = Decimal("1e-8")  # to which each settlement is rounded
ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Named:
    """What a result says of the program and its run, that no fill says; None is not known."""

    program: str
    strategy: str = "basis_carry"
    params: Mapping[str, str] | None = None
    denied: int | None = None
    rejected: int | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """The quotes of one instrument, and the price of one unit of them."""

    quotes: Quotes
    tick_unit: Decimal

    def mids(self, times: Sequence[int]) -> list[Decimal]:
        """Return the mid at each time, after all quotes of that time; 0 before the first quote."""
        rows = np.searchsorted(self.quotes.ts, np.array(times, dtype=np.int64), side="right")
        sums = np.concatenate(([0], self.quotes.bid + self.quotes.ask))[rows]
        return [int(each) * self.tick_unit / 2 for each in sums]


def of_fills(fills: Sequence[Fill], named: Named, *, start_ns: int, end_ns: int) -> Record:
    """Return what fills say of a run over `[start_ns, end_ns)` without its data: themselves, and
    slippage where each has its mid. Raises FillsError for a fill outside of the run."""
    symbols = tuple(dict.fromkeys([fill.symbol for fill in fills]))
    _check(fills, symbols, start_ns, end_ns)
    return Record(
        schema=VERSION,
        program=named.program,
        strategy=named.strategy,
        data=Data(start_ns=start_ns, end_ns=end_ns, symbols=symbols),
        params=dict(named.params) if named.params is not None else None,
        run=Run(fills=len(fills), denied=named.denied, rejected=named.rejected),
        metrics=of_run(symbols, (), fills, ()),
        fills=tuple(fills),
    )


def of_dataset(fills: Sequence[Fill], named: Named, window: Window) -> Record:
    """Return the whole result of a run that made these fills on a part of a dataset.

    Each fill counts as an order that was decided and filled whole at its time. A settlement takes
    the position before its time (spec 1.6). What the program itself counted (decisions, skips)
    is not known. Raises FillsError for a fill that the run cannot have made: outside of it, of
    another symbol, or without a quote before it.
    """
    data, instruments = fed(window), window.instruments()
    _check(fills, data.symbols, data.start_ns, data.end_ns)
    legs = {
        (each.symbol, each.leg): Leg(
            _within(window.data.quotes[each.id], data), Decimal(1).scaleb(-each.price_decimals)
        )
        for each in instruments
    }
    with localcontext(EXACT):
        mids = _mids(fills, legs)
        done = [_done(fill, mid) for fill, mid in mids]
        paid = [
            settlement
            for each in instruments
            if each.leg == "perp"
            for settlement in _settlements(done, each, window.data.funding[each.id], data)
        ]
        paid.sort(key=lambda each: each.ts)
        equity, days = books.reckon(done, paid, _samples(legs, data), data.symbols)
    built = record.of_books(
        books.Books(
            events=data.events or 0,
            last_ts=data.last_ts,
            fills=done,
            orders=[
                books.Order(f.ts, f.symbol, f.leg, f.side, f.qty, f.mid, f.mid, f.qty) for f in done
            ],
            settlements=paid,
            equity=equity,
            days=days,
        ),
        program=named.program,
        strategy=named.strategy,
        data=data,
        instruments=instruments,
        params=named.params or {},
    )
    run = replace(built.run, denied=named.denied, rejected=named.rejected)
    return replace(built, params=built.params if named.params is not None else None, run=run)


def _check(fills: Sequence[Fill], symbols: Iterable[str], start_ns: int, end_ns: int) -> None:
    for fill in fills:
        if fill.symbol not in symbols:
            raise FillsError(f"{_what(fill)}: the run has {', '.join(symbols)}; see --symbols")
        if not start_ns <= fill.ts < end_ns:
            run = f"{time_text(start_ns)} to {time_text(end_ns)}"
            raise FillsError(f"{_what(fill)}: is outside of the run, {run}; see --start and --end")


def _what(fill: Fill) -> str:
    return f"fill of {fill.symbol} {fill.leg} at {time_text(fill.ts)} (ts {fill.ts})"


def _within(quotes: Quotes, data: Data) -> Quotes:
    first, last = np.searchsorted(quotes.ts, [data.start_ns, data.end_ns])
    return Quotes(**{name: getattr(quotes, name)[first:last] for name in Quotes.__slots__})


def _mids(
    fills: Sequence[Fill], legs: Mapping[tuple[str, str], Leg]
) -> Iterator[tuple[Fill, Decimal]]:
    """Yield each fill with the mid of its own instrument at its time."""
    found = {
        key: iter(leg.mids([fill.ts for fill in fills if (fill.symbol, fill.leg) == key]))
        for key, leg in legs.items()
    }
    for fill in fills:
        mid = next(found[fill.symbol, fill.leg])
        if not mid:
            raise FillsError(f"{_what(fill)}: no quote of the dataset is before it")
        yield fill, mid


def _done(fill: Fill, mid: Decimal) -> books.Fill:
    known = fill.ts, fill.symbol, fill.leg, fill.side, fill.qty, fill.px, fill.fee, mid
    return books.Fill(*known, fill.reason or "")


def _settlements(
    fills: Sequence[books.Fill], perp: Instrument, rows: Funding, data: Data
) -> Iterator[books.Settlement]:
    """Yield what each settlement of the run paid on the position before it (spec 1.6)."""
    ours = [fill for fill in fills if (fill.symbol, fill.leg) == (perp.symbol, perp.leg)]
    times, held = [fill.ts for fill in ours], [ZERO]
    for fill in ours:
        held.append(held[-1] + (fill.qty if fill.side == "BUY" else -fill.qty))
    first, last = np.searchsorted(rows.ts, [data.start_ns, data.end_ns])
    for number in range(first, last):
        ts = int(rows.ts[number])
        if position := held[bisect_left(times, ts)]:
            rate = Decimal(int(rows.rate[number])).scaleb(-RATE_DECIMALS)
            mark = Decimal(int(rows.mark[number])).scaleb(-perp.price_decimals)
            amount = (-position * mark * rate).quantize(MONEY, ROUND_HALF_EVEN)
            yield books.Settlement(ts, perp.symbol, position, rate, mark, amount)


def _samples(legs: Mapping[tuple[str, str], Leg], data: Data) -> list[books.Sample]:
    """Return the mids at each full minute and at the end."""
    times = [*range(-(-data.start_ns // MINUTE_NS) * MINUTE_NS, data.end_ns, MINUTE_NS)]
    times.append(data.end_ns)
    mids = {key: leg.mids(times) for key, leg in legs.items()}
    return [
        books.Sample(
            ts,
            {
                symbol: {leg: mids[symbol, leg][number] for leg in books.LEGS}
                for symbol in data.symbols
            },
        )
        for number, ts in enumerate(times)
    ]

"""Small results of real runs of the legacy program, for tests of what compares them."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from acceptance import gates, record, run, tolerance
from acceptance.record import Data, Record, Totals
from acceptance.verdict import Gate
from strategies.basis_carry import legacy
from strategies.basis_carry.legacy import Funding, Quote
from strategies.basis_carry.params import BasisCarryParams
from tests.strategies.basis_carry_market import HOUR, MIDNIGHT, MINUTE, SECOND, merged, pair, show

START = MIDNIGHT + 24 * HOUR - 10 * MINUTE
END = START + 20 * MINUTE
TABLE = [*pair("BTC"), *pair("ETH")]
PARAMS = BasisCarryParams.from_mapping({"end_of_run_minutes": 0, "cooldown_seconds": 0})
SHA = "0" * 64
DAY = 86_400 * 10**9
TOLERANCES = tolerance.load().default
FIELDS = ("price_spot", "price_perp", "funding", "fees", "net", "turnover")


def market() -> list[Quote | Funding]:
    """Return twenty minutes around a midnight: both symbols trade before and after it, BTC holds
    a position at the settlement, ETH one at the end."""
    basis = {
        "BTC": [0, 6, 3, 0, 0, 7, 7, 7, 7, 7, 7, 7, 3, 0, 6, 0, 0, 8, 0, 0],
        "ETH": [0, 0, 8, 3, 1, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 6, 6, 6, 6, 6],
    }
    quotes = [
        quote
        for symbol, steps in basis.items()
        for minute, bps in enumerate(steps)
        for second in (4, 24, 44)
        for quote in show(
            START + minute * MINUTE + second * SECOND,
            symbol,
            spot=str(100 + minute),
            perp=str((100 + minute) * (1 + Decimal(bps) / 10_000)),
            spread="0.02",
            spot_size="300",
            perp_size="250.5",
        )
    ]
    midnight = MIDNIGHT + 24 * HOUR
    return merged(
        quotes, [Funding(midnight, symbol, 0.0001, 8, 105.25) for symbol in ("BTC", "ETH")]
    )


def books(program: Any = legacy, events: Any = None) -> Any:
    """Return what a program makes of the small market."""
    return program.run(events or market(), TABLE, params=PARAMS, start_ns=START, end_ns=END)


def result(program: Any = legacy, *, events: Any = None, mode: Any = "full") -> Record:
    """Return the result of a program on the small market, or on other events."""
    events = events or market()
    data = Data(START, END, ("BTC", "ETH"), SHA, len(events), events[-1].ts)
    return record.of_books(
        books(program, events),
        program="legacy",
        data=data,
        instruments=TABLE,
        params=run.texts(PARAMS),
        mode=mode,
    )


def with_fill(base: Record, index: int, **changes: Any) -> Record:
    """Return a result with one fill changed, nothing else."""
    fills = list(base.fills or ())
    fills[index] = replace(fills[index], **changes)
    return replace(base, fills=tuple(fills))


def with_totals(base: Record, scope: str, **changes: Any) -> Record:
    """Return a result with the totals of one scope changed, nothing else."""
    totals = dict(base.totals or {})
    totals[scope] = replace(totals[scope], **changes)
    return replace(base, totals=totals)


def zeros(**changes: Any) -> Totals:
    """Return totals of zero with changes, in numbers that Decimal takes."""
    return Totals(**{name: Decimal(changes.get(name, 0)) for name in FIELDS})


def gate(name: str, a: Record, b: Record, scope: str = "total") -> Gate:
    """Return one gate of one scope."""
    found = gates.judge(a, b, TOLERANCES, "strict")
    return next(each for each in found if (each.name, each.scope) == (name, scope))


def stated(**totals: Any) -> Record:
    """Return a result that states nothing but these totals of BTC, over ten days from 1970."""
    row = zeros(**totals)
    data = Data(0, 10 * DAY, ("BTC",))
    return Record(1, "ours", "basis_carry", data, totals={"BTC": row, "total": row})

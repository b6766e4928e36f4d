"""What was realized, summed up by book, strategy, day and currency."""

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

from bridge.core.fifo import CONTEXT, ZERO, Gain
from bridge.core.fills import BookKey, Cost

DAY_NS: Final = 86_400 * 10**9
TOTAL: Final = """
SELECT pnl, fees, funding FROM total
WHERE account = ? AND venue = ? AND symbol = ? AND strategy = ? AND day = ? AND ccy = ?
"""

# (account, venue, symbol, strategy, day, currency) -> price PnL, fees, funding.
type TotalKey = tuple[str, str, str, str, str, str]
Sums = dict[TotalKey, list[Decimal]]


def day_of(ts_ns: int) -> str:
    """Return the UTC day of a time."""
    return _day(ts_ns // DAY_NS)


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).strftime("%Y-%m-%d")


def add(
    sums: Sums,
    key: TotalKey,
    *,
    pnl: Decimal = ZERO,
    fees: Decimal = ZERO,
    funding: Decimal = ZERO,
) -> None:
    """Add to what a key was summed up to."""
    known = sums.setdefault(key, [ZERO, ZERO, ZERO])
    for place, amount in enumerate((pnl, fees, funding)):
        if amount:
            known[place] = CONTEXT.add(known[place], amount)


def sum_up(
    sums: Sums,
    key: BookKey,
    settle: str,
    gains: Iterable[Gain],
    costs: Iterable[Cost],
    strategies: Mapping[str, str],
) -> None:
    """Add what a book gained and what its fees cost, as far as they have a price."""
    for gain in gains:
        day = day_of(gain.closed_ns)
        add(sums, (*key, strategies[gain.fill_id], day, settle), pnl=gain.pnl)
    for cost in costs:
        if cost.is_priced:
            day = day_of(cost.ts_ns)
            add(sums, (*key, strategies[cost.fill_id], day, cost.ccy), fees=cost.amount)


def save_totals(database: sqlite3.Connection, sums: Sums) -> None:
    """Add to the totals of the table."""
    for key, amounts in sums.items():
        known = database.execute(TOTAL, key).fetchone() or ("0", "0", "0")
        added = [
            f"{CONTEXT.add(Decimal(before), amount):f}"
            for before, amount in zip(known, amounts, strict=True)
        ]
        database.execute(
            "INSERT OR REPLACE INTO total VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, *added)
        )

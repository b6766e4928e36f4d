"""What a run cost and how it went: shortfall, slippage, drawdown, Sharpe.

Costs are positive. Sums of decimals are exact, sums of floats are `math.fsum`, and whatever leaves
this module has 12 significant digits, so that two machines write the same bytes.
"""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Final

from acceptance.shape import EXACT, TOTAL, Fill, Metrics, Order

HOUR_NS: Final = 3_600_000_000_000
HOURS_A_YEAR: Final = 8760
BPS: Final = 10_000
ZERO: Final = Decimal(0)

type Equity = Sequence[tuple[int, Decimal]]


def of_run(
    symbols: Iterable[str], orders: Sequence[Order], fills: Sequence[Fill], equity: Equity
) -> dict[str, Metrics]:
    """Return the metrics of each symbol and of all together."""
    scopes = {
        symbol: costs(
            [order for order in orders if order.symbol == symbol],
            [fill for fill in fills if fill.symbol == symbol],
        )
        for symbol in symbols
    }
    return scopes | {TOTAL: costs(orders, fills, equity)}


def costs(orders: Sequence[Order], fills: Sequence[Fill], equity: Equity = ()) -> Metrics:
    """Return the metrics of these orders and their fills, and of an equity curve.

    Implementation shortfall (Perold 1988), s = +1 buy, -1 sell, of orders of Q with fills q at p:
    `sum s*q*(p - mid) + s*(Q - sum q)*(end_mid - mid) + fees`, in bp of `sum Q*mid`; gross without
    fees. Slippage: `sum s*q*(p - mid) / sum q*mid`, mid as the order reached the venue.
    """
    with localcontext(EXACT):
        decided = sum((order.qty * order.mid for order in orders), ZERO)
        paid = sum((_sign(fill) * fill.qty * fill.px for fill in fills), ZERO)
        gross = paid + sum(
            (
                _sign(order) * ((order.qty - order.filled) * order.end_mid - order.qty * order.mid)
                for order in orders
            ),
            ZERO,
        )
        net = gross + sum((fill.fee for fill in fills), ZERO)
        arrived = [fill.qty * fill.mid for fill in fills if fill.mid is not None]
        slipped = None
        if arrived and len(arrived) == len(fills):
            cost = sum((_sign(f) * f.qty * (f.px - f.mid) for f in fills if f.mid), ZERO)
            slipped = rounded(cost / sum(arrived) * BPS)
        return Metrics(
            is_gross_bps=rounded(gross / decided * BPS) if orders else None,
            is_net_bps=rounded(net / decided * BPS) if orders else None,
            is_gross_usd=rounded(gross) if orders else None,
            is_net_usd=rounded(net) if orders else None,
            slippage_bps=slipped,
            sharpe=sharpe(equity),
            max_drawdown=max_drawdown(equity),
        )


def sharpe(equity: Equity) -> float | None:
    """Return mean over standard deviation (n - 1) of what each full UTC hour brought, a year.

    None with fewer than two such hours, or when all brought the same.
    """
    hourly = [pnl for ts, pnl in equity if ts % HOUR_NS == 0]
    changes = [float(later - pnl) for pnl, later in pairwise(hourly)]
    if len(changes) < 2 or len(set(changes)) == 1:
        return None
    mean = math.fsum(changes) / len(changes)
    variance = math.fsum((change - mean) ** 2 for change in changes) / (len(changes) - 1)
    return rounded(mean / math.sqrt(variance) * math.sqrt(HOURS_A_YEAR))


def max_drawdown(equity: Equity) -> float | None:
    """Return the deepest fall of the PnL below its highest yet, which is 0 at first; in USDT."""
    if not equity:
        return None
    peak = deepest = ZERO
    for _, pnl in equity:
        peak = max(peak, pnl)
        deepest = max(deepest, peak - pnl)
    return rounded(deepest)


def rounded(value: Decimal | float) -> float:
    """Return 12 significant digits of a number."""
    return float(f"{value:.11e}") + 0.0  # plus 0 turns minus zero into zero


def _sign(trade: Order | Fill) -> int:
    return 1 if trade.side == "BUY" else -1

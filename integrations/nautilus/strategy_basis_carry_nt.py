"""The basis carry strategy for Nautilus, where it is documented to be imported from:

    from integrations.nautilus.strategy_basis_carry_nt import NautilusBasisCarryStrategy

Run alone, it trades twenty minutes of a hand-made market in a BacktestEngine, prints fills and PnL,
and exits with 0 when they are what they have to be, else with 1.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on sys.path, where `import bridge` would find another file.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    # Before all imports: an interpreter without it has none of the other packages, either.
    if importlib.util.find_spec("nautilus_trader") is None:
        sys.stderr.write("nautilus_trader is not installed: pip install -r requirements.txt\n")
        sys.exit(2)

import warnings
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import InstrumentId, Venue
from nautilus_trader.model.objects import Money, Price, Quantity

from integrations.binance import manifest
from integrations.nautilus.fees import ExactFeeModel
from integrations.nautilus.replay import instrument_of
from strategies.basis_carry.port import (
    NautilusBasisCarryStrategy,
    NautilusBasisCarryStrategyConfig,
)

__all__ = ["NautilusBasisCarryStrategy", "NautilusBasisCarryStrategyConfig"]

SECOND_NS: Final = 1_000_000_000
START_NS: Final = 1_751_331_600 * SECOND_NS  # 1 July 2025, 01:00 UTC: far from every settlement
MINUTES: Final = 20
ROUND_TRIPS: Final = 3
BALANCE: Final = "500000 USDT"
SPOT: Final = manifest.Instrument(
    *("BTCUSDT.BINANCE_SPOT", "BTC", "spot", Decimal("0.01"), Decimal("0.00001"), Decimal(5)),
    *(Decimal("0.001"), "BTC", "USDT"),
)
PERP: Final = manifest.Instrument(
    *("BTCUSDT-PERP.BINANCE_FUTURES", "BTC", "perp", Decimal("0.10"), Decimal("0.001")),
    *(Decimal(100), Decimal("0.0005"), "BTC", "USDT"),
)


def quotes() -> Iterator[QuoteTick]:
    """Yield a quote of both legs each five seconds.

    For two minutes of six, the perpetual is 6 bp above a spot that rises; else it is level with it.
    """
    for second in range(0, MINUTES * 60, 5):
        spot = Decimal(100_000) + second
        premium = spot * 6 / 10_000 if second // 120 % 3 == 1 else Decimal(0)
        for row, mid in ((SPOT, spot), (PERP, spot + premium)):
            bid, ask = (_price(mid + side * row.tick, row) for side in (-1, 1))
            size = Quantity(2, row.size_decimals)
            ts = START_NS + second * SECOND_NS
            yield QuoteTick(InstrumentId.from_str(row.id), bid, ask, size, size, ts, ts)


def trade() -> tuple[BacktestEngine, NautilusBasisCarryStrategy]:
    """Return the engine and the strategy after the run."""
    engine = BacktestEngine(
        config=BacktestEngineConfig(logging=LoggingConfig(log_level="ERROR"), run_analysis=False)
    )
    for row in (SPOT, PERP):
        engine.add_venue(
            venue=Venue(row.id.partition(".")[2]),
            oms_type=OmsType.NETTING,
            account_type=AccountType.CASH if row is SPOT else AccountType.MARGIN,
            starting_balances=[Money.from_str(BALANCE)],
            fee_model=ExactFeeModel(),
        )
        engine.add_instrument(instrument_of(row))
    strategy = NautilusBasisCarryStrategy(
        NautilusBasisCarryStrategyConfig(
            instrument_ids=tuple([InstrumentId.from_str(row.id) for row in (SPOT, PERP)]),
            params={"max_notional": 5_000},
            start_ns=START_NS,
        )
    )
    engine.add_strategy(strategy)
    engine.add_data(list(quotes()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Nautilus 1.231 calls what pandas is going to drop
        engine.run()
    return engine, strategy


def main() -> int:
    """Trade, print what was done, and return the exit code."""
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    engine, strategy = trade()
    fills = [
        (order, event)
        for order in sorted(engine.cache.orders(), key=_number)
        for event in order.events
        if isinstance(event, OrderFilled)
    ]
    for order, fill in fills:
        _say(f"{_clock(fill.ts_event)}  {_line(order, fill)}")
    cash = {row.id: Decimal(0) for row in (SPOT, PERP)}
    fees = Decimal(0)
    for _, fill in fills:
        value = fill.last_px.as_decimal() * fill.last_qty.as_decimal()
        cash[fill.instrument_id.value] += -value if fill.is_buy else value
        fees += fill.commission.as_decimal()
    net = sum(cash.values()) - fees
    _say("", f"price, spot  {cash[SPOT.id]:>14}", f"price, perp  {cash[PERP.id]:>14}")
    _say(f"fees         {-fees:>14}", f"net          {net:>14} USDT, without funding", "")
    problems = [*_problems(engine, strategy, len(fills), net)]
    engine.dispose()
    _say(
        *problems,
        "FAILED"
        if problems
        else "passed: three round trips, and the accounts agree with the fills",
    )
    return 1 if problems else 0


def _problems(
    engine: BacktestEngine, strategy: NautilusBasisCarryStrategy, fills: int, net: Decimal
) -> Iterator[str]:
    """Yield what is not as it has to be, a line each."""
    trips, exits = strategy.counts["round_trips"], strategy.counts["exits.basis_reverted"]
    if (trips, exits, fills) != (ROUND_TRIPS, ROUND_TRIPS, 4 * ROUND_TRIPS):
        yield f"{trips} round trips, {exits} exits, {fills} fills; expected 3, 3, 12"
    if open_ := engine.cache.positions_open_count():
        yield f"{open_} positions are left open"
    accounts = engine.cache.accounts()
    usdt = Money.from_str(BALANCE).currency
    earned = sum(each.balance_total(usdt).as_decimal() for each in accounts)
    earned -= len(accounts) * Money.from_str(BALANCE).as_decimal()
    if earned != net:
        yield f"the accounts have earned {earned} USDT, the fills say {net}"


def _number(order: Any) -> int:
    """Return the number of an order: the cache does not keep them in order."""
    return int(order.client_order_id.value.rpartition("-")[2])


def _line(order: Any, fill: OrderFilled) -> str:
    side = "BUY " if fill.is_buy else "SELL"
    return (
        f"{side} {fill.last_qty} {fill.instrument_id} at {fill.last_px}, "
        f"fee {fill.commission}, {order.tags[0]}"
    )


def _clock(ts_ns: int) -> str:
    minute, second = divmod((ts_ns - START_NS) // SECOND_NS, 60)
    return f"{minute:02}:{second:02}"


def _price(value: Decimal, row: manifest.Instrument) -> Price:
    return Price.from_str(str(value // row.tick * row.tick))


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())

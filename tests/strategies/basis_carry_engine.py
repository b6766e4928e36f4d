"""The port of basis carry in a BacktestEngine, fed with the hand-made markets of the legacy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pandas as pd
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.models import FeeModel
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.data import FundingRateUpdate, MarkPriceUpdate, QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TraderId, Venue
from nautilus_trader.model.instruments import CryptoPerpetual, CurrencyPair, Instrument
from nautilus_trader.model.objects import FIXED_PRECISION, Money, Price, Quantity
from nautilus_trader.model.orders import Order

from strategies.basis_carry import legacy
from strategies.basis_carry.legacy import Funding, Quote
from strategies.basis_carry.port import (
    NautilusBasisCarryStrategy,
    NautilusBasisCarryStrategyConfig,
)
from tests.strategies.basis_carry_market import BTC, END, START, decimals, merged

VENUES = {"spot": Venue("SPOT"), "perp": Venue("PERP")}
# Nautilus's log is one for the process: the first engine's settings win.
QUIET = LoggingConfig(log_level="OFF")


@dataclass(frozen=True, slots=True)
class Fill:
    """A fill as both programs can show it."""

    ts: int
    symbol: str
    leg: str
    side: str
    qty: Decimal
    px: Decimal
    reason: str


def id_of(row: legacy.Instrument) -> InstrumentId:
    """Return the Nautilus id of an instrument of the hand-made table."""
    return InstrumentId(Symbol(row.id), VENUES[row.leg])


def instrument_of(row: legacy.Instrument) -> Instrument:
    """Return the Nautilus instrument, without fees."""
    usdt = Currency.from_str("USDT")
    common: dict[str, Any] = {
        "instrument_id": id_of(row),
        "raw_symbol": Symbol(row.id),
        "base_currency": Currency.from_str(row.symbol),
        "quote_currency": usdt,
        "price_precision": decimals(row.tick),
        "size_precision": decimals(row.lot),
        "price_increment": Price.from_str(str(row.tick)),
        "size_increment": Quantity.from_str(str(row.lot)),
        "min_notional": Money.from_str(f"{row.min_notional} USDT"),
        "ts_event": 0,
        "ts_init": 0,
    }
    if row.leg == "spot":
        return CurrencyPair(**common)
    return CryptoPerpetual(**common, settlement_currency=usdt, is_inverse=False)


def events_of(event: Quote | Funding, table: Sequence[legacy.Instrument]) -> list[Any]:
    """Return the Nautilus events of one of the legacy's."""
    if isinstance(event, Funding):
        row = next(row for row in table if (row.symbol, row.leg) == (event.symbol, "perp"))
        ts = event.ts
        return [
            MarkPriceUpdate(id_of(row), Price.from_str(repr(event.mark)), ts, ts),
            FundingRateUpdate(
                id_of(row), Decimal(repr(event.rate)), ts, ts, interval=60 * event.interval_hours
            ),
        ]
    row = next(row for row in table if row.id == event.instrument)
    price, size = decimals(row.tick), decimals(row.lot)
    to_price, to_size = 10 ** (FIXED_PRECISION - price), 10 ** (FIXED_PRECISION - size)
    prices = [each * to_price for each in (event.bid, event.ask)]
    sizes = [each * to_size for each in (event.bid_size, event.ask_size)]
    return [
        QuoteTick.from_raw(
            id_of(row), *prices, price, price, *sizes, size, size, event.ts, event.ts
        )
    ]


def make_engine(
    table: Sequence[legacy.Instrument] = BTC,
    *,
    strategy_class: type[NautilusBasisCarryStrategy] = NautilusBasisCarryStrategy,
    fee_model: FeeModel | None = None,
    **config: Any,
) -> tuple[BacktestEngine, NautilusBasisCarryStrategy]:
    """Return an engine with both venues and the strategy; `config` is the strategy's."""
    engine = BacktestEngine(
        config=BacktestEngineConfig(
            trader_id=TraderId("TEST-001"), logging=QUIET, run_analysis=False
        )
    )
    for leg, venue in VENUES.items():
        engine.add_venue(
            venue=venue,
            oms_type=OmsType.NETTING,
            account_type=AccountType.CASH if leg == "spot" else AccountType.MARGIN,
            starting_balances=[Money.from_str("500000 USDT")],
            fee_model=fee_model,
            default_leverage=Decimal(1) if leg == "spot" else Decimal(10),
        )
    for row in table:
        engine.add_instrument(instrument_of(row))
    ids = tuple([id_of(row) for row in table])
    strategy = strategy_class(
        NautilusBasisCarryStrategyConfig(
            **({"instrument_ids": ids, "start_ns": START, "end_ns": END} | config)
        )
    )
    engine.add_strategy(strategy)
    return engine, strategy


def feed(
    engine: BacktestEngine, table: Sequence[legacy.Instrument], *parts: Iterable[Quote | Funding]
) -> None:
    """Add the events to the engine, in the legacy's order."""
    events = [made for event in merged(*parts) for made in events_of(event, table)]
    engine.add_data(events)


def run(engine: BacktestEngine, start: int = START, end: int = END) -> None:
    """Run the engine over the time of the strategy."""
    engine.run(start=pd.Timestamp(start, tz="UTC"), end=pd.Timestamp(end, tz="UTC"))


def fills_of(engine: BacktestEngine) -> list[Fill]:
    """Return what was filled, in order."""
    fills = []
    orders: list[Order] = engine.cache.orders()
    for order in orders:
        for event in order.events:
            if type(event).__name__ != "OrderFilled":
                continue
            symbol, leg = event.instrument_id.symbol.value.split("-")
            fills.append(
                Fill(
                    event.ts_event,
                    symbol,
                    leg,
                    "BUY" if event.is_buy else "SELL",
                    event.last_qty.as_decimal(),
                    event.last_px.as_decimal(),
                    order.tags[0],
                )
            )
    order_of = {"spot": 0, "perp": 1}
    return sorted(fills, key=lambda fill: (fill.ts, fill.symbol, order_of[fill.leg]))


def fills_of_legacy(result: legacy.Result) -> list[Fill]:
    """Return what the legacy has filled."""
    order_of = {"spot": 0, "perp": 1}
    fills = [
        Fill(each.ts, each.symbol, each.leg, each.side, each.qty, each.px, each.reason)
        for each in result.fills
    ]
    return sorted(fills, key=lambda fill: (fill.ts, fill.symbol, order_of[fill.leg]))

"""The part of the self-test that needs Nautilus: a small backtest, tapped by the bridge."""

import asyncio
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, TraderId, Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.trading.strategy import Strategy

from integrations.binance import dataset, sample
from integrations.nautilus.bridge import NautilusRedisBridge
from integrations.nautilus.replay import Tape, instrument_of

INSTRUMENT = "BTCUSDT-PERP.BINANCE_FUTURES"
MINUTES = 2
QUOTES_PER_ORDER = 5


class _Alternate(Strategy):
    """Buys and sells in turn, one order every few quotes, and cancels a resting one each time."""

    def on_start(self) -> None:
        self._seen = 0
        self.subscribe_quote_ticks(InstrumentId.from_str(INSTRUMENT))

    def on_quote_tick(self, tick: QuoteTick) -> None:
        self._seen += 1
        if self._seen % QUOTES_PER_ORDER:
            return
        instrument = self.cache.instrument(tick.instrument_id)
        side = OrderSide.BUY if self._seen % (2 * QUOTES_PER_ORDER) else OrderSide.SELL
        size = instrument.make_qty(Decimal("0.001"))
        self.cancel_all_orders(instrument.id)
        self.submit_order(self.order_factory.market(instrument.id, side, size))
        far = instrument.make_price(tick.bid_price.as_decimal() / 2)
        self.submit_order(self.order_factory.limit(instrument.id, OrderSide.BUY, size, far))


def emit(url: str) -> tuple[dict[str, list[dict[str, str]]], str]:
    """Run the backtest with the bridge attached; return what its handlers saw, and the prefix."""
    emitted: dict[str, list[dict[str, str]]] = {"orders": [], "fills": []}
    engine = make_engine()
    bridge = NautilusRedisBridge(url)
    bridge.register_order_handler(emitted["orders"].append)
    bridge.register_fill_handler(emitted["fills"].append)
    bridge.attach(engine)

    async def run() -> None:
        await bridge.start()
        engine.run()
        await bridge.stop()

    try:
        asyncio.run(run())
        return emitted, bridge.prefix
    finally:
        engine.dispose()


def make_engine() -> BacktestEngine:
    """Return an engine with a few hundred quotes of the sample dataset and a strategy."""
    config = BacktestEngineConfig(
        trader_id=TraderId("SELFTEST-001"), logging=LoggingConfig(log_level="ERROR")
    )
    engine = BacktestEngine(config=config)
    engine.add_venue(
        venue=Venue("BINANCE_FUTURES"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        starting_balances=[Money.from_str("500000 USDT")],
        use_market_order_acks=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data")
        sample.generate(path, minutes=MINUTES)
        data = dataset.load(path)
    row = next(row for row in data.instruments if row.id == INSTRUMENT)
    engine.add_instrument(instrument_of(row))
    tape = Tape(data, [row])
    events: list[Any] = [
        tape.event(i, data.start_ns + tape.offsets_ns[i]) for i in range(len(tape))
    ]
    engine.add_data([event for event in events if isinstance(event, QuoteTick)])
    engine.add_strategy(_Alternate())
    return engine

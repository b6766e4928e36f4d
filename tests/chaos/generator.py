"""A real Nautilus engine that trades without a pause: about `rate` execution events a second.

A BacktestEngine, stepped in streaming mode with a quote of the present: it starts in an instant,
and its clock is the wall's, so no order's id comes again after a restart.
"""

import asyncio
import os
import random
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig, StrategyConfig
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide, TimeInForce
from nautilus_trader.model.identifiers import AccountId, InstrumentId, Symbol, TraderId, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

from tests.chaos.reconciled import Reconciled
from tests.chaos.recorder import Publish, Recorder

RECORD: Final = "CHAOS_RECORD"
RATE: Final = "CHAOS_RATE"
SEED: Final = "CHAOS_SEED"
# Where it is set: fills made up in reconciliation too; what they count for is written there.
STORIES: Final = "CHAOS_STORIES"
VENUE: Final = "BINANCE_FUTURES"
ACCOUNT: Final = AccountId(f"{VENUE}-001")
INSTRUMENT: Final = InstrumentId.from_str(f"BTCUSDT-PERP.{VENUE}")
NO_LIMIT: Final = "1000000/00:00:01"
RESTING_MAX: Final = 12
# What one turn of the loop may bring about, when it was held up before.
BURST_QUOTES_MAX: Final = 10
PAUSE_SECONDS_MAX: Final = 0.02


def instrument() -> CryptoPerpetual:
    """Return a linear perpetual swap with a fee."""
    return CryptoPerpetual(
        instrument_id=INSTRUMENT,
        raw_symbol=Symbol("BTCUSDT"),
        base_currency=Currency.from_str("BTC"),
        quote_currency=Currency.from_str("USDT"),
        settlement_currency=Currency.from_str("USDT"),
        is_inverse=False,
        price_precision=1,
        size_precision=3,
        price_increment=Price.from_str("0.1"),
        size_increment=Quantity.from_str("0.001"),
        maker_fee=Decimal("0.0002"),
        taker_fee=Decimal("0.0005"),
        margin_init=Decimal("0.05"),
        margin_maint=Decimal("0.025"),
        ts_event=0,
        ts_init=0,
    )


class Restless(Strategy):
    """Does one thing at each quote: trades, rests, modifies, cancels, or is refused."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(StrategyConfig(strategy_id="CHAOS", order_id_tag="001"))
        self.is_halted = False
        self._chance = chance
        self._resting: list[Any] = []
        self._steps = (self._trade, self._rest, self._sweep, self._cancel, self._modify)
        self._odd = (self._cross, self._deny)

    def on_start(self) -> None:
        """Listen to quotes."""
        self._instrument = self.cache.instrument(INSTRUMENT)
        self.subscribe_quote_ticks(INSTRUMENT)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Take a step."""
        if not self.is_halted:
            rare = self._chance.random() < 0.1
            self._chance.choice(self._odd if rare else self._steps)(tick)

    def _size(self, thousandths: int) -> Quantity:
        return Quantity(thousandths / 1000, 3)

    def _side(self) -> OrderSide:
        position = self.portfolio.net_position(INSTRUMENT)
        if abs(position) > Decimal("0.05"):
            return OrderSide.SELL if position > 0 else OrderSide.BUY
        return self._chance.choice((OrderSide.BUY, OrderSide.SELL))

    def _price(self, tick: QuoteTick, side: OrderSide, factor: str) -> Price:
        away = Decimal(factor) if side == OrderSide.BUY else 2 - Decimal(factor)
        return self._instrument.make_price(tick.bid_price.as_decimal() * away)

    def _trade(self, _: QuoteTick) -> None:
        size = self._size(self._chance.randint(1, 9))
        self.submit_order(self.order_factory.market(INSTRUMENT, self._side(), size))

    def _sweep(self, tick: QuoteTick) -> None:
        """Take more than there is: filled in part, the rest canceled."""
        size = self._size(self._chance.randint(15, 30))
        side = self._side()
        price = self._price(tick, side, "1.001")
        ioc = TimeInForce.IOC
        self.submit_order(
            self.order_factory.limit(INSTRUMENT, side, size, price, time_in_force=ioc)
        )

    def _rest(self, tick: QuoteTick) -> None:
        if len(self._resting) >= RESTING_MAX:
            self._cancel(tick)
        side = self._side()
        price = self._price(tick, side, "0.9")
        order = self.order_factory.limit(INSTRUMENT, side, self._size(5), price, post_only=True)
        self._resting.append(order)
        self.submit_order(order)

    def _cancel(self, _: QuoteTick) -> None:
        if self._resting:
            place = self._chance.randrange(len(self._resting))
            self.cancel_order(self._resting.pop(place))

    def _modify(self, tick: QuoteTick) -> None:
        if self._resting:
            order = self._chance.choice(self._resting)
            factor = f"0.{self._chance.randint(700, 950)}"
            self.modify_order(order, price=self._price(tick, order.side, factor))

    def _cross(self, tick: QuoteTick) -> None:
        """Would take what it may only add: rejected."""
        price = self._price(tick, OrderSide.BUY, "1.01")
        order = self.order_factory.limit(
            INSTRUMENT, OrderSide.BUY, self._size(1), price, post_only=True
        )
        self.submit_order(order)

    def _deny(self, _: QuoteTick) -> None:
        """More decimals than the instrument has: denied by the risk engine."""
        size = Quantity.from_str("0.00123")
        self.submit_order(self.order_factory.market(INSTRUMENT, OrderSide.BUY, size))


def from_environment(publish: Publish | None = None) -> "Generator":
    """Return the generator that this process was started for."""
    environ = os.environ
    return Generator(
        Path(environ[RECORD]),
        rate=float(environ[RATE]),
        seed=f"{environ[SEED]} {os.getpid()}",
        publish=publish,
        stories=Path(environ[STORIES]) if STORIES in environ else None,
    )


class Generator:
    """An engine, its recorder, and the pace. Tap its `kernel` before `run`."""

    def __init__(
        self,
        record: Path,
        *,
        rate: float,
        seed: str,
        publish: Publish | None = None,
        stories: Path | None = None,
    ) -> None:
        self._chance = random.Random(seed)
        self._rate = rate
        self._bid = 1_000_000  # ticks
        self._last_ns = 0
        self._is_stopped = False
        self.strategy = Restless(self._chance)
        self.engine = BacktestEngine(
            config=BacktestEngineConfig(
                trader_id=TraderId("CHAOS-001"),
                logging=LoggingConfig(bypass_logging=True),
                risk_engine=RiskEngineConfig(
                    max_order_submit_rate=NO_LIMIT, max_order_modify_rate=NO_LIMIT
                ),
                run_analysis=False,
            )
        )
        self.engine.add_venue(
            venue=Venue(VENUE),
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            starting_balances=[Money.from_str("1000000000 USDT")],
            use_market_order_acks=True,
        )
        self.engine.add_instrument(instrument())
        self.engine.add_strategy(self.strategy)
        self.kernel = self.engine.kernel
        self.recorder = Recorder(self.kernel, record, publish=publish)
        self._reconciled: Reconciled | None = None
        if stories is not None:
            self._reconciled = Reconciled(
                self.kernel, stories, account=ACCOUNT, instrument=INSTRUMENT, chance=self._chance
            )

    async def run(self) -> None:
        """Trade until `stop`."""
        clock = asyncio.get_running_loop().time
        start = clock()
        while not self._is_stopped:
            for _ in range(BURST_QUOTES_MAX):
                if self.recorder.count >= (clock() - start) * self._rate:
                    break
                self.step()
            await asyncio.sleep(self._chance.uniform(0, PAUSE_SECONDS_MAX))

    def step(self) -> None:
        """Show the engine one quote of now."""
        self._bid += self._chance.randint(-3, 3)
        self._last_ns = now_ns = max(time.time_ns(), self._last_ns + 1)
        bid, ask = Price(self._bid / 10, 1), Price((self._bid + 1) / 10, 1)
        size = Quantity(0.02, 3)
        self.engine.add_data([QuoteTick(INSTRUMENT, bid, ask, size, size, now_ns, now_ns)])
        self.engine.run(streaming=True)
        self.engine.clear_data()
        if self._reconciled is not None and self._chance.random() < 0.3:
            self._reconciled.step(bid)

    def halt(self) -> None:
        """Submit nothing more; cancel what rests."""
        self.strategy.is_halted = self._is_stopped = True
        self.strategy.cancel_all_orders(INSTRUMENT)
        self.step()

    def stop(self) -> None:
        """End it; twice is harmless."""
        self._is_stopped = True

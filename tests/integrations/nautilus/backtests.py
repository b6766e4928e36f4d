"""Backtests of a few quotes written by hand, and a strategy that does what it is told."""

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from nautilus_trader.common.component import TimeEvent
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.trading.strategy import Strategy

from integrations.binance.dataset import Dataset, Funding, Quotes, Trades
from integrations.binance.manifest import Instrument
from integrations.nautilus import backtest, backtest_settings
from integrations.nautilus.books import Books

SECOND = 1_000_000_000
START = 1_751_356_800 * SECOND - 60 * SECOND  # a minute before 2025-07-01 08:00
DUE = 60  # seconds from the start to the settlement
SPOT, PERP = "BTCUSDT.BINANCE_SPOT", "BTCUSDT-PERP.BINANCE_FUTURES"
TICK = Decimal("0.01")

type Seconds = float
type QuoteRow = tuple[Seconds, str, str]  # and bid, ask
type Rate = tuple[Seconds, str, str]  # and rate, mark

HEARD: list[tuple[str, Any]] = []  # by the last `Scripted`


class ScriptedConfig(StrategyConfig, frozen=True):
    """`params`: what to trade when, `{"1.5 <instrument>": "-0.1"}` sells 1.5 s after the start."""

    instrument_ids: tuple[InstrumentId, ...] = ()
    params: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    start_ns: int = 0


class Scripted(Strategy):
    """Sends the market orders of its script; writes down what it hears, and in which order."""

    counts = {"decisions": 3}  # noqa: RUF012 - read only

    def on_start(self) -> None:
        HEARD.clear()
        for instrument_id in self.config.instrument_ids:
            self.subscribe_quote_ticks(instrument_id)
            self.subscribe_mark_prices(instrument_id)
            self.subscribe_funding_rates(instrument_id)
        for number, (when, qty) in enumerate(self.config.params.items()):
            seconds, name = when.split()
            self.clock.set_time_alert_ns(
                f"order {number}",
                self.config.start_ns + round(float(seconds) * SECOND),
                lambda event, name=name, qty=qty: self._send(event, name, Decimal(qty)),
            )

    def _send(self, event: TimeEvent, name: str, qty: Decimal) -> None:
        HEARD.append(("timer", event.ts_event))
        instrument = self.cache.instrument(InstrumentId.from_str(name))
        side = OrderSide.BUY if qty > 0 else OrderSide.SELL
        size = instrument.make_qty(abs(qty))
        self.submit_order(self.order_factory.market(instrument.id, side, size, tags=["told"]))

    def on_quote_tick(self, tick: Any) -> None:
        HEARD.append((f"quote {tick.instrument_id}", tick.ts_event))

    def on_mark_price(self, mark_price: Any) -> None:
        HEARD.append((f"mark {mark_price.instrument_id}", mark_price.ts_event))

    def on_funding_rate(self, funding_rate: Any) -> None:
        HEARD.append((f"funding {funding_rate.instrument_id}", funding_rate.ts_event))

    def on_event(self, event: Any) -> None:
        HEARD.append((type(event).__name__, event))


def row_of(name: str, symbol: str, leg: str) -> Instrument:
    """Return a row of the instruments table."""
    fee = Decimal("0.001" if leg == "spot" else "0.0005")
    return Instrument(name, symbol, leg, TICK, Decimal("0.001"), Decimal(5), fee, symbol, "USDT")


def dataset(
    quotes: Mapping[str, Sequence[QuoteRow]],
    funding: Mapping[str, Sequence[Rate]] = {},
    *,
    seconds: float = 120,
    folder: Path = Path("by hand"),
) -> Dataset:
    """Return a dataset from `START` on; `quotes` and `funding` by instrument id."""
    names = [*quotes]
    rows = [
        row_of(name, name.partition("USDT")[0], "perp" if "PERP" in name else "spot")
        for name in names
    ]
    return Dataset(
        path=folder,
        start_ns=START,
        end_ns=START + round(seconds * SECOND),
        instruments=tuple(rows),
        quotes={name: _quotes(quotes[name]) for name in names},
        trades={name: Trades(*[_array([])] * 5) for name in names},
        funding={row.id: _funding(funding.get(row.id, ())) for row in rows if row.leg == "perp"},
        sha256=hashlib.sha256(repr((quotes, funding, seconds)).encode()).hexdigest(),
    )


def both(*seconds: float) -> dict[str, list[QuoteRow]]:
    """Return quotes of both legs of BTC at these times, the same all the time."""
    return {
        SPOT: [(each, "100.00", "100.02") for each in seconds],
        PERP: [(each, "100.05", "100.07") for each in seconds],
    }


def played(data: Dataset, folder: Path, script: Mapping[str, str] = {}, **given: Any) -> Books:
    """Run `Scripted` over the dataset; `given` are further settings."""
    settings = backtest_settings.load(
        overrides={"strategy": f"{__name__}:Scripted", "params": dict(script)} | given
    )
    return backtest.run(data, settings=settings, catalog=folder)


def at(seconds: float) -> int:
    """Return the time so many seconds from the start, in ns."""
    return START + round(seconds * SECOND)


def _quotes(rows: Sequence[QuoteRow]) -> Quotes:
    size = [100_000] * len(rows)
    prices = [
        [int(Decimal(text) / TICK) for _, *both in rows for text in [both[i]]] for i in (0, 1)
    ]
    return Quotes(_array([at(row[0]) for row in rows]), *map(_array, (*prices, size, size)))


def _funding(rows: Sequence[Rate]) -> Funding:
    return Funding(
        _array([at(row[0]) for row in rows]),
        _array([int(Decimal(row[1]).scaleb(8)) for row in rows]),
        _array([8] * len(rows)),
        _array([int(Decimal(row[2]) / TICK) for row in rows]),
    )


def _array(values: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)

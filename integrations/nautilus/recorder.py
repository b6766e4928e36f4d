"""Writes down what a backtest does, beside its strategy: orders, fills, settlements, mids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from nautilus_trader.common.component import TimeEvent
from nautilus_trader.model.data import MarkPriceUpdate
from nautilus_trader.model.enums import PositionAdjustmentType, order_side_to_str
from nautilus_trader.model.events import (
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInitialized,
    OrderRejected,
    PositionAdjusted,
    PositionEvent,
)
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId
from nautilus_trader.model.objects import FIXED_PRECISION
from nautilus_trader.system.kernel import NautilusKernel

from integrations.binance import manifest
from integrations.nautilus.books import EXACT, LEGS, ZERO, Fill, Order, Sample, Settlement
from integrations.nautilus.funding import signed
from integrations.nautilus.values import money, text

MINUTE_NS: Final = 60_000_000_000
TIMER: Final = "backtest-recorder"
PRIORITY: Final = 4  # behind the portfolio, in front of strategies
HALF_UNIT: Final = Decimal(5).scaleb(-FIXED_PRECISION - 1)
ENDS: Final = (OrderCanceled, OrderDenied, OrderExpired, OrderRejected)


@dataclass(slots=True)
class _Sent:
    """An order until it has ended."""

    ts: int
    instrument_id: InstrumentId
    side: str
    qty: Decimal
    reason: str
    mid: Decimal
    filled: Decimal = ZERO
    end_mid: Decimal | None = None


class Recorder:
    """Hears everything of one engine, from before its start, and changes nothing.

    At each full minute from `start_ns` on it notes the mids, and tells `on_minute` the time. It is
    no Actor: each one has a clock, which Nautilus would ask at every event.
    """

    def __init__(
        self,
        kernel: NautilusKernel,
        legs: Mapping[InstrumentId, manifest.Instrument],
        start_ns: int,
        on_minute: Callable[[int], None],
    ) -> None:
        self._cache, self._legs, self._on_minute = kernel.cache, legs, on_minute
        self._sent: dict[ClientOrderId, _Sent] = {}
        self.marks = 0  # that came by; they are fed, but are no events of the dataset
        self.fills: list[Fill] = []
        self.settlements: list[Settlement] = []
        self.samples: list[Sample] = []
        self.denied = self.rejected = 0
        kernel.msgbus.subscribe("events.order.*", self._on_order, PRIORITY)
        kernel.msgbus.subscribe("events.position.*", self._on_position, PRIORITY)
        kernel.msgbus.subscribe("data.mark_prices.*", self._on_mark, PRIORITY)
        first = -(-start_ns // MINUTE_NS) * MINUTE_NS
        kernel.clock.set_timer_ns(TIMER, MINUTE_NS, first, 0, self._on_time, True, True)

    def orders(self) -> list[Order]:
        """Return all orders; those that are still open end now."""
        return [
            Order(
                sent.ts,
                *self._leg(sent.instrument_id),
                sent.side,
                sent.qty,
                sent.mid,
                self._mid(sent.instrument_id) if sent.end_mid is None else sent.end_mid,
                sent.filled,
            )
            for sent in self._sent.values()
        ]

    def sample(self, ts: int) -> None:
        """Note the mids: nothing else changes a position's value between two events."""
        mids: dict[str, dict[str, Decimal]] = {}
        for instrument_id, row in self._legs.items():
            legs = mids.setdefault(row.symbol, dict.fromkeys(LEGS, ZERO))
            legs[row.leg] = self._mid(instrument_id)
        self.samples.append(Sample(ts, mids))

    @property
    def last_ts(self) -> int | None:
        """The time of the last quote or funding rate that came in."""
        quotes = [self._cache.quote_tick(each) for each in self._legs]
        rates = [self._cache.funding_rate(each) for each in self._legs]
        return max([each.ts_event for each in quotes + rates if each is not None], default=None)

    def _on_time(self, event: TimeEvent) -> None:
        self.sample(event.ts_event)
        self._on_minute(event.ts_event)

    def _on_mark(self, _: MarkPriceUpdate) -> None:
        self.marks += 1

    def _on_order(self, event: OrderEvent) -> None:
        if isinstance(event, OrderInitialized):
            self._sent[event.client_order_id] = _Sent(
                event.ts_event,
                event.instrument_id,
                order_side_to_str(event.side),
                Decimal(text(event.quantity)),
                event.tags[0] if event.tags else "",
                self._mid(event.instrument_id),
            )
            return
        sent = self._sent[event.client_order_id]
        if isinstance(event, OrderFilled):
            self._fill(event, sent)
        elif isinstance(event, ENDS):
            sent.end_mid = self._mid(event.instrument_id)
            self.denied += isinstance(event, OrderDenied)
            self.rejected += isinstance(event, OrderRejected)

    def _fill(self, event: OrderFilled, sent: _Sent) -> None:
        qty, mid = Decimal(text(event.last_qty)), self._mid(event.instrument_id)
        symbol, leg = self._leg(event.instrument_id)
        fee = Decimal(money(event.commission))
        px = Decimal(text(event.last_px))
        self.fills.append(
            Fill(event.ts_event, symbol, leg, sent.side, qty, px, fee, mid, sent.reason)
        )
        sent.filled += qty
        if sent.filled == sent.qty:
            sent.end_mid = mid

    def _on_position(self, event: PositionEvent | PositionAdjusted) -> None:
        if not isinstance(event, PositionAdjusted):
            return
        if event.adjustment_type != PositionAdjustmentType.FUNDING:
            return
        update = self._cache.funding_rate(event.instrument_id)
        self.settlements.append(
            Settlement(
                event.ts_event,
                self._leg(event.instrument_id)[0],
                signed(self._cache.position(event.position_id)),
                update.rate,
                Decimal(text(self._cache.mark_price(event.instrument_id).value)),
                Decimal(money(event.pnl_change)),
            )
        )

    def _leg(self, instrument_id: InstrumentId) -> tuple[str, str]:
        row = self._legs[instrument_id]
        return row.symbol, row.leg

    def _mid(self, instrument_id: InstrumentId) -> Decimal:
        quote = self._cache.quote_tick(instrument_id)
        if quote is None:
            return ZERO
        return EXACT.multiply(Decimal(quote.bid_price.raw + quote.ask_price.raw), HALF_UNIT)

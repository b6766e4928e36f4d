"""The basis carry strategy for Nautilus: one class for backtest, demo, shadow and live.

It buys spot and sells as much of the perpetual when that is rich, or earns high funding, and leaves
both when this has passed. With ordinary taker fees it loses: a round trip costs several times what
it captures. The rules are section 1 of the acceptance specification.

It decides on a timer of its own and reads what the cache holds by then; positions are the cache's,
too. What no cache knows, such as reason and basis of an entry, is put there before orders go out:
with a cache database, a node that is started again goes on with its position.

An order in its instruments that only the venue knows is taken for its own: so it finds what it had
sent when it was killed. What is traded there by hand it adopts, too, and closes: keep an account
for it alone.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Final

from nautilus_trader.common.component import LiveClock, TimeEvent
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.data import FundingRateUpdate
from nautilus_trader.model.enums import OrderSide, OrderStatus, TimeInForce
from nautilus_trader.model.events import OrderFilled, PositionEvent
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.instruments import CryptoPerpetual, Instrument
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.orders import Order
from nautilus_trader.trading.strategy import Strategy

from strategies.basis_carry import port_rules as rules
from strategies.basis_carry.params import HOUR_NS, BasisCarryParams
from strategies.basis_carry.port_memory import ZERO, Memory, Record, dumped, loaded
from strategies.basis_carry.port_rules import EXACT
from strategies.basis_carry.port_symbol import RAW_UNITS, Symbol, pairs_of

DAY_NS: Final = 24 * HOUR_NS
TIMER: Final = "decision"
ORPHAN: Final = "orphan"  # why a position without a record is closed


class NautilusBasisCarryStrategyConfig(StrategyConfig, frozen=True):
    """`params` is a table for `BasisCarryParams`, whose size fraction `size_fraction` multiplies.

    Decisions are counted from `start_ns`, unset from the last midnight UTC; without `end_ns` it
    never ends. Unset, `external_order_claims` are all instruments; no two strategies of a node may
    claim the same.
    """

    instrument_ids: tuple[InstrumentId, ...] = ()
    params: dict[str, str | int | float | bool] = {}  # noqa: RUF012 - msgspec copies it
    size_fraction: Decimal = Decimal(1)
    start_ns: int | None = None
    end_ns: int | None = None


class NautilusBasisCarryStrategy(Strategy):
    """Cash and carry in every symbol of which it is given a spot and a perpetual.

    `counts` says what it has done: `decisions`, `skipped.stale_quote`, `skipped.funding_guard`,
    `round_trips`, `exits.<reason>`, and `unfilled.<reason>` for exits of what never had a fill.
    Raises ValueError for parameters that cannot be used.
    """

    def __init__(self, config: NautilusBasisCarryStrategyConfig) -> None:
        super().__init__(config)
        if config.external_order_claims is None:
            self.external_order_claims.extend(config.instrument_ids)
        self.counts: Counter[str] = Counter()
        self._params = BasisCarryParams.from_mapping(config.params)
        self._fraction = self._params.size_fraction * config.size_fraction
        self._symbols: dict[str, Symbol] = {}
        self._by_id: dict[InstrumentId, Symbol] = {}
        self._saved: Mapping[str, Memory] = {}
        self._is_unsaved = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def on_start(self) -> None:
        """Take up what is held and remembered, subscribe, start the timer; or say why not."""
        params = self._params
        try:
            self._saved = self._remembered()
            for name, (spot, perp) in pairs_of(self.cache, self.config.instrument_ids).items():
                fresh = Memory(params.initial_rate, params.initial_interval_hours)
                symbol = Symbol(spot, perp, self._saved.get(name, fresh))
                with localcontext(EXACT):
                    symbol.resume(self.cache, self.id, params.interval_ns // 2)
                self._symbols[name] = symbol
        except ValueError as error:
            self.log.error(f"{self.id} cannot trade: {error}")
            self.stop()
            return
        for symbol in self._symbols.values():
            for instrument in symbol.instruments:
                self._by_id[instrument.id] = symbol
                self.subscribe_quote_ticks(instrument.id)
            self.subscribe_mark_prices(symbol.perp_id)
            self.subscribe_funding_rates(symbol.perp_id)
        self._start_timer()

    def on_stop(self) -> None:
        """Decide no more. What is held is kept: the next start goes on with it."""
        self.clock.cancel_timers()

    def on_save(self) -> dict[str, bytes]:
        """Return what has to survive a restart."""
        return {"memories": self._dumped()}

    def on_load(self, state: dict[str, bytes]) -> None:
        """Take up what `on_save` returned; what the cache holds is newer. Raises ValueError."""
        self._saved = loaded(state["memories"])

    def on_order_filled(self, event: OrderFilled) -> None:
        """Book a fill to the record that it was made for."""
        if symbol := self._by_id.get(event.instrument_id):
            with localcontext(EXACT):
                symbol.book(event)
            self._is_unsaved = True
            self._save()

    def on_position_event(self, event: PositionEvent) -> None:
        """Have the position read again before the next decision."""
        if symbol := self._by_id.get(event.instrument_id):
            symbol.is_stale = True

    def on_funding_rate(self, update: FundingRateUpdate) -> None:
        """Take over a settled rate, and book what it pays.

        A settlement names its interval and no next time; what venues stream is a prediction.
        """
        if update.next_funding_ns or not update.interval:
            return
        with localcontext(EXACT):
            self._by_id[update.instrument_id].settle(update, self.cache, self.id)
        self._is_unsaved = True
        self._save()

    def _start_timer(self) -> None:
        now_ns, interval_ns = self.clock.timestamp_ns(), self._params.interval_ns
        start_ns = self.config.start_ns
        if start_ns is None:
            start_ns = now_ns // DAY_NS * DAY_NS
        first_ns = start_ns + self._params.offset_ns
        first_ns += max(0, -((first_ns - now_ns) // interval_ns)) * interval_ns
        if isinstance(self.clock, LiveClock):
            self._loop = asyncio.get_running_loop()
        self.clock.set_timer_ns(
            TIMER, interval_ns, first_ns, 0, self._on_timer, fire_immediately=True
        )

    def _on_timer(self, event: TimeEvent) -> None:
        if self._loop is None:
            self._decide(event.ts_event)
        else:
            # A live clock calls from a thread of its own.
            self._loop.call_soon_threadsafe(self._decide, event.ts_event)

    def _is_ending(self, ts_ns: int) -> bool:
        end_ns = self.config.end_ns
        return end_ns is not None and ts_ns >= end_ns - self._params.end_of_run_ns

    def _decide(self, ts_ns: int) -> None:
        end_ns = self.config.end_ns
        if not self.is_running or (end_ns is not None and ts_ns >= end_ns):
            return
        with localcontext(EXACT):
            for symbol in self._symbols.values():
                self._decide_symbol(symbol, ts_ns)
        self._save()

    def _decide_symbol(self, symbol: Symbol, ts_ns: int) -> None:
        params, memory = self._params, symbol.memory
        if not symbol.look(self.cache, ts_ns - params.max_quote_age_ns):
            self.counts["skipped.stale_quote"] += 1
            return
        if memory.is_guarded(ts_ns, params.funding_guard_ns):
            self.counts["skipped.funding_guard"] += 1
            return
        self.counts["decisions"] += 1
        exact_bps = symbol.basis_bps()
        basis_bps = round(exact_bps, 9)
        symbol.refresh(self.cache, self.id)
        self._find_flat(symbol, ts_ns)
        if memory.arm(params, basis_bps, symbol.funding_annual):
            self._is_unsaved = True
        if memory.record is None:
            reason = memory.entry_reason(params, basis_bps, symbol.funding_annual)
            memory.record = self._orphan(symbol, ts_ns) or self._entry(
                symbol, ts_ns, reason, exact_bps
            )
            self._is_unsaved |= memory.record is not None
        elif not memory.record.exit_reason:
            self._leave(symbol, memory.record, ts_ns, exact_bps)
        if memory.record is not None and not symbol.orders:
            self._trade(symbol, memory.record)

    def _find_flat(self, symbol: Symbol, ts_ns: int) -> None:
        """Drop a record whose exit has fired and of which nothing is left that could be sold."""
        record = symbol.memory.record
        if record is None or not record.exit_reason or symbol.orders:
            return
        if rules.is_flat(symbol.pair, symbol.sellable(self.portfolio), symbol.perp, symbol.touch()):
            symbol.forget(ts_ns)
            self.counts["round_trips"] += record.has_fill
            self._is_unsaved = True

    def _orphan(self, symbol: Symbol, ts_ns: int) -> Record | None:
        """Return a record that closes what is held without one, if anything is."""
        is_held = symbol.spot or symbol.perp
        if not is_held or rules.is_flat(symbol.pair, symbol.spot, symbol.perp, symbol.touch()):
            return None
        self.counts[f"exits.{ORPHAN}"] += 1
        return Record(ts_ns, ORPHAN, ZERO, ZERO, 0.0, has_fill=True, exit_reason=ORPHAN)

    def _entry(self, symbol: Symbol, ts_ns: int, reason: str, exact_bps: float) -> Record | None:
        """Return the record of an entry for this reason, if there is one and it may be made."""
        if not reason or symbol.orders or self._is_ending(ts_ns):
            return None
        if symbol.memory.is_cooling(ts_ns, self._params.cooldown_ns):
            return None
        records = [each.memory.record for each in self._symbols.values()]
        reserved = sum([each.reserved for each in records if each is not None], ZERO)
        touch = symbol.touch()
        quantity = rules.entry_quantity(symbol.pair, self._params, self._fraction, reserved, touch)
        if not quantity:
            return None
        return Record(ts_ns, reason, quantity, quantity * touch.spot_ask, exact_bps)

    def _leave(self, symbol: Symbol, record: Record, ts_ns: int, exact_bps: float) -> None:
        """Fire the exit that is due, if any."""
        reason = record.exit_reason = rules.exit_reason(
            record,
            self._params,
            ts_ns=ts_ns,
            basis_bps=exact_bps,
            funding_annual=symbol.funding_annual,
            value=symbol.value(),
            is_ending=self._is_ending(ts_ns),
        )
        if reason:
            self.counts[f"{'exits' if record.has_fill else 'unfilled'}.{reason}"] += 1
            self._is_unsaved = True
        if reason in rules.DISARMING:
            symbol.memory.is_rich_armed = symbol.memory.is_funding_armed = False

    def _trade(self, symbol: Symbol, record: Record) -> None:
        """Send what brings the symbol nearer to its target: the spot, then the perpetual."""
        pair, spot, perp, ratio = symbol.pair, symbol.spot, symbol.perp, self._params.hedge_ratio
        if record.exit_reason:
            sizes = rules.exit_orders(
                pair, symbol.sellable(self.portfolio), perp, symbol.touch(), ratio
            )
        elif record.is_complete and perp == rules.perp_target(pair, spot, ratio):
            return
        else:
            touch, left = symbol.touch(), record.quantity - spot
            if not record.is_complete and left * touch.entry_price < pair.entry_min:
                record.is_complete = self._is_unsaved = True
            left = ZERO if record.is_complete else left
            sizes = rules.entry_orders(pair, left, spot, perp, touch, ratio)
        self._save()
        for instrument, signed in zip(symbol.instruments, sizes, strict=True):
            if signed:
                order = self._order(instrument, signed, record)
                symbol.orders.append(order)
                self.submit_order(order)
                if order.status == OrderStatus.DENIED:
                    return  # without it the other leg would stand alone

    def _order(self, instrument: Instrument, signed: Decimal, record: Record) -> Order:
        return self.order_factory.market(
            instrument.id,
            OrderSide.BUY if signed > 0 else OrderSide.SELL,
            Quantity.from_raw(int(abs(signed) * RAW_UNITS), instrument.size_precision),
            # What is larger than the size shown by then would stay half filled in a sandbox.
            time_in_force=TimeInForce.IOC,
            reduce_only=isinstance(instrument, CryptoPerpetual)
            and bool(record.exit_reason or signed > 0),
            tags=[record.exit_reason or record.reason],
        )

    @property
    def _key(self) -> str:
        return f"{self.id}.memories"

    def _remembered(self) -> Mapping[str, Memory]:
        """Return the memories by symbol. Raises ValueError."""
        content = self.cache.get(self._key)
        try:
            return loaded(content) if content else self._saved
        except ValueError as error:
            raise ValueError(
                f"what it remembers cannot be read: {error}; close its positions and remove the "
                f"key {self._key} from the cache's database"
            ) from None

    def _dumped(self) -> bytes:
        return dumped({**self._saved, **{name: x.memory for name, x in self._symbols.items()}})

    def _save(self) -> None:
        """Put what has changed into the cache, from where it reaches the cache's database."""
        if self._is_unsaved:
            self._is_unsaved = False
            self.cache.add(self._key, self._dumped())

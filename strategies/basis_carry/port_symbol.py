"""A symbol as the Nautilus port sees it: two instruments, their quotes, what is held of them."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from nautilus_trader.cache.base import CacheFacade
from nautilus_trader.model.data import FundingRateUpdate, QuoteTick
from nautilus_trader.model.enums import PositionSide
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import InstrumentId, StrategyId
from nautilus_trader.model.instruments import CryptoPerpetual, CurrencyPair, Instrument
from nautilus_trader.model.objects import FIXED_PRECISION
from nautilus_trader.model.orders import Order
from nautilus_trader.portfolio.base import PortfolioFacade

from strategies.basis_carry.port_memory import ZERO, Memory
from strategies.basis_carry.port_rules import FUNDING_UNIT, Leg, Pair, Touch, floored

RAW_UNITS: Final = 10**FIXED_PRECISION
HALF_RAW_UNIT: Final = Decimal("0.5").scaleb(-FIXED_PRECISION)
FIRST: Final = ("BTC", "ETH", "SOL")  # decide in front of all others


class Symbol:
    """Reads what the cache knows. Raises ValueError when the lots of the legs do not fit.

    Positions are exact and signed; those of the spot are without the dust of earlier exits.
    """

    def __init__(self, spot: Instrument, perp: Instrument, memory: Memory) -> None:
        self.instruments = (spot, perp)
        self.spot_id, self.perp_id = spot.id, perp.id
        self.pair = Pair(_leg_of(spot), _leg_of(perp))
        self.memory = memory
        self.funding_annual = memory.funding_annual()
        self.spot = self.perp = ZERO
        self.is_stale = True  # the positions have to be read again
        self.orders: list[Order] = []  # that were open when last looked at
        self._spot_quote: Any = None  # as of the last look
        self._perp_quote: Any = None

    def resume(self, cache: CacheFacade, strategy_id: StrategyId, slack_ns: int) -> None:
        """Take up orders that may still fill, and book anew what those of the record have filled.

        Fills that a reconciliation finds come before the strategy runs, and nobody tells it. Orders
        belong to the record from `slack_ns` before its time: a clock may have been set back.

        Raises ValueError when these fills are not what Nautilus says is held: it writes an order,
        then the position, and a kill in between loses the position for good.
        """
        orders: list[Order] = []
        for instrument in self.instruments:
            orders += cache.orders(instrument_id=instrument.id, strategy_id=strategy_id)
        # One that a killed node has not sent any more stays initialized for ever.
        self.orders = [order for order in orders if order.is_open or order.is_inflight]
        if (record := self.memory.record) is None:
            return
        record.spot_cost = record.perp_proceeds = ZERO
        filled = dict.fromkeys((self.spot_id, self.perp_id), ZERO)
        for order in orders:
            if order.ts_init >= record.ts_ns - slack_ns:
                for event in order.events:
                    if isinstance(event, OrderFilled):
                        self.book(event)
                        filled[event.instrument_id] += self._changed(event)
        if record.quantity:  # an orphan's fills are of earlier orders
            self._check_held(cache, strategy_id, filled)

    def _changed(self, fill: OrderFilled) -> Decimal:
        """Return by how much a fill changed the position: a fee in kind is taken out of it."""
        signed = fill.last_qty.as_decimal() * (1 if fill.is_buy else -1)
        fee = fill.commission
        is_in_kind = fill.instrument_id == self.spot_id and (
            fee.currency == self.instruments[0].base_currency
        )
        return signed - fee.as_decimal() if is_in_kind else signed

    def _check_held(
        self, cache: CacheFacade, strategy_id: StrategyId, filled: Mapping[InstrumentId, Decimal]
    ) -> None:
        self.refresh(cache, strategy_id)
        legs = (self.spot_id, self.spot, self.pair.spot), (self.perp_id, self.perp, self.pair.perp)
        for instrument_id, held, leg in legs:
            if abs(filled[instrument_id] - held) >= leg.lot:  # fees in kind are rounded
                raise ValueError(
                    f"{instrument_id}: its fills come to {filled[instrument_id]}, Nautilus's cache "
                    f"has {held}: a kill came between the two. Close both legs at the venue, then "
                    "start with an empty database in cache.url"
                )

    def book(self, fill: OrderFilled) -> None:
        """Add a fill to the record, if there is one."""
        if record := self.memory.record:
            amount = fill.last_px.as_decimal() * fill.last_qty.as_decimal()
            record.book(amount, is_spot=fill.instrument_id == self.spot_id, is_buy=fill.is_buy)

    def look(self, cache: CacheFacade, oldest_ns: int) -> bool:
        """Take the last quotes; return whether there are two, and none from before `oldest_ns`."""
        self._spot_quote = spot = cache.quote_tick(self.spot_id)
        self._perp_quote = perp = cache.quote_tick(self.perp_id)
        if spot is None or perp is None:
            return False
        return spot.ts_init >= oldest_ns and perp.ts_init >= oldest_ns

    def basis_bps(self) -> float:
        """Return how far the mid of the perpetual is above that of the spot, not rounded."""
        return (_mid(self._perp_quote) / _mid(self._spot_quote) - 1) * 1e4

    def value(self) -> Decimal:
        """Return what is held of both legs, at mid."""
        spot, perp = self._spot_quote, self._perp_quote
        return (
            self.spot * (spot.bid_price.raw + spot.ask_price.raw)
            + self.perp * (perp.bid_price.raw + perp.ask_price.raw)
        ) * HALF_RAW_UNIT

    def touch(self) -> Touch:
        """Return prices and sizes of both legs, exactly."""
        spot, perp = self._spot_quote, self._perp_quote
        return Touch(
            spot.bid_price.as_decimal(),
            spot.ask_price.as_decimal(),
            spot.bid_size.as_decimal(),
            spot.ask_size.as_decimal(),
            perp.bid_price.as_decimal(),
            perp.ask_price.as_decimal(),
            perp.bid_size.as_decimal(),
            perp.ask_size.as_decimal(),
        )

    def refresh(self, cache: CacheFacade, strategy_id: StrategyId) -> None:
        """Drop orders that are done; read the positions when they may have changed."""
        if self.orders:
            self.orders = [order for order in self.orders if not order.is_closed]
        if self.is_stale:
            self.is_stale = False
            held = _position(cache, self.spot_id, strategy_id)
            self.memory.dust = min(self.memory.dust, held)
            self.spot = held - self.memory.dust
            self.perp = _position(cache, self.perp_id, strategy_id)

    def sellable(self, portfolio: PortfolioFacade) -> Decimal:
        """Return how much spot can be sold: a fee may have been taken out of what was bought."""
        spot = self.instruments[0]
        account = portfolio.account(spot.venue)
        free = None if account is None else account.balance_free(spot.base_currency)
        if free is None:
            return self.spot
        return min(self.spot, floored(free.as_decimal(), self.pair.spot.lot))

    def settle(
        self, update: FundingRateUpdate, cache: CacheFacade, strategy_id: StrategyId
    ) -> None:
        """Take over a settled rate, and book what it pays for the position at the mark price."""
        memory, mark = self.memory, _mark(cache, self.perp_id)
        memory.rate = float(update.rate)
        memory.interval_hours = max(1, update.interval // 60)
        self.funding_annual = memory.funding_annual()
        self.refresh(cache, strategy_id)
        if memory.record is not None and mark is not None:
            amount = -self.perp * mark * update.rate
            memory.record.funding += amount.quantize(FUNDING_UNIT)

    def forget(self, ts_ns: int) -> None:
        """Drop the record: what is left of the spot is dust."""
        self.memory.record, self.memory.flat_ns = None, ts_ns
        self.memory.dust += self.spot
        self.spot = ZERO


def pairs_of(
    cache: CacheFacade, instrument_ids: Iterable[InstrumentId]
) -> dict[str, tuple[Instrument, Instrument]]:
    """Return spot and perpetual by symbol, in the order in which symbols decide.

    Raises ValueError unless each instrument is known and each symbol has one of both.
    """
    legs: dict[str, dict[type, Instrument]] = {}
    for instrument_id in instrument_ids:
        instrument = cache.instrument(instrument_id)
        if instrument is None:
            raise ValueError(f"{instrument_id} is not in the cache")
        if not isinstance(instrument, CurrencyPair | CryptoPerpetual):
            raise ValueError(f"{instrument_id} is neither a spot nor a perpetual")
        found = legs.setdefault(instrument.base_currency.code, {})
        if other := found.get(type(instrument)):
            raise ValueError(f"{other.id} and {instrument_id} are the same leg of one symbol")
        found[type(instrument)] = instrument
    for name, found in legs.items():
        if len(found) < 2:
            only = next(iter(found.values())).id
            raise ValueError(f"{name} has {only} only, and needs a spot and a perpetual")
    first = [name for name in FIRST if name in legs]
    names = first + sorted(legs.keys() - first)
    return {name: (legs[name][CurrencyPair], legs[name][CryptoPerpetual]) for name in names}


def _leg_of(instrument: Instrument) -> Leg:
    least = instrument.min_notional
    return Leg(
        instrument.size_increment.as_decimal(), ZERO if least is None else least.as_decimal()
    )


def _mid(quote: QuoteTick) -> float:
    # Integers divide to the nearest float; `as_double` may be one step beside it.
    return (quote.bid_price.raw / RAW_UNITS + quote.ask_price.raw / RAW_UNITS) / 2


def _position(cache: CacheFacade, instrument_id: InstrumentId, strategy_id: StrategyId) -> Decimal:
    """Return what the strategy holds; `Position.signed_qty` would be a float."""
    open_ = cache.positions_open(instrument_id=instrument_id, strategy_id=strategy_id)
    return sum(
        [
            each.quantity.as_decimal() * (-1 if each.side == PositionSide.SHORT else 1)
            for each in open_
        ],
        ZERO,
    )


def _mark(cache: CacheFacade, perp_id: InstrumentId) -> Decimal | None:
    """Return the last mark price; where there is none the mid, and without a quote None."""
    if mark := cache.mark_price(perp_id):
        return mark.value.as_decimal()
    quote = cache.quote_tick(perp_id)
    return quote and (quote.bid_price.as_decimal() + quote.ask_price.as_decimal()) / 2

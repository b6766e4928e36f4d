"""Real Nautilus objects for tests of translation: instruments, orders, events, a cache."""

from collections.abc import Mapping, Sequence
from typing import Any

from nautilus_trader.cache.cache import Cache
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import (
    LiquiditySide,
    OmsType,
    OptionKind,
    OrderSide,
    PositionAdjustmentType,
    TimeInForce,
)
from nautilus_trader.model.events import (
    OrderAccepted,
    OrderCanceled,
    OrderCancelRejected,
    OrderDenied,
    OrderEmulated,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderModifyRejected,
    OrderPendingCancel,
    OrderPendingUpdate,
    OrderRejected,
    OrderReleased,
    OrderSubmitted,
    OrderTriggered,
    OrderUpdated,
    PositionAdjusted,
)
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    PositionId,
    StrategyId,
    Symbol,
    TradeId,
    TraderId,
    Venue,
    VenueOrderId,
)
from nautilus_trader.model.instruments import (
    CryptoOption,
    CryptoPerpetual,
    CurrencyPair,
    Instrument,
)
from nautilus_trader.model.objects import Currency, Money, Price, Quantity
from nautilus_trader.model.orders import LimitOrder, MarketOrder, Order
from nautilus_trader.model.position import Position

from bridge.core.contract import STREAMS, Entry, Names, default_names
from integrations.nautilus.market import Routes, Trim
from integrations.nautilus.translate import Translator

TRADER = TraderId("DESK-001")
STRATEGY = StrategyId("CARRY-001")
ACCOUNT = AccountId("BINANCE_FUTURES-001")
VENUE_ORDER = VenueOrderId("8389765")
ALIAS = {"BINANCE_SPOT": "BINANCE", "BINANCE_FUTURES": "BINANCE"}
TS_NS = 1_751_355_900_995_804_000


def uuid(number: int) -> UUID4:
    """Return a fixed UUID."""
    return UUID4.from_str(f"00000000-0000-4000-8000-{number:012d}")


def money(text: str) -> Money:
    """Return the amount in a text such as `1.5 USDT`."""
    return Money.from_str(text)


# --- instruments


def currency(code: str) -> Currency:
    """Return the currency, of 8 digits when Nautilus does not know it."""
    return Currency.from_str(code)


def _increments(price_precision: int, size_precision: int) -> dict[str, Any]:
    return {
        "price_precision": price_precision,
        "size_precision": size_precision,
        "price_increment": Price(10**-price_precision, price_precision),
        "size_increment": Quantity(10**-size_precision, size_precision),
        "ts_event": 0,
        "ts_init": 0,
    }


def _id(symbol: str, venue: str) -> dict[str, Any]:
    return {
        "instrument_id": InstrumentId(Symbol(symbol), Venue(venue)),
        "raw_symbol": Symbol(symbol),
    }


def perpetual(symbol: str = "BTCUSDT-PERP", **changes: Any) -> CryptoPerpetual:
    """Return a linear perpetual swap, BTC in USDT unless `changes` say otherwise."""
    venue = changes.pop("venue", "BINANCE_FUTURES")
    digits = _increments(changes.pop("price_digits", 2), changes.pop("size_digits", 3))
    codes = {"base_currency": "BTC", "quote_currency": "USDT", "settlement_currency": "USDT"}
    codes |= {name: changes.pop(name) for name in list(changes) if name in codes}
    currencies = {name: currency(code) for name, code in codes.items()}
    plain: dict[str, Any] = {"is_inverse": False, "multiplier": Quantity.from_int(1)}
    return CryptoPerpetual(**_id(symbol, venue), **currencies, **digits, **(plain | changes))


def inverse(symbol: str = "BTC-PERPETUAL") -> CryptoPerpetual:
    """Return an inverse perpetual swap, contracts of 10 USD settled in BTC."""
    return perpetual(
        symbol,
        venue="DERIBIT",
        quote_currency="USD",
        settlement_currency="BTC",
        is_inverse=True,
        multiplier=Quantity.from_str("10"),
        price_digits=1,
        size_digits=0,
    )


def pair(symbol: str = "BTCUSDT", base: str = "BTC", quote: str = "USDT", **kw: Any) -> Any:
    """Return a spot pair."""
    return CurrencyPair(
        **_id(symbol, kw.get("venue", "BINANCE_SPOT")),
        base_currency=currency(base),
        quote_currency=currency(quote),
        **_increments(kw.get("price_digits", 2), kw.get("size_digits", 5)),
    )


def option(symbol: str = "BNB-261225-600-C", base: str = "BNB") -> CryptoOption:
    """Return an option, whose price is not that of its base currency."""
    return CryptoOption(
        **_id(symbol, "BINANCE_OPTIONS"),
        underlying=currency(base),
        quote_currency=currency("USDT"),
        settlement_currency=currency("USDT"),
        is_inverse=False,
        option_kind=OptionKind.CALL,
        strike_price=Price.from_str("600"),
        activation_ns=0,
        expiration_ns=TS_NS,
        **_increments(1, 2),
    )


def cache_of(*instruments: Instrument) -> Cache:
    """Return a cache that knows the instruments."""
    cache = Cache()
    for instrument in instruments:
        cache.add_instrument(instrument)
    return cache


def quote_of(instrument: Instrument, bid: str, ask: str) -> QuoteTick:
    """Return a quote of size 1."""
    size = Quantity.from_int(1)
    return QuoteTick(instrument.id, Price.from_str(bid), Price.from_str(ask), size, size, TS_NS, 0)


def routes_of(*instruments: Instrument, names: Names | None = None, **trim: int) -> Routes:
    """Return the routes of a cache with the instruments; `trim` as Trim takes it."""
    return Routes(
        names or default_names(),
        cache_of(*instruments),
        venue_alias=ALIAS,
        trim=Trim(**({"maxlen": 1000} | trim)),
    )


# --- orders and their events


def as_price(price: str | Price) -> Price:
    """Return the price; a text of more than 28 digits would be rounded, by Nautilus."""
    return price if isinstance(price, Price) else Price.from_str(price)


def as_quantity(qty: str | Quantity) -> Quantity:
    """Return the quantity; a text of more than 28 digits would be rounded, by Nautilus."""
    return qty if isinstance(qty, Quantity) else Quantity.from_str(qty)


def limit(instrument: Instrument, *, qty: Any = "0.010", price: Any = "50000.50", **kw: Any) -> Any:
    """Return a limit order to buy."""
    return LimitOrder(
        TRADER,
        STRATEGY,
        instrument.id,
        ClientOrderId(kw.pop("name", "O-1")),
        kw.pop("side", OrderSide.BUY),
        as_quantity(qty),
        as_price(price),
        init_id=uuid(1),
        ts_init=TS_NS,
        **kw,
    )


def market(instrument: Instrument, *, qty: str = "0.010", name: str = "O-2") -> MarketOrder:
    """Return a market order to sell, immediate or cancel."""
    return MarketOrder(
        TRADER,
        STRATEGY,
        instrument.id,
        ClientOrderId(name),
        OrderSide.SELL,
        Quantity.from_str(qty),
        init_id=uuid(1),
        ts_init=TS_NS,
        time_in_force=TimeInForce.IOC,
    )


_SENT = ("account_id", "ts_event")
_PLACED = (*_SENT, "venue_order_id", "reconciliation")

# What the constructor of each class takes beside the order's own identifiers.
EVENT_FIELDS: Mapping[type[OrderEvent], Sequence[str]] = {
    OrderDenied: ("reason",),
    OrderEmulated: (),
    OrderReleased: ("released_price",),
    OrderSubmitted: _SENT,
    OrderAccepted: _PLACED,
    OrderRejected: (*_SENT, "reason", "reconciliation"),
    OrderCanceled: _PLACED,
    OrderExpired: _PLACED,
    OrderTriggered: _PLACED,
    OrderPendingUpdate: _PLACED,
    OrderPendingCancel: _PLACED,
    OrderModifyRejected: (*_PLACED, "reason"),
    OrderCancelRejected: (*_PLACED, "reason"),
    OrderUpdated: (*_PLACED, "quantity", "price", "trigger_price"),
}


def event_of(kind: type[OrderEvent], order: Order, **changes: Any) -> Any:
    """Return an event of `kind` for the order; `changes` are fields of it."""
    usual = {
        "reason": "",
        "released_price": Price.from_str("50000.00"),
        "account_id": ACCOUNT,
        "venue_order_id": VENUE_ORDER,
        "ts_event": TS_NS,
        "reconciliation": False,
        "quantity": order.quantity,
        "price": None,
        "trigger_price": None,
    }
    fields = {name: changes.get(name, usual[name]) for name in EVENT_FIELDS.get(kind, _PLACED)}
    return kind(
        order.trader_id,
        order.strategy_id,
        order.instrument_id,
        order.client_order_id,
        event_id=uuid(changes.get("number", 7)),
        ts_init=TS_NS,
        **fields,
    )


def fill_of(instrument: Instrument, order: Order | None = None, **changes: Any) -> OrderFilled:
    """Return a fill of 0.004 at 50000.50 for 0.10 USDT, taken, unless `changes` say otherwise."""
    order = order or limit(instrument)
    return OrderFilled(
        order.trader_id,
        order.strategy_id,
        instrument.id,
        changes.get("client_order_id", order.client_order_id),
        changes.get("venue_order_id", VENUE_ORDER),
        changes.get("account_id", ACCOUNT),
        TradeId(changes.get("trade_id", "77001")),
        PositionId(changes.get("position_id", "P-1")),
        changes.get("side", order.side),
        order.order_type,
        as_quantity(changes.get("qty", "0.004")),
        as_price(changes.get("price", "50000.50")),
        instrument.quote_currency,
        money(changes.get("fee", "0.10 USDT")),
        changes.get("liquidity", LiquiditySide.TAKER),
        event_id=uuid(changes.get("number", 8)),
        ts_event=changes.get("ts_event", TS_NS),
        ts_init=TS_NS,
        reconciliation=changes.get("reconciliation", False),
    )


def adjustment(instrument: Instrument, kind: PositionAdjustmentType, pnl: str) -> PositionAdjusted:
    """Return an adjustment of a position's PnL."""
    ids = (TRADER, STRATEGY, instrument.id, PositionId("P-1"), ACCOUNT)
    return PositionAdjusted(*ids, kind, None, money(pnl), None, uuid(9), TS_NS, TS_NS)


def add_position(cache: Cache, position: Position) -> None:
    """Put the position into the cache."""
    cache.add_position(position, OmsType.NETTING)


# --- what comes out


def translator_of(cache: Cache, run: str = "") -> Translator:
    """Return a translator; `run` is the run's id of a simulated account."""
    return Translator(cache, venue_alias=ALIAS, run_of=lambda account: run)


def fields_of(entry: Entry) -> dict[str, str]:
    """Return an exec entry's fields by name, without the tail."""
    return dict(zip(STREAMS[entry.kind].names, entry.values, strict=True))


def known(order: Order) -> Cache:
    """Return a cache that knows the order."""
    cache = cache_of()
    cache.add_order(order)
    return cache


def happen(order: Order, *events: type[OrderEvent] | OrderEvent) -> None:
    """Apply events to the order, usual ones of a class or given ones."""
    for event in events:
        order.apply(event_of(event, order) if isinstance(event, type) else event)


def entry_of(translator: Translator, event: OrderEvent) -> dict[str, str]:
    """Return the fields of the last entry of an order event, which is the order's."""
    return fields_of(translator.order(event)[-1])

"""Market data -> XADD: every number is the tick's own, to the last digit."""

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nautilus_trader.model.data import (
    Bar,
    BarType,
    FundingRateUpdate,
    IndexPriceUpdate,
    MarkPriceUpdate,
    QuoteTick,
    TradeTick,
)
from nautilus_trader.model.enums import AggressorSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
from nautilus_trader.model.objects import Price, Quantity

from integrations.nautilus import market
from integrations.nautilus.market import MarkPrices
from tests.integrations.nautilus.builders import (
    TS_NS,
    perpetual,
    quote_of,
    routes_of,
)
from tests.integrations.nautilus.ranges import (
    ORACLE,
    PRICE_MAX,
    digits_of,
    oracle,
    precisions,
    prices,
    quantities,
    written,
)

BTC = perpetual()
SYMBOLS = ("BTCUSDT-PERP", "A,B", "币安人生USDT", "x|%y z", "1000€-É")
TRADE_IDS = ("77001", "a,b,c", "-", "T-5c4eb946e84ad7d4-001", "x" * 36, ", ,")
# The last nanosecond that Nautilus can hold, and the first.
timestamps = st.one_of(st.integers(0, 2**64 - 1), st.just(TS_NS))


EVERY_SYMBOL = {symbol: perpetual(symbol) for symbol in SYMBOLS}
ROUTES = routes_of(*EVERY_SYMBOL.values())
# One encoder for all examples: what it remembers must never spoil the next entry.
QUOTES = market.quote_encoder(ROUTES)
TRADES = market.trade_encoder(ROUTES)
BARS = market.plain_encoder(ROUTES, "bars", market.bar_values)
FUNDING = market.plain_encoder(ROUTES, "funding", market.funding_values)


def fields_of(kind: str, encode: Callable[[Sequence[Any]], bytes], event: Any) -> dict[str, str]:
    (entry,) = written(kind, encode([event]))
    assert entry.fields["venue"] == "BINANCE"
    return entry.fields


def is_exactly(text: str, number: Price | Quantity) -> bool:
    """Return whether the text is the number, with as many digits as the number has."""
    return Decimal(text) == oracle(number.raw) and digits_of(text) == number.precision


@st.composite
def quotes(draw: st.DrawFn) -> QuoteTick:
    price, size = draw(precisions), draw(precisions)
    return QuoteTick(
        EVERY_SYMBOL[draw(st.sampled_from(SYMBOLS))].id,
        draw(prices(price)),
        draw(prices(price)),
        draw(quantities(size)),
        draw(quantities(size)),
        draw(timestamps),
        0,
    )


@given(quotes())
def test_every_number_of_a_quote_is_exact(quote: QuoteTick) -> None:
    """Prices and sizes keep the tick's digits, over all that Nautilus can hold."""
    fields = fields_of("quotes", QUOTES, quote)

    assert is_exactly(fields["bid_px"], quote.bid_price)
    assert is_exactly(fields["ask_px"], quote.ask_price)
    assert is_exactly(fields["bid_sz"], quote.bid_size)
    assert is_exactly(fields["ask_sz"], quote.ask_size)
    assert fields["ts_ns"] == str(quote.ts_event)


@given(quotes())
def test_the_mid_is_exact_with_one_more_digit(quote: QuoteTick) -> None:
    """The mid is (bid + ask) / 2, never rounded."""
    mid = fields_of("quotes", QUOTES, quote)["mid"]

    total = ORACLE.add(oracle(quote.bid_price.raw), oracle(quote.ask_price.raw))
    assert Decimal(mid) == ORACLE.divide(total, Decimal(2))
    assert digits_of(mid) == quote.bid_price.precision + 1


def test_a_quote_does_not_lend_its_price_to_one_that_only_looks_alike() -> None:
    """`str` of two prices that differ in the 16th digit is the same: each is told apart."""
    plain = Price.from_raw(PRICE_MAX * 10**16, 0)
    fine = Price.from_raw(PRICE_MAX * 10**16, 16)
    one = Quantity.from_int(1)
    pair_of = [QuoteTick(BTC.id, price, price, one, one, 1, 1) for price in (plain, fine, plain)]

    found = [entry.fields["bid_px"] for entry in written("quotes", QUOTES(pair_of))]

    assert found == ["17014118346046", f"17014118346046.{'0' * 16}", "17014118346046"]


@given(st.data(), precisions, precisions)
def test_every_number_of_a_trade_is_exact(data: st.DataObject, price: int, size: int) -> None:
    """Price, size, time and id of a trade are the tick's own; ids may hold commas."""
    aggressor = data.draw(st.sampled_from(list(AggressorSide)))
    trade = TradeTick(
        EVERY_SYMBOL[data.draw(st.sampled_from(SYMBOLS))].id,
        data.draw(prices(price)),
        data.draw(quantities(size, low=1)),
        aggressor,
        TradeId(data.draw(st.sampled_from(TRADE_IDS))),
        data.draw(timestamps),
        0,
    )

    fields = fields_of("trades", TRADES, trade)

    assert is_exactly(fields["price"], trade.price)
    assert is_exactly(fields["size"], trade.size)
    assert fields["side"] == {0: "NONE", 1: "BUYER", 2: "SELLER"}[aggressor]
    assert (fields["trade_id"], fields["ts_ns"]) == (trade.trade_id.value, str(trade.ts_event))


@given(st.data(), precisions, precisions)
def test_every_number_of_a_bar_is_exact(data: st.DataObject, price: int, size: int) -> None:
    """Open, high, low, close and volume are the bar's own, negative prices included."""
    drawn = [data.draw(prices(price)) for _ in range(4)]
    low, open_, close, high = sorted(drawn, key=lambda found: found.raw)
    symbol = data.draw(st.sampled_from(SYMBOLS))
    bar_type = BarType.from_str(f"{symbol}.BINANCE_FUTURES-1-MINUTE-LAST-EXTERNAL")
    volume = data.draw(quantities(size))
    bar = Bar(bar_type, open_, high, low, close, volume, data.draw(timestamps), 0)

    fields = fields_of("bars", BARS, bar)

    for name in ("open", "high", "low", "close", "volume"):
        assert is_exactly(fields[name], getattr(bar, name))
    assert (fields["bar_type"], fields["ts_ns"]) == (str(bar_type), str(bar.ts_event))


@given(st.data(), precisions)
def test_a_mark_price_carries_the_latest_index(data: st.DataObject, precision: int) -> None:
    """The index is empty before the first index price, then always the latest of its instrument."""
    marks = MarkPrices()
    encode = market.plain_encoder(ROUTES, "mark", marks.values)
    other, *indexes = (data.draw(prices(precision)) for _ in range(3))
    mark = MarkPriceUpdate(BTC.id, data.draw(prices(precision)), TS_NS, 0)
    marks.on_index(IndexPriceUpdate(EVERY_SYMBOL["A,B"].id, other, TS_NS, 0))
    assert fields_of("mark", encode, mark)["index"] == ""

    for index in indexes:
        marks.on_index(IndexPriceUpdate(BTC.id, index, TS_NS, 0))

    fields = fields_of("mark", encode, mark)
    assert is_exactly(fields["mark"], mark.value)
    assert is_exactly(fields["index"], indexes[-1])
    assert fields["ts_ns"] == str(TS_NS)


@given(
    st.decimals(allow_nan=False, allow_infinity=False),
    st.none() | st.integers(1, 100_000),
    st.none() | timestamps,
)
def test_a_funding_rate_keeps_its_digits(rate: Decimal, minutes: Any, next_ns: Any) -> None:
    """The rate is the very decimal, without an exponent; interval and next time may be absent."""
    update = FundingRateUpdate(BTC.id, rate, TS_NS, 0, interval=minutes, next_funding_ns=next_ns)

    fields = fields_of("funding", FUNDING, update)

    assert Decimal(fields["rate"]) == rate and "E" not in fields["rate"]
    assert digits_of(fields["rate"]) == max(0, -int(rate.as_tuple().exponent))
    assert fields["next_ts_ns"] == ("" if next_ns is None else str(next_ns))
    if minutes is None:
        assert fields["interval_hours"] == ""
    else:
        assert round(Decimal(fields["interval_hours"]) * 60, 9) == minutes


@pytest.mark.parametrize(("minutes", "hours"), [(480, "8"), (60, "1"), (30, "0.5"), (90, "1.5")])
def test_the_funding_interval_is_in_hours(minutes: int, hours: str) -> None:
    """Nautilus counts the interval in minutes, the stream in hours."""
    update = FundingRateUpdate(BTC.id, Decimal("0.0001"), TS_NS, 0, interval=minutes)
    assert fields_of("funding", FUNDING, update)["interval_hours"] == hours


@pytest.mark.parametrize("rate", [Decimal("NaN"), Decimal("Infinity"), 0.0001])
def test_a_rate_that_is_no_decimal_is_an_error(rate: Any) -> None:
    """A rate that is not a finite decimal, a float for one, is never written."""
    with pytest.raises((ValueError, AttributeError)):
        FUNDING([FundingRateUpdate(BTC.id, rate, TS_NS, 0)])


def test_the_decimal_context_of_a_strategy_changes_nothing() -> None:
    """A strategy may set the thread's decimal precision; the numbers stay whole."""
    marks = MarkPrices()
    price, size = Price.from_str("123456.78901234"), Quantity.from_str("0.12345678")
    with localcontext() as context:
        context.prec = 3
        quote = fields_of("quotes", QUOTES, QuoteTick(BTC.id, price, price, size, size, 1, 1))
        mark = marks.values(MarkPriceUpdate(BTC.id, price, 1, 1))

    assert (quote["mid"], quote["ask_sz"]) == ("123456.789012340", "0.12345678")
    assert mark[0] == "123456.78901234"


@pytest.mark.parametrize("every", [256, 1])
def test_exactly_each_nth_entry_of_a_stream_trims_it(every: int) -> None:
    """The first XADD of a stream and each 256th behind it carry MAXLEN, however chunks are cut."""
    eth = perpetual("ETHUSDT-PERP")
    encode = market.quote_encoder(routes_of(BTC, eth, maxlen=5000, every=every))
    ticks = [quote_of(BTC, "1.00", "1.01"), quote_of(eth, "2.00", "2.01")]
    sizes = [1, 255, 256, 7, 250, 256]

    found = [
        entry
        for size in sizes
        for entry in written("quotes", encode([ticks[i % 2] for i in range(size)]))
    ]

    for key in ("market.raw.crypto.BTCUSDT-PERP", "market.raw.crypto.ETHUSDT-PERP"):
        trims = [entry.maxlen for entry in found if entry.key == key]
        expected = ["5000" if i % every == 0 else None for i in range(len(trims))]
        assert len(trims) > 500 and trims == expected


def test_a_symbol_of_any_alphabet_arrives_whole() -> None:
    """Lengths on the wire are bytes, not characters."""
    symbol = "币安人生USDT"
    tick = quote_of(EVERY_SYMBOL[symbol], "1.00", "1.01")
    assert InstrumentId(Symbol(symbol), Venue("BINANCE_FUTURES")) == tick.instrument_id

    (entry,) = written("quotes", QUOTES([tick]))

    assert entry.key == f"market.raw.crypto.{symbol}"

"""The replay client: a recorded dataset as live data."""

import asyncio
import itertools
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from nautilus_trader.common.component import TestClock
from nautilus_trader.model.data import QuoteTick, TradeTick
from nautilus_trader.model.instruments import CryptoPerpetual, CurrencyPair
from nautilus_trader.model.objects import Money

from integrations.nautilus.replay import ReplayClientConfig, Tape, instrument_of, replay_factory
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import PERP, SPOT, running, sample_data, until
from tests.integrations.nautilus.scripts import Script

SECOND_NS = 1_000_000_000


def test_quotes_are_the_datasets():
    """Prices and sizes come out exactly, in the instrument's decimals and in order of time."""
    quotes = [event for event in engines.events_of(PERP) if isinstance(event, QuoteTick)]
    columns, row = sample_data().quotes[PERP.value], engines.row_of(PERP)

    def scaled(value: int, decimals: int) -> str:
        return format(Decimal(int(value)).scaleb(-decimals), "f")

    assert len(quotes) == len(columns.ts)
    for i, quote in enumerate(quotes):
        assert str(quote.bid_price) == scaled(columns.bid[i], row.price_decimals)
        assert str(quote.ask_price) == scaled(columns.ask[i], row.price_decimals)
        assert str(quote.bid_size) == scaled(columns.bid_size[i], row.size_decimals)
        assert str(quote.ask_size) == scaled(columns.ask_size[i], row.size_decimals)


def test_trades_are_the_datasets():
    """Price, size, aggressor and id come out exactly."""
    trades = [event for event in engines.events_of(SPOT) if isinstance(event, TradeTick)]
    columns, row = sample_data().trades[SPOT.value], engines.row_of(SPOT)

    assert len(trades) == len(columns.ts)
    for i, trade in enumerate(trades):
        assert trade.price.as_decimal() == Decimal(int(columns.price[i])).scaleb(
            -row.price_decimals
        )
        assert trade.size.as_decimal() == Decimal(int(columns.size[i])).scaleb(-row.size_decimals)
        assert trade.aggressor_side.name == ("BUYER" if columns.side[i] > 0 else "SELLER")
        assert str(trade.trade_id) == str(columns.trade_id[i])


def test_a_tape_is_in_order_of_time():
    """The events of several instruments are one sequence, its first at zero."""
    data = sample_data()
    tape = Tape(data, data.instruments)

    assert tape.offsets_ns[0] == 0
    assert tape.offsets_ns == sorted(tape.offsets_ns)
    columns = [*data.quotes.values(), *data.trades.values()]
    assert len(tape) == sum(len(column.ts) for column in columns)


def test_instruments_have_the_tables_rules():
    """Ticks, lots, minimum and fees are the dataset's; the leg tells the class."""
    spot, perp = (instrument_of(engines.row_of(id_)) for id_ in (SPOT, PERP))

    assert isinstance(spot, CurrencyPair)
    assert isinstance(perp, CryptoPerpetual)
    assert (str(perp.price_increment), str(perp.size_increment)) == ("0.10", "0.001")
    assert perp.min_notional == Money.from_str("100 USDT")
    assert (spot.maker_fee, perp.taker_fee) == (Decimal("0.001"), Decimal("0.0005"))


def make_client(clock: Any, rate: float | None) -> Any:
    """Return the client of the perpetuals, built by the node's factory, on a clock of the test."""
    node = engines.make_node()
    client = replay_factory(sample_data()).create(
        loop=asyncio.get_running_loop(),
        name=PERP.venue.value,
        config=ReplayClientConfig(rate=rate),
        msgbus=node.kernel.msgbus,
        cache=node.kernel.cache,
        clock=clock,
    )
    engines.free(node)
    return client


def due(events: Any) -> int:
    """Return how many positions come before the next pause."""
    return len(list(itertools.takewhile(lambda position: position is not None, events)))


async def test_the_rate_is_kept():
    """After each second the venue's share of the rate has been handed out, stalls included."""
    clock = TestClock()
    client = make_client(clock, 10_000)
    data = sample_data()
    mine = len(Tape(data, [row for row in data.instruments if row.leg == "perp"]))
    share = mine / len(Tape(data, data.instruments))
    events = client._at_rate(client._rate)
    total = due(events)
    for seconds in (1, 2, 5):
        clock.set_time(seconds * SECOND_NS)
        total += due(events)
        assert total == pytest.approx(10_000 * share * seconds, abs=2)


async def test_the_recorded_pace_is_kept_and_loops():
    """What lies within the elapsed time is due; behind the last event the first is due again."""
    clock = TestClock()
    client = make_client(clock, None)
    offsets = client._tape.offsets_ns
    events = client._due()
    total = due(events)
    for ns in (SECOND_NS, 7 * SECOND_NS, offsets[-1] - 1):
        clock.set_time(ns)
        total += due(events)
        assert total == sum(offset <= ns for offset in offsets)
    clock.set_time(offsets[-1])

    assert due(events) == 1 + sum(offset == 0 for offset in offsets)


class Keep(Script):
    """Keeps every quote of its instrument."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.quotes: list[Any] = []

    def on_quote_tick(self, tick: Any) -> None:
        self.quotes.append(tick)


async def test_a_live_node_sees_the_dataset_again_and_again():
    """Values and order are the dataset's, without a hole where it starts over; times are now."""
    keep = Keep()
    node = engines.make_node(keep, rate=50_000)
    recorded = [event for event in engines.events_of(PERP) if isinstance(event, QuoteTick)]
    before = node.kernel.clock.timestamp_ns()

    async with running(node):
        await until(lambda: len(keep.quotes) > 2 * len(recorded), "two rounds")
        after = node.kernel.clock.timestamp_ns()
        seen = list(keep.quotes)

    def values(quote: Any) -> str:
        return str(quote).rpartition(",")[0]

    found = [values(quote) for quote in seen]
    expected = [values(quote) for quote in recorded] * (len(found) // len(recorded) + 2)
    start = next(i for i in range(len(recorded)) if expected[i : i + 50] == found[:50])
    assert found == expected[start : start + len(found)]
    times = [quote.ts_event for quote in seen]
    assert before <= times[0]
    assert times[-1] <= after
    assert times == sorted(times)
    assert all(quote.ts_event == quote.ts_init for quote in seen)


async def test_only_what_is_subscribed_is_handed_out():
    """A client that streams its whole venue would cost the node what nobody wants."""
    node = engines.make_node(Script())
    seen: Counter[Any] = Counter()
    node.kernel.msgbus.subscribe(
        "data.*", lambda event: seen.update([(type(event), event.instrument_id)])
    )

    async with running(node):
        await until(lambda: seen.total() > 100)

    assert set(seen) == {(QuoteTick, PERP)}


async def test_unsubscribed_means_silent():
    """Behind the last unsubscribe the instrument stops."""
    script = Script(
        lambda s, _: s.subscribe_quote_ticks(SPOT), lambda s, _: s.unsubscribe_quote_ticks(PERP)
    )
    node = engines.make_node(script)
    seen: Counter[Any] = Counter()
    node.kernel.msgbus.subscribe("data.quotes.*", lambda quote: seen.update([quote.instrument_id]))

    async with running(node):
        await until(lambda: not script.left)
        async with asyncio.timeout(engines.WAIT_SECONDS_MAX):
            count = -1
            while seen[PERP] > count:  # commands travel by queues: it takes a moment
                count, others = seen[PERP], seen[SPOT]
                await until(lambda others=others: seen[SPOT] > others + 100)

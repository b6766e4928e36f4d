"""The feed in a live node: market data flows without a strategy's help."""

from typing import Any

import pytest
import structlog
from nautilus_trader.live.node import TradingNode

from bridge.settings import MarketSettings
from integrations.nautilus.feed import Feed, FeedConfig, feed_of
from integrations.nautilus.replay import ReplayDataClient
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import PERP, SPOT, running, until
from tests.integrations.nautilus.scripts import Script


class Seen:
    """The market events that the bus carried, by their instrument."""

    def __init__(self, node: TradingNode) -> None:
        self.events: list[Any] = []
        node.kernel.msgbus.subscribe("data.*", self.events.append)

    def count(self, kind: str, instrument_id: Any = PERP) -> int:
        """Return how many events of a class, such as QuoteTick, there were."""
        return len(
            [
                event
                for event in self.events
                if type(event).__name__ == kind and event.instrument_id == instrument_id
            ]
        )


def make_node(**config: Any) -> tuple[TradingNode, Seen]:
    node = engines.make_node()
    node.trader.add_actor(Feed(FeedConfig(**config)))
    return node, Seen(node)


async def test_data_flows_without_a_strategy():
    """A live node without any strategy has quotes and trades of every instrument it knows."""
    node, seen = make_node()
    ids = [instrument.id for instrument in node.cache.instruments()]

    async with running(node):
        await until(
            lambda: all(seen.count(kind, id_) for kind in ("QuoteTick", "TradeTick") for id_ in ids)
        )


async def test_only_named_instruments_flow():
    """With `instruments` nothing else is subscribed, and only the kinds that were asked for."""
    node, seen = make_node(kinds=("quotes",), instruments=(PERP.value,))

    async with running(node):
        await until(lambda: seen.count("QuoteTick") >= 50)

    assert {event.instrument_id for event in seen.events} == {PERP}
    assert seen.count("TradeTick") == 0


async def test_a_strategy_that_unsubscribes_does_not_end_the_flow():
    """The data engine unsubscribes a client when no exact subscriber is left: the feed stays."""
    node, seen = make_node(kinds=("quotes",))
    script = Script(lambda s, _: s.unsubscribe_quote_ticks(PERP))
    node.trader.add_strategy(script)

    async with running(node):
        await until(lambda: not script.left, "the strategy to unsubscribe")
        before = seen.count("QuoteTick")
        await until(lambda: seen.count("QuoteTick") > before + 50, "more quotes")


async def test_too_many_instruments_are_refused_by_name():
    """Beyond instruments_max none is subscribed, and the log says what to set."""
    node, seen = make_node(instruments_max=5)
    script = Script(instrument_id=SPOT)
    node.trader.add_strategy(script)

    with structlog.testing.capture_logs() as logs:
        async with running(node):
            await until(lambda: seen.count("QuoteTick", SPOT) >= 50)

    (line,) = [line for line in logs if line["event"] == "feed.too_many_instruments"]
    assert (line["known"], line["limit"]) == (6, 5)
    assert "market.instruments_max" in line["remedy"]
    assert {event.instrument_id for event in seen.events} == {SPOT}


@pytest.mark.parametrize(
    ("kind", "method"),
    [("mark", "_subscribe_mark_prices"), ("funding", "_subscribe_funding_rates")],
)
async def test_rare_kinds_reach_the_data_client(monkeypatch, kind, method):
    """The client of the instrument's venue is told to subscribe this kind."""
    commands: list[Any] = []

    async def keep(_: Any, command: Any) -> None:
        commands.append(command)

    monkeypatch.setattr(ReplayDataClient, method, keep)
    node, _ = make_node(kinds=(kind,), instruments=(PERP.value, SPOT.value))

    async with running(node):
        await until(lambda: len(commands) == 2)

    assert {command.instrument_id for command in commands} == {PERP, SPOT}


async def test_external_bars_reach_the_data_client(monkeypatch):
    """A bar type from outside is subscribed where it comes from."""
    commands: list[Any] = []

    async def keep(_: Any, command: Any) -> None:
        commands.append(command)

    monkeypatch.setattr(ReplayDataClient, "_subscribe_bars", keep)
    name = f"{PERP}-1-MINUTE-LAST-EXTERNAL"
    node, _ = make_node(kinds=(), bar_types=(name,))

    async with running(node):
        await until(lambda: commands)

    assert str(commands[0].bar_type) == name


async def test_internal_bars_are_made_by_the_node():
    """A bar type that Nautilus aggregates itself appears on the bus."""
    node = engines.make_node()
    name = f"{PERP}-5-TICK-MID-INTERNAL"
    node.trader.add_actor(Feed(FeedConfig(kinds=("quotes",), bar_types=(name,))))
    bars: list[Any] = []
    node.kernel.msgbus.subscribe("data.bars.*", bars.append)

    async with running(node):
        await until(lambda: len(bars) >= 2)

    assert str(bars[0].bar_type) == name


def test_settings_become_the_feeds_config():
    """What market.* says is what the feed subscribes."""
    settings = MarketSettings(
        subscribe=("quotes", "funding"),
        instruments=(PERP.value,),
        instruments_max=7,
        bar_types=(f"{PERP}-1-MINUTE-LAST-EXTERNAL",),
    )

    config = feed_of(settings).config

    assert config.kinds == ("quotes", "funding")
    assert config.instruments == (PERP.value,)
    assert config.instruments_max == 7
    assert config.bar_types == (f"{PERP}-1-MINUTE-LAST-EXTERNAL",)

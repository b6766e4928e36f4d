"""The tap on lanes that cannot take everything, or need not take it twice."""

import time
from typing import Any

import structlog
from nautilus_trader.model import data as market_data
from nautilus_trader.model.events import OrderCanceled, OrderExpired, OrderFilled, OrderRejected
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Price, Quantity

from bridge.core.contract import default_names
from bridge.core.lanes import CannotRecord, ExecLane, LaneFull, MarketLane
from bridge.metrics import Metrics
from integrations.nautilus.tap import Tap
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.scripts import Script, everything


def make_tap(kernel: Any, **limits: Any) -> tuple[Tap, ExecLane, MarketLane, list[Any]]:
    """Return a tap on lanes that nobody publishes, and the list of what it reported as failure."""
    failures: list[Any] = []
    exec_lane = ExecLane(
        default_names(),
        producer="TEST-001.00000000.1",
        entries_max=limits.get("exec_entries_max", 1000),
        clock_ns=time.monotonic_ns,
        record=limits.get("record"),
        known=limits.get("known"),
    )
    market_lane = MarketLane(
        entries_max=limits.get("market_entries_max", 1000), clock_ns=time.monotonic_ns
    )
    market_lane.on_full = lambda channel: channel.shed(market_lane.entries_max)
    tap = Tap(
        kernel,
        exec_lane,
        market_lane,
        Metrics(),
        names=default_names(),
        venue_alias={},
        maxlen=1000,
        on_failure=failures.append,
    )
    return tap, exec_lane, market_lane, failures


def test_what_is_lost_is_named():
    """Each event that finds no room is logged whole; the failure is told once, the run goes on."""
    engine = engines.make_engine(Script(*everything()))
    _, exec_lane, _, failures = make_tap(engine.kernel, exec_entries_max=5)

    with structlog.testing.capture_logs() as logs:
        engine.run()

    lost = [line["event_text"] for line in logs if line["event"] == "exec.lost"]
    assert exec_lane.backlog == 5
    assert [type(failure) for failure in failures] == [LaneFull]
    assert len(lost) > 1
    assert any(text.startswith("OrderFilled(") and "trade_id=" in text for text in lost)
    assert engine.kernel.cache.orders_closed_count() > 1
    engine.dispose()


def test_what_cannot_be_recorded_is_named():
    """The same for a journal that fails: Nautilus hears nothing, who trades is told."""

    def fail(*_: Any) -> None:
        raise CannotRecord("no room on the disk")

    engine = engines.make_engine(Script(lambda s, _: s.market()))
    _, exec_lane, _, failures = make_tap(engine.kernel, record=fail)

    with structlog.testing.capture_logs() as logs:
        engine.run()

    problems = {line["problem"] for line in logs if line["event"] == "exec.lost"}
    assert problems == {"no room on the disk"}
    assert [str(failure) for failure in failures] == ["no room on the disk"]
    assert exec_lane.jseq == 0
    engine.dispose()


def test_the_lane_tells_who_trades():
    """`on_failure` becomes the lane's: the publisher tells of a disk or a rival through it."""
    engine = engines.make_engine()
    _, exec_lane, _, failures = make_tap(engine.kernel)

    exec_lane.on_failure(failure := CannotRecord("from another side"))

    assert failures == [failure]
    engine.dispose()


def test_what_is_reported_again_is_kept_once():
    """Fills, and ends of orders, that the bus carries a second time take no number."""
    engine = engines.make_engine(Script(*everything()))
    _, exec_lane, _, _ = make_tap(engine.kernel, exec_entries_max=100_000, known=set())
    engine.run()
    streams = [exec_lane.streams[kind] for kind in ("orders", "fills")]
    before = [stream.seq for stream in streams]
    repeats: list[int] = []
    exec_lane.on_repeat = lambda: repeats.append(1)

    ended = (OrderFilled, OrderCanceled, OrderExpired, OrderRejected)
    events = [event for order in engine.kernel.cache.orders() for event in order.events]
    again = [event for event in events if isinstance(event, ended) and event.account_id]
    for event in again:
        engine.kernel.msgbus.publish(f"events.order.{event.strategy_id}", event)

    fills = sum(isinstance(event, OrderFilled) for event in again)
    assert fills and fills < len(again)
    assert [stream.seq for stream in streams] == before
    assert len(repeats) == len(again) + fills, "a fill is two entries"
    engine.dispose()


def test_a_full_market_lane_survives_an_unknown_instrument():
    """Conflation in the trading loop meets an event without a stream: Nautilus hears no error."""
    engine = engines.make_engine()
    _, _, market_lane, _ = make_tap(engine.kernel, market_entries_max=2)
    prices, sizes = (Price.from_str("1"), Price.from_str("2")), (Quantity.from_str("1"),) * 2
    quote = market_data.QuoteTick(InstrumentId.from_str("NO.WHERE"), *prices, *sizes, 1, 1)

    for _ in range(10):
        engine.kernel.msgbus.publish("data.quotes.WHERE.NO", quote)

    assert 1 <= market_lane.backlog <= 3
    engine.dispose()


def test_detach_takes_every_subscription_back():
    """Behind it nothing reaches the lanes; a second detach is harmless."""
    engine = engines.make_engine(Script(lambda s, _: s.market()))
    tap, exec_lane, market_lane, _ = make_tap(engine.kernel)

    tap.detach()
    tap.detach()
    engine.run()

    assert engine.kernel.cache.orders_closed_count() == 1
    assert (exec_lane.backlog, market_lane.backlog) == (0, 0)
    engine.dispose()

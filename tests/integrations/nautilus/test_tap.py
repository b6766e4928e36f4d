"""The tap in real engines: what the bus carried is what Redis holds."""

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.reports import OrderStatusReport
from nautilus_trader.model import data as market_data
from nautilus_trader.model.enums import (
    OrderSide,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from nautilus_trader.model.identifiers import VenueOrderId
from nautilus_trader.model.objects import Price, Quantity

from bridge.core.contract import ORDER_STATUSES, default_names
from integrations.nautilus import sandbox
from integrations.nautilus.bridge import NautilusRedisBridge
from integrations.nautilus.sandbox import QuoteSandboxClient
from integrations.nautilus.translate import Translator
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import PERP, until
from tests.integrations.nautilus.record import Record, rows_of, same_fields
from tests.integrations.nautilus.scripts import Script, everything, off

EXEC = ("orders", "fills", "positions", "account")
QUOTES = "market.raw.crypto.BTCUSDT-PERP"
TRADES = "market.raw.trades.BTCUSDT-PERP"
KEYS = {kind: default_names().key(kind) for kind in EXEC} | {"quotes": QUOTES, "trades": TRADES}


async def publish(bridge: NautilusRedisBridge, run: Any) -> None:
    """Run a backtest with the attached bridge, until everything is published."""
    await bridge.start()
    run()
    await bridge.stop()
    assert bridge.unpublished == {"exec": 0, "market": 0}


def attach(target: Any, url: str) -> NautilusRedisBridge:
    bridge = NautilusRedisBridge(url)
    bridge.attach(target)
    return bridge


def assert_published(client: Any, record: Record, *, prefix: str) -> None:
    """Every stream holds what the record holds, in its order, and nothing else."""
    for kind, expected in record.by_kind.items():
        found = rows_of(client, prefix + KEYS[kind])
        assert expected, f"the run produced no {kind}"
        assert same_fields(found, expected) == expected, kind


async def test_backtest_engine_publishes_all_it_did(redis_server):
    """A BacktestEngine's streams equal what a plain subscriber saw, every order status in them."""
    engine = engines.make_engine(Script(*everything()))
    record = Record(engine.kernel)
    bridge = attach(engine, redis_server.url)

    await publish(bridge, engine.run)

    assert_published(redis_server.client, record, prefix=bridge.prefix)
    statuses = {row["status"] for row in record.by_kind["orders"]}
    assert statuses == set(ORDER_STATUSES)
    engine.dispose()


async def test_backtest_node_publishes_all_it_did(redis_server, tmp_path):
    """The engine of a BacktestNode, fed from a ParquetDataCatalog, is tapped in the same way."""
    script = Script(
        lambda s, _: s.market(),
        lambda s, t: s.limit(off(t, "0.9"), name="far"),
        lambda s, _: s.cancel_order(s.orders["far"]),
        lambda s, _: s.close_all_positions(PERP),
    )
    node, engine = engines.make_backtest_node(tmp_path, script)
    record = Record(engine.kernel)
    bridge = attach(engine, redis_server.url)

    await publish(bridge, node.run)

    assert len(record.by_kind["quotes"]) + len(record.by_kind["trades"]) == len(
        engines.events_of(PERP)
    )
    assert_published(redis_server.client, record, prefix=bridge.prefix)
    node.dispose()


async def test_trading_node_publishes_all_it_did(redis_server):
    """A live TradingNode's streams equal what a plain subscriber saw."""
    script = Script(
        lambda s, _: s.market(time_in_force=TimeInForce.IOC),
        lambda s, t: s.limit(off(t, "0.9"), name="far"),
    )
    script.with_trades = True
    node = engines.make_node(script)
    record = Record(node.kernel)
    bridge = attach(node, redis_server.url)
    await bridge.start()

    async with engines.running(node):
        await until(lambda: node.cache.orders_open(instrument_id=PERP), "the resting order")
        script.cancel_order(script.orders["far"])
        await until(lambda: node.cache.positions_open(), "the fill")
        script.close_all_positions(PERP, time_in_force=TimeInForce.IOC)
        await until(lambda: len(record.by_kind["positions"]) == 2, "the closing")
        await until(lambda: script.orders["far"].is_closed, "the cancel")
        await until(lambda: len(record.by_kind["trades"]) >= 20, "trades")
    await bridge.stop()

    assert_published(redis_server.client, record, prefix="shadow:")


class Timed(Script):
    """Submits from a timer: a live clock calls it in a thread of its own."""

    def on_start(self) -> None:
        super().on_start()
        self.threads: set[int] = set()
        self.sent: list[str] = []
        self.clock.set_timer("step", timedelta(milliseconds=5), callback=self._on_step)

    def _on_step(self, _: Any) -> None:
        self.threads.add(threading.get_ident())
        self.market(time_in_force=TimeInForce.IOC)

    def send(self, order: Any) -> Any:
        self.sent.append(order.client_order_id.value)
        return super().send(order)


async def test_orders_of_a_timer_are_kept(redis_server, monkeypatch, tmp_path):
    """What a strategy does in another thread than the loop's is published like all else, also
    while the journal's write lets the loop go on."""
    monkeypatch.setenv("BRIDGE_STATE__DIRECTORY", str(tmp_path))
    script = Timed(*[lambda s, _: s.market(time_in_force=TimeInForce.IOC)] * 1000, every=1)
    node = engines.make_node(script)
    bridge = attach(node, redis_server.url)
    await bridge.start()

    async with engines.running(node):
        await until(lambda: node.cache.orders_closed_count() >= 100, "orders to fill")
    await bridge.stop()

    assert script.threads - {threading.get_ident()}, "a thread of its own"
    rows = rows_of(redis_server.client, "shadow:exec:orders")
    assert [int(row["seq"]) for row in rows] == list(range(1, len(rows) + 1))
    begun = [row["cl_ord_id"] for row in rows if row["status"] == "initialized"]
    assert sorted(begun) == sorted(script.sent)


async def test_a_nested_order_shows_behind_its_fill(redis_server):
    """An order submitted inside on_order_filled has a higher jseq than the fill, live too."""
    script = Script(lambda s, _: s.market(time_in_force=TimeInForce.IOC))
    script.on_fill = lambda event: (
        len(script.cache.orders()) < 2 and script.market(time_in_force=TimeInForce.IOC)
    )
    engine = engines.make_engine(script)
    bridge = attach(engine, redis_server.url)

    await publish(bridge, engine.run)

    rows = rows_of(redis_server.client, bridge.prefix + "exec:orders")
    fills = rows_of(redis_server.client, bridge.prefix + "exec:fills")
    first, second = dict.fromkeys(row["cl_ord_id"] for row in rows)
    fill = next(int(row["jseq"]) for row in fills if row["cl_ord_id"] == first)
    nested = [int(row["jseq"]) for row in rows if row["cl_ord_id"] == second]
    assert fill < min(nested)
    engine.dispose()


async def test_numbers_are_dense(redis_server):
    """seq has no gap within a stream, jseq none across the streams of a producer."""
    engine = engines.make_engine(Script(*everything()))
    bridge = attach(engine, redis_server.url)

    await publish(bridge, engine.run)

    streams = [rows_of(redis_server.client, bridge.prefix + KEYS[kind]) for kind in EXEC]
    for rows in streams:
        assert [int(row["seq"]) for row in rows] == list(range(1, len(rows) + 1))
    numbers = sorted(int(row["jseq"]) for rows in streams for row in rows)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({row["producer"] for rows in streams for row in rows}) == 1
    engine.dispose()


async def test_a_simulated_fill_id_carries_the_run(redis_server):
    """Simulated trade ids repeat from run to run; with the run's instance id fills do not."""
    ids = []
    for _ in range(2):
        engine = engines.make_engine(Script(lambda s, _: s.market()))
        bridge = attach(engine, redis_server.url)
        await publish(bridge, engine.run)
        (row,) = rows_of(redis_server.client, bridge.prefix + "exec:fills")
        assert row["fill_id"].endswith(f"|{row['trade_id']}|{engine.kernel.instance_id.value}")
        ids.append((row["trade_id"], row["fill_id"]))
        engine.dispose()

    assert ids[0][0] == ids[1][0]
    assert ids[0][1] != ids[1][1]


async def test_events_before_start_are_kept(redis_server):
    """Account states speak while the node is built, before `start`: they come first."""
    node = engines.make_node()
    record = Record(node.kernel)
    bridge = attach(node, redis_server.url)
    node.build()
    early = list(record.by_kind["account"])
    assert early
    assert not redis_server.client.exists("shadow:exec:account")

    await bridge.start()
    await bridge.stop()

    found = rows_of(redis_server.client, "shadow:exec:account")
    assert same_fields(found, early) == early
    engines.free(node)


class Reporting(QuoteSandboxClient):
    """A venue that, when it is asked at start, knows a filled order of an earlier run."""

    async def generate_order_status_reports(self, command: Any) -> list[OrderStatusReport]:
        if self.venue != PERP.venue:
            return []
        report = OrderStatusReport(
            account_id=self.account_id,
            instrument_id=PERP,
            venue_order_id=VenueOrderId("V-1"),
            order_side=OrderSide.BUY,
            order_type=OrderType.MARKET,
            time_in_force=TimeInForce.GTC,
            order_status=OrderStatus.FILLED,
            quantity=Quantity.from_str("0.010"),
            filled_qty=Quantity.from_str("0.010"),
            avg_px=Decimal("100000.00"),
            report_id=UUID4(),
            ts_accepted=1,
            ts_last=2,
            ts_init=3,
        )
        return [report]


async def test_reconciliation_is_caught(redis_server, monkeypatch):
    """A fill that Nautilus infers before any strategy runs is published, marked as such."""
    monkeypatch.setattr(sandbox, "QuoteSandboxClient", Reporting)
    node = engines.make_node()
    bridge = attach(node, redis_server.url)
    await bridge.start()
    async with engines.running(node):
        pass
    await bridge.stop()

    (fill,) = rows_of(redis_server.client, "shadow:exec:fills")
    orders = rows_of(redis_server.client, "shadow:exec:orders")
    assert (fill["recon"], fill["provisional"]) == ("1", "1")
    assert (fill["qty"], fill["strategy_id"]) == ("0.010", "EXTERNAL")
    assert {row["recon"] for row in orders if row["status"] == "filled"} == {"1"}


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("a fault of the translation")


async def test_a_raising_translation_does_not_end_a_backtest(redis_server, monkeypatch):
    """It is counted and logged for each event; the run goes on and the rest is published."""
    monkeypatch.setattr(Translator, "order", broken)
    engine = engines.make_engine(Script(lambda s, _: s.market()))
    bridge = attach(engine, redis_server.url)

    with structlog.testing.capture_logs() as logs:
        await publish(bridge, engine.run)

    refused = [line for line in logs if line["event"] == "event.refused"]
    assert engine.kernel.cache.orders_closed_count() == 1
    assert bridge.metrics.events_refused["broken"]._value.get() == len(refused) == 4
    assert all("a fault of the translation" in line["problem"] for line in refused)
    assert not redis_server.client.exists(bridge.prefix + "exec:orders")
    assert rows_of(redis_server.client, bridge.prefix + "exec:positions")
    engine.dispose()


async def test_a_raising_translation_leaves_a_live_node_up(redis_server, monkeypatch):
    """The live engines never see it: quotes still flow and orders still fill."""
    monkeypatch.setattr(Translator, "order", broken)
    script = Script(*[lambda s, _: s.market(time_in_force=TimeInForce.IOC)] * 2)
    node = engines.make_node(script)
    bridge = attach(node, redis_server.url)
    await bridge.start()

    async with engines.running(node):
        await until(lambda: node.cache.orders_closed_count() == 2, "both orders to fill")
        seen = redis_server.client.xlen("shadow:" + QUOTES)
        await until(lambda: redis_server.client.xlen("shadow:" + QUOTES) > seen, "quotes")
        assert node.trader.is_running
    await bridge.stop()

    assert bridge.metrics.events_refused["broken"]._value.get() >= 8


async def test_rare_kinds_of_market_data(redis_server):
    """Bars, mark prices with the latest index, and funding rates come from the engine's data."""
    bar_type = market_data.BarType.from_str(f"{PERP}-1-MINUTE-LAST-EXTERNAL")
    prices = [Price.from_str(text) for text in ("100.10", "100.30", "100.00", "100.20")]
    start = engines.sample_data().start_ns
    events = [
        market_data.Bar(bar_type, *prices, Quantity.from_str("7.000"), start, start),
        market_data.IndexPriceUpdate(PERP, Price.from_str("99.9"), start + 1, start + 1),
        market_data.MarkPriceUpdate(PERP, Price.from_str("100.0"), start + 2, start + 2),
        market_data.FundingRateUpdate(PERP, Decimal("-0.00012"), start + 3, start + 3, 480),
    ]
    engine = engines.make_engine(events=[])
    for event in events:
        engine.add_data([event])
    bridge = attach(engine, redis_server.url)

    await publish(bridge, engine.run)

    def only(kind: str) -> dict[str, str]:
        (row,) = rows_of(redis_server.client, f"{bridge.prefix}market.raw.{kind}.BTCUSDT-PERP")
        return row

    assert only("bars") == {
        "bar_type": str(bar_type),
        **{"open": "100.10", "high": "100.30", "low": "100.00", "close": "100.20"},
        **{"volume": "7.000", "ts_ns": str(start), "venue": "BINANCE"},
    }
    assert only("mark")["mark"] == "100.0"
    assert only("mark")["index"] == "99.9"
    assert only("funding")["rate"] == "-0.00012"
    assert only("funding")["interval_hours"] == "8"
    engine.dispose()

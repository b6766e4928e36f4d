"""Every metric of the bridge: names, labels and the closed sets of label values.

Label children are made once, here, and handed out in dictionaries. An unknown label value is a
KeyError and never a new series. Hot paths count once a batch: `market_published["quotes"].inc(n)`.
"""

from collections.abc import Sequence
from decimal import Decimal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

from bridge.core.contract import EXEC_KINDS, MARKET_KINDS
from bridge.core.control import State
from bridge.core.limits import CAUSES
from bridge.core.notices import KINDS as NOTICE_KINDS

EVENT_TYPES = (
    "order", "fill", "position", "account", "quote", "trade", "bar", "mark", "funding",
)  # fmt: skip
# The type of event behind the entries of each kind of stream.
EVENT_TYPE_OF = {
    "orders": "order",
    "fills": "fill",
    "positions": "position",
    "account": "account",
    "exec_funding": "funding",
    "quotes": "quote",
    "trades": "trade",
    "bars": "bar",
    "mark": "mark",
    "funding": "funding",
}
REDIS_ERROR_KINDS = (
    "connection", "auth", "oom", "readonly", "loading", "moved", "wrongtype", "protocol",
    "other",
)  # fmt: skip
DROP_REASONS = ("full", "refused", "wrongtype")
REFUSAL_REASONS = ("unknown", "broken", "no_instrument", "collision", "full")
LANES = ("exec", "market")
READERS = ("ledger", "archive")
STATES = tuple(state.value for state in State)

# Publish to acknowledgement: 0.1 ms is a loopback round trip, 10 s an outage.
LATENCY_BUCKETS_SECONDS = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02,
    0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip

# A write into the page cache takes microseconds, fdatasync on every entry a millisecond or more.
APPEND_BUCKETS_SECONDS = (
    0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0,
)  # fmt: skip

# Existing readers of the hash `metrics:nautilus_bridge` know these without the `_total` suffix.
DOCUMENTED_COUNTERS = (
    "nautilus_bridge_events_processed",
    "nautilus_bridge_orders_published",
    "nautilus_bridge_fills_published",
    "nautilus_bridge_redis_errors",
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of `Metrics.exposition()`."""


class Metrics:
    """The metrics of one bridge, on a registry of their own: a process may hold several bridges.

    Attributes are prometheus_client objects, or dictionaries of them by label value (by
    `(kind, reason)` for `market_dropped`). Gauges that mirror a live value are read when they are
    asked for: their owner calls `set_function` once.

    Making one turns off `_created` samples in the whole process: prometheus_client has no finer
    switch.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._own: list[MetricWrapperBase] = []
        self._declare_counters()
        self._declare_gauges()
        latency = Histogram(
            "nautilus_bridge_publish_latency_seconds",
            "Time from handing entries to the lane to their acknowledgement by Redis.",
            ["lane"],
            registry=self.registry,
            buckets=LATENCY_BUCKETS_SECONDS,
        )
        self._own.append(latency)
        self.publish_latency_seconds = {lane: latency.labels(lane) for lane in LANES}
        self.journal_append_seconds = Histogram(
            "nautilus_bridge_journal_append_seconds",
            "Time to write one execution entry into the journal.",
            registry=self.registry,
            buckets=APPEND_BUCKETS_SECONDS,
        )
        self._own.append(self.journal_append_seconds)
        self._info = Info("nautilus_bridge", "What runs here.", registry=self.registry)
        ProcessCollector(registry=self.registry)

    def set_info(self, *, version: str, nautilus_version: str, role: str) -> None:
        """Fill the one series of `nautilus_bridge_info`; an unknown value is the empty string."""
        self._info.info({"version": version, "nautilus_version": nautilus_version, "role": role})

    def exposition(self) -> bytes:
        """Return all series in Prometheus's text format, see `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def snapshot(self, now_ns: int) -> dict[str, str]:
        """Return the fields of the hash `metrics:nautilus_bridge`: numbers as decimal strings.

        Keys are the names that Prometheus samples, summed over their labels; a histogram gives its
        `_count` and `_sum`. The documented counters stand there twice, as `..._total` and under
        the bare name that existing readers expect. `ts_ns` is `now_ns`. Info and process metrics
        are left out.
        """
        sums: dict[str, float] = {}
        for collector in self._own:
            for family in collector.collect():
                for sample in family.samples:
                    if not sample.name.endswith("_bucket"):
                        sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        fields = {name: _decimal(value) for name, value in sums.items()}
        for name in DOCUMENTED_COUNTERS:
            fields[name] = fields[f"{name}_total"]
        fields["ts_ns"] = str(now_ns)
        return fields

    def _declare_counters(self) -> None:
        self.events_processed = self._counters(
            "events_processed", "Nautilus events kept, published or shed.", "type", EVENT_TYPES
        )
        self.orders_published = self._counter(
            "orders_published", "Order entries Redis acknowledged."
        )
        self.fills_published = self._counter("fills_published", "Fill entries Redis acknowledged.")
        self.redis_errors = self._counters(
            "redis_errors", "Errors from Redis or the link to it.", "kind", REDIS_ERROR_KINDS
        )
        self.exec_published = self._counters(
            "exec_published", "Execution entries Redis acknowledged.", "stream", EXEC_KINDS
        )
        self.market_published = self._counters(
            "market_published", "Market entries Redis acknowledged.", "kind", MARKET_KINDS
        )
        self.market_conflated = self._counters(
            "market_conflated", "Market entries replaced by a newer one.", "kind", MARKET_KINDS
        )
        dropped = Counter(
            "nautilus_bridge_market_dropped",
            "Market entries lost.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self._own.append(dropped)
        self.market_dropped = {
            (kind, reason): dropped.labels(kind, reason)
            for kind in MARKET_KINDS
            for reason in DROP_REASONS
        }
        self.events_refused = self._counters(
            "events_refused", "Events that could not become an entry.", "reason", REFUSAL_REASONS
        )
        self.handler_errors = self._counter(
            "handler_errors", "Registered fill and order handlers that raised."
        )
        self.exec_holes = self._counter(
            "exec_holes", "Numbers skipped because neither journal nor memory held them any more."
        )
        self.events_repeated = self._counter(
            "events_repeated", "Fills and ends of orders reported again, and not kept twice."
        )
        self.orders_refused = self._counters(
            "orders_refused", "Orders and changes that the guard refused.", "cause", CAUSES
        )
        self.stop_losses = self._counter("stop_losses", "Positions closed by their stop loss.")
        self.filled = self._counter(
            "filled_dollars",
            "Value of what was filled, at the middle when its order was submitted.",
        )
        said = "Filled worse (paid) or better (earned) than that middle, without fees."
        self.slippage = self._counters("slippage_dollars", said, "sign", ("paid", "earned"))
        self.reconnects = self._counters(
            "reconnects", "Connections made again after a loss.", "lane", LANES
        )
        self.reader_taken = self._counters(
            "reader_taken", "Entries of the exec streams that a reader took.", "reader", READERS
        )
        self.reader_dead = self._counters(
            "reader_dead", "Entries that a reader could not use, now in `:dead`.", "reader", READERS
        )
        self._declare_notices()

    def _declare_notices(self) -> None:
        self.notices_sent = self._counters(
            "notices_sent", "Alerts that a URL of notify.urls took.", "kind", NOTICE_KINDS
        )
        self.notices_failed = self._counters(
            "notices_failed", "Alerts that such a URL did not take at all.", "kind", NOTICE_KINDS
        )
        self.notices_dropped = self._counters(
            "notices_dropped", "Alerts beyond notify.per_hour_max, or too many that wait.",
            "kind", NOTICE_KINDS,
        )  # fmt: skip

    def _declare_gauges(self) -> None:
        self._declare_reader_gauges()
        self.connected = self._gauges(
            "connected", "1 while the lane's connection stands.", "lane", LANES
        )
        self.in_flight = self._gauges(
            "in_flight", "Entries sent, not yet acknowledged.", "lane", LANES
        )
        self.exec_backlog = self._gauge("exec_backlog", "Execution entries not acknowledged.")
        self.market_backlog = self._gauge("market_backlog", "Market entries not acknowledged.")
        self.journal_bytes = self._gauge("journal_bytes", "Bytes of the journal on the disk.")
        self.journal_bytes_max = self._gauge(
            "journal_bytes_max", "Bytes at which the journal forgets early, or trading halts."
        )
        self.journal_unsynced = self._gauge(
            "journal_unsynced", "Journal entries written, not yet durable."
        )
        self.native_backing_closed = self._gauge(
            "native_backing_closed", "1 when Nautilus's own Redis backing has died."
        )
        self.redis_clock_ahead = self._gauge(
            "redis_clock_ahead_seconds", "How far Redis's clock is ahead of this machine's."
        )
        self.quote_age = self._gauge(
            "quote_age_seconds", "Age of the last quote, of the instrument where it is oldest."
        )

        self.control_state = self._gauges(
            "control_state", "1 for the execution state in force.", "state", STATES
        )
        self.control_flag = self._gauge("control_flag", "1 while the role's flag is on.")
        self.control_latched = self._gauge("control_latched", "1 while a halt is latched.")
        self.control_pushed = self._gauge(
            "control_pushed", "1 while Redis pushes what changes; else it is polled."
        )
        self.halt_gate_seconds = self._gauge(
            "halt_gate_seconds", "The last halt: from its reading to closed gates."
        )
        self.halt_done_seconds = self._gauge(
            "halt_done_seconds", "The last halt: from its reading to the end of the last order."
        )
        self.positions_open = self._gauge("positions_open", "Positions that are open.")
        self.day_pnl = self._gauge("day_pnl_dollars", "Made since midnight UTC, marked and net.")
        self.drawdown = self._gauge("drawdown_ratio", "Lost since the highest equity.")

    def _declare_reader_gauges(self) -> None:
        self.reader_wanted = self._gauges(
            "reader_wanted", "1 where a reader is to read inside this process.", "reader", READERS
        )
        self.reader_up = self._gauges(
            "reader_up", "1 while a reader of ours reads, inside this process.", "reader", READERS
        )
        self.reader_lag = self._gauges(
            "reader_lag_entries", "Entries in Redis that a reader has not taken.", "reader", READERS
        )
        self.reader_gaps = self._gauges(
            "reader_gaps", "Entries that are nowhere: a reader misses them.", "reader", READERS
        )
        self.archive_records = self._gauge("archive_records", "Records in the archive.")
        self.ledger_fills = self._gauge("ledger_fills", "Fills that count in the ledger.")
        self.ledger_open_lots = self._gauge("ledger_open_lots", "Open lots in the ledger.")
        self.ledger_unpriced = self._gauge(
            "ledger_unpriced", "Fees in the ledger for whose currency there was no price."
        )
        self.ledger_realized = self._gauge(
            "ledger_realized_pnl_dollars", "Price PnL of closed lots, before fees and funding."
        )
        self.ledger_fees = self._gauge("ledger_fees_dollars", "Fees paid.")
        self.ledger_funding = self._gauge("ledger_funding_dollars", "Funding received.")

    def _counter(self, name: str, documentation: str) -> Counter:
        counter = Counter(f"nautilus_bridge_{name}", documentation, registry=self.registry)
        self._own.append(counter)
        return counter

    def _counters(
        self, name: str, documentation: str, label: str, values: Sequence[str]
    ) -> dict[str, Counter]:
        parent = Counter(f"nautilus_bridge_{name}", documentation, [label], registry=self.registry)
        self._own.append(parent)
        return {value: parent.labels(value) for value in values}

    def _gauge(self, name: str, documentation: str) -> Gauge:
        gauge = Gauge(f"nautilus_bridge_{name}", documentation, registry=self.registry)
        self._own.append(gauge)
        return gauge

    def _gauges(
        self, name: str, documentation: str, label: str, values: Sequence[str]
    ) -> dict[str, Gauge]:
        parent = Gauge(f"nautilus_bridge_{name}", documentation, [label], registry=self.registry)
        self._own.append(parent)
        return {value: parent.labels(value) for value in values}


def _decimal(value: float) -> str:
    """Return `value` in plain decimal notation, an integer without a fraction."""
    return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")

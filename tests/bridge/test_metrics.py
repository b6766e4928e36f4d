"""bridge/metrics.py: names, closed label sets, exposition and snapshot."""

import time
from collections.abc import Callable
from decimal import Decimal

import pytest
from prometheus_client import Gauge, Metric
from prometheus_client.parser import text_string_to_metric_families

from bridge.core.contract import MARKET_KINDS
from bridge.metrics import (
    APPEND_BUCKETS_SECONDS,
    DOCUMENTED_COUNTERS,
    LATENCY_BUCKETS_SECONDS,
    Metrics,
)

COUNTERS = {
    "events_processed": "type",
    "orders_published": None,
    "fills_published": None,
    "redis_errors": "kind",
    "exec_published": "stream",
    "market_published": "kind",
    "market_conflated": "kind",
    "events_refused": "reason",
    "handler_errors": None,
    "exec_holes": None,
    "events_repeated": None,
    "reconnects": "lane",
}
GAUGES = (
    *("exec_backlog", "market_backlog", "native_backing_closed"),
    *("journal_bytes", "journal_unsynced"),
)
LANE_GAUGES = ("connected", "in_flight")
NOW_NS = 1_700_000_000_000_000_001


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def families(metrics: Metrics) -> dict[str, Metric]:
    """Return what a scraper reads, by family name."""
    text = metrics.exposition().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return one sample as scraped, None when there is no such series."""
    for family in families(metrics).values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


@pytest.mark.parametrize("name", [*COUNTERS, "market_dropped"])
def test_counters_are_sampled_with_total(metrics: Metrics, name: str) -> None:
    """A counter's only samples are the family name and `_total`."""
    family = families(metrics)[f"nautilus_bridge_{name}"]

    assert family.type == "counter"
    assert {sample.name for sample in family.samples} == {f"nautilus_bridge_{name}_total"}


@pytest.mark.parametrize(("name", "label"), [(n, label) for n, label in COUNTERS.items() if label])
def test_every_label_value_is_there_from_the_start(metrics: Metrics, name: str, label: str) -> None:
    """Each child handed out is a series of its own, at zero before the first event."""
    children = getattr(metrics, name)
    samples = families(metrics)[f"nautilus_bridge_{name}"].samples

    assert {sample.labels[label]: sample.value for sample in samples} == dict.fromkeys(children, 0)


@pytest.mark.parametrize(("name", "label"), COUNTERS.items())
def test_a_child_counts_its_own_series(metrics: Metrics, name: str, label: str | None) -> None:
    """`inc(n)` on a child shows under exactly its label value."""
    counter = getattr(metrics, name)
    last = list(counter)[-1] if label else None
    (counter[last] if label else counter).inc(256)

    labels = {label: last} if label and last else {}
    assert value(metrics, f"nautilus_bridge_{name}_total", **labels) == 256


def test_drops_are_counted_by_kind_and_reason(metrics: Metrics) -> None:
    """The tuple (kind, reason) leads to the series with these two labels."""
    metrics.market_dropped["trades", "full"].inc(3)

    name = "nautilus_bridge_market_dropped_total"
    assert value(metrics, name, kind="trades", reason="full") == 3
    assert value(metrics, name, kind="trades", reason="refused") == 0


def test_an_unknown_label_value_makes_no_series(metrics: Metrics) -> None:
    """A value outside the closed set is a KeyError and leaves the exposition as it was."""
    before = metrics.exposition().count(b"redis_errors_total{")

    with pytest.raises(KeyError):
        metrics.redis_errors["surprise"].inc()

    assert metrics.exposition().count(b"redis_errors_total{") == before == 9


def test_counters_never_go_down(metrics: Metrics) -> None:
    """A negative increment is refused."""
    with pytest.raises(ValueError, match="non-negative"):
        metrics.orders_published.inc(-1)


@pytest.mark.parametrize("name", GAUGES)
def test_gauges_are_read_when_scraped(metrics: Metrics, name: str) -> None:
    """A gauge with a function shows the value of the moment."""
    queue = [1, 2]
    getattr(metrics, name).set_function(lambda: len(queue))
    queue.append(3)

    assert value(metrics, f"nautilus_bridge_{name}") == 3


@pytest.mark.parametrize("name", LANE_GAUGES)
def test_lane_gauges_are_read_apart(metrics: Metrics, name: str) -> None:
    """Each lane has its own function."""
    gauges: dict[str, Gauge] = getattr(metrics, name)
    gauges["exec"].set_function(lambda: 1)

    assert value(metrics, f"nautilus_bridge_{name}", lane="exec") == 1
    assert value(metrics, f"nautilus_bridge_{name}", lane="market") == 0


def test_latency_buckets_reach_from_a_tenth_of_a_millisecond_to_ten_seconds(
    metrics: Metrics,
) -> None:
    """The histogram's bounds are the declared ones, and each lane has them."""
    samples = families(metrics)["nautilus_bridge_publish_latency_seconds"].samples
    bounds = [s.labels["le"] for s in samples if "le" in s.labels and s.labels["lane"] == "exec"]

    assert [float(bound) for bound in bounds] == [*LATENCY_BUCKETS_SECONDS, float("inf")]
    assert (bounds[0], bounds[-2]) == ("0.0001", "10.0")


def test_append_buckets_tell_a_write_from_a_sync(metrics: Metrics) -> None:
    """From 5 µs, a write into memory, to a second: the disk itself."""
    samples = families(metrics)["nautilus_bridge_journal_append_seconds"].samples
    bounds = [float(sample.labels["le"]) for sample in samples if "le" in sample.labels]

    assert bounds == [*APPEND_BUCKETS_SECONDS, float("inf")]
    assert (bounds[0], bounds[-2]) == (0.000005, 1.0)


def test_info_is_one_series(metrics: Metrics) -> None:
    """Version, Nautilus version and role stand on a single series of value 1."""
    metrics.set_info(version="0.1.0", nautilus_version="1.231.0", role="demo")
    metrics.set_info(version="0.1.0", nautilus_version="1.231.0", role="shadow")

    samples = families(metrics)["nautilus_bridge_info"].samples
    labels = {"version": "0.1.0", "nautilus_version": "1.231.0", "role": "shadow"}
    assert [(sample.labels, sample.value) for sample in samples] == [(labels, 1)]


def test_no_created_samples(metrics: Metrics) -> None:
    """Creation times would double the counters' series."""
    assert b"_created" not in metrics.exposition()


def test_process_metrics_are_exposed(metrics: Metrics) -> None:
    """Memory of the process is scraped with the rest."""
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 0


def test_series_stay_few(metrics: Metrics) -> None:
    """One bridge costs Prometheus fewer than 300 series."""
    assert sum(len(family.samples) for family in families(metrics).values()) < 300


def test_two_bridges_count_apart(metrics: Metrics) -> None:
    """Metrics of one bridge do not show in another's."""
    metrics.fills_published.inc()

    assert value(Metrics(), "nautilus_bridge_fills_published_total") == 0


def test_snapshot_names_all_but_info_and_process(metrics: Metrics) -> None:
    """The hash has what Prometheus samples, without buckets, plus bare names and `ts_ns`."""
    sampled = {
        sample.name
        for family in families(metrics).values()
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_info")) and not sample.name.startswith("process_")
    }

    assert set(metrics.snapshot(NOW_NS)) == sampled | {*DOCUMENTED_COUNTERS, "ts_ns"}


def test_snapshot_sums_over_labels(metrics: Metrics) -> None:
    """A labeled counter is one number, an integer without a fraction."""
    for kind in MARKET_KINDS:
        metrics.market_published[kind].inc(10)

    assert metrics.snapshot(NOW_NS)["nautilus_bridge_market_published_total"] == "50"


@pytest.mark.parametrize("name", DOCUMENTED_COUNTERS)
def test_snapshot_has_documented_counters_by_both_names(metrics: Metrics, name: str) -> None:
    """Existing readers of the hash know the bare name; it equals the sampled one."""
    counter = getattr(metrics, name.removeprefix("nautilus_bridge_"))
    for child in counter.values() if isinstance(counter, dict) else [counter]:
        child.inc(7)

    fields = metrics.snapshot(NOW_NS)

    assert fields[name] == fields[f"{name}_total"] != "0"


def test_snapshot_gives_count_and_sum_of_the_histogram(metrics: Metrics) -> None:
    """Both lanes add up; small sums are decimal, without an exponent."""
    for seconds in metrics.publish_latency_seconds.values():
        seconds.observe(0.00001)

    fields = metrics.snapshot(NOW_NS)

    assert fields["nautilus_bridge_publish_latency_seconds_count"] == "2"
    assert fields["nautilus_bridge_publish_latency_seconds_sum"] == "0.00002"


def test_snapshot_reads_gauge_functions(metrics: Metrics) -> None:
    """Live gauges are in the hash too, summed over lanes."""
    for gauge in metrics.in_flight.values():
        gauge.set_function(lambda: 21)

    assert metrics.snapshot(NOW_NS)["nautilus_bridge_in_flight"] == "42"


def test_snapshot_is_decimal_strings(metrics: Metrics) -> None:
    """Every value parses as a decimal and none is in scientific notation."""
    metrics.market_published["quotes"].inc(10**15)
    fields = metrics.snapshot(NOW_NS)

    assert all(Decimal(text).is_finite() and "e" not in text.lower() for text in fields.values())
    assert fields["nautilus_bridge_market_published_total"] == "1" + "0" * 15


def test_snapshot_carries_the_time_it_was_given(metrics: Metrics) -> None:
    """`ts_ns` is exact to the nanosecond."""
    assert metrics.snapshot(NOW_NS)["ts_ns"] == str(NOW_NS)


def best_seconds(call: Callable[[], object]) -> float:
    """Return the shortest of 50 runs: what the call costs when the machine lets it."""
    runs = []
    for _ in range(50):
        began = time.perf_counter()
        call()
        runs.append(time.perf_counter() - began)
    return min(runs)


def test_snapshot_is_cheap(metrics: Metrics) -> None:
    """It runs once a second in the trading loop: under 2 ms."""
    assert best_seconds(lambda: metrics.snapshot(NOW_NS)) < 0.002

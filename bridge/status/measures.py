"""Rates and latencies of the last while, from the metrics as they stand once a second."""

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prometheus_client.metrics import MetricWrapperBase

from bridge.metrics import Metrics

SECONDS: Final = 60
RATES: Final = {
    "market_per_s": "nautilus_bridge_market_published_total",
    "exec_per_s": "nautilus_bridge_exec_published_total",
}
TOTALS: Final = {
    "orders_total": "nautilus_bridge_orders_published_total",
    "fills_total": "nautilus_bridge_fills_published_total",
    "errors_total": "nautilus_bridge_redis_errors_total",
    "dropped_total": "nautilus_bridge_market_dropped_total",
    "conflated_total": "nautilus_bridge_market_conflated_total",
}
# What took longer than the last bound of its histogram.
BEYOND: Final = float("inf")

# Upper bounds in seconds, and how many took no longer.
type Counts = Sequence[tuple[float, float]]


class Measures:
    """`tick` once a second with `Metrics.snapshot`; then `rates`, `latency_ms`, `journal`."""

    def __init__(self, metrics: Metrics) -> None:
        self.late_seconds: deque[float] = deque(maxlen=20 * SECONDS)
        self._histograms = {
            "publish": metrics.publish_latency_seconds["exec"],
            "journal": metrics.journal_append_seconds,
        }
        self._now: Mapping[str, str] = {}
        self._before: Mapping[str, str] = {}
        self._counts: deque[Mapping[str, Counts]] = deque(maxlen=SECONDS + 1)

    def tick(self, now: Mapping[str, str]) -> None:
        """Take the numbers as they stand."""
        self._before, self._now = self._now, now
        self._counts.append({name: _counts(each) for name, each in self._histograms.items()})

    def rates(self) -> dict[str, Any]:
        """Return what was published in the last second, by second, and the totals so far."""
        rates: dict[str, Any] = dict.fromkeys((*RATES, *TOTALS))
        if self._now:
            rates |= {name: int(self._now[total]) for name, total in TOTALS.items()}
        if self._before:
            seconds = (int(self._now["ts_ns"]) - int(self._before["ts_ns"])) / 1e9
            for name, total in RATES.items():
                more = int(self._now[total]) - int(self._before[total])
                rates[name] = round(more / seconds, 1) if seconds > 0 else None
        return rates

    def latency_ms(self) -> dict[str, float | None]:
        """Return quantiles of the last minute; of the loop's delay while somebody looks on."""
        return {
            "publish_p50": self._quantile("publish", 0.5),
            "publish_p99": self._quantile("publish", 0.99),
            "journal_p99": self._quantile("journal", 0.99),
            "loop_p99": _ms(_nearest(self.late_seconds, 0.99)),
        }

    def journal(self) -> dict[str, int] | None:
        """Return what the journal holds; None before the first `tick`."""
        names = {
            "unacknowledged": "nautilus_bridge_exec_backlog",
            "bytes": "nautilus_bridge_journal_bytes",
            "bytes_max": "nautilus_bridge_journal_bytes_max",
        }
        return {key: int(self._now[name]) for key, name in names.items()} if self._now else None

    def _quantile(self, name: str, share: float) -> float | None:
        if not self._counts:
            return None
        first, last = self._counts[0][name], self._counts[-1][name]
        if len(self._counts) == 1:
            return _ms(quantile(last, share))
        pairs = zip(last, first, strict=True)
        return _ms(quantile([(bound, now - was) for (bound, now), (_, was) in pairs], share))


def quantile(counts: Counts, share: float) -> float | None:
    """Return a quantile in seconds, linear within a bucket as Prometheus's histogram_quantile has
    it; the last finite bound for what lies beyond it, None when nothing was counted."""
    wanted = share * counts[-1][1]
    if not wanted:
        return None
    below, lower = 0.0, 0.0
    for bound, count in counts:
        if count >= wanted:
            within = (wanted - below) / (count - below)
            return lower if bound == BEYOND else lower + (bound - lower) * within
        below, lower = count, bound
    return lower


def _nearest(values: Sequence[float], share: float) -> float | None:
    """Return a quantile by nearest rank; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _ms(seconds: float | None) -> float | None:
    # JSON has no word for what is no number.
    return None if seconds is None or not math.isfinite(seconds) else round(seconds * 1000, 4)


def _counts(histogram: MetricWrapperBase) -> Counts:
    samples = itertools.chain.from_iterable([each.samples for each in histogram.collect()])
    return [
        (float(each.labels["le"]), each.value) for each in samples if each.name.endswith("_bucket")
    ]


def value_of(gauge: MetricWrapperBase) -> float:
    """Return the value of a gauge, or of one of its children."""
    [family] = gauge.collect()
    return family.samples[0].value

"""bridge/status/measures.py: rates and quantiles as Prometheus would have them."""

import itertools
import math
import random

import pytest

from bridge.metrics import LATENCY_BUCKETS_SECONDS, Metrics
from bridge.status.measures import SECONDS, Measures, quantile, value_of


def ticked(measures: Measures, metrics: Metrics, second: int) -> None:
    measures.tick(metrics.snapshot(second * 10**9))


def test_rates_are_of_the_last_second() -> None:
    """The totals so far, and what came since the tick before, by its length."""
    metrics = Metrics()
    measures = Measures(metrics)
    assert set(measures.rates().values()) == {None}
    metrics.market_published["quotes"].inc(1_000)
    ticked(measures, metrics, 10)
    assert measures.rates()["market_per_s"] is None
    metrics.market_published["trades"].inc(300)
    metrics.exec_published["orders"].inc(5)
    metrics.orders_published.inc(4)
    metrics.market_dropped["trades", "full"].inc(7)
    ticked(measures, metrics, 12)

    rates = measures.rates()

    assert (rates["market_per_s"], rates["exec_per_s"]) == (150.0, 2.5)
    assert (rates["orders_total"], rates["dropped_total"], rates["errors_total"]) == (4, 7, 0)


def test_quantiles_are_of_the_last_minute() -> None:
    """What is older does not count any more."""
    metrics = Metrics()
    measures = Measures(metrics)
    assert set(measures.latency_ms().values()) == {None}
    for second in range(2 * SECONDS):
        metrics.publish_latency_seconds["exec"].observe(5.0 if second < 5 else 0.0015)
        ticked(measures, metrics, second)

    told = measures.latency_ms()

    assert told["publish_p99"] == pytest.approx(1.99)
    assert told["publish_p50"] == pytest.approx(1.5)
    assert told["journal_p99"] is None


def test_a_quantile_is_within_its_bucket() -> None:
    """Of random values it is never further off than the bucket that holds the true one."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    rng = random.Random(seed)
    bounds = [0.0, *LATENCY_BUCKETS_SECONDS]
    for _ in range(200):
        values = sorted([rng.lognormvariate(-6, 2) for _ in range(rng.randrange(2, 300))])
        values = [min(each, 9.9) for each in values]
        counts = [(bound, float(sum(v <= bound for v in values))) for bound in bounds[1:]]
        share = rng.choice((0.5, 0.9, 0.99))
        found = quantile([*counts, (float("inf"), float(len(values)))], share)
        true = values[math.ceil(share * len(values)) - 1]
        lower, upper = next((a, b) for a, b in itertools.pairwise(bounds) if true <= b)
        assert found is not None and lower <= found <= upper


def test_beyond_the_last_bound() -> None:
    """It is the last bound: nothing is known of what lies behind it. Of nothing there is none."""
    assert quantile([(1.0, 0.0), (float("inf"), 10.0)], 0.5) == 1.0
    assert quantile([(1.0, 0.0), (float("inf"), 0.0)], 0.5) is None


def test_the_delay_of_the_loop() -> None:
    """The 99th of a hundred, in milliseconds."""
    measures = Measures(Metrics())
    measures.late_seconds.extend([each / 1000 for each in range(100)])

    assert measures.latency_ms()["loop_p99"] == 99.0


def test_what_is_no_number_is_not_known() -> None:
    """JSON has no word for it."""
    measures = Measures(Metrics())
    measures.late_seconds.append(math.nan)

    assert measures.latency_ms()["loop_p99"] is None


def test_a_gauge_is_read_with_its_function() -> None:
    """Also one child of several, and one that mirrors a live value."""
    metrics = Metrics()
    metrics.reader_lag["ledger"].set(7)
    metrics.exec_backlog.set_function(lambda: 3.0)

    assert value_of(metrics.reader_lag["ledger"]) == 7
    assert value_of(metrics.reader_lag["archive"]) == 0
    assert value_of(metrics.exec_backlog) == 3

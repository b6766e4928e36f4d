"""The real daemon sends ten thousand orders: Prometheus keeps few series, and the same ones."""

from pathlib import Path

import pytest

from integrations.binance import sample
from tests.bridge.processes import Daemon, eventually
from tests.servers import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SERIES_MAX = 300
ORDERS = 10_000
STORM_SECONDS_MAX = 180
ENTRIES_OF_ONE = 4  # initialized, submitted, accepted, canceled or filled


def series(daemon: Daemon) -> set[str]:
    """Return the series that Prometheus would scrape: names with their labels."""
    lines = daemon.get("/metrics")[1].splitlines()
    return {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}


def test_ten_thousand_orders_of_the_daemon_make_no_series(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """Fewer than 300 before and behind them, and none has come or gone."""
    sample.generate(tmp_path / "dataset")
    given = {
        "redis__url": redis_server.url,
        "state__directory": str(tmp_path / "state"),
        "replay__dataset": str(tmp_path / "dataset"),
        "replay__rate": "200",
        "limits__max_order_rate": "100000",
    }
    orders = "demo:exec:orders"
    with Daemon(tmp_path, "--strategy", "tests.ops.storm:Storming", **given) as daemon:
        daemon.until_running()
        before = series(daemon)
        eventually(
            lambda: redis_server.client.xlen(orders) >= ORDERS * ENTRIES_OF_ONE,
            "every order's end",
            seconds_max=STORM_SECONDS_MAX,
        )
        after = series(daemon)

    names = {fields["cl_ord_id"] for _, fields in redis_server.client.xrange(orders)}
    assert len(names) == ORDERS
    assert len(after) < SERIES_MAX
    assert after ^ before == set()

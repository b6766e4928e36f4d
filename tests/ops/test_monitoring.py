"""A real Prometheus scrapes the real daemon: every panel has data, and few series are kept."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import generate_latest

from integrations.binance import sample
from integrations.nautilus.bridge import NautilusRedisBridge
from ops.prometheus.acceptance_metrics import registry_of
from tests.bridge.processes import Daemon, eventually
from tests.integrations.nautilus.engines import make_engine
from tests.ops.comparison import COMPARISON
from tests.ops.monitoring import DASHBOARDS, Prometheus, promtool_or_skip, queries, recorded
from tests.ops.storm import Storm
from tests.servers import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SERIES_MAX = 300
ORDERS = 10_000
SCRAPES = 4
AGE_SECONDS_MAX = 600
VARIABLES = {"$role": ".*", "$__rate_interval": "1m", "$__range": "5m"}
UIDS = [path.stem for path in DASHBOARDS]
# Panels that say that there was nothing.
SILENT: dict[str, set[str]] = {
    "nautilus-acceptance": set(),
    "nautilus-bridge": {"Alerts"},
    "nautilus-trading": {"The last halt took"},
}


class _TextFile(http.server.BaseHTTPRequestHandler):
    """What node_exporter serves of its text files."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(generate_latest(registry_of(COMPARISON, 1.0)))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def text_files() -> Iterator[str]:
    """Where a stand-in for node_exporter listens."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _TextFile) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The demo, trading."""
    folder = tmp_path_factory.mktemp("demo")
    sample.generate(folder / "dataset")
    with Daemon(folder, replay__dataset=str(folder / "dataset")) as daemon:
        daemon.until_running()
        daemon.until(lambda: daemon.metric("nautilus_bridge_fills_published_total"), "a fill")
        yield daemon


@pytest.fixture(scope="module")
def prometheus(
    daemon: Daemon, text_files: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    targets = {"nautilus-bridge": daemon.url.removeprefix("http://"), "node": text_files}
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(promtool_or_skip(), folder, targets) as prometheus:
        for job in targets:
            prometheus.until_scraped(job, SCRAPES)
        yield prometheus


def answered(prometheus: Prometheus, query: str) -> list[dict[str, Any]]:
    """Return what an expression of a dashboard comes to, with Grafana's variables filled in."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return prometheus.ask(query)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_data(prometheus: Prometheus, path: Path) -> None:
    """No expression of a dashboard is refused, and none comes to nothing but those that have
    nothing to say before the first halt."""
    empty = {panel for panel, query in queries(path) if not answered(prometheus, query)}

    assert empty == SILENT[path.stem]


@pytest.mark.parametrize("name", sorted(recorded()))
def test_every_recording_rule_has_data(prometheus: Prometheus, name: str) -> None:
    """The bare documented names among them, which say what the samples say."""
    found = prometheus.ask(name)

    assert found
    assert all(each["metric"]["role"] == "demo" for each in found)


def test_a_bridge_that_is_well_alerts_nobody(prometheus: Prometheus) -> None:
    """None of our alerts is firing or about to."""
    assert prometheus.ask('ALERTS{alertname=~"NautilusBridge.*"}') == []


def test_a_halt_is_seen(daemon: Daemon, prometheus: Prometheus) -> None:
    """Then the panels that were silent have data too, and both things that are marked come to
    something: the halt, and the start of a process that is this young."""
    board = DASHBOARDS[UIDS.index("nautilus-trading")]
    halts, restarts = json.loads(board.read_text())["annotations"]["list"]
    silent = [
        query for path in DASHBOARDS for panel, query in queries(path) if panel in SILENT[path.stem]
    ]
    expressions = [*silent, halts["expr"]]
    assert not any(answered(prometheus, each) for each in expressions)

    with redis.Redis(port=daemon.port) as client:
        client.set("mode", "halt")

    for each in expressions:
        eventually(lambda each=each: answered(prometheus, each), each)
    young = restarts["expr"].replace("< 90", f"< {AGE_SECONDS_MAX}")
    assert young != restarts["expr"]
    assert answered(prometheus, young)


def series(exposition: str) -> set[str]:
    """Return the series of an exposition: names with their labels."""
    lines = exposition.splitlines()
    return {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}


async def test_ten_thousand_orders_make_no_series(
    daemon: Daemon, redis_server: RedisServer
) -> None:
    """Labels have closed sets of values: there are fewer than 300 series, and behind that many
    orders they are the ones of a bridge that has just begun. The daemon has no others."""
    storm = Storm(ORDERS, burst=20)
    engine = make_engine(storm)
    bridge = NautilusRedisBridge(redis_server.url)
    before = series(bridge.metrics.exposition().decode())
    bridge.attach(engine)
    await bridge.start()
    engine.run()
    await bridge.stop()
    engine.dispose()

    after = series(bridge.metrics.exposition().decode())

    assert storm.sent == ORDERS
    assert bridge.metrics.orders_published._value.get() >= ORDERS
    assert {name for name in after ^ before if "nautilus_bridge_info" not in name} == set()
    found = series(daemon.get("/metrics")[1])
    assert len(found) < SERIES_MAX
    assert {name for name in found ^ after if "nautilus_bridge_info" not in name} == set()

"""The daemon as a user meets it: what it prints, what it publishes, how it ends."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
import redis

from bridge import exits
from tests.bridge.processes import ROOT, Daemon, eventually, is_dense, loading
from tests.servers import RedisServer

EXEC_FILLED = ("exec:orders", "exec:fills", "exec:positions", "exec:account")
SYMBOLS = [f"{base}USDT{kind}" for base in ("BTC", "ETH", "SOL") for kind in ("", "-PERP")]
MARKET_FILLED = [
    f"market.raw.{kind}.{symbol}" for kind in ("crypto", "trades") for symbol in SYMBOLS
]


@pytest.fixture(scope="module")
def client(demo: Daemon) -> Iterator[redis.Redis]:
    """A client of its Redis, which holds entries of each exec stream, and more than fifty."""
    with redis.Redis(port=demo.port, decode_responses=True) as client:
        demo.until(lambda: all(map(client.xlen, EXEC_FILLED)), "entries of each exec stream")
        demo.until(lambda: sum(map(client.xlen, MARKET_FILLED)) > 50, "entries")
        yield client


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _connections(server: RedisServer) -> int:
    return int(server.client.info("stats")["total_connections_received"])


def _redis_pid(port: int) -> int:
    with redis.Redis(port=port) as client:
        return int(client.info("server")["process_id"])


def test_names_streams_and_addresses(demo: Daemon) -> None:
    """The first lines say where the streams, the metrics and the health are."""
    assert re.match(r"role demo, strategy strategies\.example:Example, Redis redis://", demo.out)
    assert "\nstreams  exec:orders  exec:fills  " in demo.out
    assert "market.raw.{asset}.{symbol}  market.raw.trades.{symbol}\n" in demo.out
    assert f"health  {demo.url}/health\n" in demo.out


def test_takes_the_next_port(demo: Daemon) -> None:
    """The port that was wanted for the embedded Redis is taken; the one behind it is printed."""
    assert demo.embedded_port < demo.port < demo.embedded_port + 20


def typed(demo: Daemon, number: int) -> str:
    """Return the answer to one of the redis-cli lines, typed as printed, in the root."""
    line = re.findall(r"^  (\S*redis-cli .*)$", demo.out, re.MULTILINE)[number]
    done = subprocess.run(
        ["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("number", "answer"),
    [(0, "cl_ord_id"), (1, "cl_ord_id"), (2, "nautilus_bridge_events_processed"), (3, "$schema")],
)
def test_examples_work(demo: Daemon, number: int, answer: str) -> None:
    """Each redis-cli line that reads answers."""
    assert answer in typed(demo, number)


def test_examples_of_control_work(demo: Daemon) -> None:
    """A halt, what holds, and back: each line as it is printed."""
    assert typed(demo, 4) == "OK\n"
    demo.until(lambda: "HALTED" in typed(demo, 5), "the halt")
    assert typed(demo, 6) == "OK\n"
    demo.until(lambda: "ACTIVE" in typed(demo, 5).split(), "trading")
    assert typed(demo, 7) == "OK\n"
    demo.until(lambda: demo.state == "ok", "it as the state")


def test_one_status_line_a_second(demo: Daemon) -> None:
    """Three more status lines come about three seconds later, by the times that they tell."""
    demo.until(lambda: len(demo.statuses) >= 6, "six status lines")
    told = [60 * int(each["minute"]) + int(each["second"]) for each in demo.statuses]
    spans = [(later - before) % 3600 for before, later in zip(told, told[3:], strict=False)]
    assert 2 <= min(spans) <= 4  # on a loaded machine some of them are late


def test_status_line_counts(demo: Daemon) -> None:
    """The counts of the status line grow, and its rate is that of the events."""
    demo.until(lambda: len(demo.statuses) > 1 and demo.state == "ok", "two lines, and ok")
    first, last = demo.statuses[0], demo.statuses[-1]
    assert int(last["events"]) > int(first["events"])
    assert int(last["fills"]) > 0
    assert all(int(each["rate"]) < 1000 for each in demo.statuses)


def test_streams_fill(demo: Daemon, client: redis.Redis) -> None:
    """Every exec stream of a spot and perp demo, and both market streams of each instrument."""
    demo.until(lambda: all(map(client.xlen, (*EXEC_FILLED, *MARKET_FILLED))), "entries everywhere")


def test_entries_keep_the_contract(client: redis.Redis) -> None:
    """Every entry of every stream is valid by the JSON Schema at bridge:contract."""
    contract = json.loads(client.get("bridge:contract"))
    checked = 0
    for key in client.scan_iter(_type="stream"):
        fits = [name for name in contract["streams"] if _matches(name, key)]
        kind = contract["streams"][min(fits, key=lambda name: name.count("{"))]
        definition = contract["$defs"][kind.removeprefix("#/$defs/")]
        validator = jsonschema.Draft202012Validator(definition)
        for _, fields in client.xrange(key):
            validator.validate(fields)
            checked += 1
    assert checked > 50


def _matches(template: str, key: str) -> bool:
    return re.fullmatch(re.sub(r"\\{\w+\\}", r"[^.]+", re.escape(template)), key) is not None


def test_hash_is_fresh(demo: Daemon, client: redis.Redis) -> None:
    """The metrics stand in a hash that is written again and again, and says when."""

    def written_ns() -> int:
        return int(client.hget("metrics:nautilus_bridge", "ts_ns"))

    began_ns = time.time_ns()
    demo.until(lambda: written_ns() > began_ns, "a newer hash")
    assert written_ns() <= time.time_ns()


def test_serves_metrics(demo: Daemon) -> None:
    """/metrics has the documented counters, and the links are up."""
    assert demo.metric("nautilus_bridge_orders_published_total") > 0
    assert demo.metric('nautilus_bridge_connected{lane="exec"}') == 1


def test_serves_health(demo: Daemon) -> None:
    """/health is 200 while all is well."""
    demo.until(lambda: demo.health() == (200, ""), "health")


def test_orders_are_dense(client: redis.Redis) -> None:
    """The entries of each exec stream are numbered from 1 without a gap."""
    for key in EXEC_FILLED:
        assert is_dense(client, key), key


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, "2"), (signal.SIGTERM, "0.1")])
def test_ends_cleanly(start: Callable[..., Daemon], number: signal.Signals, seconds: str) -> None:
    """A signal ends it within 5 s (2 is the default stop timeout): 0, and nothing is left."""
    daemon = start(node__stop_timeout_seconds=seconds).until_running()
    server = _redis_pid(daemon.port)
    ended = daemon.stop(number)
    assert (ended.code, ended.complaint) == (0, "")
    assert ended.out.endswith("\nstopped; everything is published\n")
    assert _is_gone(server)


def test_second_signal_is_harmless(start: Callable[..., Daemon], tmp_path: Path) -> None:
    """While it stops, status lines and health say so; whoever is impatient changes nothing."""
    may_stop = tmp_path / "may_stop"
    settings = {"source__factory": "tests.bridge.sources:lingering", "MAY_STOP": str(may_stop)}
    daemon = start(**settings).until_running()
    daemon.send(signal.SIGINT)
    daemon.until(lambda: "\nstopping ...\n" in daemon.out, "stopping")
    assert daemon.health() == (503, "stopping")
    daemon.send(signal.SIGINT)
    daemon.send(signal.SIGTERM)
    daemon.until(lambda: daemon.state == "stopping", "it as the state")
    may_stop.touch()
    ended = daemon.ended()
    assert (ended.code, ended.complaint) == (0, "")
    assert "market  stopping\n" in ended.out
    assert ended.out.endswith("\nstopped; everything is published\n")


def test_signal_while_the_node_is_built(start: Callable[..., Daemon]) -> None:
    """A signal before the node runs waits until it is built, and ends it before it trades."""
    daemon = start(source__factory="tests.bridge.sources:announced")
    daemon.until_logged("source.building")
    ended = daemon.stop(signal.SIGTERM)
    assert (ended.code, ended.complaint) == (0, "")
    assert "\nstopping ...\n" in ended.out
    assert ended.out.endswith("\nstopped; everything is published\n")
    assert daemon.logged[-1]["event"] == "redis.embedded_stopped"


def test_signal_while_redis_loads(start: Callable[..., Daemon], make_redis: Callable) -> None:
    """A signal while it waits for a Redis that loads ends it at once."""
    server = loading(make_redis, seconds=60)
    daemon = start(redis__url=server.url)
    before = _connections(server)
    eventually(lambda: _connections(server) > before, "its first connection")
    ended = daemon.stop(signal.SIGTERM)
    assert (ended.code, ended.complaint) == (0, "")
    assert ended.out == "stopped before it ran; there was nothing to publish\n"


def test_redis_gone_at_the_end(start: Callable[..., Daemon], make_redis: Callable) -> None:
    """Execution entries that could not be published are counted, and the exit code is 74."""
    server = make_redis()
    daemon = start(
        *("--strategy", "tests.bridge.strategies:Busy"),
        redis__url=server.url,
        node__stop_timeout_seconds="2",
    ).until_running()
    server.kill()
    daemon.until(lambda: daemon.metric("nautilus_bridge_exec_backlog"), "an entry that waits")
    daemon.until(lambda: daemon.metric("nautilus_bridge_market_backlog"), "a quote that waits")
    ended = daemon.stop()
    assert ended.code == exits.CANNOT_RECORD
    assert re.search(
        r"\nstopped; NOT published, and lost: [1-9]\d* execution entries, [1-9]\d* market events"
        r" \(no connection to Redis for the exec lane: .*\)\n$",
        ended.out,
    )
    assert ended.complaint == ""


def test_market_data_lost_at_the_end(start: Callable[..., Daemon], make_redis: Callable) -> None:
    """Market data that could not be published are counted too; they are no reason for a code."""
    server = make_redis()
    settings = {"redis__url": server.url}
    settings["control__link_timeout_seconds"] = "3600"  # else its loss is an entry that is lost
    daemon = start("--strategy", "tests.bridge.strategies:Idle", **settings).until_running()
    daemon.until(lambda: not daemon.metric("nautilus_bridge_exec_backlog"), "nothing that waits")
    server.kill()
    daemon.until(lambda: daemon.metric("nautilus_bridge_market_backlog"), "a quote that waits")
    ended = daemon.stop()
    assert ended.code == exits.DONE
    assert "lost: 0 execution entries, " in ended.out


def test_embedded_redis_dies_with_it(start: Callable[..., Daemon]) -> None:
    """A daemon that is killed leaves no redis-server behind."""
    daemon = start().until_running()
    server = _redis_pid(daemon.port)
    daemon.send(signal.SIGKILL)
    eventually(lambda: _is_gone(server), "the end of its redis-server")


def test_nobody_reads_stdout(start: Callable[..., Daemon]) -> None:
    """A pipe that is closed at its other end (`| head -1`) does not end the daemon."""
    reader, writer = os.pipe()
    daemon = start(stdout=writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    daemon.until_logged("node.running")
    with redis.Redis(port=int(str(daemon.logged[0]["url"]).split(":")[2][:-2])) as client:
        daemon.until(lambda: client.exists("metrics:nautilus_bridge"), "a report")
    ended = daemon.stop()
    assert (ended.code, ended.complaint) == (0, "")


def test_embedded_redis_dies(start: Callable[..., Daemon]) -> None:
    """The daemon does not go on without the Redis it started: 75, and the message says why."""
    daemon = start().until_running()
    [pid] = [line["pid"] for line in daemon.logged if line["event"] == "redis.embedded_started"]
    os.kill(pid, signal.SIGKILL)
    ended = daemon.ended()
    assert ended.code == exits.RESTART
    assert "the embedded redis-server ended by itself" in ended.err

"""`python -m bridge doctor` against a real server, with one key that is not what it should be."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.__main__ import main
from bridge.doctor import Level, Reading
from bridge.doctor_server import server
from tests.bridge.doctors import Seen, emptied, kept, now_ms, seen
from tests.bridge.processes import environment
from tests.servers import RedisServer

type Capture = pytest.CaptureFixture[str]
type See = Callable[..., Seen]

LOSE, WARN = "lose", "warn"
HALTED = ("HSET", "bridge:state:demo", "heartbeat_ns", "now", "state", "HALTED")


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> See:
    """Return `see(url, *words)`: what doctor says of the Redis there."""
    monkeypatch.setattr("os.environ", environment({}))
    return lambda url, *words: seen(capsys.readouterr, url, *words)


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with kept(tmp_path_factory) as server:
        yield server


@pytest.fixture
def healthy(_server: RedisServer) -> RedisServer:
    """A server with nothing wrong, emptied; the tests of this file share it."""
    return emptied(_server)


@pytest.mark.parametrize(
    ("words", "name", "level", "text"),
    [
        (("SET", "exec:fills", "x"), "exec:fills", LOSE, "it holds a string"),
        (("RPUSH", "exec:archive", "x"), "exec:archive", LOSE, "it holds a list"),
        (("SET", "bridge:mark:{exec:orders}", "x"), "exec:orders", LOSE, "holds a string"),
        (("SET", "market.raw.crypto.BTCUSDT", "x"), "market streams", LOSE, "holds a string"),
        (("HSET", "market.raw.bars.BTCUSDT", "x", "y"), "market streams", LOSE, "holds a hash"),
        (
            ("HSET", "bridge:mark:{exec:orders}", "p", "7 1700000000000-0 7"),
            *("exec:orders", WARN, "is gone: its mark knows of the entry 1700000000000-0"),
        ),
        (
            ("XADD", "exec:fills", "9999999999999-0", "a", "b"),
            *("exec:fills", WARN, "set back, or somebody wrote an id by hand"),
        ),
        (
            ("XADD", "exec:fills", "*", "topic", "t", "type", "", "payload", "{}"),
            *("exec:fills", LOSE, "Nautilus's own message bus writes into it"),
        ),
        (("SET", "features:nautilus_engine", "si"), "features:nautilus_engine", WARN, "'si' is no"),
        (("RPUSH", "features:nautilus_live_exec", "1"), "features:nautilus_live_exec", WARN, "off"),
        (("SET", "mode", " HALTT"), "mode", WARN, "'HALTT' is no mode"),
        (("RPUSH", "mode", "halt"), "mode", WARN, "what is no string is no mode"),
        (
            ("SET", "risk:max_drawdown", "10%"),
            *("limits", WARN, "'10%' is no number from 0 to 1: the configured limit holds"),
        ),
        (
            ("SET", "risk:max_position:BTC", "-1"),
            *("limits", WARN, "risk:max_position:BTC: '-1' is no number from 0 to 1e+15"),
        ),
        (("SET", "bridge:contract", "{}"), "bridge:contract", WARN, "another version"),
        (
            (*HALTED, "latched", "id-1", "reason", "mode"),
            *("bridge", WARN, "HALTED: mode"),
        ),
        (
            ("HSET", "bridge:state:demo", "heartbeat_ns", "abc"),
            *("bridge", WARN, "bridge:state:demo is no state that can be read: its heartbeat_ns"),
        ),
        (
            ("HSET", "bridge:state:demo", "heartbeat_ns", f"{1 << 62}", "state", "ACTIVE"),
            *("bridge", WARN, "s ahead of this machine's clock"),
        ),
        (("SET", "bridge:state:demo", "x"), "bridge", WARN, "bridge:state:demo holds"),
        (
            ("HSET", "metrics:nautilus_bridge", "ts_ns", "abc"),
            *("nautilus backing", "unknown", "metrics:nautilus_bridge: its ts_ns 'abc' is no time"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_key(
    see: See, healthy: RedisServer, words: tuple[str, ...], name: str, level: str, text: str
) -> None:
    """One key that is not what it should be is the one thing that is named, with a remedy."""
    now_ns = str(time.time_ns())
    healthy.client.execute_command(*[now_ns if each == "now" else each for each in words])

    said = see(healthy.url)

    assert said.worst == {name: level}
    assert text in said.of(name).what
    assert said.of(name).remedy
    assert said.code == (exits.FAILED if level == LOSE else exits.DONE)


@pytest.mark.parametrize("key", ["exec:fills", "bridge:mark:{exec:fills}", "exec:archive"])
def test_a_key_that_expires(see: See, healthy: RedisServer, key: str) -> None:
    """A stream, or its marks, that Redis deletes by itself is data lost; PERSIST mends it."""
    mark = key.startswith("bridge")
    healthy.client.xadd("exec:fills" if mark else key, {"a": "b"})
    if mark:
        healthy.client.hset(key, "owner:x", "y")
    healthy.client.expire(key, 3690)

    said = see(healthy.url)

    name = "exec:fills" if mark else key
    assert said.worst == {name: LOSE}
    assert f"Redis deletes {key} in 3,6" in said.of(name).what
    assert said.of(name).remedy == f"PERSIST {key}"
    healthy.client.execute_command(*said.of(name).remedy.split())
    assert see(healthy.url).is_clean


def test_a_market_key_that_is_no_text(see: See, healthy: RedisServer) -> None:
    """A market stream whose name is no UTF-8 is asked for by its own name."""
    healthy.client.xadd(b"market.raw.crypto.\xff", {"a": "b"})

    said = see(healthy.url)

    assert said.is_clean
    assert said.numbers["market streams"]["streams"] == 1
    assert said.numbers["market streams"]["size_bytes"] > 0

    healthy.client.set(b"market.raw.crypto.\xfe", "x")
    assert r"market.raw.crypto.\xfe holds a string" in see(healthy.url).of("market streams").what


@pytest.mark.parametrize("first", [0, 195, 370])
def test_a_bus_between_our_entries(see: See, healthy: RedisServer, first: int) -> None:
    """Entries of Nautilus's bus are seen, though others came behind them."""
    begin_ms = now_ms() - 3_600_000
    with healthy.client.pipeline(transaction=False) as pipe:
        for number in range(410):
            is_bus = first <= number < first + 30
            fields = {"topic": "t", "payload": "{}"} if is_bus else {"a": "b"}
            pipe.xadd("exec:fills", fields, id=f"{begin_ms + number}-0")
        pipe.execute()

    said = see(healthy.url)

    assert said.worst == {"exec:fills": LOSE}
    assert said.of("exec:fills").what == "Nautilus's own message bus writes into it"


def test_an_answer_that_a_check_chokes_on() -> None:
    """A check that cannot make sense of an answer says so, by name, and the others go on."""
    info = {"redis_version": "7.0.0", "role": "master", "connected_slaves": "many"}
    read = Reading(info=info, round_trips_ns=[1])

    said = server(read, is_ours=True, is_replaceable=True, market_maxlen=1, kinds=1)
    found = {each.name: each for each in said}

    assert found["role"].level is Level.UNKNOWN
    assert "ValueError" in found["role"].what
    assert found["version"].level is Level.OK
    assert found["scripts"].level is Level.OK


def test_growth(monkeypatch: pytest.MonkeyPatch, capsys: Capture, healthy: RedisServer) -> None:
    """A stream's growth per day, in entries and bytes, is told from how long it took to grow."""
    monkeypatch.setattr("os.environ", environment({}))
    begin_ms = now_ms() - 12 * 3_600_000
    with healthy.client.pipeline(transaction=False) as pipe:
        for number in range(500):
            pipe.xadd("exec:orders", {"a": "x" * 100}, id=f"{begin_ms + number}-0")
        pipe.execute()
    size_bytes = healthy.client.memory_usage("exec:orders")

    assert main(("doctor", "--url", healthy.url)) == exits.DONE

    [line] = [each for each in capsys.readouterr().out.splitlines() if "exec:orders" in each]
    kibibytes = f"{size_bytes / 1024:.0f} KiB"
    assert f"500 entries, {kibibytes}; 1,000 entries, " in line
    assert line.endswith(" KiB a day")

    numbers = seen(capsys.readouterr, healthy.url).numbers["exec:orders"]
    assert numbers["entries"] == 500
    assert numbers["size_bytes"] == size_bytes
    assert round(numbers["entries_per_day"]) == 1000
    assert round(numbers["bytes_per_day"] / size_bytes, 1) == 2.0


def test_the_prefix_of_the_settings(
    see: See, healthy: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--config names the streams and the role: those of others are not looked at."""
    file = tmp_path / "bridge.toml"
    file.write_text(f'role = "shadow"\n[redis]\nurl = "{healthy.url}"\n[state]\ndirectory = "s"\n')
    healthy.client.set("exec:fills", "x")
    assert see(healthy.url, "--config", str(file)).code == exits.DONE

    healthy.client.rename("exec:fills", "shadow:exec:fills")
    assert see(healthy.url, "--config", str(file)).worst == {"shadow:exec:fills": LOSE}

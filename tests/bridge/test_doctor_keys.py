"""`python -m bridge doctor` against a real server, with one key that is not what it should be."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.__main__ import main
from tests.bridge.doctors import Seen, emptied, kept, now_ms, seen
from tests.bridge.processes import environment
from tests.servers import RedisServer

type Capture = pytest.CaptureFixture[str]
type See = Callable[..., Seen]

LOSE, WARN = "lose", "warn"
HALTED = ("HSET", "bridge:state:demo", "heartbeat_ns", f"{1 << 62}", "state", "HALTED")


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
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_key(
    see: See, healthy: RedisServer, words: tuple[str, ...], name: str, level: str, text: str
) -> None:
    """One key that is not what it should be is the one thing that is named, with a remedy."""
    healthy.client.execute_command(*words)

    said = see(healthy.url)

    assert said.worst == {name: level}
    assert text in said.of(name).what
    assert said.of(name).remedy
    assert said.code == (exits.FAILED if level == LOSE else exits.DONE)


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

"""bridge/watcher.py: what is SET in Redis is in force at once, and Redis shows what is."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.controller import STATE_SECONDS_MAX
from bridge.core.contract import STREAMS
from bridge.core.control import MODE_KEY, Raw, State
from tests.bridge.watching import FLAG, QUIET, SYMBOL, Rig
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer

ACTIVE, REDUCING, DISABLED, HALTED = State.ACTIVE, State.REDUCING, State.DISABLED, State.HALTED


@pytest.fixture(autouse=True)
def _no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read but what Redis pushes: neither the poll nor the beat comes in time. What is
    shown stays for as long as it would with a beat."""
    monkeypatch.setattr("bridge.watcher.BEAT_SECONDS", 60)
    monkeypatch.setattr("bridge.watcher.STATE_SECONDS_MAX", 120)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *[(word, ACTIVE) for word in ("1", "true", "on", "yes", " TRUE\n", "On", "YES")],
        *[(word, DISABLED) for word in ("0", "", "off", "2", "1.0", "no", "garbage", "\udc80")],
    ],
)
@on_uvloop
async def test_flag(redis_server: RedisServer, tmp_path: Path, word: str, state: State) -> None:
    """A flag is on for its words, trimmed and case-folded, and off for all else; pushed, not
    polled."""
    before = "0" if state is ACTIVE else "1"
    redis_server.client.set(FLAG, before)
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        assert rig.watcher.via == "tracking"
        await rig.until(DISABLED if state is ACTIVE else ACTIVE)
        redis_server.client.set(FLAG, word.encode(errors="surrogateescape"))
        await rig.until(state)
        await until(lambda: rig.shown["flag"] == ("1" if state is ACTIVE else "0"))


@pytest.mark.parametrize(
    ("word", "state", "shown"),
    [
        *[(word, ACTIVE, word) for word in ("normal", "auto", "run", "live", "failover")],
        (" Auto \n", ACTIVE, "auto"),
        *[(word, REDUCING, "reduce") for word in ("reduce", "\tREDUCE ")],
        *[(word, HALTED, "halt") for word in ("halt", " HALT\r\n", "Halt")],
        *[(word, REDUCING, word) for word in ("nonsense", "halted", "0", "halt now")],
        *[(word, REDUCING, "unknown") for word in ("", "   ")],
    ],
)
@on_uvloop
async def test_mode(
    redis_server: RedisServer, tmp_path: Path, word: str, state: State, shown: str
) -> None:
    """Each word of `mode` has its meaning, trimmed and case-folded; an unknown one lets positions
    only shrink."""
    redis_server.client.mset({FLAG: "1", MODE_KEY: "normal" if state is not ACTIVE else "reduce"})
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE if state is not ACTIVE else REDUCING)
        redis_server.client.set(MODE_KEY, word)
        await rig.until(state)
        await until(lambda: rig.shown["mode"] == shown)


@on_uvloop
async def test_words_of_the_settings(redis_server: RedisServer, tmp_path: Path) -> None:
    """`control.normal_modes` says which words are normal."""
    redis_server.client.mset({FLAG: "1", MODE_KEY: "auto"})
    rig = Rig(redis_server, tmp_path, QUIET | {"control.normal_modes": "Open"})
    async with rig.watching():
        await rig.until(REDUCING)
        rig.set(MODE_KEY, "open")
        await rig.until(ACTIVE)


@pytest.mark.parametrize(
    ("key", "state", "field", "shown"),
    [(FLAG, DISABLED, "flag", "0"), (MODE_KEY, REDUCING, "mode", "unknown")],
)
@on_uvloop
async def test_wrong_type(
    redis_server: RedisServer, tmp_path: Path, key: str, state: State, field: str, shown: str
) -> None:
    """A key that holds no string: a flag is off, `mode` is unknown; Redis can be relied on."""
    redis_server.client.mset({FLAG: "1", MODE_KEY: "normal"})
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        redis_server.client.pipeline().delete(key).lpush(key, "1").execute()
        await rig.until(state)
        await until(lambda: rig.shown[field] == shown)
        redis_server.client.delete(key)
        rig.set(key, "1" if key == FLAG else "normal")
        await rig.until(ACTIVE)


@pytest.mark.parametrize("command", [("DEL", FLAG), ("FLUSHALL",), ("FLUSHDB", "ASYNC")])
@on_uvloop
async def test_gone(redis_server: RedisServer, tmp_path: Path, command: tuple[str, ...]) -> None:
    """A flag that is deleted, alone or with all keys, is off; a missing mode is normal."""
    redis_server.client.mset({FLAG: "1", MODE_KEY: "reduce"})
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        await rig.until(REDUCING)
        redis_server.client.execute_command(*command)
        await rig.until(DISABLED)
        redis_server.client.delete(MODE_KEY)
        rig.set(FLAG, "1")
        await rig.until(ACTIVE)
        assert rig.shown["mode"] == "missing"


@on_uvloop
async def test_expired(redis_server: RedisServer, tmp_path: Path) -> None:
    """A flag that was set for a time is off when that is over."""
    redis_server.client.set(FLAG, "1")
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        redis_server.client.pexpire(FLAG, 20)
        await rig.until(DISABLED)


@on_uvloop
async def test_limits(redis_server: RedisServer, tmp_path: Path) -> None:
    """Limits in Redis reach the source, those of a symbol too; what is no number is logged, and
    the configured value holds."""
    redis_server.client.set("risk:max_order_notional", " 5e3 ")
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        configured = rig.config.limits_in_force
        [limits] = rig.desk.limits
        assert limits.max_order_notional == 5000
        assert limits.max_order_rate == configured.max_order_rate

        rig.set(f"risk:max_position:{SYMBOL}", "77")
        await until(lambda: rig.desk.limits[-1].position_of(SYMBOL) == 77)
        assert rig.desk.limits[-1].position_of("OTHER") == configured.max_position

        for garbage in ("lots", "NaN", "-1", "Infinity"):
            with capture_logs() as logs:
                count = len(rig.desk.limits)
                rig.set("risk:max_order_notional", garbage)
                await until(lambda count=count: len(rig.desk.limits) > count)
            assert rig.desk.limits[-1].max_order_notional == configured.max_order_notional
            assert [each["key"] for each in logs if each["event"] == "control.limit_refused"] == [
                "risk:max_order_notional"
            ]
        rig.set("risk:max_drawdown", "1.5")  # no fraction
        await until(lambda: len(rig.desk.limits) == count + 2)
        assert rig.desk.limits[-1].max_drawdown == configured.max_drawdown


@on_uvloop
async def test_keys_that_are_not_read(redis_server: RedisServer, tmp_path: Path) -> None:
    """Keys that only begin like ours may change as often as they like: nothing is read for it."""
    redis_server.client.set(FLAG, "1")
    rig = Rig(redis_server, tmp_path)

    def change() -> None:
        client = redis_server.new_client()
        for number in range(500):
            client.mset({f"model:{number}": "x", "features:other": str(number)})

    async with rig.watching():
        await rig.until(ACTIVE)
        await _quiet(rig)
        before = _gets(rig)
        await asyncio.to_thread(change)
        await _quiet(rig)
        assert _gets(rig) - before < 10 * len(rig.watcher._keys)


@on_uvloop
async def test_a_storm_of_changes(redis_server: RedisServer, tmp_path: Path) -> None:
    """A key that changes within every read does not keep the state from being written."""
    redis_server.client.mset({FLAG: "1", MODE_KEY: "normal"})
    rig = Rig(redis_server, tmp_path)
    take = rig.controller.take

    def take_and_hear(read: Mapping[str, Raw]) -> None:
        rig.watcher._ask_soon()  # as a push does
        take(read)

    async with rig.watching():
        rig.controller.take = take_and_hear
        rig.set(MODE_KEY, "reduce")
        await rig.until(REDUCING)


@on_uvloop
async def test_the_state_in_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    """bridge:state has the fields of exec:control and more; it is written at once."""
    redis_server.client.set(FLAG, "1")
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        began_ns = time.time_ns()
        rig.set(MODE_KEY, "halt")
        await until(lambda: rig.shown["done_ns"])
        shown = rig.shown
    more = ["flag", "mode", "latched", "market_problem", "pid", "heartbeat_ns"]
    assert sorted(shown) == sorted([*STREAMS["control"].names, *more])
    assert (shown["state"], shown["was"]) == ("HALTED", "HALTED")
    assert (shown["cause"], shown["reason"], shown["scope"]) == ("mode", "mode is halt", "demo")
    assert (shown["canceled"], shown["refused"], shown["positions_left"]) == ("3", "2", "1")
    times = [int(shown[name]) for name in ("gate_ns", "done_ns", "ts_ns", "heartbeat_ns")]
    times = [began_ns, *times, time.time_ns()]
    assert times == sorted(times)
    assert (shown["flag"], shown["mode"]) == ("1", "halt")
    assert shown["latched"] == redis_server.client.get(rig.keys.latch)


@on_uvloop
async def test_heartbeat(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However seldom it polls, it writes the state about once a second."""
    monkeypatch.undo()
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        seen: list[int] = []

        def beats() -> int:
            beat = int(rig.shown["heartbeat_ns"])
            if beat not in seen:
                seen.append(beat)
            return len(seen)

        await until(lambda: beats() >= 4)
        assert seen[-1] - seen[1] > 1_000_000_000  # one may be late


@on_uvloop
async def test_what_is_logged(redis_server: RedisServer, tmp_path: Path) -> None:
    """It says how it hears of changes."""
    with capture_logs() as logs:
        async with Rig(redis_server, tmp_path).watching():
            pass
    [said] = [each for each in logs if each["event"] == "control.watching"]
    assert said["via"] == "tracking"


async def _quiet(rig: Rig) -> None:
    """Return when all that was pushed so far has come and was read."""
    rate = rig.client.incr("risk:max_order_rate")
    await until(lambda: rig.desk.limits[-1].max_order_rate == rate and not rig.watcher._is_busy)


def _gets(rig: Rig) -> int:
    """Return how many GETs Redis has served."""
    calls: int = rig.client.info("commandstats")["cmdstat_get"]["calls"]
    return calls


@on_uvloop
async def test_a_state_has_somebody_behind_it(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash is there while it is written, and ends by itself behind the last write."""
    monkeypatch.setattr("bridge.watcher.STATE_SECONDS_MAX", STATE_SECONDS_MAX)
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        await until(lambda: rig.shown)
        assert 0 < redis_server.client.pttl(rig.keys.state) <= STATE_SECONDS_MAX * 1000
    await until(lambda: not rig.shown)

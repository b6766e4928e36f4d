"""bridge/controller.py: a halt ends only on purpose, whatever Redis, the disk or a restart do."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.controller import Keys
from bridge.core.control import MODE_KEY, State
from bridge.core.lanes import CannotRecord
from tests.bridge.journals import fill_up, tmpfs
from tests.bridge.watching import FLAG, HALT, LATCH, QUIET, RESUME, STATE, Rig
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer

type Make = Callable[..., RedisServer]
ACTIVE, HALTED = State.ACTIVE, State.HALTED


@pytest.fixture(autouse=True)
def _no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read but what Redis pushes, nothing is written but what has changed: that stays
    for as long as it would with a beat."""
    monkeypatch.setattr("bridge.watcher.BEAT_SECONDS", 60)
    monkeypatch.setattr("bridge.watcher.STATE_SECONDS_MAX", 120)


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    """The shared server, with the flag on."""
    redis_server.client.set(FLAG, "1")
    return redis_server


def test_the_latch_is_read_first() -> None:
    """Its id is read before `mode`: read the other way round, an id of after a rewind would stand
    beside a mode of before it."""
    keys = Keys.of("demo")
    assert keys.reads.index(keys.latch) < keys.reads.index(MODE_KEY)


@on_uvloop
async def test_mode_halt_and_back(server: RedisServer, tmp_path: Path) -> None:
    """`set mode halt` halts and is latched, on the disk and in Redis; a normal word ends it."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        id_ = await rig.halted()
        assert (rig.kept.id, rig.kept.cause, rig.kept.is_sighted) == (id_, "mode", True)
        assert server.client.get(LATCH) == id_
        rig.set(MODE_KEY, "auto")
        await rig.until(ACTIVE)
        assert rig.shown["latched"] == ""
        assert server.client.get(LATCH) is None
    latch = rig.file.load()
    assert (latch.halt, latch.ended) == (None, id_)


@on_uvloop
async def test_shown_is_latched(server: RedisServer, tmp_path: Path) -> None:
    """As soon as bridge:state shows HALTED, a normal word ends the halt: also when nothing had to
    be canceled, and time and again."""
    rig = Rig(server, tmp_path)

    def operate() -> None:
        client = server.new_client()
        for _ in range(100):
            client.set(MODE_KEY, "halt")
            while client.hget(STATE, "state") != "HALTED":
                pass
            client.set(MODE_KEY, "normal")
            while client.hget(STATE, "state") != "ACTIVE":
                pass

    async with rig.watching():
        await rig.until(ACTIVE)
        async with asyncio.timeout(20):
            await asyncio.to_thread(operate)
    assert [each["state"] for each in rig.entries].count("ACTIVE") == 101


@pytest.mark.parametrize("word", ["reduce", "nonsense", None])
@on_uvloop
async def test_only_a_normal_word_ends_it(
    server: RedisServer, tmp_path: Path, word: str | None
) -> None:
    """Neither a mode that is missing nor any other word ends a halt."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.halted()
        rig.set(MODE_KEY, word) if word else server.client.delete(MODE_KEY)
        await until(lambda: rig.shown["mode"] == (word or "missing"))
        assert (rig.state, rig.shown["state"]) == (HALTED, "HALTED")
        rig.set(MODE_KEY, "normal")
        await rig.until(ACTIVE)


@pytest.mark.parametrize("is_flushed", [False, True])
@on_uvloop
async def test_rewound(make_redis: Make, tmp_path: Path, *, is_flushed: bool) -> None:
    """A Redis that was set back behind the halt, or flushed, does not end it: its id is written
    again, and only `set mode halt` and then a normal word end it."""
    server = make_redis()
    server.client.mset({FLAG: "1", MODE_KEY: "normal"})
    server.client.save()
    rig = Rig(server, tmp_path, QUIET | {"control.link_timeout_seconds": "0.3"})
    async with rig.watching():
        id_ = await rig.halted()
        if is_flushed:
            server.client.flushall()
            server.client.mset({FLAG: "1", MODE_KEY: "normal"})
        else:
            server.kill()
            server.start()
        await until(lambda: server.client.get(LATCH) == id_)
        await until(lambda: rig.shown.get("mode") == "normal")
        await until(lambda: not rig.kept.is_sighted)
        assert (rig.state, rig.shown["latched"]) == (HALTED, id_)
        rig.set(MODE_KEY, "normal")
        beat = rig.shown["heartbeat_ns"]
        await until(lambda: rig.shown["heartbeat_ns"] > beat)
        assert rig.state is HALTED

        rig.set(MODE_KEY, "halt")
        await until(lambda: rig.shown["mode"] == "halt")
        rig.set(MODE_KEY, "normal")
        await rig.until(ACTIVE)


@on_uvloop
async def test_a_restart(server: RedisServer, tmp_path: Path) -> None:
    """A halt outlives the process, whatever Redis says meanwhile: gates are closed from the
    start, and it ends as it would have."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        id_ = await rig.halted()
    server.client.delete(MODE_KEY)
    again = Rig(server, tmp_path)
    assert again.desk.applied == [(HALTED, "mode is halt")]
    async with again.watching():
        assert again.state is HALTED
        await until(lambda: again.shown["latched"] == id_)
        again.set(MODE_KEY, "normal")
        await again.until(ACTIVE)


@on_uvloop
async def test_a_restart_elsewhere(server: RedisServer, tmp_path: Path) -> None:
    """A bridge that lost its folder takes the halt that Redis still holds."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        id_ = await rig.halted()
    server.client.set(MODE_KEY, "normal")
    (tmp_path / "new").mkdir()
    again = Rig(server, tmp_path / "new")
    async with again.watching():
        await again.until(HALTED)
        assert (again.shown["latched"], again.shown["cause"]) == (id_, "restored")
        again.set(RESUME, id_)
        await again.until(ACTIVE)


@on_uvloop
async def test_a_breach(server: RedisServer, tmp_path: Path) -> None:
    """A broken limit halts at once, is shown and latched at once, and no normal word ends it that
    was not preceded by `set mode halt`; another breach changes nothing."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        await rig.idle()
        rig.desk.ends.clear()  # so long as orders have not ended there is no account
        rig.desk.on_breach("lost too much")
        assert rig.desk.applied[-1] == (HALTED, "lost too much")
        await rig.until(HALTED)
        shown = rig.shown
        assert (shown["cause"], shown["reason"]) == ("breach", "lost too much")
        assert server.client.get(LATCH) == shown["latched"]
        assert rig.kept.cause == "breach"
        rig.desk.on_breach("and more")
        rig.set(MODE_KEY, "normal")
        await until(lambda: rig.shown["mode"] == "normal")
        assert (rig.state, rig.shown["reason"]) == (HALTED, "lost too much")
        rig.set(MODE_KEY, "halt")
        await until(lambda: rig.shown["mode"] == "halt")
        rig.set(MODE_KEY, "normal")
        await rig.until(ACTIVE)


@on_uvloop
async def test_a_breach_while_limits_are_set(server: RedisServer, tmp_path: Path) -> None:
    """A limit that is broken the moment it is set halts for good."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        rig.desk.limit = lambda _: rig.desk.on_breach("lost too much")
        rig.set("risk:max_daily_loss", "1")
        await rig.until(HALTED)
        assert rig.desk.states == [State.DISABLED, ACTIVE, HALTED]
        assert rig.kept.cause == "breach"


@on_uvloop
async def test_orders(server: RedisServer, tmp_path: Path) -> None:
    """`bridge:halt` halts under the id that it names, `bridge:resume` ends that very halt; both
    are taken away when they are obeyed."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        rig.set(HALT, "id-1 too hot")
        await rig.until(HALTED)
        assert (rig.shown["cause"], rig.shown["reason"]) == ("command", "too hot")
        assert (rig.shown["latched"], server.client.get(LATCH)) == ("id-1", "id-1")
        await until(lambda: not server.client.exists(HALT))

        rig.set(RESUME, "another")
        await until(lambda: not server.client.exists(RESUME))
        assert rig.state is HALTED
        rig.set(RESUME, "id-1")
        await rig.until(ACTIVE)
        assert server.client.exists(HALT, RESUME, LATCH) == 0
        rig.set(HALT, "id-2")
        await rig.until(HALTED)


@on_uvloop
async def test_no_resume_while_mode_is_halt(server: RedisServer, tmp_path: Path) -> None:
    """`bridge:resume` does not end what `mode` still asks for, not even later."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        id_ = await rig.halted()
        rig.set(RESUME, id_)
        await until(lambda: not server.client.exists(RESUME))
        assert rig.state is HALTED
        assert rig.shown["latched"] == id_


@on_uvloop
async def test_an_old_order_comes_back(server: RedisServer, tmp_path: Path) -> None:
    """An order to halt that was obeyed, ended, and comes back with a rewind halts nobody."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        rig.set(HALT, "id-1 too hot")
        await rig.until(HALTED)
        rig.set(RESUME, "id-1")
        await rig.until(ACTIVE)
    again = Rig(server, tmp_path)  # a restart has not forgotten it
    async with again.watching():
        await again.until(ACTIVE)
        server.client.mset({HALT: "id-1 too hot", LATCH: "id-1"})
        await until(lambda: server.client.exists(HALT, LATCH) == 0)
        assert HALTED not in again.desk.states


@on_uvloop
async def test_a_full_disk(server: RedisServer, tmp_path: Path) -> None:
    """On a disk without a byte left a halt is latched all the same."""
    with tmpfs(tmp_path / "disk", 1 << 20) as disk:
        rig = Rig(server, disk)
        fill_up(disk)
        async with rig.watching():
            id_ = await rig.halted()
            assert rig.kept.id == id_


@on_uvloop
async def test_a_latch_that_cannot_be_written(server: RedisServer, tmp_path: Path) -> None:
    """Where the latch cannot be written at all the halt holds, in memory and in Redis."""
    rig = Rig(server, tmp_path)
    rig.file.path.unlink()
    rig.file.path.mkdir()
    async with rig.watching():
        await rig.idle()
        id_ = await rig.halted()
        assert server.client.get(LATCH) == id_
        server.client.delete(MODE_KEY)
        await until(lambda: rig.shown["mode"] == "missing")
        assert rig.state is HALTED
        await rig.idle()
        assert rig.watcher._link.connects == 1  # it is not taken for an outage of Redis


@on_uvloop
async def test_a_journal_that_takes_nothing(server: RedisServer, tmp_path: Path) -> None:
    """What cannot be recorded keeps no gate from closing."""
    rig = Rig(server, tmp_path)

    def refuse(_: object) -> None:
        raise CannotRecord("no room")

    async with rig.watching():
        await rig.until(ACTIVE)
        rig.lane.append_always = refuse
        await rig.halted()
        assert rig.desk.states[-1] is HALTED

"""bridge/controller.py: what follows from what Redis says, and the account of it."""

import asyncio
from pathlib import Path

import pytest

from bridge import exits
from bridge.core.control import MODE_KEY, State
from bridge.exits import Exit
from tests.bridge.watching import FLAG, QUIET, Rig
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer

ACTIVE, REDUCING, DISABLED, HALTED = State.ACTIVE, State.REDUCING, State.DISABLED, State.HALTED
FLATTEN = QUIET | {"control.halt_action": "flatten"}
LIVE = {"role": "live", "node.exec_client": "a:b", "streams.prefix": ""}


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


async def account(rig: Rig) -> dict[str, str]:
    """Return the last entry, which is that of what was done."""
    await until(lambda: rig.entries[-1]["done_ns"])
    return rig.entries[-1]


@on_uvloop
async def test_entries(server: RedisServer, tmp_path: Path) -> None:
    """exec:control has an entry for each change, and one for what was done because of it."""
    server.client.delete(FLAG)
    rig = Rig(server, tmp_path)
    rig.desk.ends.clear()
    async with rig.watching():
        for key, word, state in (
            (FLAG, "1", ACTIVE),
            (MODE_KEY, "reduce", REDUCING),
            (MODE_KEY, "halt", HALTED),
        ):
            rig.set(key, word)
            await rig.until(state)
        assert rig.shown["done_ns"] == ""
        rig.desk.ends.set()
        last = await account(rig)
        await until(lambda: rig.shown["done_ns"] == last["done_ns"])
    *changes, done = rig.entries
    assert [(e["was"], e["state"], e["cause"], e["reason"]) for e in changes] == [
        ("", "DISABLED", "link", "Redis was not asked yet"),
        ("DISABLED", "DISABLED", "flag", "the flag is off"),
        ("DISABLED", "ACTIVE", "clear", ""),
        ("ACTIVE", "REDUCING", "mode", "mode is reduce"),
        ("REDUCING", "HALTED", "mode", "mode is halt"),
    ]
    for each in changes:
        assert each["scope"] == "demo"
        assert 0 < int(each["gate_ns"]) <= int(each["ts_ns"])
        assert not any(each[name] for name in ("canceled", "refused", "positions_left", "done_ns"))
    assert (done["was"], done["state"], done["cause"]) == ("HALTED", "HALTED", "mode")
    assert (done["canceled"], done["refused"], done["positions_left"]) == ("3", "2", "1")
    assert done["gate_ns"] == changes[-1]["gate_ns"] <= done["done_ns"] <= done["ts_ns"]
    assert rig.desk.actions == ["cancel", "cancel", "reduce", "cancel"]


@on_uvloop
async def test_another_reason_of_the_same_kind(server: RedisServer, tmp_path: Path) -> None:
    """A mode that goes from `reduce` to garbage is no change, but the reason shown is its own."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        rig.set(MODE_KEY, "reduce")
        await rig.until(REDUCING)
        await account(rig)
        count = len(rig.entries)
        rig.set(MODE_KEY, "nonsense")
        await until(lambda: rig.shown["reason"].startswith("mode is no word"))
        assert len(rig.entries) == count


@on_uvloop
async def test_metrics(server: RedisServer, tmp_path: Path) -> None:
    """Gauges tell the state, flag and latch, and how long the last halt took; nothing else is
    taken for a halt."""
    rig = Rig(server, tmp_path)

    def told() -> list[float | None]:
        names = ("flag", "latched")
        sample = rig.metrics.registry.get_sample_value
        states = [
            sample("nautilus_bridge_control_state", {"state": state.value}) for state in State
        ]
        return states + [sample(f"nautilus_bridge_control_{name}") for name in names]

    def halt_seconds() -> list[float]:
        snapshot = rig.metrics.snapshot(0)
        return [
            float(snapshot[f"nautilus_bridge_halt_{name}_seconds"]) for name in ("gate", "done")
        ]

    async with rig.watching():
        await rig.until(ACTIVE)
        assert told() == [1, 0, 0, 0, 1, 0]
        assert halt_seconds() == [0, 0]
        await rig.halted()
        await account(rig)
        assert told() == [0, 0, 0, 1, 1, 1]
        gate, done = halt_seconds()
        assert 0 < gate < done
        rig.set(FLAG, "0")
        rig.set(MODE_KEY, "normal")
        await rig.until(DISABLED)
        assert told() == [0, 0, 1, 0, 0, 0]
        assert halt_seconds() == [gate, done]


@pytest.mark.parametrize("setting", ["cancel", "hold"])
@on_uvloop
async def test_on_disable(server: RedisServer, tmp_path: Path, setting: str) -> None:
    """`control.on_disable` says what becomes of resting orders when the flag goes off."""
    rig = Rig(server, tmp_path, QUIET | {"control.on_disable": setting})
    async with rig.watching():
        await rig.until(ACTIVE)
        rig.desk.actions.clear()
        rig.set(FLAG, "0")
        await rig.until(DISABLED)
        await asyncio.sleep(0)
        assert rig.desk.actions == (["cancel"] if setting == "cancel" else [])
        rig.set(FLAG, "1")
        await rig.until(ACTIVE)
        assert rig.desk.states[-3:] == [ACTIVE, DISABLED, ACTIVE]


@pytest.mark.parametrize("flag", ["1", "0"])
@on_uvloop
async def test_flatten(server: RedisServer, tmp_path: Path, flag: str) -> None:
    """A halt closes positions only while the flag is on; else the account says that it did not."""
    server.client.set(FLAG, flag)
    rig = Rig(server, tmp_path, FLATTEN)
    async with rig.watching():
        await rig.halted()
        done = await account(rig)
    assert rig.desk.actions[-1] == ("flatten" if flag == "1" else "cancel")
    assert done["reason"] == "mode is halt" + ("" if flag == "1" else "; not flattened: flag off")


@on_uvloop
async def test_the_flag_goes_off_in_a_flatten(server: RedisServer, tmp_path: Path) -> None:
    """A flatten that is under way when the flag goes off is given up; its cancels go on."""
    rig = Rig(server, tmp_path, FLATTEN)
    async with rig.watching():
        await rig.until(ACTIVE)
        rig.desk.ends.clear()
        await rig.halted()
        await until(lambda: rig.desk.actions[-1] == "flatten")
        rig.set(FLAG, "0")
        await until(lambda: rig.desk.actions[-2:] == ["flatten", "cancel"])
        rig.desk.ends.set()
        assert (await account(rig))["reason"] == "mode is halt; not flattened: flag off"
        rig.set(FLAG, "1")
        await until(lambda: rig.shown["flag"] == "1")
        assert rig.desk.actions[-1] == "cancel"  # it is not taken up again


@on_uvloop
async def test_a_halt_is_taken_back_in_the_midst(server: RedisServer, tmp_path: Path) -> None:
    """What a halt has not done yet when it ends is left; the next one begins anew."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        rig.desk.ends.clear()
        await rig.halted()
        rig.set(MODE_KEY, "normal")
        await rig.until(ACTIVE)
        await rig.halted()
        rig.desk.ends.set()
        await account(rig)
        assert [each["done_ns"] != "" for each in rig.entries if each["state"] == "HALTED"] == [
            *(False, False, True)
        ]


@on_uvloop
async def test_a_halt_that_fails(server: RedisServer, tmp_path: Path) -> None:
    """A source that cannot halt ends the bridge with what it raised."""
    rig = Rig(server, tmp_path)
    with pytest.raises(Exit, match="no venue") as caught:
        async with rig.watching():
            await rig.until(ACTIVE)
            rig.desk.ends = None

            async def fail(_: object) -> None:
                raise Exit(exits.RESTART, "no venue")

            rig.desk.halt = fail
            rig.set(MODE_KEY, "halt")
            await until(rig.controller.failure.done)
    assert caught.value.code == exits.RESTART


@pytest.mark.parametrize("executes", [True, False])
@on_uvloop
async def test_live(redis_server: RedisServer, tmp_path: Path, *, executes: bool) -> None:
    """A live bridge that began without its flag ends with 75 when that is set; one that began
    with it closes and opens its gates."""
    rig = Rig(redis_server, tmp_path, QUIET | LIVE, executes=executes)
    flag = rig.keys.flag
    assert flag == "features:nautilus_live_exec"
    if executes:
        async with rig.watching():
            for word, state in (("1", ACTIVE), ("0", DISABLED), ("1", ACTIVE)):
                rig.set(flag, word)
                await rig.until(state)
        return
    with pytest.raises(Exit, match=f"{flag} is on now") as caught:
        async with rig.watching():
            await rig.until(DISABLED)
            rig.set(flag, "1")
            await until(rig.controller.failure.done)
    assert caught.value.code == exits.RESTART == 75
    assert REDUCING not in rig.desk.states

"""`python -m bridge status | flags | halt | resume` against a bridge that watches a real Redis."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from bridge import exits, journal_directory, lease
from bridge.__main__ import main
from bridge.core.control import FLAGS, MODE_KEY, State
from bridge.latch import LatchFile
from bridge.lease import Lease
from tests.bridge.processes import ROOT, environment, eventually
from tests.bridge.watching import FLAG, HALT, LATCH, QUIET, RESUME, STATE, Rig
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer

ACTIVE, REDUCING, DISABLED, HALTED = State.ACTIVE, State.REDUCING, State.DISABLED, State.HALTED
# How long a command waits that waits in vain.
VAIN = ("--timeout", "0.1")
# By so much a bridge's clock may be ahead of ours.
AHEAD_NS = 4_000_000_000

type Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    """The shared server, with the demo's flag on."""
    redis_server.client.set(FLAG, "1")
    return redis_server


@pytest.fixture
def call(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return `call(*words)`: the command's exit code, and what it says on stdout and stderr."""
    monkeypatch.setattr("os.environ", environment({"redis__url": redis_server.url}))
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # the bridge's, in silence

    def run(*words: str) -> tuple[int, str, str]:
        return main(words), *capsys.readouterr()

    return run


@pytest.fixture
def answered(call: Command) -> Callable[..., object]:
    """Return `await answered(*words)`: what a command prints that succeeds beside a bridge."""

    async def run(*words: str) -> str:
        code, out, err = await asyncio.to_thread(call, *words)
        assert (code, err) == (exits.DONE, ""), out
        return out

    return run


def pretend(server: RedisServer, role: str, **fields: str) -> None:
    """Leave a state in Redis as if a bridge of that role ran, for some seconds to come."""
    names = ("state", "reason", "flag", "mode", "latched", "pid", "done_ns")
    beat_ns = time.time_ns() + AHEAD_NS
    shown = dict.fromkeys(names, "") | {"heartbeat_ns": str(beat_ns)} | fields
    server.client.hset(f"bridge:state:{role}", mapping=shown)


# status


@on_uvloop
async def test_status(server: RedisServer, tmp_path: Path, answered: Callable[..., object]) -> None:
    """It says how a bridge stands and why: state, flag, mode, pid; and for programs the same."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        second = f"  {FLAG} is on, mode is missing, pid {os.getpid()}\n"
        assert await answered("status") == f"demo  ACTIVE\n{second}"
        server.client.delete(FLAG)
        await until(lambda: rig.shown["done_ns"])
        assert (await answered("status", "--role", "demo")).splitlines() == [
            "demo  DISABLED: the flag is off",
            f"  {FLAG} is off, mode is missing, pid {os.getpid()}",
            "  orders canceled 3, refused 2; positions left 1",
        ]
        states = json.loads(await answered("status", "--json"))
        assert states["demo"] == rig.shown | {"heartbeat_ns": states["demo"]["heartbeat_ns"]}


@on_uvloop
async def test_status_of_a_halt(
    server: RedisServer, tmp_path: Path, answered: Callable[..., object]
) -> None:
    """Of a halt it names the id and the command that ends it."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        id_ = await rig.halted()
        said = await answered("status")
    assert "demo  HALTED: mode is halt\n" in said
    assert f"  halt {id_} holds: python -m bridge resume --role demo\n" in said


@on_uvloop
async def test_status_of_a_halt_by_the_command_of_a_service(
    server: RedisServer,
    tmp_path: Path,
    answered: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the service's command calls, hints name it, with --role for another role only."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        id_ = await rig.halted()
        for role, option in (("demo", ""), ("shadow", " --role demo")):
            monkeypatch.setenv("NAUTILUS_BRIDGE_COMMAND", f"/opt/nautilus-bridge {role}")
            said = await answered("status")
            assert f"  halt {id_} holds: /opt/nautilus-bridge {role} resume{option}\n" in said


@pytest.mark.parametrize("words", [("halt", "--reason", "x"), ("resume",)])
def test_the_role_of_the_settings(
    redis_server: RedisServer, call: Command, monkeypatch: pytest.MonkeyPatch, words: tuple
) -> None:
    """A role that the settings name is meant, though the bridge of another one answers alone."""
    pretend(redis_server, "live", state="HALTED", latched="id-1")
    monkeypatch.setenv("BRIDGE_ROLE", "shadow")
    code, _, err = call(*words, *VAIN)
    assert code == exits.UNAVAILABLE
    assert "no bridge of the role shadow" in err
    assert not redis_server.client.exists("bridge:halt:live", "bridge:resume:live")


@pytest.mark.parametrize("words", [(), ("--role", "live"), ("--json",)])
def test_status_of_nobody(redis_server: RedisServer, call: Command, words: tuple[str, ...]) -> None:
    """No bridge, or one whose state is older than three seconds: 69."""
    old_ns = time.time_ns() - 3_100_000_000
    pretend(redis_server, "live", state="ACTIVE", heartbeat_ns=str(old_ns))
    code, out, err = call("status", *words)
    assert (code, out) == (exits.UNAVAILABLE, "{}\n" if words == ("--json",) else "")
    assert err == f"no bridge answers ({'live' if words[1:] else 'demo shadow live'})\n"


@pytest.mark.parametrize("is_there", [True, False], ids=["old", "missing"])
def test_status_of_a_bridge_that_cannot_tell(
    redis_server: RedisServer, call: Command, *, is_there: bool
) -> None:
    """Its process holds the lease on this host, and its state is old: 69, and why that may be."""
    if is_there:
        pretend(redis_server, "live", state="ACTIVE", heartbeat_ns=str(time.time_ns() - 20 * 10**9))
    key = f"{lease.PREFIX}role:live"
    Lease.make([key], seconds=60, uuid="u").take(redis_server.client, takeover=False)
    code, out, err = call("status")
    assert (code, out) == (exits.UNAVAILABLE, "")
    told = "no bridge answers (demo shadow live); live: process "
    assert err.startswith(f"{told}{os.getpid()} of this host holds its lease, and its state ")
    age = r"2\d s old" if is_there else "missing"
    assert re.search(f"in Redis is {age}: Redis takes no writes, or ", err)


@pytest.mark.parametrize("changed", [{"begun": "1"}, {"host": "another"}, {"pid": "x"}])
def test_status_of_a_bridge_that_is_gone(
    redis_server: RedisServer, call: Command, changed: dict[str, str]
) -> None:
    """A lease whose holder has ended, or is on another host, tells nothing: 69."""
    key = f"{lease.PREFIX}role:live"
    holder = json.loads(Lease.make([key], seconds=60, uuid="u").value)
    redis_server.client.set(key, json.dumps(holder | changed))
    code, _, err = call("status", "--role", "live")
    assert (code, err) == (exits.UNAVAILABLE, "no bridge answers (live)\n")


def test_status_of_a_redis_that_hangs(
    call: Command, make_redis: Callable[..., RedisServer]
) -> None:
    """Redis takes the connection and answers nothing: 69 and how long was waited, not a hang."""
    server = make_redis()
    server.pause()
    began = time.monotonic()
    code, out, err = call("status", "--url", server.url, *VAIN)
    assert time.monotonic() - began < 5, "the other commands wait for so long"
    assert (code, out) == (exits.UNAVAILABLE, "")
    assert err.startswith(f"redis.url: {server.url}: no answer within 0.1 s: ")


IMPORTED = """
import sys
from bridge.__main__ import main
code = main(["status", "--url", sys.argv[1]])
print(code, *{name.partition(".")[0] for name in sys.modules})
"""


def test_status_imports_little(redis_server: RedisServer) -> None:
    """It answers at once, because it waits for no package that it can do without."""
    words = (sys.executable, "-c", IMPORTED, redis_server.url)
    done = subprocess.run(words, cwd=ROOT, env=environment({}), capture_output=True, text=True)
    code, *imported = done.stdout.split()
    assert int(code) == exits.UNAVAILABLE, done.stderr
    heavy = {"apprise", "fakeredis", "nautilus_trader", "numpy", "pandas", "prometheus_client"}
    assert set(imported) & (heavy | {"pyarrow", "starlette", "uvicorn", "uvloop"}) == set()


# flags


@on_uvloop
async def test_flags(server: RedisServer, tmp_path: Path, answered: Callable[..., object]) -> None:
    """It sets what is named, waits until the bridge has seen it, and says how all stand."""
    server.client.set(FLAGS[0], "garbage")
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        said = await answered("flags")
        assert said.splitlines() == [
            f"{FLAGS[0]} is off",
            f"{FLAG} is on",
            f"{FLAGS[2]} is off",
            "mode is missing (normal)",
            "demo is ACTIVE",
        ]
        for words, state, line in (
            (("mode=Reduce",), REDUCING, "demo is REDUCING: mode is reduce"),
            (("shadow_exec=off",), DISABLED, "demo is DISABLED: the flag is off"),
            ((f"{FLAG}=YES", "mode=auto", "engine=1"), ACTIVE, "demo is ACTIVE"),
        ):
            said = await answered("flags", *words)
            assert rig.state is state
            assert said.splitlines()[-1] == line
    assert server.client.mget(FLAGS[0], FLAG, MODE_KEY) == ["1", "YES", "auto"]


def test_flags_nobody_watches(redis_server: RedisServer, call: Command) -> None:
    """A change that is meant for a bridge is made, and 69 when none sees it; the flag of backtests
    needs none."""
    code, out, _ = call("flags", "engine=1")
    assert (code, out.splitlines()[0]) == (exits.DONE, f"{FLAGS[0]} is on")
    code, out, err = call("flags", "shadow_exec=1", "mode=reduce", *VAIN)
    assert code == exits.UNAVAILABLE
    assert f"{FLAG} is on\n" in out
    assert err == f"{FLAG} mode: set, but no bridge has answered within 0.1 s\n"


@on_uvloop
async def test_flags_one_of_two_watches(server: RedisServer, tmp_path: Path, call: Command) -> None:
    """Every bridge that a change is meant for has to see it."""
    pretend(server, "shadow", state="ACTIVE", flag="1")
    async with Rig(server, tmp_path).watching():
        code, _, err = await asyncio.to_thread(call, "flags", "shadow_exec=0", *VAIN)
    assert (code, err[: len(FLAG)]) == (exits.UNAVAILABLE, FLAG)


@pytest.mark.parametrize(
    "word", ["shadow_exec", "nothing=1", "mode=", "engine= ", "=1", "Mode=run"]
)
def test_flags_that_are_none(redis_server: RedisServer, call: Command, word: str) -> None:
    """A word that is no NAME=VALUE of ours: 2, and nothing is changed, not even by the others."""
    code, out, err = call("flags", "engine=1", word)
    assert (code, out) == (exits.USAGE, "")
    assert err == f"{word}: write NAME=VALUE, NAME one of engine shadow_exec live_exec mode\n"
    assert redis_server.client.dbsize() == 0


# halt


@on_uvloop
async def test_halt(server: RedisServer, tmp_path: Path, answered: Callable[..., object]) -> None:
    """It halts a bridge, waits until that shows it, and gives the account; also twice in a row."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        ids = []
        for reason in ("too hot", "too cold"):
            first, second = (await answered("halt", "--reason", reason)).splitlines()
            assert rig.state is HALTED
            assert re.match(r"demo is HALTED, seen \d+\.\d{3} s later; halt ", first)
            assert second == "orders canceled 3, refused 2; positions left 1"
            ids.append(first.rpartition(" halt ")[2])
            assert (rig.shown["latched"], server.client.get(LATCH)) == (ids[-1], ids[-1])
            assert (rig.shown["cause"], rig.shown["reason"]) == ("command", reason)
        assert len(set(ids)) == 2
        assert not server.client.exists(MODE_KEY, HALT)


@on_uvloop
async def test_halt_that_takes_long(
    server: RedisServer, tmp_path: Path, answered: Callable[..., object]
) -> None:
    """Gates that are closed are a success, though orders have not ended in time."""
    rig = Rig(server, tmp_path)
    rig.desk.ends.clear()
    async with rig.watching():
        await rig.until(ACTIVE)
        said = await answered("halt", "--reason", "x", "--timeout", "2")
        assert said.splitlines()[1] == "orders are still being canceled"


@on_uvloop
async def test_halt_of_nobody(server: RedisServer, tmp_path: Path, call: Command) -> None:
    """Without a bridge: 69, and the one that starts then is halted before it opens a gate."""
    code, out, err = await asyncio.to_thread(call, "halt", "--reason", "too hot", *VAIN)
    assert (code, out) == (exits.UNAVAILABLE, "")
    assert err.startswith("no bridge of the role demo has answered within 0.1 s; the halt stays")
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(HALTED)
        assert rig.shown["reason"] == "too hot"
        assert rig.desk.states == [DISABLED, HALTED]


def test_halt_of_one_that_does_not_obey(redis_server: RedisServer, call: Command) -> None:
    """A bridge that shows an older halt has not answered to this one: 69."""
    pretend(redis_server, "demo", state="HALTED", latched="x", done_ns="1")
    code, out, _ = call("halt", "--reason", "too hot", *VAIN)
    assert (code, out) == (exits.UNAVAILABLE, "")


@on_uvloop
async def test_halt_of_another_role(server: RedisServer, tmp_path: Path, call: Command) -> None:
    """--role says who is halted; the others are not."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        words = ("halt", "--role", "shadow", "--reason", "x", *VAIN)
        code, _, _ = await asyncio.to_thread(call, *words)
        assert code == exits.UNAVAILABLE
        assert (rig.state, server.client.exists("bridge:halt:shadow")) == (ACTIVE, 1)


# resume


@on_uvloop
async def test_resume(server: RedisServer, tmp_path: Path, answered: Callable[..., object]) -> None:
    """It ends a halt and says what the bridge does now; a second time there is nothing to end."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        assert await answered("resume") == "nothing is halted; demo is ACTIVE\n"
        await answered("halt", "--reason", "x")
        id_ = rig.shown["latched"]
        assert await answered("resume") == f"halt {id_} is ended; demo is ACTIVE\n"
        assert rig.state is ACTIVE
        rig.set(FLAG, "0")
        rig.desk.on_breach("lost too much")
        id_ = rig.kept.id
        await until(lambda: rig.shown["latched"] == id_)
        said = await answered("resume", "--role", "demo")
        assert said == f"halt {id_} is ended; demo is DISABLED: the flag is off\n"


@on_uvloop
async def test_resume_while_mode_is_halt(
    server: RedisServer, tmp_path: Path, call: Command
) -> None:
    """A halt that `mode` still asks for is not ended: 1, and what to type first."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.halted()
        code, out, err = await asyncio.to_thread(call, "resume")
        assert (code, out) == (exits.FAILED, "")
        assert err.endswith("first: redis-cli set mode normal\n")
        assert rig.state is HALTED


@pytest.mark.parametrize(
    ("state", "problem"),
    [({}, "no bridge of the role demo answers"), ({"latched": "x"}, "the bridge has not answered")],
)
def test_resume_of_nobody(
    redis_server: RedisServer, call: Command, state: dict[str, str], problem: str
) -> None:
    """No bridge, or one that does not obey: 69."""
    if state:
        pretend(redis_server, "demo", **state)
    code, out, err = call("resume", *VAIN)
    assert (code, out) == (exits.UNAVAILABLE, "")
    assert err.startswith(problem)


def test_resume_and_another_halt(redis_server: RedisServer, call: Command) -> None:
    """A halt that ended while another one began: 1, and the one that holds."""

    def obey() -> None:
        eventually(lambda: redis_server.client.exists(RESUME), "the order")
        pretend(redis_server, "demo", state="HALTED", latched="y", reason="too hot")

    pretend(redis_server, "demo", latched="x")
    bridge = threading.Thread(target=obey)
    bridge.start()
    code, out, err = call("resume")
    bridge.join()
    assert (code, out, err) == (exits.FAILED, "", "another halt holds by now: y: too hot\n")


@pytest.mark.parametrize("is_named", [True, False])
@on_uvloop
async def test_resume_of_one_that_has_ended(
    server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Command,
    *,
    is_named: bool,
) -> None:
    """The halt of a bridge that has ended is ended in its folder, named or that of the settings;
    Redis, which still holds its id, does not bring it back."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(ACTIVE)
        rig.desk.on_breach("lost too much")
        await rig.until(HALTED)
    server.client.delete(STATE)
    if not is_named:
        monkeypatch.setenv("BRIDGE_STATE__DIRECTORY", str(tmp_path))
    words = ("resume", "--directory", str(tmp_path)) if is_named else ("resume",)
    assert call(*words) == (0, "ended: lost too much; start the bridge again\n", "")
    assert call(*words) == (0, "nothing was halted\n", "")
    assert server.client.exists(LATCH)
    again = Rig(server, tmp_path)
    async with again.watching():
        await again.until(ACTIVE)
        assert not server.client.exists(LATCH)


def test_resume_on_a_disk_that_is_in_use(tmp_path: Path, call: Command) -> None:
    """The folder of a bridge that runs: 73, and the halt holds."""
    latch = LatchFile(tmp_path)
    latch.set("breach", "lost too much")
    lock = journal_directory.lock(tmp_path)
    code, out, err = call("resume", "--directory", str(tmp_path))
    os.close(lock)
    assert (code, out) == (exits.TAKEN, "")
    assert err.startswith(f"state.directory: another bridge writes to {tmp_path}")
    assert latch.load().halt is not None


def test_resume_without_a_latch(tmp_path: Path, call: Command) -> None:
    """A folder that is not one of ours: 65, and it is left as it is."""
    code, out, err = call("resume", "--directory", str(tmp_path))
    assert (code, out) == (exits.BAD_DATA, "")
    assert err == f"{tmp_path} holds no latch; see state.directory\n"
    assert list(tmp_path.iterdir()) == []


# Redis itself


ALL = [("status",), ("flags",), ("flags", "mode=run"), ("halt", "--reason", "x"), ("resume",)]


@pytest.mark.parametrize("words", ALL)
def test_no_redis(call: Command, words: tuple[str, ...]) -> None:
    """Without a Redis: 69, the address and what to do."""
    code, out, err = call(*words, "--url", "redis://127.0.0.1:1/0")
    assert (code, out) == (exits.UNAVAILABLE, "")
    assert err.startswith("redis.url: redis://127.0.0.1:1/0: ")
    assert err.endswith("; start Redis there, or correct the address\n")


@pytest.mark.parametrize("words", ALL)
def test_wrong_password(redis_server: RedisServer, call: Command, words: tuple[str, ...]) -> None:
    """A password that is refused: 77, and it is not repeated."""
    url = f"redis://default:s3cret@127.0.0.1:{redis_server.port}/0"
    redis_server.client.execute_command("ACL", "SETUSER", "default", "resetpass", ">right")
    with contextlib.ExitStack() as undo:
        undo.callback(redis_server.client.execute_command, "ACL", "SETUSER", "default", "nopass")
        code, out, err = call(*words, "--url", url)
    assert (code, out) == (exits.REFUSED, "")
    assert "s3cret" not in err


@pytest.mark.parametrize("words", ALL)
@pytest.mark.parametrize("url", ["nonsense", "http://u:s3cret@x", "redis://u:s3/cret@x:y/0"])
def test_no_url(call: Command, words: tuple[str, ...], url: str) -> None:
    """A --url that is none: 2, and no part of it is repeated."""
    code, out, err = call(*words, "--url", url)
    assert (code, out) == (exits.USAGE, "")
    assert err.startswith("--url: it ")
    assert "s3" not in err


@on_uvloop
async def test_the_only_bridge_that_answers(
    server: RedisServer, tmp_path: Path, answered: Callable[..., object]
) -> None:
    """Without --role it is the one that is meant."""
    rig = Rig(server, tmp_path, QUIET | {"role": "shadow"})
    async with rig.watching():
        await rig.until(ACTIVE)
        out = await answered("halt", "--reason", "a test")
    assert str(out).startswith("shadow is HALTED")


def test_a_flag_is_on_or_off(call: Command, server: RedisServer) -> None:
    """A slip of the hand is refused, and changes nothing."""
    code, _, err = call("flags", "shadow_exec=maybe")
    assert code == exits.USAGE
    assert "a flag is one of" in err
    assert server.client.get(FLAG) == "1"

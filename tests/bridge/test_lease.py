"""bridge/lease.py: one bridge at a time, and no waiting behind one that was killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.exits import Exit
from bridge.lease import Lease, begun, host, is_dead
from tests.bridge.journal_rig import JournalRig
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer

KEYS = ("bridge:lease:T", "bridge:lease:prefix:")
ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time, redis
from bridge.lease import Lease
lease = Lease.make(sys.argv[2:], seconds=60, uuid="u")
lease.take(redis.Redis(port=int(sys.argv[1])), takeover=False)
print("taken", flush=True)
time.sleep(60)
"""


def make(*keys: str, seconds: float = 60) -> Lease:
    return Lease.make(keys or KEYS, seconds=seconds, uuid="journal")


def holder(**changes: object) -> str:
    """Return what a lease says of its holder: this process, but for `changes`."""
    return json.dumps(json.loads(make().value) | changes)


def refusal(lease: Lease, server: RedisServer) -> Exit:
    """Return how the lease is refused."""
    with pytest.raises(Exit) as caught:
        lease.take(server.new_client(decode_responses=False), takeover=False)
    return caught.value


@pytest.fixture
def killed(redis_server: RedisServer) -> Iterator[subprocess.Popen[bytes]]:
    """A process that held the lease and was killed."""
    words = [sys.executable, "-c", HOLDER, str(redis_server.port), *KEYS]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        assert refusal(make(), redis_server).code == exits.TAKEN
        process.send_signal(signal.SIGKILL)
        process.wait()
        yield process


def test_a_newcomer_is_refused(redis_server: RedisServer) -> None:
    """While its holder lives nobody gets it; the message names the holder and the ways out."""
    first, second = make(), make()
    first.take(redis_server.client, takeover=False)

    failure = refusal(second, redis_server)

    assert failure.code == exits.TAKEN == 73
    for word in (KEYS[0], "producer.lease_seconds", "--takeover", str(os.getpid()), "60 s"):
        assert word in str(failure)
    assert {redis_server.client.get(key) for key in KEYS} == {first.value}


def test_a_lease_says_who_holds_it(redis_server: RedisServer) -> None:
    """Its value names this boot of this host, the process and its journal; it runs out."""
    lease = make(seconds=20)
    lease.take(redis_server.client, takeover=False)

    said = json.loads(redis_server.client.get(KEYS[0]))
    assert (said["host"], said["pid"], said["journal"]) == (host(), os.getpid(), "journal")
    assert said["begun"] == begun(os.getpid())
    assert 10_000 < redis_server.client.pttl(KEYS[0]) <= 20_000


def test_all_keys_or_none(redis_server: RedisServer) -> None:
    """Who is refused one key gives back the others at once."""
    make(KEYS[1]).take(redis_server.client, takeover=False)

    assert KEYS[1] in str(refusal(make(), redis_server))
    assert not redis_server.client.exists(KEYS[0])


def test_a_killed_holder_keeps_nobody_waiting(
    redis_server: RedisServer, killed: subprocess.Popen[bytes]
) -> None:
    """A process of this host that is no more does not delay its successor."""
    lease = make()
    assert redis_server.client.pttl(KEYS[0]) > 30_000

    lease.take(redis_server.client, takeover=False)

    assert {redis_server.client.get(key) for key in KEYS} == {lease.value}
    assert killed.returncode == -signal.SIGKILL


def test_a_pid_that_was_given_again_is_dead() -> None:
    """Another process may have the pid by now: it began at another time."""
    assert not is_dead(holder())
    assert is_dead(holder(begun="1"))
    assert is_dead(holder(pid=2**22 + 1))


@pytest.mark.parametrize(
    "value",
    [holder(host="another"), holder(host="another", pid=2**22 + 1), "no JSON", "{}", "[1]", "1"],
    ids=["another host", "another host's dead pid", "no JSON", "nobody", "a list", "a number"],
)
def test_an_unknown_holder_is_waited_for(redis_server: RedisServer, value: str) -> None:
    """Whoever cannot be judged from here holds it until it runs out."""
    for key in KEYS:
        redis_server.client.set(key, value, px=60_000)
    assert value in str(refusal(make(), redis_server))

    for key in KEYS:
        redis_server.client.set(key, value, px=1)
    while any(redis_server.client.exists(key) for key in KEYS):
        pass
    make().take(redis_server.client, takeover=False)


def test_takeover_asks_nobody(redis_server: RedisServer) -> None:
    """An operator may take a living holder's place."""
    first, second = make(), make()
    first.take(redis_server.client, takeover=False)

    second.take(redis_server.client, takeover=True)

    assert {redis_server.client.get(key) for key in KEYS} == {second.value}


def test_release_gives_back_ours_alone(redis_server: RedisServer) -> None:
    """What somebody else has taken meanwhile stays theirs; twice is harmless."""
    first, second = make(), make(KEYS[0])
    first.take(redis_server.client, takeover=False)
    second.take(redis_server.client, takeover=True)

    first.release(redis_server.client)
    first.release(redis_server.client)

    assert redis_server.client.get(KEYS[0]) == second.value
    assert not redis_server.client.exists(KEYS[1])


@on_uvloop
async def test_a_running_bridge_renews_it(redis_server: RedisServer, tmp_path: Path) -> None:
    """It holds the lease for longer than it lasts, and gives it back to nobody meanwhile."""
    lease, client = make(seconds=1), redis_server.client
    lease.take(client, takeover=False)
    async with JournalRig(tmp_path).running(redis_server.port, lease=lease):
        for _ in range(4):
            client.pexpire(KEYS[0], 500)
            await until(lambda: client.pttl(KEYS[0]) > 600 and client.get(KEYS[0]) == lease.value)


@on_uvloop
async def test_a_lease_that_vanished_is_taken_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """FLUSHALL takes it away; its holder, who is still there, has it back soon."""
    lease, client = make(seconds=1), redis_server.client
    lease.take(client, takeover=False)
    async with JournalRig(tmp_path).running(redis_server.port, lease=lease) as session:
        session.append("orders", 5)
        client.flushall()
        await until(lambda: all(client.get(key) == lease.value for key in KEYS))


@on_uvloop
async def test_a_dead_holder_from_the_past_is_replaced(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A Redis that was set back names a bridge that has ended: the one that runs goes on."""
    lease, client = make(seconds=1), redis_server.client
    lease.take(client, takeover=False)
    async with JournalRig(tmp_path).running(redis_server.port, lease=lease):
        client.set(KEYS[0], holder(begun="1"), px=60_000)
        await until(lambda: client.get(KEYS[0]) == lease.value)


@on_uvloop
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "idle"])
async def test_a_lost_lease_ends_the_bridge(
    redis_server: RedisServer, tmp_path: Path, key: str, is_busy: bool
) -> None:
    """Another one has taken either key: it ends by itself, fenced, and tells who trades."""
    lease, other, told = make(), make(key), []
    lease.take(redis_server.client, takeover=False)
    with pytest.raises(Exit) as caught:
        async with JournalRig(tmp_path).running(redis_server.port, lease=lease) as session:
            session.lane.on_failure = told.append
            other.take(redis_server.client, takeover=True)
            await until(lambda: session.append("orders", int(is_busy)) or told)

    assert caught.value.code == exits.FENCED == 76
    assert other.value in str(caught.value)
    assert told == [caught.value]
    assert redis_server.client.get(key) == other.value


@on_uvloop
async def test_a_bridge_that_comes_back_too_late_is_fenced(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Its lease ran out and another one took it while it had no connection: it ends."""
    lease, other = make(), make()
    with pytest.raises(Exit) as caught:
        async with JournalRig(tmp_path).running(redis_server.port, lease=lease) as session:
            other.take(redis_server.client, takeover=True)
            session.publisher.exec.link.drop()
            await until(session.task.done)

    assert caught.value.code == exits.FENCED

"""The daemon with a folder of its own: what Redis misses, and who else may use the same name."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge import exits
from bridge.__main__ import main
from tests.bridge.processes import Daemon, Ended, allow, is_dense
from tests.servers import RedisServer

Start = Callable[..., Daemon]
Run = Callable[..., Ended]
MakeRedis = Callable[..., RedisServer]

BUSY = ("--strategy", "tests.bridge.strategies:Busy")
IDLE = ("--strategy", "tests.bridge.strategies:Idle")
STREAMS = [f"demo:exec:{name}" for name in ("orders", "fills", "positions", "account")]
FILLS = "demo:exec:fills"
# Else it would stop trading soon behind the end of Redis, and tell that in another stream.
ALONE = {"control__link_timeout_seconds": "3600"}
LEASES = ("bridge:lease:DEMO-001", "bridge:lease:prefix:demo:")


def producers(server: RedisServer) -> set[str]:
    return {fields["producer"] for key in STREAMS for _, fields in server.client.xrange(key)}


def test_what_redis_misses_is_kept(start: Start, make_redis: MakeRedis, tmp_path: Path) -> None:
    """Redis is gone at the end: 0, and the next start publishes what the journal keeps, once."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    given = {"redis__url": server.url, "state__directory": str(tmp_path / "state")}
    daemon = start(*BUSY, **given, **ALONE).until_running()
    daemon.until(lambda: server.client.xlen(FILLS) >= 5, "fills")
    server.kill()
    daemon.until(lambda: daemon.metric("nautilus_bridge_exec_backlog") >= 20, "a backlog")
    ended = daemon.stop()
    assert (ended.code, ended.complaint) == (exits.DONE, "")
    said = re.search(
        r"\nstopped; not published yet: (\d+) execution entries, which (\S+) keeps for the next"
        r" start \(no connection to Redis for the exec lane: .*\)\n$",
        ended.out,
    )
    assert said is not None, ended.out
    assert said[2] == str(tmp_path / "state" / "journal")

    server.start()
    before = sum(server.client.xlen(key) for key in STREAMS)
    daemon = start(*IDLE, **given).until_running()
    assert daemon.stop().code == exits.DONE
    assert sum(server.client.xlen(key) for key in STREAMS) > before + int(said[1])
    assert all(is_dense(server.client, key) for key in STREAMS)
    assert len(producers(server)) == 1, "numbers go on where they ended"


def test_killed_in_the_middle(start: Start, redis_server: RedisServer, tmp_path: Path) -> None:
    """SIGKILL: the next start is not held up by the lease of the dead one, and doubles nothing."""
    given = {"redis__url": redis_server.url, "state__directory": str(tmp_path / "state")}
    daemon = start(*BUSY, producer__lease_seconds="60", **given).until_running()
    daemon.until(lambda: redis_server.client.xlen(FILLS) >= 10, "fills")
    daemon.send(signal.SIGKILL)
    assert daemon.ended().code == -signal.SIGKILL
    assert redis_server.client.exists(*LEASES) == len(LEASES)

    daemon = start(*BUSY, **given).until_running()
    before = redis_server.client.xlen(FILLS)
    daemon.until(lambda: redis_server.client.xlen(FILLS) >= before + 5, "more fills")
    assert daemon.stop().code == exits.DONE
    assert all(is_dense(redis_server.client, key) for key in STREAMS)
    assert len(producers(redis_server)) == 1
    assert not redis_server.client.exists(*LEASES), "given back"


def test_a_journal_without_room_halts(
    start: Start,
    run: Run,
    make_redis: MakeRedis,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """journal.bytes_max is reached and Redis away: 74; the next start is halted until `resume`."""
    server, state = make_redis(), tmp_path / "state"
    settings = {"redis.url": server.url, "state.directory": str(state)}
    given = {name.replace(".", "__"): value for name, value in settings.items()}
    small = {"journal__segment_bytes": str(1 << 16), "journal__bytes_max": str(1 << 18)}
    daemon = start(*BUSY, **given, **small, **ALONE).until_running()
    server.kill()
    ended = daemon.ended(seconds_max=45)
    assert ended.code == exits.CANNOT_RECORD
    assert "journal.bytes_max" in ended.complaint
    assert len(ended.complaint.splitlines()) == 1

    server.start()
    allow(server.url)
    again = start(*BUSY, **given).until_running()
    again.until(lambda: again.state.startswith("HALTED: the journal failed: "), "the halt")
    assert main(["resume", "--url", server.url]) == exits.DONE
    assert "demo is ACTIVE" in capsys.readouterr().out
    again.until(lambda: again.state == "ok", "trading")


def test_takeover(start: Start, redis_server: RedisServer) -> None:
    """With --takeover a bridge takes the place of another, which halts and ends with 76."""
    given = {"redis__url": redis_server.url, "producer__lease_seconds": "1.5"}
    first = start(*BUSY, **given).until_running()

    second = start(*BUSY, "--takeover", **given).until_running()
    ended = first.ended()
    assert ended.code == exits.FENCED
    assert len(ended.complaint.splitlines()) == 1
    second.until(lambda: second.health() == (200, ""), "health")
    assert second.stop().code == exits.DONE
    assert all(is_dense(redis_server.client, key) for key in STREAMS)

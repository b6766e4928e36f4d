"""The daemon, its books and its commands with a real Cluster behind them."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.core import contract
from bridge.core.contract import default_names
from bridge.core.control import SHADOW_FLAG
from bridge.embedded_redis import HOST
from tests.bridge.archives import STREAMS, feed, foreign, opened
from tests.bridge.conftest import dataset, start
from tests.bridge.doctors import seen
from tests.bridge.fills import fill
from tests.bridge.kept import typed
from tests.bridge.processes import Daemon, eventually
from tests.servers import RedisServer
from tests.topologies.acl import FILE
from tests.topologies.cluster import ClusterServers

__all__ = ["dataset", "start"]  # fixtures

NAMES = default_names("demo:")
FILLS, ORDERS = NAMES.key("fills"), NAMES.key("orders")
METRICS, CONTRACT = NAMES.prefixed(contract.METRICS_KEY), NAMES.prefixed(contract.CONTRACT_KEY)

IN_A_CLUSTER = "+cluster|slots +cluster|info +command"

type Start = Callable[..., Daemon]


@pytest.fixture
def settings(cluster: ClusterServers, tmp_path: Path) -> dict[str, str]:
    """A bridge's settings, for it and for the commands."""
    return {
        "redis__url": cluster.url,
        "state__directory": str(tmp_path / "state"),
        "archive__segment_bytes": str(1 << 14),
        "readers__linger_seconds": "0.01",
    }


@pytest.fixture
def daemon(start: Start, settings: dict[str, str]) -> Iterator[Daemon]:
    """A daemon that trades."""
    yield _trading(start, **settings)


def _trading(start: Start, *words: str, **settings: str) -> Daemon:
    daemon = start("--rate", "5000", *words, **settings).until_running()
    _until_fills(daemon, 1)
    return daemon


def _until_fills(daemon: Daemon, more: int) -> None:
    """Wait until the daemon has told of so many more fills."""
    told = [int(each["fills"]) for each in daemon.statuses[-1:]]
    wanted = sum(told) + more
    daemon.until(lambda: daemon.statuses and int(daemon.statuses[-1]["fills"]) >= wanted, "fills")


def _audited(**settings: str) -> int:
    """Return of how many fills journal, Redis, ledger and archive agree."""
    done = typed("audit", "--json", **settings)
    assert done.code == exits.DONE, done.out + done.err
    report = json.loads(done.out)
    assert report["places"] == ["journal", "redis", "ledger", "archive"]
    held = [row["held"] for row in report["rows"] if row["stream"] == FILLS]
    assert all(each["journal"] == each["ledger"] == each["archive"] for each in held)
    return sum([each["archive"] for each in held])


@pytest.mark.timeout(120)
def test_books_and_commands(
    daemon: Daemon,
    start: Start,
    settings: dict[str, str],
    cluster: ClusterServers,
    tmp_path: Path,
) -> None:
    """While it trades: the audit agrees over all nodes, a second daemon is refused, its state is
    shown, flags and halts are obeyed, and what it publishes beside its streams is there."""
    assert _audited(**settings)
    second = start(**settings | {"state__directory": str(tmp_path / "second")}).ended()
    assert second.code == exits.TAKEN
    assert "is held by another bridge" in second.complaint
    for words, said in (
        (["status"], "demo  ACTIVE"),
        (["flags", "shadow_exec=0"], "demo is DISABLED"),
        (["flags", "shadow_exec=1"], "demo is ACTIVE"),
        (["halt", "--role", "demo", "--reason", "a test"], "demo is HALTED"),
        (["status"], "demo  HALTED"),
        (["resume", "--role", "demo"], "demo is ACTIVE"),
    ):
        done = typed(*words, **settings)
        assert (done.code, said in done.out) == (exits.DONE, True), done.out + done.err
    client = cluster.client
    daemon.until(lambda: client.hget(METRICS, "ts_ns"), "the metrics")
    assert json.loads(client.get(CONTRACT) or "")["title"]
    assert daemon.stop().code == exits.DONE
    assert [*client.scan_iter("bridge:lease:*")] == []
    assert _audited(**settings)


def test_what_is_kept(
    daemon: Daemon, settings: dict[str, str], redis_server: RedisServer, cluster: ClusterServers
) -> None:
    """The archive's heads are told of in the Cluster; what all have is trimmed on each node; the
    archive goes into another Redis, and not into the one that it was taken from."""
    _until_fills(daemon, 2)
    assert daemon.stop().code == exits.DONE
    fills = _audited(**settings)
    verified = typed("archive", "verify", "--url", cluster.url, **settings)
    assert (verified.code, "heads are in it" in verified.out) == (exits.DONE, True), verified.out
    for url in (cluster.url, f"redis://:pw@{HOST}:{cluster.primaries[-1].port}"):
        refused = typed("replay", "--url", url, **settings)
        assert (refused.code, "was taken from" in refused.err) == (exits.TAKEN, True), refused.err
    replayed = typed("replay", "--url", redis_server.url, **settings)
    assert replayed.code == exits.DONE, replayed.err
    assert redis_server.client.xlen(FILLS) == fills
    trimmed = typed("trim", "--older-than", "0s", **settings)
    assert trimmed.code == exits.DONE, trimmed.err
    assert cluster.client.xlen(FILLS) == cluster.client.xlen(ORDERS) == 1
    assert _audited(**settings)


def test_replay_into_a_cluster(cluster: ClusterServers, tmp_path: Path) -> None:
    """An archive of any Redis is published to it: each stream where it lies, in its order."""
    near = cluster.primary_of(STREAMS["fills"])
    far = next(kind for kind, key in STREAMS.items() if cluster.primary_of(key) is not near)
    archive = opened(tmp_path)
    items = [fill(seq, entry_id=f"{seq}-0") for seq in range(1, 8)]
    items += [foreign(f"{number}-0", far, what=str(number)) for number in range(9, 12)]
    feed(archive, items)
    archive.close()
    words = ("replay", "--url", cluster.url)
    given = {"archive__directory": str(tmp_path), "redis__url": "redis://127.0.0.1:1/0"}
    done = typed(*words, **given)
    assert done.code == exits.DONE, done.err
    client = cluster.client
    fills = client.xrange(STREAMS["fills"])
    assert [fields["seq"] for _, fields in fills] == ["1", "2", "3", "4", "5", "6", "7"]
    assert [fields["what"] for _, fields in client.xrange(STREAMS[far])] == ["9", "10", "11"]
    again = typed(*words, **given)
    assert (again.code, "already" in again.err) == (exits.TAKEN, True)


@pytest.fixture
def user(cluster: ClusterServers) -> Iterator[str]:
    """The user `bridge` of ops/redis/bridge.acl on every node, with what a Cluster needs more."""
    [rules] = re.findall("^user (bridge .*)$", FILE.read_text(), re.MULTILINE)
    words = rules.replace("+select", f"+select {IN_A_CLUSTER} >secret").split()
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", *words)
        node.ask("ACL", "LOG", "RESET")
    yield "bridge:secret"
    for node in cluster.nodes:
        node.ask("ACL", "DELUSER", "bridge")


@pytest.mark.slow
def test_a_user_of_bridge_acl(
    cluster: ClusterServers, user: str, start: Start, settings: dict[str, str]
) -> None:
    """With the two rights that are named there for a Cluster, nothing that it does is denied."""
    cluster.client.set(SHADOW_FLAG, "1")
    settings["redis__url"] = cluster.url.replace(":pw@", f"{user}@")
    daemon = _trading(start, **settings)
    daemon.until(lambda: cluster.client.hget(METRICS, "ts_ns"), "the metrics")
    for words in (["halt", "--reason", "a test"], ["resume"], ["flags"], ["trim"]):
        done = typed(*words, **settings)
        assert done.code == exits.DONE, done.err
    assert daemon.stop().code == exits.DONE
    assert _audited(**settings)
    denied = [each["object"] for node in cluster.primaries for each in node.ask("ACL", "LOG")]
    assert set(denied) <= {"client|setinfo"}


@pytest.mark.slow
def test_takeover(daemon: Daemon, start: Start, settings: dict[str, str], tmp_path: Path) -> None:
    """Another daemon takes its place, with a journal of its own: the former one ends, fenced."""
    elsewhere = settings | {"state__directory": str(tmp_path / "other")}
    taken = _trading(start, "--takeover", **elsewhere)
    assert daemon.ended().code == exits.FENCED
    assert taken.stop().code == exits.DONE


@pytest.mark.slow
@pytest.mark.parametrize(("key", "end"), [(FILLS, "kill"), (FILLS, "pause"), (METRICS, "pause")])
def test_a_primary_is_replaced(
    daemon: Daemon, settings: dict[str, str], cluster: ClusterServers, key: str, end: str
) -> None:
    """It is dead, or hangs for good: the daemon trades on, the books agree with the streams, and
    what it publishes beside them goes on."""
    primary = cluster.primary_of(key)
    getattr(primary, end)()
    cluster.until_replaced(primary)
    replaced_ns = time.time_ns()
    _until_fills(daemon, 2)
    client = cluster.primary_of(METRICS).client
    daemon.until(lambda: int(client.hget(METRICS, "ts_ns") or 0) > replaced_ns, "a newer hash")
    assert daemon.stop().code == exits.DONE
    assert _audited(**settings) > 2
    assert not daemon.times_logged("metrics.hash_refused")


def test_doctor(cluster: ClusterServers, capsys: pytest.CaptureFixture[str]) -> None:
    """Each primary is examined: what is wrong with one of them is told with its address."""
    primary, alone = cluster.primaries[1:]
    cluster.replica_of(alone).kill()
    primary.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        eventually(lambda: alone.info("replication")["connected_slaves"] == 0, "no replica")
        said = seen(capsys.readouterr, cluster.url)
    finally:
        primary.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert said.of("eviction").what.startswith(f"{HOST}:{primary.port}: allkeys-lru")
    assert said.of("role").what == f"{HOST}:{alone.port}: a primary without a replica"
    assert not {"version", "permissions", "scripts"} & said.worst.keys()
    every = " ".join([f"{HOST}:{port}" for port in sorted(e.port for e in cluster.primaries)])
    assert said.of("persistence").what.startswith(f"{every}: none")


def test_doctor_at_a_node(cluster: ClusterServers, capsys: pytest.CaptureFixture[str]) -> None:
    """A node of a Cluster is not taken for a server that stands alone."""
    said = seen(capsys.readouterr, f"redis://:pw@{HOST}:{cluster.primaries[0].port}")
    assert said.code == exits.CONFIGURATION
    assert said.of("redis").remedy == "write redis+cluster://"

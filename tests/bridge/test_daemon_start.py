"""What stops the daemon at its start: one clear message, the documented code, nothing left over."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import redis

from bridge import exits
from bridge.exits import Exit
from bridge.journal import Journal, Limits
from bridge.latch import LatchFile
from bridge.lease import Lease
from integrations.nautilus.loading import load_strategy
from integrations.nautilus.roles import demo_data
from tests.bridge.processes import ROOT, Daemon, Ended, loading
from tests.servers import RedisServer, free_port

Start = Callable[..., Daemon]
Run = Callable[..., Ended]
MakeRedis = Callable[..., RedisServer]


def refused(ended: Ended) -> Ended:
    """Check that it says one thing, and left no redis-server behind."""
    assert "Traceback" not in ended.err
    assert len(ended.complaint.splitlines()) == 1, ended.err
    assert ended.err.count("redis.embedded_started") == ended.err.count("redis.embedded_stopped")
    return ended


def test_redis_absent(start: Start) -> None:
    """Nothing listens there: 69."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    ended = refused(start(redis__url=url).ended())
    assert (ended.code, ended.out) == (exits.UNAVAILABLE, "")
    assert ended.complaint.startswith(f"redis.url: {url}: ")
    assert ended.complaint.endswith("; start Redis there, or correct the address")


@pytest.mark.parametrize("user", ["", ":wr0ng@", "nobody:wr0ng@", "reader:s3cret@"])
def test_redis_refuses_the_credentials(run: Run, make_redis: MakeRedis, user: str) -> None:
    """No password, a wrong one, an unknown user, a user without permission: 77, and no secret."""
    server = make_redis("--requirepass", "sesame")
    server.client.execute_command("ACL SETUSER reader on >s3cret ~* +@read +@connection")
    ended = refused(run(redis__url=f"redis://{user}127.0.0.1:{server.port}/0"))
    assert ended.code == exits.REFUSED
    assert ended.complaint.startswith("redis.url: redis://")
    assert ended.complaint.endswith("; correct user and password in redis.url, or the user's ACL")
    assert not any(secret in ended.out + ended.err for secret in ("wr0ng", "s3cret", "sesame"))


def test_redis_has_no_such_database(run: Run, redis_server: RedisServer) -> None:
    """The number of the database is too high: 78."""
    ended = refused(run(redis__url=f"redis://127.0.0.1:{redis_server.port}/99"))
    assert ended.code == exits.CONFIGURATION
    assert ended.complaint.endswith("; correct the database, the number behind the last /")


def test_redis_is_full(run: Run, make_redis: MakeRedis) -> None:
    """Out of memory: 69, and maxmemory is named."""
    ended = refused(run(redis__url=make_redis("--maxmemory", "1").url))
    assert ended.code == exits.UNAVAILABLE
    assert ended.complaint.endswith("; raise its maxmemory, or free some")


def test_redis_is_a_replica(run: Run, make_redis: MakeRedis) -> None:
    """Read-only: 69, and the primary is asked for."""
    server = make_redis("--replicaof", f"127.0.0.1 {free_port()}")
    ended = refused(run(redis__url=server.url))
    assert ended.code == exits.UNAVAILABLE
    assert ended.complaint.endswith("; name the primary there, not a replica")


def test_redis_loads_too_long(run: Run, make_redis: MakeRedis) -> None:
    """Still loading when redis.start_timeout_seconds are over: 69, and that setting is named."""
    server = loading(make_redis, seconds=60)
    ended = refused(run(redis__url=server.url, redis__start_timeout_seconds="0.2"))
    assert ended.code == exits.UNAVAILABLE
    assert "redis.start_timeout_seconds" in ended.complaint


def test_redis_loads_and_is_ready_in_time(start: Start, make_redis: MakeRedis) -> None:
    """Loading that ends in time is waited for."""
    server = loading(make_redis, seconds=1.5)
    start(redis__url=server.url).until_running()
    assert server.client.exists("demo:bridge:contract")


def test_status_port_taken(run: Run) -> None:
    """73, and the setting is named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = refused(run(status__port=str(port), embedded__port=str(free_port())))
    assert ended.code == exits.TAKEN
    assert ended.complaint.startswith("status.port: ")
    assert str(port) in ended.complaint


def test_embedded_ports_all_taken(run: Run) -> None:
    """No port is left for the embedded Redis: 73, and the setting is named."""
    with socket.create_server(("127.0.0.1", 65_535)):
        ended = refused(run(embedded__port="65535", status__port="0"))
    assert ended.code == exits.TAKEN
    assert ended.complaint.startswith("embedded.port: 65535 ")


@pytest.mark.parametrize("key", ["bridge:lease:DEMO-001", "bridge:lease:prefix:demo:"])
def test_name_taken(run: Run, redis_server: RedisServer, key: str) -> None:
    """Another bridge has this one's name, or its prefix: 73, who it is, and what can be done."""
    other = Lease.make([key], seconds=60, uuid="other")
    other.take(redis_server.client, takeover=False)
    ended = refused(run(redis__url=redis_server.url, status__port="0"))
    assert ended.code == exits.TAKEN
    assert ended.complaint.startswith(f"{key} is held by another bridge: {other.value}; ")
    assert "--takeover" in ended.complaint


def test_journal_taken(run: Run, redis_server: RedisServer, tmp_path: Path) -> None:
    """Another bridge writes to the same folder: 73, and the setting is named."""
    journal = Journal.open(tmp_path / "journal", "OTHER", Limits())
    ended = refused(run(redis__url=redis_server.url, state__directory=str(tmp_path)))
    journal.close()
    assert ended.code == exits.TAKEN
    assert ended.complaint.startswith("journal.directory: another bridge writes to ")


def test_journal_damaged(run: Run, redis_server: RedisServer, tmp_path: Path) -> None:
    """A journal that somebody else has written into: 65, the file, and how it is repaired."""
    Journal.open(tmp_path / "journal", "DEMO-001", Limits()).close()
    [segment] = (tmp_path / "journal").glob("*.seg")
    segment.write_bytes(b"NRBJRNL1" + bytes(500))
    ended = refused(run(redis__url=redis_server.url, state__directory=str(tmp_path)))
    assert ended.code == exits.BAD_DATA
    assert ended.complaint.startswith(f"journal.directory: {segment}: damaged at byte ")
    assert "--repair" in ended.complaint


def test_journal_without_a_folder(run: Run, redis_server: RedisServer, tmp_path: Path) -> None:
    """A folder that cannot be made: 74, and the setting is named."""
    (tmp_path / "file").touch()
    ended = refused(run(redis__url=redis_server.url, state__directory=str(tmp_path / "file")))
    assert ended.code == exits.CANNOT_RECORD
    assert ended.complaint.startswith(f"state.directory: {tmp_path}/file cannot be used: ")


def test_halted_before(start: Start, redis_server: RedisServer, tmp_path: Path) -> None:
    """With a latch that was set it starts, is halted from the first moment, and sends no order."""
    LatchFile(tmp_path).set("journal", "the journal failed: no room")
    daemon = start(redis__url=redis_server.url, state__directory=str(tmp_path)).until_running()
    daemon.until(lambda: daemon.state == "HALTED: the journal failed: no room", "the halt")
    client = redis_server.client
    daemon.until(lambda: client.xlen("demo:exec:orders") > 3, "orders")
    seen = {fields["status"] for _, fields in client.xrange("demo:exec:orders")}
    assert seen == {"initialized", "denied"}


def test_bad_strategy(start: Start, tmp_path: Path) -> None:
    """A strategy that cannot be loaded: 78, with the reason."""
    (tmp_path / "broken.py").write_text("class Strategy(:\n")
    ended = refused(start("--strategy", "broken:Strategy", PYTHONPATH=str(tmp_path)).ended())
    assert ended.code == exits.CONFIGURATION
    assert ended.complaint.startswith("source.strategy: cannot load broken:Strategy: SyntaxError: ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.to.be:Found", "No module named 'nowhere'"),
        ("strategies.example:Missing", "has no attribute 'Missing'"),
        ("tests.bridge.strategies:NoStrategy", "is no Nautilus Strategy"),
        ("tests.bridge.strategies:Demanding", "needs a default"),
        ("tests.bridge.strategies:Raises", "ValueError: no market today"),
    ],
)
def test_strategies_that_cannot_be_built(name: str, says: str) -> None:
    """The same code for every reason, and the reason is said."""
    with pytest.raises(Exit, match=r"^source\.strategy: ") as raised:
        load_strategy(name, [])
    assert raised.value.code == exits.CONFIGURATION
    assert name in str(raised.value)
    assert says in str(raised.value)


def test_bad_source_factory(start: Start) -> None:
    """A factory that is none: 78, with the reason."""
    ended = refused(start(source__factory="bridge:factory").ended())
    assert ended.code == exits.CONFIGURATION
    assert ended.complaint.startswith(
        "source.factory: cannot load bridge:factory: AttributeError: "
    )


def test_two_instruments_on_one_stream(start: Start) -> None:
    """A template that maps spot and perp to one stream: 78."""
    ended = refused(start(streams__quotes="market.raw.{asset}.{base}").ended())
    assert ended.code == exits.CONFIGURATION
    assert "market.raw.crypto.BTC" in ended.complaint
    assert "streams.quotes" in ended.complaint


def _reverse(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.take(list(range(table.num_rows - 1, -1, -1))), file)


@pytest.fixture
def spoilt(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to be spoilt."""
    return shutil.copytree(dataset, tmp_path / "spoilt")


def test_dataset_truncated(start: Start, spoilt: Path) -> None:
    """A file that ends too early: 65, and the file is named."""
    file = spoilt / "spot_trades.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    ended = refused(start(replay__dataset=str(spoilt)).ended())
    assert ended.code == exits.BAD_DATA
    assert ended.complaint.startswith("replay.dataset: ")
    assert "spot_trades.parquet" in ended.complaint


@pytest.mark.parametrize("spoil", [_reverse, Path.unlink])
def test_dataset_unusable(spoilt: Path, spoil: Callable[[Path], None]) -> None:
    """A file that is out of order, or missing: the same."""
    spoil(spoilt / "spot_trades.parquet")
    with pytest.raises(Exit, match=r"^replay\.dataset: .*spot_trades\.parquet") as raised:
        demo_data(spoilt)
    assert raised.value.code == exits.BAD_DATA


def test_node_that_stops_by_itself(start: Start) -> None:
    """A restart is wanted: 75; what was recorded is published."""
    ended = start("--strategy", "tests.bridge.strategies:Quits").ended()
    assert ended.code == exits.RESTART
    assert "the Nautilus node stopped by itself" in ended.complaint
    assert ended.out.endswith("\nstopped; everything is published\n")


def test_demo_without_redis_server(dataset: Path, tmp_path: Path) -> None:
    """Where no redis-server can be had, the demo warns and runs on fakeredis."""
    for package in ("bridge", "integrations", "strategies"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=_no_caches)
    with Daemon(tmp_path, cwd=tmp_path, replay__dataset=str(dataset), PATH="/nowhere") as daemon:
        daemon.until_running()
        daemon.until_logged("redis.embedded_fake", level="warning")
        assert "(fakeredis)" in daemon.out
        with redis.Redis(port=daemon.port) as client:
            daemon.until(lambda: client.xlen("exec:orders"), "orders")
        ended = daemon.stop()
    assert (ended.code, ended.complaint) == (0, "")


_no_caches = shutil.ignore_patterns("__pycache__")


def test_password_for_a_redis_without_one(
    start: Callable[..., Daemon], redis_server: RedisServer
) -> None:
    """Redis lets the default user in with any password then: the start and the lanes agree."""
    url = redis_server.url.replace("redis://", "redis://:needless@")
    daemon = start(redis__url=url).until_running()
    daemon.until(lambda: redis_server.client.xlen("demo:exec:account"), "entries")
    assert daemon.stop().code == exits.DONE

"""`python -m bridge doctor` against real servers, each with one thing wrong."""

import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.__main__ import main
from bridge.lease import PREFIX, Lease
from tests.bridge.doctors import KEPT, Seen, as_user, emptied, kept, seen
from tests.bridge.processes import environment, eventually
from tests.servers import RedisServer, free_port

type Capture = pytest.CaptureFixture[str]
type See = Callable[..., Seen]
type Make = Callable[..., RedisServer]

LOSE, WARN, UNKNOWN = "lose", "warn", "unknown"


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


def test_a_healthy_server(see: See, healthy: RedisServer) -> None:
    """Nothing is wrong with an empty server that keeps what it is told: exit 0."""
    assert see(healthy.url).is_clean


def test_nothing_is_changed(see: See, healthy: RedisServer) -> None:
    """It writes nothing: no key is made or changed, also by what it tries of permissions."""
    healthy.client.xadd("exec:orders", {"a": "b"})
    healthy.client.set("bridge:halt:demo", "asked")
    before = {key: healthy.client.dump(key) for key in healthy.client.scan_iter()}
    changes = healthy.client.info("persistence")["rdb_changes_since_last_save"]

    see(healthy.url)

    assert healthy.client.info("persistence")["rdb_changes_since_last_save"] == changes
    assert {key: healthy.client.dump(key) for key in healthy.client.scan_iter()} == before


# The server.


@pytest.mark.parametrize(
    ("options", "name", "level", "text"),
    [
        (("--appendonly", "no"), "persistence", LOSE, "none: a restart forgets"),
        (("--appendonly", "no", "--save", "60 1"), "persistence", WARN, "snapshots only"),
        ((*KEPT, "--appendfsync", "no"), "persistence", WARN, "a power cut"),
        ((*KEPT, "--maxmemory-policy", "allkeys-lru"), "eviction", LOSE, "as soon as maxmemory"),
        (
            (*KEPT, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-random"),
            *("eviction", LOSE, "deletes streams at 1.0 GiB"),
        ),
        ((*KEPT, "--maxmemory-policy", "volatile-ttl"), "eviction", WARN, "deletes leases"),
        ((*KEPT, "--maxmemory", "8mb"), "memory", LOSE, "one market stream of each kind"),
        ((*KEPT, "--min-replicas-to-write", "1"), "role", LOSE, "NOREPLICAS"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_setting_of_the_server(
    see: See, make_redis: Make, options: tuple[str, ...], name: str, level: str, text: str
) -> None:
    """One bad setting is the one thing that is named, with a remedy; what loses data is exit 1."""
    said = see(make_redis(*options).url)

    assert said.worst == {name: level}
    assert text in said.of(name).what
    assert said.of(name).remedy
    assert said.code == (exits.FAILED if level == LOSE else exits.DONE)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--appendonly", "no"), "persistence"),
        ((*KEPT, "--maxmemory-policy", "allkeys-lfu"), "eviction"),
    ],
)
def test_the_remedy_of_a_setting_helps(
    see: See, make_redis: Make, options: tuple[str, ...], name: str
) -> None:
    """What is advised, done as it is written, makes the server healthy."""
    server = make_redis(*options)

    server.client.execute_command(*see(server.url).of(name).remedy.partition(",")[0].split())

    eventually(lambda: see(server.url).code == exits.DONE, "a healthy server")


def test_a_replica(see: See, make_redis: Make, healthy: RedisServer) -> None:
    """A replica is told from what it is a replica of: it refuses every write."""
    replica = make_redis(*KEPT)
    replica.client.replicaof("127.0.0.1", healthy.port)

    said = see(replica.url)

    assert said.code == exits.FAILED
    assert f"a replica of 127.0.0.1:{healthy.port}" in said.of("role").what
    assert "name the primary" in said.of("role").remedy


def test_a_snapshot_that_failed(see: See, make_redis: Make) -> None:
    """A server that cannot save is named for it, and for the writes that it refuses then."""
    server = make_redis("--save", "3600 1")
    shutil.rmtree(server.folder)
    server.client.bgsave()
    info = server.client.info
    eventually(lambda: info("persistence")["rdb_last_bgsave_status"] == "err", "a failed save")

    said = see(server.url)

    assert said.worst == {"persistence": LOSE, "role": LOSE}
    assert "MISCONF" in said.of("role").what


def test_a_server_that_is_full(see: See, make_redis: Make) -> None:
    """At the end of its memory it refuses writes: both are named."""
    server = make_redis(*KEPT)
    server.client.config_set("maxmemory", 1)

    said = see(server.url)

    assert said.code == exits.FAILED
    assert "it is full" in said.of("memory").what
    assert "not allowed when used memory" in said.of("role").what


def test_the_redis_of_the_settings(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Without --url it is that of redis.url, which has to keep what it is told in any role."""
    monkeypatch.setattr("os.environ", environment({"redis__url": redis_server.url}))

    assert seen(capsys.readouterr).of("persistence").level == LOSE


# The user.


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (("~*", "&*", "+@all", "-xadd"), "XADD"),
        (("~*", "&*", "+@all", "-xinfo|stream"), "XINFO STREAM"),
        (("~*", "&*", "+@all", "-del", "-pexpire"), "DEL, PEXPIRE"),
        (("~bridge:*", "~market.*", "~m*", "~f*", "~r*", "&*", "+@all"), "touch exec:orders"),
        (
            ("~exec:*", "~m*", "~[fr]*", "~bridge:[^m]*", "%R~bridge:m*", "&*", "+@all"),
            "may not: touch bridge:mark:{exec:orders}",
        ),
        (("~exec:*", "~market.*", "~m*", "~f*", "~r*", "&*", "+@all"), "bridge:mark:{exec:orders}"),
        (("~*", "&*", "+@all", "-evalsha"), "EVALSHA"),
    ],
)
def test_a_right_that_lacks(
    see: See, healthy: RedisServer, rules: tuple[str, ...], text: str
) -> None:
    """What the user may not do is named; what is advised, done as it is written, is enough."""
    url = as_user(healthy, "bridge", "reset", "on", ">secret", *rules)

    said = see(url)
    assert said.of("permissions").level == LOSE
    assert said.code == exits.FAILED
    assert said.of("permissions").what.startswith("the user bridge may not: ")
    assert text in said.of("permissions").what

    healthy.client.execute_command(*shlex.split(said.of("permissions").remedy))
    assert see(url).is_clean


def test_a_right_that_would_be_better(see: See, healthy: RedisServer) -> None:
    """Without pushes, INFO and rewrites the bridge works, less well: a warning, exit 0."""
    url = as_user(healthy, "poor", "~*", "&*", "+@all", "-client|tracking", "-bgrewriteaof")

    said = see(url)

    assert said.worst == {"permissions": WARN}
    assert "may not: BGREWRITEAOF, CLIENT TRACKING" in said.of("permissions").what
    assert said.code == exits.DONE


def test_scripts_are_refused(see: See, healthy: RedisServer) -> None:
    """Without scripts no execution entry is ever written: that is named by itself, too."""
    url = as_user(healthy, "mute", "~*", "&*", "+@all", "-script")

    said = see(url)

    assert said.worst == {"scripts": LOSE, "permissions": LOSE}
    assert "script|load" in said.of("scripts").what


def test_what_may_not_be_asked(see: See, healthy: RedisServer) -> None:
    """What the user may not look at is unknown, not wrong, and its remedy is the right to look."""
    blind = ("-info", "-config", "-time", "-multi", "-scan", "-acl")
    url = as_user(healthy, "blind", "~*", "&*", "+@all", *blind)

    said = see(url)

    assert {each.level for each in said.found} == {UNKNOWN}
    names = {"version", "role", "persistence", "eviction", "memory", "clock", "permissions"}
    unscanned = {"market streams", "limits", "nautilus backing", "nautilus cache"}
    assert set(said.worst) == names | unscanned | {"nautilus autotrim"}
    assert all("+scan" in said.of(each).remedy for each in unscanned)
    assert "user blind" in said.of("permissions").what
    assert said.code == exits.DONE
    assert all(each.remedy for each in said.found)


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        (("~*", "-get"), {"mode", "limits", "bridge:contract", "features:nautilus_live_exec"}),
        (("~*", "-hgetall"), {"bridge", "nautilus backing", "exec:fills"}),
        (("~*", "-type"), {"exec:fills", "market streams"}),
        (("~*", "-xinfo"), {"exec:fills", "market streams", "nautilus backing"}),
        (("~*", "-memory"), {"memory"}),
        (("~*", "-config"), {"persistence"}),
        (("~*", "-xrange"), {"exec:fills"}),
        (("~exec:*", "~bridge:*", "~mar*", "~f*", "~trader*"), {"mode", "limits"}),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_what_may_not_be_read(
    see: See, healthy: RedisServer, rules: tuple[str, ...], names: set[str]
) -> None:
    """What was refused is unknown and never well, and what is advised lets it be read."""
    client = healthy.client
    fill = client.xadd("exec:fills", {"a": "b"})
    client.hset("bridge:mark:{exec:fills}", "p", f"1 {fill} 1")
    client.xadd("market.raw.crypto.BTCUSDT", {"a": "b"})
    client.xadd("trader-T-1:stream:events.order.S-1", {"a": "b"})
    key_rules = [each for each in rules if each.startswith("~")]
    rights = [each for each in rules if each.startswith("-")]
    url = as_user(healthy, "short", "resetkeys", *key_rules, "&*", "+@all", *rights)

    said = see(url)

    unknown = {each.name for each in said.found if each.level == UNKNOWN}
    assert names <= unknown
    for finding in said.found:
        if finding.name in names:
            assert "NOPERM" in finding.what or finding.name in ("memory", "persistence")
            right = finding.remedy.partition(": ")[2]
            client.execute_command("ACL", "SETUSER", "short", *shlex.split(right))
    assert names.isdisjoint({each.name for each in see(url).found if each.level == UNKNOWN})


def test_a_bridge_that_a_full_redis_hides(see: See, healthy: RedisServer) -> None:
    """A state that nobody renews says nothing of the bridge, while its lease says who it is."""
    beat = str(time.time_ns() - 60 * 10**9)
    fields = {"state": "ACTIVE", "pid": "1", "heartbeat_ns": beat}
    healthy.client.hset("bridge:state:demo", mapping=fields)
    Lease.make([f"{PREFIX}role:demo"], seconds=60, uuid="u").take(healthy.client, takeover=False)

    said = see(healthy.url)

    assert said.worst == {"bridge": WARN}
    assert f"process {os.getpid()} of this host holds its lease" in said.of("bridge").what
    assert re.search(r"is 6\d s old", said.of("bridge").what)
    assert said.of("bridge").numbers["heartbeat_age_seconds"] >= 60


# The command.


def test_redis_is_away(see: See) -> None:
    """Without a Redis the machine is judged all the same; exit 69, and the reason is said once."""
    said = see(f"redis://:s3cret@127.0.0.1:{free_port()}/0")

    assert said.code == exits.UNAVAILABLE
    assert "Connection refused" in said.of("redis").what
    assert said.of("redis").remedy == "start Redis there, or correct the address"
    assert said.error == "not all was judged: see what is said of redis\n"
    assert "s3cret" not in said.error + said.of("redis").what


def test_a_wrong_password(see: See, make_redis: Make) -> None:
    """Credentials that Redis refuses: exit 77."""
    server = make_redis(*KEPT, "--requirepass", "secret")

    assert see(f"redis://:wrong@127.0.0.1:{server.port}/0").code == exits.REFUSED
    assert see(server.url).code == exits.DONE


def test_a_url_that_is_none(capsys: Capture) -> None:
    """A --url that cannot be one: exit 2, and what is wrong with it."""
    assert main(("doctor", "--url", "http://x")) == exits.USAGE
    assert capsys.readouterr().err.startswith("--url: it does not begin with redis://")


def test_settings_that_are_refused(capsys: Capture, tmp_path: Path) -> None:
    """Settings that cannot be used: exit 78, before anything is asked."""
    file = tmp_path / "bridge.toml"
    file.write_text("[redis]\nurll = 1\n")

    assert main(("doctor", "--config", str(file))) == exits.CONFIGURATION
    assert "redis.urll: no such setting" in capsys.readouterr().err


def test_the_report_of_a_person(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, healthy: RedisServer
) -> None:
    """Each finding is a line, what would lose data in capitals, the remedy below it."""
    monkeypatch.setattr("os.environ", environment({"redis__url": healthy.url}))
    healthy.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert main(("doctor",)) == exits.FAILED
    finally:
        healthy.client.config_set("maxmemory-policy", "noeviction")

    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("LOSE"))
    assert lines[at].split()[1:3] == ["eviction", "allkeys-lru:"]
    assert lines[at + 1].strip().startswith("-> CONFIG SET maxmemory-policy noeviction")
    assert lines[-1].endswith(" would lose data")


def test_help_names_the_exit_codes(capsys: Capture) -> None:
    """--help says which codes it ends with."""
    with pytest.raises(SystemExit):
        main(("doctor", "--help"))

    lines = capsys.readouterr().out.partition("exit codes:\n")[2].splitlines()
    assert [int(line.split()[0]) for line in lines] == [0, 1, 2, 69, 77, 78]

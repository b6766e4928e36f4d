"""What doctor concludes of what was read: bounds, and what no server at hand shows."""

from dataclasses import replace

import pytest

from bridge import doctor_server
from bridge.doctor import DAY_MS, Level, Reading, Stream, size
from bridge.doctor_keys import bridge
from bridge.doctor_nautilus import NodeConfig, autotrim, closed, shared
from bridge.doctor_server import latency, memory, persistence, version

OK, WARN, LOSE, UNKNOWN = Level.OK, Level.WARN, Level.LOSE, Level.UNKNOWN
NOW_MS = 1_800_000_000_000
NOW_NS = NOW_MS * 1_000_000
MB = 1_000_000
INFO = {"used_memory": str(100 * MB), "maxmemory": str(1100 * MB)}


def growing(megabytes_per_day: float) -> Stream:
    """Return a stream that began a day ago and is now of that size."""
    size_bytes = round(megabytes_per_day * MB)
    return Stream("s", type="stream", length=1000, size_bytes=size_bytes, first_ms=NOW_MS - DAY_MS)


# The server.


@pytest.mark.parametrize(
    ("text", "level"),
    [
        *(("6.0.20", LOSE), ("6.2.0", WARN), ("6.2.14", WARN), ("7.0.0", OK), ("8.4.1", OK)),
        *(("10.0.0", OK), ("", UNKNOWN)),
    ],
)
def test_versions(text: str, level: Level) -> None:
    """Redis is to be 6.2; from 7.0 on it counts what a stream ever had."""
    assert version(Reading(info={"redis_version": text})).level is level


@pytest.mark.parametrize(
    ("info", "settings", "level", "text"),
    [
        ({"aof_enabled": "1"}, {}, UNKNOWN, "cannot be asked"),
        ({"aof_enabled": "1"}, {"appendfsync": "always"}, OK, "fsync always"),
        ({"aof_enabled": "1", "aof_last_write_status": "err"}, {}, LOSE, "last write"),
        ({"aof_enabled": "1", "aof_last_bgrewrite_status": "err"}, {}, WARN, "last rewrite"),
        ({"aof_enabled": "0"}, {}, UNKNOWN, "cannot be asked"),
        ({"aof_enabled": "0", "rdb_last_bgsave_status": "err"}, {"save": "9 9"}, LOSE, "failed"),
    ],
)
def test_persistence(
    info: dict[str, str], settings: dict[str, str], level: Level, text: str
) -> None:
    """What was last written is judged, not only what is set."""
    found = persistence(Reading(info=info, settings=settings), is_ours=False)

    assert found.level is level
    assert text in found.what


@pytest.mark.parametrize(
    ("least", "replicas", "level", "remedy"),
    [
        ("0", "2", WARN, "CONFIG SET min-replicas-to-write 1, "),
        ("0", "1", WARN, "give it 2 replicas, then CONFIG SET"),
        ("1", "2", OK, ""),
        ("1", "1", WARN, "give it another replica"),
        (None, "2", UNKNOWN, "ask as administrator"),
    ],
)
def test_a_primary_that_is_cut_off(
    least: str | None, replicas: str, level: Level, remedy: str
) -> None:
    """One that can be replaced is to refuse writes while it has no replica; the one that takes its
    place has one replica less."""
    settings = {} if least is None else {"min-replicas-to-write": least}
    found = doctor_server.cut_off(Reading(info={"connected_slaves": replicas}, settings=settings))
    assert found.level is level
    assert found.remedy.startswith(remedy)
    assert bool(found.remedy) == bool(remedy)


def test_the_demos_own_redis() -> None:
    """The Redis that the demo starts for itself keeps nothing, and that is well."""
    reading = Reading(info={"aof_enabled": "0"}, settings={"save": ""})

    assert persistence(reading, is_ours=True).level is OK
    assert persistence(reading, is_ours=False).level is LOSE


@pytest.mark.parametrize(
    ("daily", "level"), [(0, OK), (142, OK), (144, WARN), (999, WARN), (1001, LOSE)]
)
def test_how_long_the_memory_lasts(daily: float, level: Level) -> None:
    """With 1,000 MB free it is full within a week at 143 MB a day, within a day at 1,000."""
    reading = Reading(info=INFO, now_ms=NOW_MS, exec_streams={"orders": growing(daily)})

    assert memory(reading, market_maxlen=1000, kinds=1).level is level


@pytest.mark.parametrize(("maxlen", "level"), [(1_000, OK), (90_000, OK), (110_000, LOSE)])
def test_market_streams_that_are_still_short(maxlen: int, level: Level) -> None:
    """Market streams grow to market.maxlen: what 10 kB an entry will take is taken already."""
    reading = Reading(info=INFO, now_ms=NOW_MS, market_streams=[growing(10)])

    assert memory(reading, market_maxlen=maxlen, kinds=1).level is level


@pytest.mark.parametrize(("megabytes", "level"), [(1000, LOSE), (980, OK)])
def test_memory_that_is_nearly_full(megabytes: int, level: Level) -> None:
    """Nine tenths of it are full."""
    reading = Reading(info=INFO | {"used_memory": str(megabytes * MB)}, now_ms=NOW_MS)

    assert memory(reading, market_maxlen=1000, kinds=1).level is level


@pytest.mark.parametrize(
    ("streams", "text"),
    [
        ({}, "is not known yet"),
        ({"orders": Stream("s", length=1, size_bytes=9)}, "is not known yet"),
        ({"orders": growing(1)}, "grow by 977 KiB a day"),
        ({"orders": growing(1), "fills": Stream("s", length=1, size_bytes=9)}, "grow by 977 KiB"),
    ],
    ids=["nothing", "young", "old", "both"],
)
def test_growth_that_is_not_known(streams: dict[str, Stream], text: str) -> None:
    """Where no stream is old enough to tell its growth, that is said, not that it is none."""
    found = memory(
        Reading(info=INFO, now_ms=NOW_MS, exec_streams=streams), market_maxlen=1000, kinds=1
    )

    assert found.level is OK
    assert text in found.what


def test_memory_that_may_not_be_asked() -> None:
    """Where MEMORY USAGE is refused, how long the memory lasts is unknown."""
    streams = {"orders": replace(growing(1), size_bytes=None)}

    found = memory(
        Reading(info=INFO, now_ms=NOW_MS, exec_streams=streams), market_maxlen=1000, kinds=1
    )

    assert found.level is UNKNOWN
    assert "+memory|usage" in found.remedy


def test_numbers_of_the_memory() -> None:
    """Programs get the numbers of it in bytes and days."""
    reading = Reading(info=INFO, now_ms=NOW_MS, exec_streams={"orders": growing(500)})

    found = memory(reading, market_maxlen=1000, kinds=1)

    assert found.numbers == {
        "used_bytes": 100 * MB,
        "limit_bytes": 1100 * MB,
        "room_bytes": 1000 * MB,
        "growth_bytes_per_day": 500 * MB,
        "days_left": 2.0,
    }


def test_the_remedy_of_a_full_memory() -> None:
    """What is advised removes what is younger than the seven days that trim leaves unasked."""
    reading = Reading(info=INFO | {"used_memory": str(1100 * MB)}, now_ms=NOW_MS)

    assert "trim --older-than 1h" in memory(reading, market_maxlen=1000, kinds=1).remedy


def test_memory_without_a_bound() -> None:
    """Without maxmemory the machine's memory is the bound."""
    info = {"used_memory": "95", "maxmemory": "0", "total_system_memory": "100"}

    found = memory(Reading(info=info), market_maxlen=0, kinds=0)

    assert found.level is LOSE
    assert "no maxmemory, the machine has 100 B" in found.what


@pytest.mark.parametrize(
    ("taken_ms", "level"),
    [([0.1] * 9 + [200], OK), ([0.1] * 9 + [300], WARN), ([4.9], OK), ([5.1] * 5, WARN)],
)
def test_latency(taken_ms: list[float], level: Level) -> None:
    """5 ms usually is slow, and so is a quarter of a second once."""
    reading = Reading(round_trips_ns=[round(each * 1e6) for each in taken_ms])

    assert latency(reading).level is level


@pytest.mark.parametrize(("skew_ms", "level"), [(499, OK), (-499, OK), (501, WARN), (-501, WARN)])
def test_clock_skew(skew_ms: int, level: Level) -> None:
    """Half a second between the clocks is too much, whichever is ahead."""
    assert doctor_server.clock(Reading(skew_ns=skew_ms * 1_000_000)).level is level


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0 B"), (1.5, "2 B"), (1023, "1023 B"), (1023.6, "1.0 KiB"), (10_240, "10 KiB")),
        *((1 << 20, "1.0 MiB"), (3_400_000_000, "3.2 GiB"), (1 << 41, "2.00 TiB")),
    ],
)
def test_sizes(number: float, text: str) -> None:
    """Sizes are in powers of 1,024, as those of Redis's `maxmemory 1mb` are."""
    assert size(number) == text


# The bridge.


@pytest.mark.parametrize(
    ("state", "pid_here", "level", "text"),
    [
        ({}, None, OK, "none of the role live runs"),
        ({"heartbeat_ns": f"{NOW_NS}", "pid": "7", "state": "ACTIVE"}, None, OK, "runs, pid 7"),
        ({"heartbeat_ns": f"{NOW_NS - 2_900_000_000}"}, 7, OK, "live runs"),
        ({"heartbeat_ns": f"{NOW_NS - 20 * 10**9}"}, None, WARN, "state in Redis is 20 s old"),
        ({"heartbeat_ns": f"{NOW_NS - 20 * 10**9}"}, 7, WARN, "process 7 of this host holds"),
        ({}, 7, WARN, "it shows no state: Redis"),
        ({"heartbeat_ns": "x", "state": "ACTIVE"}, None, WARN, "does not answer"),
    ],
)
def test_a_bridge_that_does_not_answer(
    state: dict[str, str], pid_here: int | None, level: Level, text: str
) -> None:
    """A state older than three seconds is of no bridge that answers, whatever it says."""
    found = bridge(Reading(state=state, pid_here=pid_here), "live", NOW_NS)

    assert found.level is level
    assert text in found.what
    assert bool(found.remedy) is (level is WARN)


# Nautilus.

ORDERS = "trader-T-1:stream:events.order.S-1"
BEAT = "trader-T-1:stream:health:heartbeat"
NODE: dict[str, object] = {"cache": {"database": {"host": "localhost"}, "flush_on_start": True}}


def bus(key: str, *, age_ms: int = 0, length: int = 1, added: int | None = None) -> Stream:
    return Stream(key, type="stream", length=length, added=added, last_ms=NOW_MS - age_ms)


def traded(age_ms: int, trader: str = "T-1") -> dict[str, Stream]:
    """Return the bridge's orders, whose last entry is of that trader and age."""
    fields = {"trader_id": trader}
    return {"orders": Stream("exec:orders", last_ms=NOW_MS - age_ms, fields=fields)}


@pytest.mark.parametrize(
    ("reading", "level"),
    [
        (Reading(), OK),
        (Reading(bus_streams=[bus(ORDERS), bus(BEAT)]), OK),
        (Reading(bus_streams=[bus(ORDERS, age_ms=90_000)], exec_streams=traded(31_000)), OK),
        (Reading(bus_streams=[bus(ORDERS, age_ms=90_000)], exec_streams=traded(29_000)), LOSE),
        (Reading(bus_streams=[bus(ORDERS, age_ms=90_000)], exec_streams=traded(0, "T-2")), OK),
        (Reading(bus_streams=[bus(BEAT, age_ms=90_000)]), WARN),
        (
            Reading(metrics={"nautilus_bridge_native_backing_closed": "1", "ts_ns": f"{NOW_NS}"}),
            LOSE,
        ),
        (Reading(metrics={"nautilus_bridge_native_backing_closed": "1", "ts_ns": "1"}), OK),
        (Reading(metrics={"nautilus_bridge_native_backing_closed": "0", "ts_ns": f"{NOW_NS}"}), OK),
    ],
    ids=[
        *("none", "writes", "together", "behind the bridge", "another trader", "no heartbeat"),
        *("it says so", "said so long ago", "says it is open"),
    ],
)
def test_a_backing_that_is_closed(reading: Reading, level: Level) -> None:
    """A backing is closed when its node says so, or when the bridge has more recent orders of the
    same trader; without a heartbeat it may be."""
    assert closed(replace(reading, now_ms=NOW_MS), NOW_NS).level is level


@pytest.mark.parametrize(
    ("reading", "db", "cache_db", "nodes", "level"),
    [
        (Reading(), 0, None, [], OK),
        (Reading(traders=["T-1"]), 0, None, [], WARN),
        (Reading(traders=["T-1"]), 1, None, [], OK),
        (Reading(traders=["T-1"], info={"cmdstat_flushdb": "calls=2,usec=1"}), 0, None, [], LOSE),
        (Reading(info={"cmdstat_flushdb": "calls=2,usec=1"}), 0, None, [], OK),
        (Reading(), 0, 0, [], WARN),
        (Reading(info={"cmdstat_flushall": "calls=1,usec=1"}), 0, 0, [], LOSE),
        (Reading(), 0, 3, [], WARN),
        (Reading(), 1, 1, [], WARN),
        (Reading(), 1, 0, [], OK),
        (Reading(), 0, None, [NodeConfig("variable N", NODE, is_here=True)], LOSE),
        (Reading(), 0, None, [NodeConfig("variable N", NODE, is_here=False)], OK),
        (Reading(), 2, None, [NodeConfig("variable N", NODE, is_here=True)], OK),
    ],
)
def test_a_cache_in_the_same_database(
    reading: Reading, db: int, cache_db: int | None, nodes: list[NodeConfig], level: Level
) -> None:
    """Nautilus's cache is always in database 0, which flush_on_start empties: to share it is bad,
    to share it with what flushes loses everything."""
    assert shared(reading, db, cache_db, nodes).level is level


@pytest.mark.parametrize(
    ("streams", "nodes", "level"),
    [
        ([], [], OK),
        ([bus(ORDERS, added=1)], [], OK),
        ([bus(ORDERS)], [], OK),
        ([bus(ORDERS, added=5)], [], LOSE),
        ([bus(BEAT, added=5)], [], OK),
        ([], [NodeConfig("N", {"message_bus": {"autotrim_mins": 30}}, is_here=False)], LOSE),
        ([], [NodeConfig("N", {"message_bus": None}, is_here=False)], OK),
    ],
)
def test_autotrim(streams: list[Stream], nodes: list[NodeConfig], level: Level) -> None:
    """Execution events that are gone from Nautilus's own streams, or are set to go, are lost."""
    assert autotrim(Reading(bus_streams=streams), nodes).level is level

"""bridge/replay.py: an archive published again, to a Redis that is nobody's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import archive_segments, exits, replay
from bridge.core import scripts
from bridge.exits import Exit
from bridge.reading import Item
from bridge.record_commands import FOREVER_NS
from tests.bridge.archives import STREAMS, feed, foreign, opened
from tests.bridge.fills import START_NS, fill
from tests.bridge.journals import flip
from tests.bridge.kept import typed
from tests.servers import RedisServer, free_port

SECOND = 10**9
FILLS, ORDERS = STREAMS["fills"], STREAMS["orders"]
NOWHERE = "redis://127.0.0.1:1/0"


def _items() -> list[Item]:
    """Twelve fills, a second apart; after every third one somebody else's order."""
    items: list[Item] = []
    for seq in range(1, 13):
        items.append(fill(seq, entry_id=f"{1000 + seq}-0"))
        if not seq % 3:
            items.append(foreign(f"{1000 + seq}-1", "orders", what=f"o{seq}"))
    return items


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    archive = opened(tmp_path / "archive")
    feed(archive, _items())
    archive.close()
    return tmp_path / "archive"


def _replay(
    directory: Path,
    url: str,
    *,
    from_ns: int = 0,
    to_ns: int = FOREVER_NS,
    speed: float = 0.0,
    source: str = NOWHERE,
) -> list[str]:
    return list(
        replay.replay(directory, url, from_ns=from_ns, to_ns=to_ns, speed=speed, source_url=source)
    )


def _raw(server: RedisServer, key: str) -> list[list[bytes]]:
    client = server.new_client(decode_responses=False, protocol=2)
    client.response_callbacks.clear()
    return [fields for _, fields in client.execute_command("XRANGE", key, "-", "+")]


def _seqs(server: RedisServer) -> list[int]:
    return [int(fields["seq"]) for _, fields in server.client.xrange(FILLS)]


def test_the_same_fields_in_the_same_order(archive: Path, redis_server: RedisServer) -> None:
    """All entries come again, byte for byte, in the archive's order over all streams."""
    [*_, last] = _replay(archive, redis_server.url)
    assert last.startswith(f"16 entries published to {redis_server.url} in ")
    for kind, key in STREAMS.items():
        assert _raw(redis_server, key) == [[*i.fields] for i in _items() if i.kind == kind]
    ids = [
        (tuple(map(int, entry_id.split("-"))), key)
        for key in (FILLS, ORDERS)
        for entry_id, _ in redis_server.client.xrange(key)
    ]
    firsts = [ids[0][0], ids[3][0]]
    order = min(each for each, key in ids if key == ORDERS)
    assert firsts[0] <= order <= firsts[1]


def test_any_bytes(tmp_path: Path, redis_server: RedisServer) -> None:
    """Names twice, no UTF-8, empty values and line ends come back as they were."""
    odd = [b"a", b"\xff\x00", b"a", b"", b"tab\t", b"line\n\"{}'\\", b"\xed\xa0\x80", b"\xc3\xa9"]
    archive = opened(tmp_path / "archive")
    feed(archive, [foreign("5-1")._replace(fields=odd)])
    archive.close()
    _replay(tmp_path / "archive", redis_server.url)
    assert _raw(redis_server, FILLS) == [odd]


@pytest.mark.parametrize(
    ("from_ns", "to_ns", "seqs"),
    [
        (0, FOREVER_NS, range(1, 13)),
        (START_NS + 3 * SECOND, FOREVER_NS, range(3, 13)),
        (START_NS + 3 * SECOND, START_NS + 5 * SECOND, range(3, 5)),
        (START_NS + 3 * SECOND + 1, START_NS + 5 * SECOND + 1, range(4, 6)),
        (0, START_NS, range(0)),
        (START_NS + 99 * SECOND, FOREVER_NS, range(0)),
    ],
)
def test_a_window(
    archive: Path, redis_server: RedisServer, from_ns: int, to_ns: int, seqs: range
) -> None:
    """From the first moment on, up to but without the last, by the events' own time."""
    [*_, last] = _replay(archive, redis_server.url, from_ns=from_ns, to_ns=to_ns)
    assert _seqs(redis_server) == [*seqs]
    assert last.split()[0] == str(len(seqs) + redis_server.client.xlen(ORDERS))


def test_the_time_of_an_entry_that_tells_none(archive: Path, redis_server: RedisServer) -> None:
    """Somebody else's entry without ts_ns happened when it was published."""
    _replay(archive, redis_server.url, from_ns=1006 * 10**6, to_ns=1010 * 10**6)
    rows = redis_server.client.xrange(ORDERS)
    assert [row["what"] for _, row in rows] == ["o6", "o9"]
    assert _seqs(redis_server) == []


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 11.0), (4.0, 2.75), (0.0, 0.0)])
def test_the_pace(
    archive: Path,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    speed: float,
    seconds: float,
) -> None:
    """At speed 1 the pauses are those of the events, at 4 a quarter of it, at 0 there are none.

    What is due is published before a pause begins.
    """
    now, there = 0.0, list[int]()

    def sleep(pause: float) -> None:
        nonlocal now
        now += pause
        there.append(redis_server.client.xlen(FILLS))

    monkeypatch.setattr(replay.time, "monotonic", lambda: now)
    monkeypatch.setattr(replay.time, "sleep", sleep)
    _replay(archive, redis_server.url, from_ns=START_NS, speed=speed)
    assert now == pytest.approx(seconds)
    assert there == ([*range(1, 12)] if speed else [])
    assert _seqs(redis_server) == [*range(1, 13)]


def test_a_replay_that_is_late_catches_up(
    archive: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What publishing takes is not added to the pauses."""
    now, pauses = 0.0, list[float]()

    def sleep(pause: float) -> None:
        nonlocal now
        pauses.append(pause)
        now += pause + (3.0 if len(pauses) == 1 else 0.0)

    monkeypatch.setattr(replay.time, "monotonic", lambda: now)
    monkeypatch.setattr(replay.time, "sleep", sleep)
    _replay(archive, redis_server.url, from_ns=START_NS, speed=1.0)
    assert now == pytest.approx(11.0)
    assert pauses == pytest.approx([1.0] * 8)


def test_times_that_go_back(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told late is not waited for, and a pause of days is cut short."""
    late = [0, 10, 2, 12, 12 + 5 * 86_400]
    archive = opened(tmp_path / "archive")
    feed(archive, [fill(n, ts_ns=str(START_NS + s * SECOND)) for n, s in enumerate(late, 1)])
    archive.close()
    pauses = list[float]()
    monkeypatch.setattr(replay.time, "monotonic", lambda: sum(pauses))
    monkeypatch.setattr(replay.time, "sleep", pauses.append)
    _replay(tmp_path / "archive", redis_server.url, speed=1.0)
    assert pauses == pytest.approx([10, 2, 3600])


def test_batches(archive: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fast as it can it publishes many at once, and tells how far it is."""
    monkeypatch.setattr(replay, "BATCH_ENTRIES", 5)
    told = _replay(archive, redis_server.url)
    assert told[:-1] == ["5 entries", "10 entries", "15 entries", "16 entries"]
    assert len(_seqs(redis_server)) == 12


def _a_stream(server: RedisServer) -> None:
    server.client.xadd(ORDERS, {"a": "b"})


def _an_emptied_stream(server: RedisServer) -> None:
    server.client.xadd(ORDERS, {"a": "b"})
    server.client.xtrim(ORDERS, maxlen=0, approximate=False)


def _a_mark(server: RedisServer) -> None:
    server.client.hset(scripts.mark_key(FILLS), "A", "5")


@pytest.mark.parametrize("change", [_a_stream, _an_emptied_stream, _a_mark])
def test_a_redis_that_is_in_use(
    archive: Path, redis_server: RedisServer, change: Callable[[RedisServer], None]
) -> None:
    """A Redis that has one of the streams, or was a bridge's, is refused and left as it is: 73."""
    change(redis_server)
    keys = redis_server.client.keys()
    with pytest.raises(Exit) as raised:
        _replay(archive, redis_server.url)
    assert raised.value.code == exits.TAKEN
    assert redis_server.client.keys() == keys


@pytest.mark.parametrize("address", ["127.0.0.1:{port}/0", "localhost:{port}/3"])
def test_the_redis_that_it_came_from(
    archive: Path, redis_server: RedisServer, address: str
) -> None:
    """The Redis of the settings is refused under any name, empty as it may be: 73."""
    url = f"redis://{address.format(port=redis_server.port)}"
    with pytest.raises(Exit) as raised:
        _replay(archive, url, source=redis_server.url)
    assert raised.value.code == exits.TAKEN
    assert redis_server.client.keys() == []


def test_another_redis_beside_its_source(
    archive: Path, redis_server: RedisServer, make_redis: Callable[..., RedisServer]
) -> None:
    """A second server is taken, whether the first one answers or not."""
    scratch = make_redis()
    _replay(archive, scratch.url, source=redis_server.url)
    assert len(_seqs(scratch)) == 12
    assert redis_server.client.keys() == []


@pytest.mark.parametrize("make", [False, True])
def test_no_archive(tmp_path: Path, redis_server: RedisServer, make: bool) -> None:
    """Where there is no archive, or nothing in it, there is nothing to replay: 65."""
    if make:
        (tmp_path / "archive").mkdir()
    with pytest.raises(Exit) as raised:
        _replay(tmp_path / "archive", redis_server.url)
    assert raised.value.code == exits.BAD_DATA


def test_no_redis(archive: Path) -> None:
    """69 when nobody answers."""
    with pytest.raises(Exit) as raised:
        _replay(archive, f"redis://127.0.0.1:{free_port()}/0")
    assert raised.value.code == exits.UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1760000000000000001", 1_760_000_000_000_000_001),
        ("1970-01-02", 86_400 * SECOND),
        ("1970-01-01T00:00:01.000001", SECOND + 1_000),
        ("1970-01-01 00:01", 60 * SECOND),
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T01:00+01:00", 0),
        ("2026-11-20T10:00", 1_795_168_800 * SECOND),
    ],
)
def test_moments(text: str, ns: int) -> None:
    """A time is nanoseconds, or ISO 8601, UTC unless it names a zone; exact."""
    assert replay.moment(text) == ns


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "1.5", "2026-13-01"])
def test_no_moments(text: str) -> None:
    """What is no time is refused."""
    with pytest.raises(ValueError, match=r"."):
        replay.moment(text)


def _words(archive: Path, url: str, *more: str) -> Any:
    settings = {"state__directory": str(archive.parent), "redis__url": NOWHERE}
    return typed("replay", "--url", url, *more, **settings)


def test_the_command(archive: Path, redis_server: RedisServer) -> None:
    """--from and --to take ISO times; what was published is told in a line: 0."""
    begin = "2025-10-09T08:53:23"
    done = _words(archive, redis_server.url, "--from", begin, "--to", "2025-10-09T08:53:25Z")
    assert (done.code, done.err) == (exits.DONE, "")
    assert done.out.startswith(f"2 entries published to {redis_server.url} in ")
    assert _seqs(redis_server) == [3, 4]


def test_a_damaged_archive(archive: Path, redis_server: RedisServer) -> None:
    """What is whole is published; the damage is named, and is 65."""
    path = archive_segments.segment_path(archive, 1)
    flip(path, path.read_bytes().index(b'-f2"'))
    done = _words(archive, redis_server.url)
    assert done.code == exits.BAD_DATA
    assert done.err.startswith("replay: 0000000001.arc: record 2, line 3, byte ")
    assert done.err.endswith("published before it: 1 entries\n")
    assert _seqs(redis_server) == [1]


@pytest.mark.parametrize(
    "words",
    [
        ("--from", "yesterday"),
        ("--from", "2026-01-02", "--to", "2026-01-01"),
        ("--speed", "-1"),
        ("--speed", "nan"),
    ],
)
def test_usage(archive: Path, redis_server: RedisServer, words: tuple[str, ...]) -> None:
    """What makes no sense is 2, in a sentence."""
    done = _words(archive, redis_server.url, *words)
    assert done.code == exits.USAGE
    assert done.err.startswith(words[0])
    assert len(done.err.splitlines()) == 1

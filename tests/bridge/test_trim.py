"""bridge/trim.py: what may go of the streams, and what anybody still needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from bridge import exits, trim
from bridge.exits import Exit
from tests.bridge.fills import foreign
from tests.bridge.journals import flip
from tests.bridge.kept import FILLS, ORDERS, Kept, typed
from tests.servers import RedisServer, free_port

GROUP = "desk"
type Meanwhile = Callable[[Callable[[], object]], None]


@pytest.fixture
def kept(redis_server: RedisServer, tmp_path: Path) -> Kept:
    """Eight fills, and both readers have taken all of them."""
    kept = Kept(tmp_path / "state", redis_server)
    kept.trade(8)
    kept.read()
    return kept


def _trim(kept: Kept, *, older_seconds: float = -60, is_rehearsal: bool = False) -> dict[str, str]:
    lines, code = trim.trim(kept.places, older_seconds=older_seconds, is_rehearsal=is_rehearsal)
    assert code == exits.DONE
    return dict(line.split(": ", 1) for line in lines)


def _said(count: int, left: int, why: str) -> str:
    return f"{count} entries removed, {left} are there; bound: {why}"


def test_what_all_have_taken_goes(kept: Kept) -> None:
    """All goes but the last entry, at which the readers stand."""
    said = _trim(kept)
    assert said[FILLS] == _said(7, 1, "the ledger")
    assert said[ORDERS] == _said(7, 1, "the archive")
    assert set(said) == set(kept.places.streams.values())
    assert kept.wrong() == {}


@pytest.mark.parametrize("name", ["ledger", "archive"])
def test_never_past_a_reader(kept: Kept, name: str) -> None:
    """What the ledger or the archive has not taken stays, whatever the other one has."""
    kept.trade(4)
    kept.read(*{"ledger", "archive"} - {name})
    said = _trim(kept)
    assert said[FILLS] == _said(7, 5, f"the {name}")
    assert _trim(kept)[FILLS] == _said(0, 5, f"the {name}")
    kept.read(name)
    assert kept.wrong() == {}


@pytest.mark.parametrize(
    ("older_seconds", "count"),
    [(60, 0), (1.002, 0), (1.001, 1), (1, 2), (0.001, 2), (0, 3), (1e12, 0)],
)
def test_never_younger_than_asked(
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    older_seconds: float,
    count: int,
) -> None:
    """What is not old enough stays, by the time in its id."""
    kept = Kept(tmp_path, redis_server)
    for ms in (4998, 4999, 5999, 7000):
        entry = foreign(f"{ms}-0", fill_id=f"f{ms}").fields
        kept.client.execute_command("XADD", FILLS, f"{ms}-0", *entry)
    kept.read()
    monkeypatch.setattr(trim.time, "time", lambda: 6.0)
    said = _trim(kept, older_seconds=older_seconds)
    span = "1m" if older_seconds == 60 else f"{older_seconds:g}s"
    assert said[FILLS] == _said(count, 4 - count, f"younger than {span}, see --older-than")


def test_never_past_what_a_group_was_not_given(kept: Kept) -> None:
    """Entries that a consumer group still has to be given stay."""
    kept.client.xgroup_create(FILLS, GROUP, id="0")
    assert _trim(kept)[FILLS] == _said(0, 8, f"the group {GROUP}")
    entries = kept.client.xreadgroup(GROUP, "c", {FILLS: ">"}, count=5, noack=True)
    assert len(entries[0][1]) == 5
    assert _trim(kept)[FILLS] == _said(4, 4, f"the group {GROUP}")


def test_never_past_what_a_group_has_not_acknowledged(kept: Kept) -> None:
    """An entry that somebody works on stays, and all behind it."""
    kept.client.xgroup_create(FILLS, GROUP, id="0")
    [(_, entries)] = kept.client.xreadgroup(GROUP, "c", {FILLS: ">"})
    ids = [entry_id for entry_id, _ in entries]
    kept.client.xack(FILLS, GROUP, *ids[:3], *ids[4:])
    why = f"the group {GROUP}, which has not acknowledged it"
    assert _trim(kept)[FILLS] == _said(3, 5, why)
    kept.client.xack(FILLS, GROUP, ids[3])
    assert _trim(kept)[FILLS].startswith("4 entries removed")


def test_the_strictest_of_several_groups(kept: Kept) -> None:
    """Each group is asked."""
    ids = [entry_id for entry_id, _ in kept.client.xrange(FILLS)]
    for number, entry_id in enumerate(ids[2:5]):
        kept.client.xgroup_create(FILLS, f"{GROUP}-{number}", id=entry_id)
    assert _trim(kept)[FILLS] == _said(2, 6, f"the group {GROUP}-0")


def test_a_place_that_does_not_hold(kept: Kept) -> None:
    """A reader that is about to read the stream again from its start keeps all of it."""
    last = kept.client.xrevrange(FILLS, count=1)[0][0]
    kept.client.xdel(FILLS, last)
    kept.client.execute_command("XADD", FILLS, last.replace("-", "-9"), *foreign("1-1").fields)
    why = "the ledger, which has to read it from its start"
    assert _trim(kept)[FILLS] == _said(0, 8, why)
    assert _trim(kept, is_rehearsal=True)[FILLS].startswith("0 entries would be removed")
    kept.read()
    assert _trim(kept)[FILLS] == _said(7, 1, "the ledger")


def test_another_entry_under_the_same_id(kept: Kept) -> None:
    """A promoted server has another entry where a reader stopped: nothing is removed."""
    rows = kept.client.xrange(FILLS)
    kept.client.delete(FILLS)
    for entry_id, fields in rows:
        kept.client.xadd(FILLS, fields | {"price": "1"}, id=entry_id)
    assert _trim(kept)[FILLS].startswith("0 entries removed, 8 are there")


def test_a_rehearsal(kept: Kept) -> None:
    """A dry run says what would go, and removes nothing."""
    said = _trim(kept, is_rehearsal=True)
    assert said[FILLS] == "7 entries would be removed, 8 are there; bound: the ledger"
    assert kept.client.xlen(FILLS) == 8
    assert _trim(kept)[FILLS] == _said(7, 1, "the ledger")


def test_a_rehearsal_of_several_pages(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run counts page by page."""
    monkeypatch.setattr(trim, "PAGE_ENTRIES", 3)
    assert _trim(kept, is_rehearsal=True)[FILLS].startswith("7 entries would be removed")


def test_streams_that_are_not_there(redis_server: RedisServer, tmp_path: Path) -> None:
    """Of a stream that does not exist nothing goes, and it is not made."""
    kept = Kept(tmp_path, redis_server)
    kept.read()
    assert all(each.startswith("0 entries removed, 0 are there") for each in _trim(kept).values())
    assert redis_server.client.keys() == []


def test_it_goes_on_behind_a_trim(kept: Kept) -> None:
    """Readers and the bridge go on behind it; nothing is missing, then or later."""
    for _ in range(3):
        _trim(kept)
        assert kept.wrong() == {}
        kept.trade(3)
        kept.read()
        assert kept.wrong() == {}
    assert kept.client.xlen(FILLS) == 4
    assert kept.places.taken("archive")["fills", kept.producer].last == 17
    assert kept.audit().as_dict()["agree"]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Return `meanwhile(act)`, which acts between each look at FILLS and its trim."""
    bounds = trim._bounds

    def arrange(act: Callable[[], object]) -> None:
        def watched(readers: Any, *seen: Any) -> Any:
            if "ledger" in readers:
                act()
            return bounds(readers, *seen)

        monkeypatch.setattr(trim, "_bounds", watched)

    return arrange


@pytest.mark.parametrize("busy", [3, 100])
def test_a_group_that_comes_meanwhile(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, meanwhile: Meanwhile, busy: int
) -> None:
    """A stream that another group reads by now is looked at again; it may never stand still."""
    looks: list[str] = []

    def join() -> None:
        looks.append(FILLS)
        if len(looks) <= busy:
            kept.client.xgroup_create(FILLS, f"{GROUP}-{len(looks)}", id=f"{len(looks)}-0")

    meanwhile(join)
    monkeypatch.setattr(trim, "LOOKS_MAX", 5)
    first = f"the group {GROUP}-1" if busy == 3 else "it never stands still: try again"
    assert _trim(kept)[FILLS] == _said(0, 8, first)
    assert len(looks) >= min(busy + 1, 5)


def test_a_stream_set_back_meanwhile(kept: Kept, meanwhile: Meanwhile) -> None:
    """Where another server, with other entries under the same ids, has taken over between the look
    and the trim, nothing is removed."""

    def take_over() -> None:
        rows = kept.client.xrange(FILLS)
        kept.client.delete(FILLS)
        for entry_id, fields in rows:
            kept.client.xadd(FILLS, fields | {"price": "1"}, id=entry_id)

    meanwhile(take_over)
    assert _trim(kept)[FILLS].startswith("0 entries removed, 8 are there")


def test_what_is_appended_meanwhile(kept: Kept, meanwhile: Meanwhile) -> None:
    """Entries that come behind the look stay, and do not keep the others."""
    entry = foreign("1-1").fields
    meanwhile(lambda: kept.client.execute_command("XADD", FILLS, "*", *entry))
    assert _trim(kept)[FILLS] == _said(7, 2, "the ledger")


def test_a_redis_that_is_full(kept: Kept) -> None:
    """Where Redis takes no writes for want of memory it removes, and so makes room."""
    kept.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            kept.client.set("a", "b")
        assert _trim(kept)[FILLS] == _said(7, 1, "the ledger")
    finally:
        kept.client.config_set("maxmemory", 0)


def test_a_key_that_is_no_stream(kept: Kept) -> None:
    """What is no stream is left alone and told; the others are trimmed: 1."""
    kept.client.delete(ORDERS)
    kept.client.set(ORDERS, "somebody else's")
    lines, code = trim.trim(kept.places, older_seconds=-60, is_rehearsal=False)
    assert code == exits.FAILED
    said = dict(line.split(": ", 1) for line in lines)
    assert said[ORDERS].startswith("left alone: WRONGTYPE")
    assert said[FILLS] == _said(7, 1, "the ledger")
    assert kept.client.get(ORDERS) == "somebody else's"


@pytest.mark.parametrize("name", ["ledger", "archive"])
def test_what_cannot_be_read(kept: Kept, name: str) -> None:
    """When it cannot be told what the ledger or the archive has, nothing is removed: 65."""
    if name == "ledger":
        kept.places.ledger.write_bytes(b"x" * 8192)
    else:
        [path] = kept.places.archive.glob("*.arc")
        flip(path, path.stat().st_size // 2)
    done = typed("trim", "--older-than", "0s", **kept.settings)
    assert done.code == exits.BAD_DATA, done.out
    assert len(done.err.splitlines()) == 1
    assert kept.client.xlen(FILLS) == 8


def test_a_reader_that_has_not_begun(redis_server: RedisServer, tmp_path: Path) -> None:
    """Where ledger and archive are to be and are not, nothing is removed: 65."""
    kept = Kept(tmp_path, redis_server)
    kept.trade(2)
    with pytest.raises((Exit, OSError)):
        _trim(kept)
    assert kept.client.xlen(FILLS) == 2


def test_nobody_keeps_it(redis_server: RedisServer, tmp_path: Path) -> None:
    """Without ledger and archive it refuses: 78."""
    kept = Kept(tmp_path, redis_server, ledger={"reader": "off"}, archive={"reader": "off"})
    kept.trade(2)
    with pytest.raises(Exit) as raised:
        _trim(kept)
    assert raised.value.code == exits.CONFIGURATION
    assert kept.client.xlen(FILLS) == 2


def test_no_redis(kept: Kept) -> None:
    """69 when Redis does not answer."""
    kept.places.url = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises(Exit) as raised:
        _trim(kept)
    assert raised.value.code == exits.UNAVAILABLE

"""bridge/core/scripts.py where Redis is not as it was left: nothing is written half-checked."""

from collections.abc import Callable

import pytest
import redis

from bridge.core import scripts
from tests.bridge.core.callers import (
    ID_MAX,
    MARK,
    STREAM,
    Caller,
    begin_again,
    foreign,
    numbered,
    pass_millisecond,
    set_back,
)
from tests.servers import RedisServer

REWINDS: dict[str, tuple[str, Callable[[Caller], object]]] = {
    "deleted": ("gone", lambda c: c.client.delete(STREAM)),
    "begun again, fewer": ("behind", lambda c: begin_again(c, 2)),
    "begun again, as many": ("behind", lambda c: begin_again(c, 4)),
    "begun again, more": ("behind", lambda c: begin_again(c, 9)),
    "begun again, and trimmed": (
        "behind",
        lambda c: [begin_again(c, 3), c.client.xtrim(STREAM, maxlen=1, approximate=False)],
    ),
    "begun again, and one deleted": (
        "behind",
        lambda c: [begin_again(c, 3), c.client.xdel(STREAM, c.last_id)],
    ),
    "set back": ("behind", lambda c: set_back(c, 2)),
    "set back, and written on": ("behind", lambda c: [set_back(c, 2), foreign(c, 1)]),
    "set back, and overtaken": ("behind", lambda c: [set_back(c, 2), foreign(c, 5)]),
}
TRIMS: dict[str, Callable[[Caller], object]] = {
    "to nothing": lambda c: c.client.xtrim(STREAM, maxlen=0, approximate=False),
    "by length": lambda c: c.client.xtrim(STREAM, maxlen=2, approximate=False),
    "by length, behind foreign ones": lambda c: [
        foreign(c, 3),
        c.client.xtrim(STREAM, maxlen=2, approximate=False),
    ],
    "to nothing, and written on": lambda c: [
        c.client.xtrim(STREAM, maxlen=0, approximate=False),
        foreign(c, 2),
    ],
    "our last one deleted": lambda c: c.client.xdel(STREAM, c.last_id),
    "our last one deleted, and written on": lambda c: [
        c.client.xdel(STREAM, c.last_id),
        foreign(c, 9),
    ],
    "our first one deleted": lambda c: c.client.xdel(STREAM, c.client.xrange(STREAM)[0][0]),
    "all deleted": lambda c: c.client.xdel(STREAM, *[i for i, _ in c.client.xrange(STREAM)]),
}


@pytest.mark.parametrize("name", REWINDS)
def test_a_stream_behind_its_mark_is_rewound(owner: Caller, name: str) -> None:
    """A stream that is not what the mark was taken from is told, and not written to."""
    how, rewind = REWINDS[name]
    rewind(owner)
    before = owner.everything

    assert owner.claim() == ["rewound"]
    assert owner.ship(5, 6) == f"REWOUND {STREAM} is {how}"
    assert owner.ship(1, 4) == f"REWOUND {STREAM} is {how}"
    assert owner.everything == before


@pytest.mark.parametrize("name", REWINDS)
def test_a_rewound_stream_is_marked_anew(owner: Caller, name: str) -> None:
    """Once what the stream does hold is its mark, it goes on behind that."""
    REWINDS[name][1](owner)
    ours = [(i, f) for i, f in owner.client.xrange(STREAM) if f["n"] != "foreign"]
    last_id = ours[-1][0] if ours else "0-0"

    assert owner.remark(len(ours), last_id) == len(ours)
    assert owner.claim() == [str(len(ours))]
    assert owner.ship(1, 6) == 6
    assert [n for n in owner.entries if n != "foreign"] == numbered("P", 1, 6)


def test_a_stream_restored_from_a_dump_is_rewound(redis_server: RedisServer) -> None:
    """RESTORE of an older value is a stream set back, with the counters it had then."""
    caller = Caller(redis_server.client)
    caller.claim()
    caller.ship(1, 2)
    raw = redis_server.new_client(decode_responses=False)
    older = raw.dump(STREAM)
    caller.ship(3, 4)
    raw.restore(STREAM, 0, older, replace=True)

    assert caller.ship(5, 5) == f"REWOUND {STREAM} is behind"
    pass_millisecond()
    foreign(caller, 2)
    assert caller.ship(5, 5) == f"REWOUND {STREAM} is behind"


@pytest.mark.parametrize("name", TRIMS)
def test_a_trimmed_stream_is_not_rewound(owner: Caller, name: str) -> None:
    """Entries that somebody trimmed or deleted were there: they do not come again."""
    TRIMS[name](owner)
    before = owner.everything

    assert owner.claim() == ["4"]
    assert owner.ship(1, 4) == 4
    assert owner.everything == before
    assert owner.ship(3, 6) == 6
    assert owner.entries[-2:] == numbered("P", 5, 6)
    assert owner.claim() == ["6"]


@pytest.mark.parametrize("key", [STREAM, MARK])
def test_a_key_of_another_type_is_left_alone(owner: Caller, key: str) -> None:
    """Somebody else's key is named in the answer; neither of the two is written to."""
    owner.client.delete(key)
    owner.client.set(key, "somebody's")
    before = owner.everything

    for answer in (owner.claim(), owner.ship(5, 6), owner.remark(5, "1-1")):
        assert str(answer).startswith("WRONGTYPE"), answer
    assert owner.everything == before
    assert owner.client.get(key) == "somebody's"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("P",),
        ("P", 1),
        ("P", 1, "", "", 2),
        ("P", 1, "", "", 2, "n"),
        ("P", 1, "", "", 2, "n", "1", "n"),
        ("P", 1, "", "", 0, "n", "1"),
        ("P", 1, "", "", -2, "n", "1"),
        ("P", 1, "", "", 1, "n"),
        ("P", 1, "", "", 3, "n", "1", "n"),
        ("P", 1, "", "", 2.5, "n", "1", "n", "2", "n"),
        ("P", 1, "", "", "two", "n", "1"),
        ("P", "one", "", "", 2, "n", "1"),
    ],
    ids=str,
)
def test_a_bad_batch_is_refused(owner: Caller, words: tuple[object, ...]) -> None:
    """A batch whose words do not add up is not written in part."""
    before = owner.everything

    assert owner.call(scripts.SHIP, *words) == f"BAD batch of {2 + len(words)} arguments"
    assert owner.everything == before


@pytest.mark.parametrize("mark", ["", "4", "4 1-1", "four 1-1 4", "4 1-1 4 4", "-4 1-1 4", "4 x 4"])
def test_a_garbage_mark_is_refused(owner: Caller, mark: str) -> None:
    """A mark that nobody here wrote is named, and nothing is guessed from it."""
    owner.client.hset(MARK, "P", mark)
    before = owner.everything

    assert owner.claim() == f"BAD mark of P in {MARK}"
    assert owner.ship(5, 6) == f"BAD mark of P in {MARK}"
    assert owner.everything == before


def test_a_script_is_known_by_its_digest(caller: Caller) -> None:
    """`digest` is the name that SCRIPT LOAD gives; once flushed, Redis says NOSCRIPT."""
    named = [scripts.CLAIM, scripts.REMARK, scripts.SHIP, scripts.LEASE, scripts.RELEASE]
    for script in named:
        assert caller.client.script_load(script) == scripts.digest(script)
    caller.client.script_flush()
    for script in named:
        with pytest.raises(redis.exceptions.NoScriptError):
            caller.client.evalsha(scripts.digest(script), 1, STREAM)


def test_a_failed_write_leaves_the_mark_where_it_came_to(redis_server: RedisServer) -> None:
    """An XADD that Redis refuses in the middle: what is written is marked, what follows is not."""
    owner = Caller(redis_server.client)
    owner.claim()
    owner.ship(1, 4)
    owner.client.execute_command("XSETID", STREAM, f"{ID_MAX}-{ID_MAX - 2}")

    assert "last possible ID" in owner.ship(5, 9)
    assert owner.entries == numbered("P", 1, 6)
    assert owner.mark == f"6 {ID_MAX}-{ID_MAX} 6"
    assert "last possible ID" in owner.ship(5, 9)
    assert owner.ship(8, 9) == "GAP 6"
    assert owner.claim() == ["6"]
    assert owner.entries == numbered("P", 1, 6)


def test_a_first_write_that_fails_changes_nothing(redis_server: RedisServer) -> None:
    """Where not even one entry goes in, mark and stream stay as they are."""
    owner = Caller(redis_server.client)
    owner.claim()
    owner.ship(1, 4)
    owner.client.execute_command("XSETID", STREAM, f"{ID_MAX}-{ID_MAX}")
    before = owner.everything

    assert "last possible ID" in owner.ship(5, 9)
    assert owner.everything == before


def test_no_memory_writes_nothing(make_redis: Callable[..., RedisServer]) -> None:
    """Out of memory before the first write: an error, the mark as it was; later it goes on."""
    owner = Caller(make_redis().client)
    owner.claim()
    owner.ship(1, 4)
    before = owner.everything
    owner.client.config_set("maxmemory", 1)

    with pytest.raises(redis.exceptions.OutOfMemoryError):
        owner.client.eval(scripts.SHIP, 2, STREAM, MARK, "S", "t", "P", 5, "", "", 2, "n", "P5")
    assert owner.claim() == ["4"], "who owns it already can ask"
    assert owner.ship(1, 4) == 4, "and be told what is there"
    assert owner.everything == before
    owner.client.config_set("maxmemory", 0)
    assert owner.ship(5, 5) == 5


def test_a_lease_is_renewed_without_memory(make_redis: Callable[..., RedisServer]) -> None:
    """Out of memory its holder keeps it: renewing takes none."""
    client = make_redis().client
    client.eval(scripts.LEASE, 1, "lease", "a", 10_000, "")
    client.config_set("maxmemory", 1)

    assert client.eval(scripts.LEASE, 1, "lease", "a", 60_000, "") == "a"
    assert client.pttl("lease") > 10_000

"""bridge/readers.py: ledger and archive on their threads, whatever becomes of disk, lock, Redis."""

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from bridge import journal_directory, ledger_tables, readers
from bridge.archive import Archive
from bridge.ledger import Ledger
from bridge.ledger_view import LedgerView
from bridge.metrics import Metrics
from bridge.readers import KINDS, READERS, Feed, Places, Readers
from tests.bridge.archives import arcs
from tests.bridge.fills import fill
from tests.bridge.journals import flip
from tests.bridge.kept import FILLS, HEADS, Kept
from tests.bridge.processes import eventually
from tests.proxies import until
from tests.servers import RedisServer

NEVER = 60.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than a test needs."""
    monkeypatch.setattr(readers, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(readers, "OBSERVE_SECONDS", 0.0)


@pytest.fixture
def kept(redis_server: RedisServer, tmp_path: Path) -> Kept:
    return Kept(tmp_path / "state", redis_server)


@contextlib.contextmanager
def _running(*feeds: Feed | Readers) -> Iterator[None]:
    for feed in feeds:
        feed.start()
    try:
        yield
    finally:
        for feed in feeds:
            feed.stop(NEVER)


def _has_all(kept: Kept) -> Callable[[], bool]:
    def is_there() -> bool:
        with contextlib.suppress(*readers.FAILURES):
            taken = [kept.places.taken(name) for name in READERS]
            key = ("fills", kept.producer)
            return all(key in each and each[key].last == kept.fills for each in taken)
        return False

    return is_there


def _value(kept: Kept, name: str, **labels: str) -> float:
    value = kept.metrics.registry.get_sample_value(f"nautilus_bridge_{name}", labels)
    assert value is not None, name
    return value


def _events(logs: list[Any], event: str) -> list[Any]:
    return [each for each in logs if each["event"] == event]


def test_both_take_what_is_published(kept: Kept) -> None:
    """Each reader on its thread takes what is there, and what comes."""
    with _running(Readers(kept.places, kept.metrics)):
        kept.trade(3)
        eventually(_has_all(kept), "the first fills")
        kept.trade(2)
        eventually(_has_all(kept), "more fills")
    assert kept.wrong() == {}
    assert kept.audit().as_dict()["agree"]


def test_what_is_there_at_the_end_is_taken(kept: Kept) -> None:
    """A reader that is told to stop takes what is there already."""
    both = Readers(kept.places, kept.metrics)
    with _running(both):
        eventually(lambda: all(feed.failure is None for feed in both.feeds), "readers")
        kept.trade(9)
    assert _has_all(kept)()


@pytest.mark.parametrize("name", READERS)
def test_a_lock_that_another_process_holds(kept: Kept, name: str) -> None:
    """A reader waits for the one who feeds its sink, is told once, and takes over."""
    kept.trade(2)
    kept.read(name)
    if name == "ledger":
        held = ledger_tables.lock(kept.places.ledger)
    else:
        held = journal_directory.lock(kept.places.archive, "archive.directory")
    feed = Feed(name, kept.places, kept.metrics)
    with capture_logs() as logs, _running(feed):
        eventually(lambda: _events(logs, "reader.failed"), "its complaint")
        # What the other one has taken is known all the same.
        eventually(lambda: feed.is_taken("fills", kept.producer, 1, 2), "what is durable")
        assert _value(kept, "reader_up", reader=name) == 0
        kept.trade(1)
        assert not feed.is_taken("fills", kept.producer, 1, 3)
        os.close(held)
        eventually(lambda: feed.is_taken("fills", kept.producer, 1, 3), "the takeover")
        assert _value(kept, "reader_up", reader=name) == 1
    [told] = _events(logs, "reader.failed")
    assert "writes to" in told["problem"]
    assert len(_events(logs, "reader.up")) == 1
    assert _value(kept, "reader_up", reader=name) == 0


def _full_disk(*_: object) -> Any:
    raise OSError(28, "No space left on device")


def _full_database(*_: object) -> Any:
    raise sqlite3.OperationalError("database or disk is full")


def _bug(*_: object) -> Any:
    raise KeyError("a bug")


@pytest.mark.parametrize(
    ("sink", "fail"), [(Archive, _full_disk), (Ledger, _full_database), (Archive, _bug)]
)
def test_a_sink_that_fails(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, sink: Any, fail: Callable[..., Any]
) -> None:
    """A disk that is full, or anything else, is told once, tried again and again, and survived."""
    tries = []

    def take(*words: Any) -> Any:
        tries.append(words)
        return fail()

    good = sink.take
    kept.trade(2)
    feed = Feed(sink.name, kept.places, kept.metrics)
    monkeypatch.setattr(sink, "take", take)
    with capture_logs() as logs, _running(feed):
        eventually(lambda: len(tries) > 3, "several tries")
        assert not feed.is_taken("fills", kept.producer, 1, 1)
        monkeypatch.setattr(sink, "take", good)
        eventually(lambda: feed.is_taken("fills", kept.producer, 1, 2), "the fills")
    assert len(_events(logs, "reader.failed")) == 1
    assert len(_events(logs, "reader.up")) == 1
    assert _value(kept, "reader_taken_total", reader=sink.name) == (5 if sink is Archive else 3)


def test_taken_is_what_is_durable(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers count as taken when the sink has them for good, not when they were read."""
    entered, go_on = threading.Event(), threading.Event()
    take = Archive.take

    def slow(*words: Any) -> Any:
        entered.set()
        assert go_on.wait(NEVER)
        return take(*words)

    monkeypatch.setattr(Archive, "take", slow)
    kept.trade(2)
    feed = Feed("archive", kept.places, kept.metrics)
    with _running(feed):
        assert entered.wait(NEVER)
        assert not feed.is_taken("fills", kept.producer, 1, 1)
        go_on.set()
        eventually(lambda: feed.is_taken("fills", kept.producer, 1, 2), "they are taken")
        assert not feed.is_taken("fills", kept.producer, 1, 3)


def test_what_a_reader_does_not_read(kept: Kept) -> None:
    """The ledger does not keep anybody waiting for orders."""
    feed = Feed("ledger", kept.places, kept.metrics)
    assert feed.is_taken("orders", "A", 1, 9)
    assert not feed.is_taken("fills", "A", 1, 9)
    assert set(KINDS["ledger"]) < set(KINDS["archive"])


@pytest.mark.parametrize(
    ("ledger", "archive", "wanted"),
    [
        ("inside", "inside", {"ledger", "archive"}),
        ("alone", "inside", {"ledger", "archive"}),
        ("off", "inside", {"archive"}),
        ("alone", "off", {"ledger"}),
        ("off", "off", set()),
    ],
)
def test_who_is_waited_for(
    redis_server: RedisServer, tmp_path: Path, ledger: str, archive: str, wanted: set[str]
) -> None:
    """`off` waits for nobody; `inside` and `alone` wait for the same, whoever reads."""
    who = {"ledger": {"reader": ledger}, "archive": {"reader": archive}}
    kept = Kept(tmp_path, redis_server, **who)
    kept.trade(2)
    both = Readers(kept.places, Metrics())
    alone = [name for name, each in who.items() if each["reader"] == "alone"]
    span = ("fills", kept.producer, 1, 2)
    assert both.is_taken(*span) == (not wanted)
    with _running(both):
        for name in alone:
            assert not both.is_taken(*span)
            kept.read(name)
        eventually(lambda: both.is_taken(*span), "all have them")
        assert {name for name in READERS if kept.places.path_of(name).exists()} == wanted
        assert not both.is_taken("fills", kept.producer, 1, 3) or not wanted


def test_who_attaches_reads_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    """A bridge in somebody else's node waits for the readers alone, and for no others."""
    kept = Kept(tmp_path, redis_server, ledger={"reader": "alone"})
    kept.trade(2)
    attached = Readers(kept.places, Metrics(), attached=True)
    span = ("fills", kept.producer, 1, 2)
    assert not attached.is_taken(*span)
    with _running(attached):
        kept.read("ledger")
        eventually(lambda: attached.is_taken(*span), "the ledger has them")
    assert not kept.places.archive.exists()


def test_a_new_ledger_gets_back_the_fills_of_others(kept: Kept) -> None:
    """What Redis has no more of other writers comes out of the archive, once."""
    kept.trade(2)
    theirs = fill(7, producer="").fields
    pairs = dict(zip(theirs[::2], theirs[1::2], strict=True))
    kept.client.xadd(FILLS, pairs)
    kept.read()
    kept.client.xtrim(FILLS, maxlen=0, approximate=False)
    for path in kept.places.ledger.parent.glob("ledger.db*"):
        path.unlink()
    for _ in range(2):
        kept.read("ledger")
        with contextlib.closing(LedgerView.read_only(kept.places.ledger)) as view:
            assert view.counts().fills == 3


def test_a_reader_that_is_down_is_told(kept: Kept) -> None:
    """Which one does not read, and why; not before it has tried."""
    both = Readers(kept.places, kept.metrics)
    assert both.problem is None
    kept.places.archive.mkdir(parents=True)
    holder = journal_directory.lock(kept.places.archive, "archive.directory")
    with _running(both):
        eventually(lambda: both.problem is not None, "it is told")
        assert "archive: archive.directory: another" in str(both.problem)
        os.close(holder)
        eventually(lambda: both.problem is None, "it reads")


def test_a_look_at_the_files_is_rare(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often the files of a reader alone are looked at depends on how long that takes, up to a
    minute."""
    clock = iter([0.0, 0.5, 1.0, 3.0])
    monkeypatch.setattr(readers, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    feed = Feed("ledger", kept.places, kept.metrics, is_ours=False)
    assert feed._look() == pytest.approx(25.0)
    assert feed._look() == pytest.approx(60.0)


def test_the_journal_keeps_what_readers_lack(redis_server: RedisServer, tmp_path: Path) -> None:
    """With journal.retain=0 a segment goes once Redis and every reader have it, not before."""
    kept = Kept(tmp_path, redis_server, journal={"retain": 0, "segment_bytes": 1 << 16})
    both = Readers(kept.places, kept.metrics)

    async def run() -> None:
        async with kept.rig.running(redis_server.port) as session:
            journal = session.journal
            journal.is_taken = both.is_taken
            while len(kept.rig.segments) < 3:
                kept.put(session, 10)
            await session.drained()
            journal.tidy()
            assert len(kept.rig.segments) >= 3
            first = kept.rig.segments[0]
            both.feeds[0].start()
            await until(lambda: both.feeds[0].is_taken("fills", session.producer, 1, kept.fills))
            journal.tidy()
            assert first.exists()
            both.feeds[1].start()
            await until(lambda: both.is_taken("orders", session.producer, 1, kept.fills))
            await until(lambda: both.is_taken("exec_funding", session.producer, 1, 1))
            journal.tidy()
            assert not first.exists()
            assert len(kept.rig.segments) == 1

    try:
        uvloop.run(run())
    finally:
        both.stop(NEVER)
    assert kept.audit().as_dict()["agree"]


def test_metrics(kept: Kept) -> None:
    """What is taken, missing, dead and behind, and what the ledger comes to."""
    kept.trade(4)
    fields = fill(1, producer="X.00000000.1", price="none").fields
    kept.client.execute_command("XADD", FILLS, "*", *fields)
    kept.client.execute_command("XADD", FILLS, "*", *fill(4, producer="X.00000000.1").fields)
    kept.read()
    values = {
        "reader_taken_total": {"ledger": 7, "archive": 11},
        "reader_gaps": {"ledger": 2, "archive": 2},
        "reader_dead_total": {"ledger": 1, "archive": 0},
        "reader_lag_entries": {"ledger": 0, "archive": 0},
        "reader_up": {"ledger": 0, "archive": 0},
    }
    for name, wanted in values.items():
        assert {each: _value(kept, name, reader=each) for each in READERS} == wanted, name
    assert _value(kept, "archive_records") == 11
    assert _value(kept, "ledger_fills") == 5
    assert _value(kept, "ledger_fees_dollars") == pytest.approx(0.4)
    assert _value(kept, "ledger_funding_dollars") == pytest.approx(-1.5)
    kept.read()
    assert _value(kept, "reader_taken_total", reader="archive") == 11


def test_the_dead_are_published(kept: Kept) -> None:
    """An entry that the ledger cannot use is in `:dead`, also when Redis was away before."""
    dead = f"{FILLS}:dead"
    ledger = Ledger.open(kept.places.ledger, kept.places.streams)
    ledger.take([fill(1, price="none")], {})
    ledger.close()
    kept.read("ledger")
    kept.read("ledger")
    [(_, told)] = kept.client.xrange(dead)
    assert "price" in told["error"]


def test_heads(kept: Kept) -> None:
    """The archive's heads go to exec:archive and to the log, and prove the archive."""
    with capture_logs() as logs:
        kept.trade(60)
        kept.read("archive")
    heads = [row for _, row in kept.client.xrange(HEADS)]
    assert [row["root"] for row in heads] == [
        each["root"] for each in _events(logs, "archive.head")
    ]
    assert len(heads) == len(arcs(kept.places.archive)) > 1
    assert int(heads[-1]["last"]) == _value(kept, "archive_records")


def test_a_head_that_redis_does_not_take(kept: Kept) -> None:
    """A head that cannot be published is in the log; the archive goes on."""
    kept.client.set(HEADS, "somebody else's")
    kept.trade(2)
    with capture_logs() as logs:
        kept.read("archive")
    assert len(_events(logs, "archive.head")) == 1
    assert "WRONGTYPE" in _events(logs, "archive.head_not_published")[0]["problem"]


def test_a_lost_ledger_comes_back(kept: Kept) -> None:
    """A ledger is built again from the archive when nobody else has the fills any more."""
    kept.trade(5)
    kept.read()
    for path in kept.places.ledger.parent.glob("ledger.db*"):
        path.unlink()
    kept.client.flushall()
    for path in kept.rig.segments:
        path.unlink()
    kept.read("ledger")
    assert kept.wrong() == {}
    assert kept.places.taken("ledger")["fills", kept.producer].last == 5


def test_a_damaged_archive_does_not_stop_the_ledger(kept: Kept) -> None:
    """The ledger takes from a damaged archive what is whole, and goes on without the rest."""
    kept.trade(5)
    kept.read("archive")
    [path] = arcs(kept.places.archive)
    flip(path, path.read_bytes().index(b"orders 3"))
    shutil.rmtree(kept.places.journal)
    kept.client.delete(FILLS)
    kept.trade(1)
    kept.read("ledger")
    assert kept.places.taken("ledger")["fills", kept.producer].last == 1


def test_where_they_are(redis_server: RedisServer, tmp_path: Path) -> None:
    """Ledger, archive and journal lie below the state folder unless they are named."""
    kept = Kept(tmp_path, redis_server)
    assert (kept.places.ledger, kept.places.archive, kept.places.journal) == (
        tmp_path / "ledger.db",
        tmp_path / "archive",
        tmp_path / "journal",
    )
    elsewhere = tmp_path / "elsewhere"
    named = Kept(
        tmp_path,
        redis_server,
        ledger={"path": elsewhere / "books", "reader": "off"},
        archive={"directory": elsewhere / "archive"},
    ).places
    assert (named.ledger, named.archive) == (elsewhere / "books", elsewhere / "archive")
    assert named.kept() == ["archive"]
    assert isinstance(named, Places)

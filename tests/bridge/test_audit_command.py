"""`python -m bridge audit` over a real journal, Redis, ledger and archive."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge import exits
from bridge.audit_command import report
from bridge.core import scripts
from bridge.exits import Exit
from tests.bridge.archives import arcs
from tests.bridge.fills import fill, foreign
from tests.bridge.journals import flip
from tests.bridge.kept import CONTROL, FILLS, ORDERS, Kept, entry_of, typed
from tests.bridge.processes import Daemon
from tests.servers import RedisServer, free_port

MARK = scripts.mark_key(ORDERS)


@pytest.fixture
def kept(redis_server: RedisServer, tmp_path: Path) -> Kept:
    """Two processes of a bridge have traded, and both readers have taken all of it."""
    kept = Kept(tmp_path / "state", redis_server)
    kept.trade(4)
    kept.read()
    kept.trade(3)
    kept.read()
    return kept


def test_all_agree(kept: Kept) -> None:
    """Exit 0, a row for each producer and stream, and what the ledger and the archive hold."""
    done = typed("audit", **kept.settings)
    assert (done.code, done.err) == (exits.DONE, "")
    head, *rows, ledger, archive, verdict = done.out.splitlines()
    assert head.split() == [
        "stream",
        "producer",
        "numbers",
        *["journal", "redis", "ledger", "archive"],
    ]
    said = {row.split()[0]: row.split()[2:] for row in rows}
    assert said[FILLS] == ["1-7", "7", "7", "7", "7", "agree"]
    assert said[ORDERS] == ["1-7", "7", "7", "-", "7", "agree"]
    assert "7 fills" in ledger
    assert "16 records in 1 segments, the chain is whole" in archive
    assert verdict == "journal, redis, ledger, archive: they agree"


def test_the_columns_stand_below_each_other(kept: Kept) -> None:
    """However long a stream is called, each number ends where its heading does."""
    settings = kept.settings | {"streams__fills": "the:fills:of:some:desk:exec:fills"}
    done = typed("audit", "--timeout", "0", **settings)
    head, *rows = done.out.splitlines()[:3]
    assert any(row.startswith("the:fills:of:some:desk:exec:fills  ") for row in rows)
    ends = [match.end() for match in re.finditer(r"\S+", head)][2:]
    assert all(row[end - 1] != " " and row[end] == " " for row in rows for end in ends)


def test_json(kept: Kept) -> None:
    """--json says the same for programs, also what is wrong."""
    kept.client.xdel(FILLS, kept.client.xrange(FILLS)[2][0])
    done = typed("audit", "--json", "--timeout", "0", **kept.settings)
    assert done.code == exits.FAILED
    found = json.loads(done.out)
    assert (found["agree"], found["problems"]) == (False, [])
    assert found["places"] == ["journal", "redis", "ledger", "archive"]
    rows = {row["stream"]: row for row in found["rows"]}
    assert rows[FILLS]["missing"] == {"number": 1, "first": 3}
    assert rows[FILLS]["held"] == {"journal": 7, "redis": 6, "ledger": 7, "archive": 7}
    assert rows[ORDERS]["held"]["ledger"] is None
    assert rows[ORDERS]["missing"] == {"number": 0, "first": 0}


def _delete_amid(kept: Kept) -> None:
    kept.client.xdel(ORDERS, kept.client.xrange(ORDERS)[3][0])


def _unbook(kept: Kept) -> None:
    with sqlite3.connect(kept.places.ledger) as database:
        database.execute("DELETE FROM fill WHERE seq = 2")
    database.close()


def _change_the_books(kept: Kept) -> None:
    with sqlite3.connect(kept.places.ledger) as database:
        database.execute("UPDATE lot SET qty = '7' WHERE n = (SELECT max(n) FROM lot)")
    database.close()


def _edit_the_archive(kept: Kept) -> None:
    [path] = arcs(kept.places.archive)
    path.write_bytes(path.read_bytes().replace(b'"fills 1"', b'"fills 7"'))
    flip(path, path.read_bytes().index(b"orders 5"))


def _record_alone(kept: Kept) -> None:
    kept.offline(2)


def _fall_behind(name: str) -> Callable[[Kept], None]:
    def fall_behind(kept: Kept) -> None:
        kept.trade(2)
        kept.read(*{"ledger", "archive"} - {name})

    return fall_behind


def _double(kept: Kept) -> None:
    kept.client.xadd(FILLS, kept.client.xrange(FILLS)[1][1])


def _tell_otherwise(kept: Kept) -> None:
    kept.client.xadd(FILLS, kept.client.xrange(FILLS)[1][1] | {"price": "1"})


def _other_type(key: str) -> Callable[[Kept], None]:
    def change(kept: Kept) -> None:
        kept.client.delete(key)
        kept.client.set(key, "somebody else's")

    return change


def _damage_the_journal(kept: Kept) -> None:
    path = kept.rig.segments[0]
    flip(path, path.read_bytes().index(b"orders 1"))


def _lose(name: str) -> Callable[[Kept], None]:
    def lose(kept: Kept) -> None:
        path = kept.places.path_of(name)
        path.rename(path.with_name("lost"))

    return lose


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_delete_amid, rf"{ORDERS} .* 1 \(first 4\) missing in Redis"),
        (_unbook, rf"{FILLS} .* 1 \(first 2\) not in the ledger"),
        (_change_the_books, "WRONG: ledger: its books are not what its fills come to"),
        (_edit_the_archive, r"WRONG: archive: 0000000001\.arc: record \d+, line \d+, byte \d+: "),
        (_edit_the_archive, rf"{ORDERS} .* \d \(first \d\) not in the archive"),
        (_record_alone, rf"{FILLS} .* 2 \(first 8\) not shipped"),
        (_fall_behind("ledger"), rf"{FILLS} .* 2 \(first 8\) not in the ledger"),
        (_fall_behind("archive"), rf"{FILLS} .* 2 \(first 8\) not in the archive"),
        (_double, rf"{FILLS} .* 1 \(first 2\) doubled"),
        (_tell_otherwise, rf"{FILLS} .* 1 \(first 2\) with two contents"),
        (_other_type(FILLS), f"WRONG: Redis: {FILLS}: WRONGTYPE"),
        (
            _other_type(MARK),
            f"WRONG: Redis: {MARK}: WRONGTYPE",
        ),
        (_damage_the_journal, "WRONG: journal: .*damaged at byte"),
        (_lose("ledger"), "WRONG: ledger: there is none at "),
        (_lose("archive"), "WRONG: archive: there is none at "),
    ],
)
def test_one_thing_wrong(kept: Kept, change: Callable[[Kept], None], said: str) -> None:
    """Whatever one of the four lacks or has otherwise is an exit of 1, and is named."""
    change(kept)
    audit = kept.audit()
    assert audit.code == exits.FAILED
    lines = report(audit, as_json=False)
    assert any(re.match(said, line) for line in lines), lines
    assert lines[-1].endswith(": they do NOT agree")
    assert not json.loads(report(audit, as_json=True)[0])["agree"]


def test_the_log_is_no_part_of_the_answer(kept: Kept) -> None:
    """What is logged while it reads goes to stderr: stdout is JSON and nothing else."""
    _damage_the_journal(kept)
    done = typed("audit", "--json", "--timeout", "0", **kept.settings)
    assert done.code == exits.FAILED
    assert json.loads(done.out)["problems"]
    assert "journal.damaged" in done.err


def test_forgotten_as_it_should_be(kept: Kept) -> None:
    """A trimmed Redis and a journal that is gone agree with those who keep all of it."""
    kept.client.xtrim(FILLS, maxlen=2, approximate=False)
    kept.client.xtrim(ORDERS, maxlen=0, approximate=False)
    shutil.rmtree(kept.places.journal)
    audit = kept.audit()
    assert audit.code == exits.DONE, list(audit.lines())
    [fills] = [row for row in audit.rows if row.kind == "fills"]
    assert fills.held == {"journal": None, "redis": 2, "ledger": 7, "archive": 7}


def test_a_flushed_redis_without_a_journal(kept: Kept) -> None:
    """What ledger and archive hold is compared also when nobody else knows of it any more."""
    kept.client.flushall()
    shutil.rmtree(kept.places.journal)
    audit = kept.audit()
    assert audit.code == exits.DONE, list(audit.lines())
    assert {row.kind: row.held["archive"] for row in audit.rows}["fills"] == 7
    _unbook(kept)
    assert kept.wrong() == {"fills unbooked": (1, 2)}


def test_the_journal_knows_what_a_flushed_redis_lacks(kept: Kept) -> None:
    """A flushed Redis has to get back what the journal holds."""
    kept.client.flushall()
    assert kept.wrong()["fills unshipped"] == (7, 1)
    kept.trade(1)
    kept.read()
    assert kept.wrong() == {}


def test_entries_of_others(kept: Kept) -> None:
    """What somebody else wrote is counted, and is no disagreement; a fill that claims a number of
    ours which nobody gave is one."""
    others = foreign("1-1").fields
    kept.client.execute_command("XADD", FILLS, "*", *others)
    kept.read()
    audit = kept.audit()
    assert audit.code == exits.DONE
    assert f"redis: 1 entries of somebody else's in {FILLS}" in audit.notes
    producer = audit.rows[0].producer
    kept.client.execute_command("XADD", FILLS, "*", *fill(10**14, producer=producer).fields)
    kept.read()
    assert kept.wrong() == {"fills gaps": (10**14 - 8, 8)}


def test_an_entry_that_cannot_be_used(kept: Kept) -> None:
    """An entry of ours that the ledger could not book is told, whoever has it."""
    kept.rig.write([("fills", {"price": "none"})])
    kept.trade(1)
    kept.read()
    audit = kept.audit()
    assert audit.code == exits.FAILED
    assert audit.problems == ["ledger: 1 entries of ours cannot be used"]
    assert all(row.agrees for row in audit.rows)


def test_a_fee_without_a_price(kept: Kept) -> None:
    """Fees that nobody could price are counted by producer, and are no disagreement."""
    paid = entry_of(fill(99, fee_ccy="BNB", fee="0.1", fee_quote=""))
    kept.rig.offline(lambda session: session.lane.append(paid))
    kept.trade(1)
    kept.read()
    audit = kept.audit()
    assert audit.code == exits.DONE
    [fills] = [row for row in audit.as_dict()["rows"] if row["stream"] == FILLS]
    assert fills["unpriced"] == 1
    assert any(line.endswith("agree; 1 not priced") for line in audit.lines())


def test_a_hole_is_named(redis_server: RedisServer, tmp_path: Path) -> None:
    """Numbers that were lost for good agree once exec:control has named them."""
    kept = Kept(tmp_path, redis_server, journal={"segment_bytes": 1 << 16})
    kept.trade(2)
    kept.offline(3)
    lost = kept.rig.segments[-1]
    kept.offline(1)
    assert lost != kept.rig.segments[-1]
    lost.unlink()
    kept.trade(1)
    kept.read()
    reasons = [row["reason"] for _, row in kept.client.xrange(CONTROL)]
    assert any(reason.startswith(f"{FILLS} ") and reason.endswith(" 3-5") for reason in reasons)
    assert kept.wrong() == {}


def test_nothing_to_compare_with(redis_server: RedisServer, tmp_path: Path) -> None:
    """Without journal, ledger and archive there is nothing to say: 2."""
    kept = Kept(tmp_path / "state", redis_server)
    audit = kept.audit()
    assert audit.code == exits.USAGE
    assert list(audit.lines())[-1].startswith("there is neither a journal nor")


def test_readers_that_are_off(redis_server: RedisServer, tmp_path: Path) -> None:
    """A reader that is off and has no file is no place; the others are compared."""
    kept = Kept(tmp_path, redis_server, ledger={"reader": "off"}, archive={"reader": "off"})
    kept.trade(2)
    audit = kept.audit()
    assert audit.code == exits.DONE
    assert audit.as_dict()["places"] == ["journal", "redis"]


def test_a_damaged_ledger(kept: Kept) -> None:
    """A file that is no ledger is 65."""
    kept.places.ledger.write_bytes(b"x" * 8192)
    with pytest.raises(Exit) as raised:
        kept.audit()
    assert raised.value.code == exits.BAD_DATA


def test_no_redis(kept: Kept) -> None:
    """A Redis that does not answer is 69, and told in a sentence."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    done = typed("audit", "--url", url, **kept.settings)
    assert done.code == exits.UNAVAILABLE
    assert done.err.startswith(f"redis.url: {url}: ")
    assert len(done.err.splitlines()) == 1


def test_wrong_credentials(kept: Kept) -> None:
    """A user whom Redis refuses is 77."""
    kept.places.url = kept.server.url.replace("redis://", "redis://nobody:wrong@")
    with pytest.raises(Exit) as raised:
        kept.audit()
    assert raised.value.code == exits.REFUSED


def test_it_waits_for_what_is_on_its_way(kept: Kept) -> None:
    """Beside readers that are behind it waits; they come, and all agree."""
    kept.trade(3)
    audits = []

    def tell(text: str) -> None:
        if text.startswith("waiting") and not audits:
            audits.append(text)
            kept.read()

    audit = kept.audit()
    assert audit.code == exits.FAILED
    audit = kept.audit(seconds_max=10.0, tell=tell)
    assert audits
    assert audit.code == exits.DONE


def test_trimmed_while_it_reads(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trimmed between two pages is not missing."""
    monkeypatch.setattr("bridge.audit_command.PAGE_ENTRIES", 2)

    def tell(text: str) -> None:
        if text == "reading redis: 9 entries":  # seven orders, and two of the fills
            kept.client.xtrim(FILLS, maxlen=1, approximate=False)

    monkeypatch.setattr("bridge.audit.PROGRESS_ENTRIES", 9)
    audit = kept.audit(tell=tell)
    assert audit.code == exits.DONE, list(audit.lines())
    assert {row.kind: row.held["redis"] for row in audit.rows}["fills"] == 2
    assert kept.client.xlen(FILLS) == 1


def test_beside_a_bridge_that_trades(
    start: Callable[..., Daemon], redis_server: RedisServer, tmp_path: Path
) -> None:
    """The audit agrees again and again while a bridge trades, and its readers read."""
    folder = tmp_path / "state"
    settings = {"redis__url": redis_server.url, "state__directory": str(folder)}
    daemon = start("--strategy", "tests.bridge.strategies:Busy", **settings).until_running()
    key, client = f"demo:{FILLS}", redis_server.client
    for _ in range(2):
        before = client.xlen(key)
        daemon.until(lambda before=before: client.xlen(key) > before, "fills")
        done = typed("audit", **settings)
        assert done.code == exits.DONE, done.out
    daemon.stop()
    done = typed("audit", "--json", **settings)
    assert done.code == exits.DONE
    [row] = [each for each in json.loads(done.out)["rows"] if each["stream"] == key]
    assert row["held"]["ledger"] == row["held"]["redis"] == client.xlen(key)

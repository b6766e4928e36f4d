"""`python -m bridge audit` over places of which one has lost or changed what all should know of."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bridge import exits
from bridge.core import contract, scripts
from bridge.readers import READERS
from tests.bridge.fills import foreign
from tests.bridge.kept import CONTROL, FILLS, ORDERS, Kept
from tests.servers import RedisServer

MARK = scripts.mark_key(FILLS)


@pytest.fixture
def kept(redis_server: RedisServer, tmp_path: Path) -> Kept:
    """A bridge has traded, and both readers have taken all of it."""
    kept = Kept(tmp_path / "state", redis_server)
    kept.trade(7)
    kept.read()
    return kept


def _lose(kept: Kept, *names: str) -> None:
    for name in names:
        path = kept.places.journal if name == "journal" else kept.places.path_of(name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


# What is lost.


@pytest.mark.parametrize("names", [("ledger",), ("archive",), ("ledger", "archive")])
def test_a_lost_beginning(
    redis_server: RedisServer, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """What was lost before the first number that is left is a gap, for whoever should keep it."""
    off = {name: {"reader": "off"} for name in READERS if name not in names}
    kept = Kept(tmp_path, redis_server, **off)
    kept.trade(7)
    _lose(kept, "journal")
    kept.client.xtrim(FILLS, maxlen=4, approximate=False)
    kept.read(*names)
    assert kept.wrong() == {"fills gaps": (3, 1)}


def test_what_nobody_has_taken_yet(kept: Kept) -> None:
    """Entries in Redis are asked for even when no mark and no journal tells of them any more."""
    kept.trade(2)
    _lose(kept, "journal")
    kept.client.delete(*[scripts.mark_key(key) for key in kept.places.streams.values()])
    wrong = kept.wrong()
    assert wrong["fills unbooked"] == wrong["fills unarchived"] == (2, 8)
    assert wrong["orders unarchived"] == (2, 8)
    kept.read()
    assert kept.wrong() == {}


# What a mark knows of its stream.


def _delete(kept: Kept) -> None:
    kept.client.delete(FILLS)


def _begin_again_early(kept: Kept) -> None:
    kept.client.delete(FILLS)
    kept.client.xadd(FILLS, {"price": "1"}, id="5-5")


def _begin_again_short(kept: Kept) -> None:
    kept.client.delete(FILLS)
    kept.client.xadd(FILLS, {"price": "1"})


def _begin_again_long(kept: Kept) -> None:
    kept.client.delete(FILLS)
    for number in range(8):
        kept.client.xadd(FILLS, {"price": str(number)})


def _spoil_the_mark(kept: Kept) -> None:
    kept.client.hset(MARK, kept.producer, "7")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_delete, "is gone: its mark knows of the entry "),
        (_begin_again_early, "the last one is 5-5"),
        (_begin_again_short, "as number 7, it has had 1"),
        (_begin_again_long, "which is not there"),
        (_spoil_the_mark, "has a mark that is none: 7"),
    ],
)
def test_a_stream_that_is_not_its_marks(
    kept: Kept, change: Callable[[Kept], None], said: str
) -> None:
    """A stream that is gone or was set back is told, though all others still have its entries."""
    change(kept)
    audit = kept.audit()
    assert audit.code == exits.FAILED
    assert all(row.agrees for row in audit.rows)
    [problem] = audit.problems
    assert problem.startswith(f"Redis: {FILLS} ")
    assert said in problem


def test_a_stream_that_was_trimmed(kept: Kept) -> None:
    """A stream of which an operator has removed all, or deleted the last one, is still its own."""
    last, _ = kept.client.xrevrange(ORDERS, count=1)[0]
    kept.client.xdel(ORDERS, last)
    kept.client.xtrim(FILLS, maxlen=0, approximate=False)
    assert kept.audit().problems == []
    kept.trade(2)
    kept.client.xtrim(FILLS, maxlen=1, approximate=False)
    kept.client.xadd(FILLS, {"price": "1"})
    kept.client.xtrim(FILLS, maxlen=1, approximate=False)
    kept.read()
    assert kept.audit().problems == []


# What somebody writes into exec:control.


def test_holes(kept: Kept) -> None:
    """A hole that somebody else names excuses nothing; that of the producer itself is noted."""
    _lose(kept, "journal", "archive")
    for entry_id, _ in kept.client.xrange(ORDERS)[2:4]:
        kept.client.xdel(ORDERS, entry_id)
    told = contract.hole(ORDERS, kept.producer, 3, 4, 0)
    names = contract.STREAMS["control"].names
    fields = dict(zip(names, told.values, strict=True)) | {"seq": "1", "jseq": "1", "v": "1"}
    tail = ("producer", "seq", "jseq", "v")

    def name(producer: str) -> None:
        said = fields | {"producer": producer}
        kept.client.xadd(CONTROL, {each: said[each] for each in (*names, *tail)})
        kept.read()

    name("x")
    assert kept.wrong() == {"orders gaps": (2, 3)}
    stem, _, _ = kept.producer.rpartition(".")
    name(f"{stem}.9")
    audit = kept.audit()
    assert audit.code == exits.DONE, list(audit.lines())
    noted = f"{ORDERS}: 2 (first 3) of {kept.producer} will never come: it says so itself"
    assert noted in audit.notes


# What somebody writes into the ledger.


def _write(kept: Kept, *statements: str) -> None:
    with closing(sqlite3.connect(kept.places.ledger)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE fill SET liquidity = 'X' WHERE seq = 3"],
        ["UPDATE fill SET strategy_id = 'S-9' WHERE seq = 7"],
        [
            "UPDATE fill SET qty = '3' WHERE seq = 7",
            "UPDATE lot SET qty = '3', value = '300' WHERE fill_id LIKE '%f7'",
        ],
        ["UPDATE fill SET digest = x'0102030405060708' WHERE seq = 3"],
    ],
)
def test_a_fill_that_was_changed(kept: Kept, statements: list[str]) -> None:
    """A fill in the ledger is compared by what stands there, not by what it was once."""
    assert kept.wrong() == {}
    _write(kept, *statements)
    [(what, (count, _))] = kept.wrong().items()
    assert (what, count) == ("fills mismatches", 1)


def test_a_fill_that_was_changed_without_an_archive(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Journal and Redis, each alone, prove what a fill was where there is no archive."""
    kept = Kept(tmp_path, redis_server, archive={"reader": "off"})
    kept.trade(7)
    kept.read("ledger")
    _write(kept, "UPDATE fill SET liquidity = 'X' WHERE seq = 3")
    assert kept.wrong() == {"fills mismatches": (1, 3)}
    kept.client.xtrim(FILLS, maxlen=1, approximate=False)
    assert kept.wrong() == {"fills mismatches": (1, 3)}
    kept.client.flushall()
    assert kept.wrong()["fills mismatches"] == (1, 3)


def test_funding_that_was_changed(kept: Kept) -> None:
    """So is funding."""
    _write(kept, "UPDATE funding SET rate = '7'")
    assert kept.wrong() == {"exec_funding mismatches": (1, 1)}


def test_a_fill_of_others_that_was_changed(kept: Kept) -> None:
    """So is what somebody else wrote, as long as somebody still has it."""
    fields = foreign("1-1", fill_id="theirs", without=["liquidity"]).fields
    kept.client.execute_command("XADD", FILLS, "*", *fields)
    kept.read()
    assert kept.audit().code == exits.DONE
    _write(kept, "UPDATE fill SET trade_id = '7' WHERE fill_id = 'theirs'")
    audit = kept.audit()
    assert audit.code == exits.FAILED
    assert audit.problems == [
        f"ledger: 1 entries of somebody else's in {FILLS} are not what they were"
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fill SET cost = '0' WHERE cost IS NULL",
        "UPDATE fill SET cost = '9' WHERE seq = 3",
        "UPDATE fill SET cost = NULL WHERE seq = 3",
        "UPDATE fill SET cost = 'much' WHERE seq = 3",
        "UPDATE fill SET cost_ccy = 'EUR' WHERE seq = 3",
        "UPDATE fill SET pays = 1 WHERE seq = 3",
        "UPDATE book SET is_spot = 0",
        "UPDATE book SET front = '[]'",
        "INSERT INTO book SELECT 99, 'A-9', venue, symbol, base, quote, multiplier, inverse,"
        " is_spot, unlotted, front FROM book LIMIT 1",
        "UPDATE fill SET book = 1",
    ],
)
def test_books_that_were_changed(kept: Kept, statement: str) -> None:
    """What the ledger made of a fill is what the fill comes to."""
    unpriced = foreign("1-1", fee="0.7", fee_ccy="BNB", fee_quote="", symbol="ETHUSDT")
    kept.client.execute_command("XADD", FILLS, "*", *unpriced.fields)
    kept.read()
    assert kept.audit().code == exits.DONE
    _write(kept, statement)
    audit = kept.audit()
    assert audit.code == exits.FAILED
    assert audit.problems == ["ledger: its books are not what its fills come to"]
    assert all(row.agrees for row in audit.rows)


def test_what_no_ledger_writes(kept: Kept) -> None:
    """A row that no ledger would write is told in words."""
    _write(kept, "UPDATE fill SET seq = 'seven' WHERE seq = 7")
    audit = kept.audit()
    assert audit.code == exits.FAILED
    assert any(each.startswith("ledger: it holds what no ledger") for each in audit.problems)

"""Laws of the ledger: whatever comes, in whatever order, however it ends, the books are right."""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.core.fills import Fill, fill_of
from bridge.ledger import Ledger
from bridge.ledger_state import State
from bridge.reading import Item, Place, digest_of
from tests.bridge.core.books import books
from tests.bridge.fills import STREAMS, as_dict, foreign, funding, random_fills
from tests.bridge.processes import ROOT

BOOKS = 200

# A reader in a process of its own: goes on from its place, or a little before it, and kills itself
# at some line of the ledger's code.
READER = """
import os, random, signal, sys
from pathlib import Path
from bridge.ledger import Ledger
from tests.bridge.test_ledger_laws import bad_day, place_of
from tests.bridge.fills import STREAMS

path, seed, batch, line = Path(sys.argv[1]), *map(int, sys.argv[2:])
items = bad_day(seed)
ledger = Ledger.open(path, STREAMS)

def trace(frame, event, _):
    global line
    if "/bridge/ledger" not in frame.f_code.co_filename:
        return None
    line -= event == "line"
    if line == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return trace

start = int(ledger.places["fills"].id) if ledger.places else 0
start = max(0, start - random.Random(line).randint(0, batch))
sys.settrace(trace)
while start < len(items):
    page = items[start : start + batch]
    start += len(page)
    ledger.take(page, {"fills": place_of(items, start)})
sys.settrace(None)
ledger.close()
"""


def bad_day(seed: int, count: int = 120) -> list[Item]:
    """Return fills of two producers, of somebody else, and funding, in the order they were told."""
    chance = random.Random(seed)
    ones, others = random_fills(chance, count, "A.1.1"), random_fills(chance, count // 3, "B.2.1")
    strange = [
        foreign(f"{number}-9", **as_dict(item, but=("fill_id",)), fill_id=f"X-{number}")
        for number, item in enumerate(random_fills(chance, count // 10, "X"), 1)
    ]
    paid = [funding(number) for number in range(1, count // 10)]
    lines = [ones, others, strange, paid]
    merged = []
    while any(lines):
        line = chance.choice([line for line in lines if line])
        merged.append(line.pop(0))
    return merged


def place_of(items: Sequence[Item], end: int) -> Place:
    return Place(str(end), digest_of(items[end - 1].fields))


def _fed(path: Path, batches: Sequence[Sequence[Item]]) -> State:
    """Return what a ledger holds that was fed with batches; it must be as if built from scratch."""
    ledger = Ledger.open(path, STREAMS)
    for batch in batches:
        ledger.take(batch, {})
    state = ledger.state()
    assert state == ledger.rebuilt()
    assert ledger.is_consistent()
    assert ledger.open_lots == len(list(ledger.lots()))
    _check_sums(ledger)
    ledger.close()
    return state


def _check_sums(ledger: Ledger) -> None:
    """What is kept in memory is what the rows add up to."""
    for ccy, sums in ledger.sums.items():
        rows = [total[-3:] for total in ledger.totals() if total.ccy == ccy]
        assert list(sums) == [sum(column) for column in zip((0, 0, 0), *rows, strict=True)]


def _batches(items: Sequence[Item], chance: random.Random) -> list[Sequence[Item]]:
    batches, start = [], 0
    while start < len(items):
        size = chance.choice((1, 3, 17, 64))
        batches.append(items[start : start + size])
        start += size
    return batches


@pytest.fixture
def seed() -> int:
    """A new one each time; SEED repeats a run."""
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    sys.stdout.write(f"SEED={seed}\n")
    return seed


def test_as_built_from_scratch(tmp_path: Path, seed: int) -> None:
    """After any batches the tables are what all fills, booked at once, come to."""
    chance = random.Random(seed)
    count = number = 0
    while count < BOOKS:
        number += 1
        items = bad_day(chance.randrange(2**32), 40)
        state = _fed(tmp_path / f"{number}.db", _batches(items, chance))
        expected = books(_fills(items))
        assert state.books.keys() == expected.keys()
        for key, book in state.books.items():
            booked = expected[key]
            assert book.lots == list(booked.book.lots)
            assert book.gains == booked.gains
            assert book.unlotted == booked.book.unlotted
        count += len(state.books)


def _fills(items: Sequence[Item]) -> list[Fill]:
    return [
        fill_of(as_dict(item), item.producer, item.seq) for item in items if item.kind == "fills"
    ]


def test_any_arrival(tmp_path: Path, seed: int) -> None:
    """In whatever order batches arrive, and single entries, they come to the same."""
    chance = random.Random(seed)
    items = bad_day(seed, 90)
    expected = _fed(tmp_path / "expected.db", [items])
    batches = _batches(items, chance)
    for number in range(6):
        if number < 4:
            chance.shuffle(batches)
        else:
            batches = _batches(chance.sample(items, len(items)), chance)
        assert _fed(tmp_path / f"{number}.db", batches) == expected


def test_interrupted_anywhere(tmp_path: Path, seed: int) -> None:
    """A batch that fails at any step of the database has not happened; the next try is whole."""
    chance = random.Random(seed)
    items = bad_day(seed)
    expected = _fed(tmp_path / "expected.db", [items])
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    failed = 0
    for batch in _batches(items, chance):
        steps = 1
        while True:
            steps += chance.randrange(3 * steps)
            before, taken = ledger.state(), {key: list(runs) for key, runs in ledger.taken.items()}
            shots = [1]
            ledger._database.set_progress_handler(
                lambda shots=shots: len(shots) and shots.pop(), steps
            )
            try:
                ledger.take(batch, {})
                break
            except sqlite3.OperationalError:
                failed += 1
                assert ledger.state() == before
                ledger.take([], {})
                assert {key: list(runs) for key, runs in ledger.taken.items()} == taken
            finally:
                ledger._database.set_progress_handler(None, 0)
    assert failed
    assert ledger.state() == ledger.rebuilt() == expected
    _check_sums(ledger)
    ledger.close()


def test_killed_anywhere(tmp_path: Path, seed: int) -> None:
    """A reader that is killed again and again, mid-batch, loses nothing and doubles nothing."""
    chance = random.Random(seed)
    path, kills, done = tmp_path / "ledger.db", 0, None
    while done is None or done.returncode:
        line = chance.randrange(500, 30_000)
        words = [str(each) for each in (path, seed, chance.choice((5, 40)), line)]
        done = subprocess.run([sys.executable, "-c", READER, *words], cwd=ROOT, timeout=30)
        assert done.returncode in (0, -9)
        kills += done.returncode == -9
    assert kills
    ledger = Ledger.open(path, STREAMS)
    state = ledger.state()
    assert state == ledger.rebuilt()
    assert ledger.places == {"fills": place_of(bad_day(seed), len(bad_day(seed)))}
    ledger.close()
    assert state == _fed(tmp_path / "once.db", [bad_day(seed)])

"""The file of the ledger: who may have it, what is refused, and what happens when it is full."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.exits import Exit
from bridge.ledger import Ledger
from bridge.ledger_view import LedgerView
from bridge.reading import Place
from tests.bridge.fills import STREAMS, fill
from tests.bridge.journals import erase, in_a_child
from tests.bridge.processes import ROOT

# Writes a batch when told to, and says when it is done.
WRITER = """
import sys
from pathlib import Path
from bridge.ledger import Ledger
from tests.bridge.fills import STREAMS, fill

ledger = Ledger.open(Path(sys.argv[1]), STREAMS)
for line in sys.stdin:
    ledger.take([fill(int(line))], {})
    print(line, end="", flush=True)
"""
OPENER = """
import sys
from pathlib import Path
from bridge.exits import Exit
from bridge.ledger import Ledger
from tests.bridge.fills import STREAMS

try:
    Ledger.open(Path(sys.argv[1]), STREAMS).close()
    print(0)
except Exit as error:
    print(error.code)
"""


# Reads as a user who may not write.
NOBODY = """
import os, sys, urllib.parse
from pathlib import Path
from bridge import ledger_command

os.setgid(65534)
os.setuid(65534)
lines, code = ledger_command.report(Path(sys.argv[1]), form="csv")
print(code, len(lines))
"""


def _code(path: Path, streams: dict[str, str] = STREAMS) -> int:
    """Return the exit code with which opening fails, 0 when it does not."""
    try:
        Ledger.open(path, streams).close()
    except Exit as error:
        assert str(path) in str(error)
        return error.code
    return 0


def test_second_writer(tmp_path: Path) -> None:
    """One process at a time writes; the next may when it is gone."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, STREAMS)
    assert in_a_child(OPENER, path) == str(exits.TAKEN)
    ledger.close()
    ledger.close()
    assert in_a_child(OPENER, path) == "0"


def test_other_streams(tmp_path: Path) -> None:
    """The ledger of a prefix is not filled from another one."""
    path = tmp_path / "ledger.db"
    assert _code(path) == 0
    others = {kind: f"shadow:{name}" for kind, name in STREAMS.items()}
    assert _code(path, others) == exits.CONFIGURATION
    assert _code(path) == 0


def _header(path: Path) -> None:
    erase(path, 0, 100)


def _middle(path: Path) -> None:
    erase(path, 4096, path.stat().st_size)


def _page(path: Path) -> None:
    """A page of fills, which nobody looks at to open the file."""
    content = path.read_bytes()
    pages = range(0, len(content), 4096)
    start = next(at for at in pages if content[at : at + 4096].count(b"TAKER") > 2)
    erase(path, start, start + 4096)


def _text(path: Path) -> None:
    path.write_text("not a database " * 1_000)


def _short(path: Path) -> None:
    os.truncate(path, 5_000)


def _other(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE anything (at_all)")
    database.close()


@pytest.mark.parametrize("damage", [_header, _middle, _page, _text, _short, _other])
@pytest.mark.parametrize("is_reader", [False, True])
def test_damaged(tmp_path: Path, damage: Callable[[Path], None], is_reader: bool) -> None:
    """A file that is damaged, or no ledger, is refused, changed in nothing, and not held."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, STREAMS)
    ledger.take([fill(number) for number in range(1, 200)], {})
    ledger.close()
    damage(path)
    content = path.read_bytes()
    for _ in range(2):
        if not is_reader:
            assert _code(path) == exits.BAD_DATA
            continue
        with pytest.raises((Exit, sqlite3.DatabaseError)):
            view = LedgerView.read_only(path)
            try:
                view.rebuilt()
            finally:
                view.close()
    assert path.read_bytes() == content


def test_full_disk(tmp_path: Path) -> None:
    """A batch that finds no room has not happened; with room it is taken, and nothing is lost."""
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    number, place = 1, {"fills": Place("1-0", b"12345678")}
    ledger.take([fill(number)], place)
    [(pages,)] = ledger._database.execute("PRAGMA page_count").fetchall()
    ledger._database.execute(f"PRAGMA max_page_count = {pages + 20}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        while True:
            batch = [fill(number + more, fee="0.1") for more in range(1, 65)]
            ledger.take(batch, {"fills": Place(f"{number + 64}-0", b"12345678")})
            number += 64
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            ledger.take(batch, {"fills": Place("9-0", b"12345678")})
    assert ledger.state() == ledger.rebuilt()
    assert ledger.counts().fills == number
    ledger._database.execute("PRAGMA max_page_count = 1000000")
    ledger.take(batch, {"fills": Place("9-0", b"12345678")})
    assert ledger.places["fills"].id == "9-0"
    assert len(ledger.taken["fills", "T.0123abcd.1"]) == ledger.counts().fills == number + 64
    assert ledger.state() == ledger.rebuilt()
    ledger.close()


def test_after_an_error_memory_is_the_table(tmp_path: Path) -> None:
    """Cursor and places are those of the tables again, after a batch that failed."""
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    ledger.take([fill(1)], {"fills": Place("1-0", b"12345678")})
    ledger._database.execute("PRAGMA max_page_count = 1")
    big = [fill(number) for number in range(2, 300)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        ledger.take(big, {"fills": Place("2-0", b"12345678")})
    assert len(ledger.taken["fills", "T.0123abcd.1"]) == 1
    assert ledger.places["fills"].id == "1-0"
    ledger.close()


def test_reader_beside_a_writer(tmp_path: Path) -> None:
    """Who only reads needs no lock, sees whole batches, and one moment when frozen."""
    path = tmp_path / "ledger.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None

    def write(number: int) -> None:
        writer.stdin.write(f"{number}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == f"{number}\n"

    with writer:
        write(1)
        view = LedgerView.read_only(path)
        assert view.counts().fills == 1
        view.freeze()
        assert view.counts().fills == 1
        write(2)
        assert (view.counts().fills, len(list(view.lots()))) == (1, 1)
        view.close()
        view = LedgerView.read_only(path)
        assert view.counts().fills == 2
        assert view.state() == view.rebuilt()
        view.close()
        writer.stdin.close()
        assert writer.wait(timeout=10) == 0


def test_read_only_changes_nothing(tmp_path: Path) -> None:
    """A reader makes no ledger where there is none, and cannot write to one."""
    with pytest.raises(Exit, match="no ledger is there") as error:
        LedgerView.read_only(tmp_path / "none.db")
    assert error.value.code == exits.BAD_DATA
    assert list(tmp_path.iterdir()) == []
    assert _code(tmp_path / "ledger.db") == 0
    view = LedgerView.read_only(tmp_path / "ledger.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        view._database.execute("DELETE FROM meta")
    view.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may read; those of pytest are the user's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("is_open", [False, True])
def test_reader_without_rights(open_folder: Path, is_open: bool) -> None:
    """Who may only read the file can, whether or not somebody has it open."""
    ledger = Ledger.open(open_folder / "ledger.db", STREAMS)
    ledger.take([fill(1, fee="1")], {})
    if not is_open:
        ledger.close()
    assert in_a_child(NOBODY, open_folder / "ledger.db") == "0 2"
    ledger.close()


def test_cursor_from_beside(tmp_path: Path) -> None:
    """Who only reads can tell how far the writer has come, as the writer would."""
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    ledger.take([fill(1), fill(2), fill(5)], {"fills": Place("5-0", b"12345678")})
    view = LedgerView.read_only(tmp_path / "ledger.db")
    assert (view.taken_now(), view.places_now()) == (ledger.taken, ledger.places)
    assert view.kinds == ledger.kinds
    view.close()
    ledger.close()

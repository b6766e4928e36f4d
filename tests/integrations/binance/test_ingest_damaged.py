"""`ingest` of files that are damaged, or were replaced: they are named, and in nobody's way."""

import gzip
import io
import os
import zipfile
from pathlib import Path

import pytest

from integrations.binance import dumps
from integrations.binance import ingest as module
from tests.integrations.binance.dump_files import DAY_MS, put, trades
from tests.integrations.binance.ingest_rig import Ingest

US = DAY_MS * 1000
ROWS = 400
GOOD, OTHER = "BTCUSDT-trades-2025-07-01.csv", "BTCUSDT-trades-2025-07-05.csv"


@pytest.fixture
def ingest(tmp_path, capsys, monkeypatch):
    """With small blocks and chunks, so that a file has several."""
    monkeypatch.setattr("integrations.binance.source_files.BLOCK_BYTES", 2000)
    monkeypatch.setitem(dumps.chunks.__kwdefaults__, "limit", 100)
    return Ingest(tmp_path, capsys)


def day(rows: int = ROWS, first_id: int = 1) -> str:
    return trades([US + n for n in range(rows)], first_id=first_id)


def zipped(text: str) -> bytearray:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(GOOD, text)
    return bytearray(content.getvalue())


def damaged(how: str) -> tuple[str, bytes]:
    """Return the name and the content of an archive that is damaged in this way."""
    packed, archive = bytearray(gzip.compress(day().encode())), zipped(day())
    central = archive.rfind(b"PK\x01\x02")
    match how:
        case "gzip cut off":
            del packed[-200:]
        case "gzip checksum":
            packed[-6] ^= 0xFF
        case "gzip with something behind":
            packed += b"garbage"
        case "zip checksum":
            archive[14] ^= 0xFF
            archive[central + 16] ^= 0xFF
        case "zip cut off":
            del archive[-200:]
        case "zip with noise":
            archive[central - 300 : central - 200] = b"\xff" * 100
        case "zip encrypted":
            archive[6] |= 1
            archive[central + 8] |= 1
        case "zip of an unknown method":
            archive[8] = archive[central + 10] = 99
    if how.startswith("gzip"):
        return f"{GOOD}.gz", bytes(packed)
    return GOOD.replace(".csv", ".zip"), bytes(archive)


@pytest.mark.parametrize(
    "how",
    [
        "gzip cut off",
        "gzip checksum",
        "gzip with something behind",
        "zip checksum",
        "zip cut off",
        "zip with noise",
        "zip encrypted",
        "zip of an unknown method",
    ],
)
def test_a_damaged_archive(ingest, how):
    """It is refused by name and leaves nothing; the others go in, and so does a good copy later."""
    name, content = damaged(how)
    bad = ingest.source / name
    bad.write_bytes(content)
    put(ingest.source, OTHER, trades([US + 345_600_000_000], first_id=9_000))

    assert ingest() == 65
    assert f"refused: {bad}: " in ingest.err
    assert "1 new rows of 2 files, 1 refused" in ingest.out
    assert ingest.ids == [9_000]

    bad.unlink()
    put(ingest.source, GOOD, day())
    assert ingest() == 0
    assert ingest.ids == [*range(1, ROWS + 1), 9_000]


def test_a_file_that_disappears(ingest, monkeypatch):
    """Between being found and being read: refused, and the others go in."""
    gone = put(ingest.source, GOOD, day())
    put(ingest.source, OTHER, trades([US + 345_600_000_000], first_id=9_000))
    hashed = module._content_hash

    def hash_of(path, show):
        if path == gone:
            gone.unlink()
        return hashed(path, show)

    monkeypatch.setattr(module, "_content_hash", hash_of)

    assert ingest() == 65
    assert f"refused: {gone}: cannot be read: No such file" in ingest.err
    assert ingest.ids == [9_000]


def unfinished(ingest: Ingest, lines: int, *, written: bool) -> None:
    """Leave what a process has left that was killed around the chunk of the last of the lines."""
    assert ingest() == 0
    parts = [str(record["part"]) for record in ingest.journal()]
    for part in parts[lines if written else lines - 1 :]:
        if part:
            (ingest.catalog / part).unlink()
    path = ingest.catalog / "ingest.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize("shift", [0, 50])
def test_an_unfinished_file_that_is_replaced(ingest, lines, written, shift):
    """What it had brought makes room, whether the new rows end where it ended or elsewhere."""
    put(ingest.source, GOOD, day())
    unfinished(ingest, lines, written=written)
    put(ingest.source, GOOD, trades([US + shift + n for n in range(ROWS)], first_id=5_001))

    assert ingest() == 0
    assert ingest.ids == [*range(5_001, 5_001 + ROWS)]
    assert f"{ROWS} new rows" in ingest.out


def test_an_unfinished_file_of_which_a_finished_one_is_a_part(ingest):
    """The same first rows: the good copy takes over the parts that it has, too."""
    put(ingest.source, GOOD, day())
    unfinished(ingest, 2, written=True)
    put(ingest.source, GOOD, day(ROWS + 1))

    assert ingest() == 0
    assert ingest.ids == [*range(1, ROWS + 2)]


def test_rows_that_nobody_ingested_are_left_alone(ingest):
    """Whoever put them there may need them: the file is refused and says so."""
    put(ingest.source, GOOD, day())
    ingest()
    (ingest.catalog / "ingest.jsonl").unlink()
    before = ingest.files()
    put(ingest.source, GOOD, day(first_id=5_001))

    assert ingest() == 65
    assert "keep one (it is of no file that was ingested: remove it if it is not" in ingest.err
    assert ingest.files() == before


def test_a_finished_file_that_is_replaced(ingest):
    """A day that has grown since: it is refused, until the part that the refusal names is gone."""
    put(ingest.source, GOOD, day())
    ingest()
    before = ingest.files()
    put(ingest.source, GOOD, day(ROWS + 1))

    assert ingest() == 65
    assert f"keep one of the files (it is of {GOOD}: to replace that one, remove" in ingest.err
    assert ingest.files() == before

    part = ingest.err.split(": ")[2]
    assert part.endswith(".parquet")
    Path(part).unlink()
    assert ingest() == 0
    assert ingest.ids == [*range(1, ROWS + 2)]


def cut(part: Path) -> None:
    os.truncate(part, 100)


@pytest.mark.parametrize("damage", [Path.unlink, cut])
@pytest.mark.parametrize("number", [0, -1])
def test_a_part_that_was_removed_or_cut_off(ingest, damage, number):
    """The file is not "nothing new": it goes in again."""
    put(ingest.source, GOOD, day())
    ingest()
    before = ingest.files()
    damage(sorted((ingest.catalog / "data/trade_tick").rglob("*.parquet"))[number])

    assert ingest() == 0
    assert ingest.files() == before


@pytest.mark.parametrize("line", ['{"a":', "{}", "7", '{"content": "\xff'])
def test_a_journal_that_is_broken(ingest, line):
    """The line is named, with what to do; nothing is touched."""
    put(ingest.source, GOOD, day())
    ingest()
    before = ingest.files()
    path = ingest.catalog / "ingest.jsonl"
    path.write_text(path.read_text() + line + "\n", encoding="latin-1")

    assert ingest() == 65
    assert f"{path}: line 6 cannot be read" in ingest.err
    assert "restore the file from a copy, or ingest everything into a new catalog" in ingest.err
    assert ingest.files() == before

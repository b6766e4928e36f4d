"""The file of the ledger: its tables, how it is opened, and who else may have it."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bridge import exits, journal_directory
from bridge.core.contract import STREAMS
from bridge.exits import Exit

VERSION: Final = 1
BUSY_SECONDS: Final = 5.0
CACHE_KIB: Final = 65_536

# What an entry of a kind says: all its fields but those that the lane adds.
FILL_FIELDS: Final = STREAMS["fills"].names
FUNDING_FIELDS: Final = STREAMS["exec_funding"].names


def _columns(names: tuple[str, ...]) -> str:
    return ", ".join([f"{name} TEXT NOT NULL" for name in names])


# Numbers of money and quantity are TEXT: exact. A fill's `cost` is NULL when it has no price;
# `pays` is 1 when its fee is taken from the lots of another book.
TABLES: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE taken (
    kind TEXT, producer TEXT, first INTEGER, last INTEGER, PRIMARY KEY (kind, producer, first)
) WITHOUT ROWID;
CREATE TABLE place (kind TEXT PRIMARY KEY, id TEXT NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE book (
    n INTEGER PRIMARY KEY, account TEXT NOT NULL, venue TEXT NOT NULL, symbol TEXT NOT NULL,
    base TEXT NOT NULL, quote TEXT NOT NULL, multiplier TEXT NOT NULL, inverse INTEGER NOT NULL,
    is_spot INTEGER NOT NULL, unlotted TEXT NOT NULL, front TEXT NOT NULL,
    UNIQUE (account, venue, symbol)
);
CREATE TABLE fill (
    n INTEGER PRIMARY KEY, book INTEGER NOT NULL REFERENCES book, state TEXT NOT NULL,
    cost TEXT, cost_ccy TEXT NOT NULL, pays INTEGER NOT NULL,
    producer TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL,
    {_columns(FILL_FIELDS)}, UNIQUE (fill_id)
);
CREATE INDEX fill_book ON fill (book);
CREATE INDEX fill_taken ON fill (producer, seq, digest);
CREATE INDEX fill_pays ON fill (account, venue, fee_ccy, quote_ccy) WHERE pays = 1;
CREATE INDEX fill_made_up ON fill (book) WHERE provisional = '1';
CREATE INDEX fill_state ON fill (state) WHERE state != 'counted';
CREATE INDEX fill_unpriced ON fill (n) WHERE cost IS NULL;
CREATE TABLE funding (
    n INTEGER PRIMARY KEY, producer TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL,
    digest BLOB NOT NULL, {_columns(FUNDING_FIELDS)}
);
CREATE UNIQUE INDEX funding_ours ON funding (producer, seq) WHERE producer != '';
CREATE UNIQUE INDEX funding_foreign ON funding (id, digest) WHERE producer = '';
CREATE TABLE lot (
    n INTEGER PRIMARY KEY, book INTEGER NOT NULL REFERENCES book, fill_id TEXT NOT NULL,
    ts_ns INTEGER NOT NULL, qty TEXT NOT NULL, price TEXT NOT NULL, value TEXT NOT NULL,
    fee TEXT NOT NULL, UNIQUE (book, fill_id)
);
CREATE TABLE gain (
    n INTEGER PRIMARY KEY, book INTEGER NOT NULL REFERENCES book, lot TEXT NOT NULL,
    fill_id TEXT NOT NULL, opened_ns INTEGER NOT NULL, closed_ns INTEGER NOT NULL,
    qty TEXT NOT NULL, open_price TEXT NOT NULL, close_price TEXT NOT NULL, pnl TEXT NOT NULL,
    open_fee TEXT NOT NULL, close_fee TEXT NOT NULL, is_payment INTEGER NOT NULL
);
CREATE INDEX gain_book ON gain (book);
CREATE TABLE total (
    account TEXT, venue TEXT, symbol TEXT, strategy TEXT, day TEXT, ccy TEXT,
    pnl TEXT NOT NULL, fees TEXT NOT NULL, funding TEXT NOT NULL,
    PRIMARY KEY (account, venue, symbol, strategy, day, ccy)
) WITHOUT ROWID;
CREATE TABLE duplicate (
    producer TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL,
    fill_id TEXT NOT NULL
);
CREATE TABLE dead (
    n INTEGER PRIMARY KEY, kind TEXT NOT NULL, producer TEXT NOT NULL, seq INTEGER NOT NULL,
    id TEXT NOT NULL, digest BLOB NOT NULL, error TEXT NOT NULL, fields TEXT NOT NULL,
    is_conflict INTEGER NOT NULL, is_published INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX dead_ours ON dead (kind, producer, seq) WHERE producer != '';
CREATE UNIQUE INDEX dead_foreign ON dead (kind, id, digest) WHERE producer = '';
CREATE INDEX dead_conflict ON dead (n) WHERE is_conflict;
CREATE INDEX dead_unpublished ON dead (n) WHERE is_published = 0;
"""


def lock(path: Path) -> int:
    """Take the ledger; return the descriptor that holds it.

    Raises Exit (TAKEN) when another process has it, OSError.
    """
    return journal_directory.hold(
        path.with_name(f"{path.name}.lock"),
        f"ledger.path: another process writes to {path}; stop it, or name another file",
    )


def opened(path: Path, streams: Mapping[str, str]) -> sqlite3.Connection:
    """Open the ledger to write to it, made where there is none; hold its lock while you do.

    Raises Exit: BAD_DATA for a file that is damaged or no ledger, CONFIGURATION for one that was
    made for streams of other names. Raises sqlite3.OperationalError: a full disk, no right to it.
    """
    try:
        database = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        with _closing_on_error(database):
            if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                _make(database, streams)
            _check(database, path)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            [(said,)] = database.execute("PRAGMA quick_check(1)").fetchall()
            if said != "ok":
                raise sqlite3.DatabaseError(said)
            _check_streams(database, path, streams)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from None
    return database


def opened_read_only(path: Path) -> sqlite3.Connection:
    """Open the ledger beside who writes to it; nothing is changed.

    Raises Exit (BAD_DATA) where there is no ledger, or a damaged one.
    """
    if not path.is_file():
        raise Exit(exits.BAD_DATA, f"{path}: no ledger is there; see ledger.path")
    try:
        return _read_only(path, "mode=ro")
    except sqlite3.OperationalError as error:
        # Who may not write beside it cannot share it; he need not, where nobody has it open.
        if path.with_name(f"{path.name}-wal").exists():
            raise damaged(path, error) from None
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from None
    try:
        return _read_only(path, "mode=ro&immutable=1")
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from None


def _read_only(path: Path, how: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    with _closing_on_error(database):
        _check(database, path)
    return database


def damaged(path: Path, error: sqlite3.Error) -> Exit:
    """Return what to end with when a file cannot be read."""
    if isinstance(error, sqlite3.OperationalError):
        return Exit(exits.BAD_DATA, f"{path} cannot be read: {error}")
    return Exit(
        exits.BAD_DATA,
        f"{path}: {error}; move the file away: a new one is filled from Redis, journal and archive",
    )


def pack(fields: Sequence[bytes]) -> str:
    """Return an entry's fields as text from which `unpack` makes the same bytes."""
    return json.dumps([field.decode(errors="surrogateescape") for field in fields])


def unpack(text: str) -> list[bytes]:
    """Return the fields that were packed."""
    return [field.encode(errors="surrogateescape") for field in json.loads(text)]


def _make(database: sqlite3.Connection, streams: Mapping[str, str]) -> None:
    known = {"version": str(VERSION), "streams": json.dumps(dict(streams), sort_keys=True)}
    database.execute("BEGIN IMMEDIATE")
    try:
        for statement in TABLES.split(";\n"):
            database.execute(statement)
        database.executemany("INSERT INTO meta VALUES (?, ?)", known.items())
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _check(database: sqlite3.Connection, path: Path) -> None:
    """Raise Exit (BAD_DATA) unless the file is a ledger of this version."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    if not {"meta", "fill", "lot", "gain"} <= tables:
        raise Exit(exits.BAD_DATA, f"{path} is no ledger; see ledger.path")
    version = database.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    if version != (str(VERSION),):
        raise Exit(exits.BAD_DATA, f"{path} is a ledger of another version: {version}")


def _check_streams(database: sqlite3.Connection, path: Path, streams: Mapping[str, str]) -> None:
    [(text,)] = database.execute("SELECT value FROM meta WHERE name = 'streams'").fetchall()
    if (known := json.loads(text)) != dict(streams):
        raise Exit(
            exits.CONFIGURATION,
            f"ledger.path: {path} is the ledger of {', '.join(known.values())}, not of"
            f" {', '.join(streams.values())}; name another file",
        )


@contextlib.contextmanager
def _closing_on_error(database: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise

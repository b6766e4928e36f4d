"""Which fills and ends of orders were recorded before: each is kept once, however often reported.

Nautilus reports old fills again when a node restarts. The index outlives the journal's retention;
what it had not yet committed when a process was killed is taken from the journal at the next start.
"""

import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

import structlog

from bridge.journal import Journal
from bridge.segments import CLAIM

log = structlog.get_logger("nautilus_bridge.fill_index")

NAME: Final = "fills.idx"
COMMIT_NS: Final = 1_000_000_000
NOTHING: Final = bytes(16)
TABLES: Final = """
CREATE TABLE IF NOT EXISTS known (once BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS place (
    only INTEGER PRIMARY KEY CHECK (only = 1), uuid TEXT, ordinal INTEGER
);
"""


class FillIndex:
    """A set of 16-byte identities on the disk. `journal` tells what a killed process left out."""

    def __init__(self, directory: Path, journal: Journal) -> None:
        self._path = directory / NAME
        self._journal = journal
        # Taken when the disk takes no more: the journal holds them too.
        self._in_memory: set[bytes] = set()
        self._committing = threading.Lock()
        try:
            self._database = self._open()
        except sqlite3.OperationalError:
            raise  # a full disk or no right to it: the file itself is whole
        except sqlite3.DatabaseError as error:
            log.warning(
                "fill_index.rebuilt",
                path=str(self._path),
                problem=str(error),
                effect="fills older than the journal are not known any more",
            )
            for path in self._path.parent.glob(f"{NAME}*"):
                path.unlink()
            self._database = self._open()
        journal.on_drop = self.commit

    def __contains__(self, once: bytes) -> bool:
        found = self._database.execute("SELECT 1 FROM known WHERE once = ?", (once,))
        return found.fetchone() is not None or once in self._in_memory

    def add(self, once: bytes) -> None:
        """Note an identity; it is on the disk a second later, and in the journal already."""
        try:
            self._database.execute("INSERT OR IGNORE INTO known VALUES (?)", (once,))
            if time.monotonic_ns() - self._committed_ns > COMMIT_NS:
                self.commit()
        except sqlite3.Error as error:
            if not self._in_memory:
                log.error("fill_index.in_memory", path=str(self._path), problem=str(error))
            self._in_memory.add(once)

    def close(self) -> None:
        """Commit what is open."""
        self.commit()
        self._database.close()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.executescript(TABLES)
            place = database.execute("SELECT uuid, ordinal FROM place").fetchone()
            database.execute("BEGIN")
            self._catch_up(database, place)
        except sqlite3.DatabaseError:
            database.close()
            raise
        self._committed_ns = 0
        return database

    def _catch_up(self, database: sqlite3.Connection, place: tuple[str, int] | None) -> None:
        """Take over what the journal holds from the segment on that was written at the commit."""
        ordinal = 0
        if place is not None and place[0] == self._journal.head.uuid:
            ordinal = place[1]
        for segment in list(self._journal.segments):
            if segment.ordinal < ordinal:
                continue
            keys = [
                (record.once,)
                for record in segment.records()
                if record.kind != CLAIM and record.once != NOTHING
            ]
            database.executemany("INSERT OR IGNORE INTO known VALUES (?)", keys)

    def commit(self) -> None:
        """Have all that is known on the disk. May be called from another thread."""
        with self._committing:
            place = (self._journal.head.uuid, self._journal.head.ordinal)
            self._database.execute("INSERT OR REPLACE INTO place VALUES (1, ?, ?)", place)
            self._database.execute("COMMIT")
            self._database.execute("BEGIN")
            self._committed_ns = time.monotonic_ns()

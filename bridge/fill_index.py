"""Which fills and ends of orders were recorded before: each is kept once, however often reported.

Nautilus reports old fills again when a node restarts. The index outlives the journal's retention;
what it had not yet committed when a process was killed is taken from the journal at the next start.
"""

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

import structlog

from bridge.core.lanes import CannotRecord
from bridge.journal import Journal
from bridge.segments import CLAIM

log = structlog.get_logger("nautilus_bridge.fill_index")

NAME: Final = "fills.idx"
COMMIT_NS: Final = 1_000_000_000
# Beyond it who adds commits too, should nobody have synced for long.
RECENT_MAX: Final = 10_000
INSERT: Final = "INSERT OR IGNORE INTO known VALUES (?)"
NOTHING: Final = bytes(16)
ALONE_SECONDS_MAX: Final = 0.2
BUSY_SECONDS_MAX: Final = 5.0
TABLES: Final = """
CREATE TABLE IF NOT EXISTS known (once BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS place (
    only INTEGER PRIMARY KEY CHECK (only = 1), uuid TEXT, ordinal INTEGER
);
"""


class FillIndex:
    """A set of 16-byte identities on the disk. `journal` tells what a killed process left out.

    Only what is durable in the journal is committed: an entry that a power cut takes out of the
    journal must be taken when it is reported again.
    """

    def __init__(self, directory: Path, journal: Journal) -> None:
        self._path = directory / NAME
        self._journal = journal
        # By identity the jseq and the segment's ordinal: what is not committed yet, or cannot be.
        self._recent: dict[bytes, tuple[int, int]] = {}
        self._committing = threading.Lock()
        self._committed_ns = 0
        self._has_failed = False
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
        journal.on_sync = self._commit_when_due

    def __contains__(self, once: bytes) -> bool:
        if once in self._recent:
            return True
        try:
            found = self._database.execute("SELECT 1 FROM known WHERE once = ?", (once,))
            return found.fetchone() is not None
        except sqlite3.Error as error:
            self._tell(error)
            return False

    def add(self, once: bytes) -> None:
        """Note the identity of the entry that was journaled last."""
        self._recent[once] = (self._journal.jseq, self._journal.head.ordinal)
        if len(self._recent) > RECENT_MAX:
            self._commit_when_due()

    def commit(self) -> None:
        """Have all that is durable in the journal on the disk. May be called from any thread."""
        with self._committing:
            self._committed_ns = time.monotonic_ns()
            durable = {once: at for once, at in list(self._recent.items()) if self._is_durable(at)}
            left = [at for once, at in list(self._recent.items()) if once not in durable]
            ordinal = min([at[1] for at in left], default=self._journal.head.ordinal)
            place = (self._journal.head.uuid, ordinal)
            try:
                with self._database:
                    self._database.execute("BEGIN")
                    self._database.executemany(INSERT, [(once,) for once in durable])
                    self._database.execute("INSERT OR REPLACE INTO place VALUES (1, ?, ?)", place)
            except sqlite3.Error as error:
                self._tell(error)
                return
            for once in durable:
                self._recent.pop(once, None)

    def close(self) -> None:
        """Commit everything, as far as the journal can be made durable."""
        with contextlib.suppress(CannotRecord):
            self._journal.sync()
        self.commit()
        self._database.close()

    def _commit_when_due(self) -> None:
        if time.monotonic_ns() - self._committed_ns > COMMIT_NS:
            self.commit()

    def _is_durable(self, at: tuple[int, int]) -> bool:
        jseq = at[0]
        # Numbers above the last one are of before a renumbering, which made all durable.
        return jseq <= self._journal.synced or jseq > self._journal.jseq

    def _tell(self, error: sqlite3.Error) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.error("fill_index.failed", path=str(self._path), problem=str(error))

    def _open(self) -> sqlite3.Connection:
        # The journal's lock keeps other bridges out; without SQLite's own a question takes half as
        # long. Somebody who looks on by other means is no reason not to start.
        try:
            return self._opened("EXCLUSIVE", ALONE_SECONDS_MAX)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        return self._opened("NORMAL", BUSY_SECONDS_MAX)

    def _opened(self, locking_mode: str, busy_seconds_max: float) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path, timeout=busy_seconds_max, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute(f"PRAGMA locking_mode={locking_mode}")
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.executescript(TABLES)
            [(said,)] = database.execute("PRAGMA quick_check(1)").fetchall()
            if said != "ok":
                raise sqlite3.DatabaseError(said)
            place = database.execute("SELECT uuid, ordinal FROM place").fetchone()
            with database:
                database.execute("BEGIN IMMEDIATE")
                self._catch_up(database, place)
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def _catch_up(self, database: sqlite3.Connection, place: tuple[str, int] | None) -> None:
        """Take over what the journal holds from the segment on that was written at the commit."""
        ordinal = 0
        if place is not None and place[0] == self._journal.head.uuid:
            ordinal = place[1]
        for segment in list(self._journal.segments):
            if segment.ordinal >= ordinal:
                keys = [
                    (record.once,)
                    for record in segment.records()
                    if record.kind != CLAIM and record.once != NOTHING
                ]
                database.executemany(INSERT, keys)

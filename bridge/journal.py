"""The write-ahead journal of the exec lane: what it holds outlives the process and Redis.

Numbered segments (`bridge.segments`) in a locked folder (`bridge.journal_directory`), and one
segment in reserve, preallocated: a full disk is noticed while there is still room to write down
how trading was halted. `append` runs in the trading loop; `sync`, which may take milliseconds,
elsewhere.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import structlog

from bridge import exits, hints, journal_directory, recovery
from bridge.core.contract import EXEC_KINDS
from bridge.core.lanes import CannotRecord
from bridge.exits import Exit
from bridge.journal_directory import RESERVE
from bridge.open_segment import HEAD_BYTES_MAX, TRAILER_BYTES_MAX, OpenSegment
from bridge.segments import BODY, CLAIM, FRAME, MARK, Damaged, Head, Seal, Segment, crc32c

log = structlog.get_logger("nautilus_bridge.journal")

type Fsync = Literal["always", "group", "never"]


class JournalFailed(CannotRecord):
    """The journal cannot take what it must: trading has to halt, the process to end (74)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How a journal is kept: when it is made durable, sizes in bytes, `retain_ns`."""

    fsync: Fsync = "group"
    segment_bytes: int = 1 << 24
    bytes_max: int = 1 << 32
    retain_ns: int = 604_800 * 10**9


class Chapter(NamedTuple):
    """The numbers that the journal holds of one producer in one stream; none when last < first."""

    producer: str
    first: int
    last: int


class Journal:
    """An open journal: `append`, `sync`, and `close` at the end.

    One thread appends; `sync` and `make_reserve` may run in another. `on_failure` is told once why
    nothing can be recorded any more; what still finds room is written even then. `on_sync` is
    called when more is durable, `on_drop` before a segment is removed. `is_taken(kind, producer,
    first, last)` tells whether those who read on have these numbers: what they lack is kept.
    """

    def __init__(self, directory: Path, limits: Limits, lock: int) -> None:
        self.directory = directory
        self.limits = limits
        self.failure: str | None = None
        self.on_failure: Callable[[str], None] = _nothing
        self.on_drop: Callable[[], None] = _nothing
        self.on_sync: Callable[[], None] = _nothing
        self.is_taken: Callable[[str, str, int, int], bool] = _always
        # The last numbers of the present producer when the journal was opened, by kind.
        self.opened: dict[str, int] = {}
        self.segments: list[Segment] = []
        self.jseq = self.synced = 0
        self._lock = lock
        self._open: OpenSegment | None = None
        self._reserve_is_due = True
        self._is_postponed = False
        self._is_durable = True
        self._acknowledged: dict[tuple[str, str], int] = {}
        self._reserving = threading.Lock()
        self._syncing = threading.RLock()

    @classmethod
    def open(cls, directory: Path, producer_id: str, limits: Limits) -> "Journal":
        """Lock, recover and open the journal in `directory`, made where there is none.

        Raises Exit: TAKEN when another process has it, BAD_DATA when it is damaged, CANNOT_RECORD
        when it cannot be written.
        """
        journal = None
        try:
            journal = cls(directory, limits, journal_directory.lock(directory))
            journal._begin(producer_id)
            return journal
        except Damaged as error:
            failure = Exit(exits.BAD_DATA, damage(error))
        except (OSError, JournalFailed) as error:
            failure = Exit(
                exits.CANNOT_RECORD,
                f"journal.directory: {directory} cannot be written: {error}; make room there, or "
                "name another folder",
            )
        if journal is not None:
            journal.close()
        raise failure

    # Identity.

    @property
    def head(self) -> Head:
        """The head of the segment that is written."""
        return self.segments[-1].head

    @property
    def producer(self) -> str:
        """The name under which new entries are numbered."""
        return self.head.producer

    @property
    def seqs(self) -> dict[str, int]:
        """The last numbers given under that name, by kind."""
        return self.segments[-1].seal.ends

    def chapters(self, kind: str) -> list[Chapter]:
        """Return what is held of a stream by producer, oldest first; the present one is last."""
        found: dict[str, Chapter] = {}
        for segment in list(self.segments):
            first, last = segment.head.seqs.get(kind, 0) + 1, segment.seal.ends.get(kind, 0)
            known = found.get(segment.producer)
            first = first if known is None else known.first
            found[segment.producer] = Chapter(segment.producer, first, last)
        return list(found.values())

    # Writing.

    def append(
        self, kind: int, seq: int, jseq: int, width: int, once: bytes, payload: bytes
    ) -> None:
        """Write one entry down. Raises JournalFailed when it is not written."""
        # As segments.encode, without the call: this runs in the trading loop.
        body = BODY.pack(seq, jseq, self.synced, kind, width, once) + payload
        record = FRAME.pack(MARK, len(body), crc32c(body)) + body
        segment = self._with_room(len(record))
        try:
            segment.write(record)
        except OSError as error:
            segment = self._write_elsewhere(record, error)
        if self.limits.fsync == "always":
            self._confirm(segment)
        segment.note(record)
        if kind == CLAIM:
            segment.seal.is_claimed = True
            return
        segment.seal.ends[EXEC_KINDS[kind]] = seq
        segment.seal.jseq = self.jseq = jseq
        if self.limits.fsync != "group":
            self.synced = jseq

    @property
    def needs_sync(self) -> bool:
        """Whether something is written that is not durable yet, and still can be."""
        return self.synced < self.jseq and self._is_durable

    def sync(self) -> None:
        """Make durable what has been appended; blocks.

        Raises JournalFailed, for ever after the first time: a disk that confirms later has
        forgotten what it failed to write.
        """
        with self._syncing:
            if not self._is_durable:
                raise JournalFailed(self.failure)
            upto, segment = self.jseq, self._open
            if segment is None:
                raise JournalFailed("the journal is closed")
            try:
                os.fdatasync(segment.descriptor)
            except OSError as error:
                raise self._not_durable(error) from None
            self.synced = max(self.synced, upto)
        self.on_sync()

    @property
    def reserve_is_due(self) -> bool:
        """Whether `make_reserve` has something to do."""
        if not self._reserve_is_due or self.failure is not None:
            return False
        return not self._is_postponed or self._is_half_full

    def make_reserve(self) -> None:
        """Prepare the segment behind the present one; blocks for a moment.

        No room for it, on the disk or below `bytes_max`, is a failure that is told while the
        present segment still takes what the halt brings. Below `bytes_max` there may be room once
        Redis has confirmed something: so long as the segment is not half full, that is waited for.
        """
        size = self.limits.segment_bytes
        try:
            with self._reserving:
                self._reserve_is_due = False
                self.tidy()
                if journal_directory.size_of(self.directory / RESERVE) >= size:
                    return
                self._make_room(size)
                journal_directory.preallocate(self.directory / RESERVE, size)
        except JournalFailed as error:
            if self._is_half_full:
                self._fail(str(error))
            else:
                self._reserve_is_due = self._is_postponed = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the reserve is not there
            self._fail(f"no room for another segment of {size} bytes: {error}")

    def close(self) -> None:
        """Make everything durable, seal the segment, give the folder back; twice is harmless."""
        segment, self._open = self._open, None
        if segment is not None:
            segment.finish()
            with contextlib.suppress(OSError):
                os.fsync(segment.descriptor)
            os.close(segment.descriptor)
            with contextlib.suppress(OSError):
                (self.directory / RESERVE).unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # What Redis has.

    @property
    def is_claimed(self) -> bool:
        """Whether Redis has confirmed that this session's numbers are its own."""
        return recovery.is_claimed(self.segments, self.head.session)

    def claim(self) -> None:
        """Write that down; before anything is shipped it must be synced. Raises JournalFailed."""
        self.append(CLAIM, 0, self.jseq, 0, b"", b"")

    @property
    def run_id(self) -> str | None:
        """The Redis, by its run id, that was last known to be whole."""
        return journal_directory.read_run_id(self.directory)

    @run_id.setter
    def run_id(self, value: str) -> None:
        journal_directory.write_run_id(self.directory, value)

    def renumber(self, verified: Mapping[str, int], incarnation: int) -> None:
        """Number what lies behind `verified` again, from 1, under `incarnation`; blocks.

        For numbers that somebody else has given too: another copy of the folder, or a time that
        this one was set back from. What lies up to `verified` in the same segments is in Redis,
        and is not kept. Raises JournalFailed; everything is as before then.
        """
        moved = recovery.moved(self.segments, self.producer, verified)
        producer = f"{self.head.stem}.{incarnation}"
        head = replace(
            self.head,
            incarnation=incarnation,
            producer=producer,
            seqs=dict.fromkeys(EXEC_KINDS, 0),
            jseq=0,
            verified={},
            is_claimed=False,
            replaces=moved.first,
        )
        try:
            with self._syncing:
                seal = Seal(0, 0, moved.ends, moved.jseq, 0)
                self._follow(head, seal, room=len(moved.records), moved=moved.records)
                self.synced = self.jseq
                self.opened = {}
            journal_directory.sync(self.directory)
            for segment in moved.segments:
                self._drop(segment)
        except (OSError, JournalFailed) as error:
            raise self._fail(f"no room to number entries again: {error}") from None
        log.warning("journal.renumbered", producer=producer, entries=moved.jseq)

    def acknowledge(self, producer: str, kind: str, seq: int) -> None:
        """Note that Redis has confirmed the numbers of a stream up to `seq`, backwards too."""
        self._acknowledged[producer, kind] = seq

    def tidy(self) -> None:
        """Remove what is older than `retain_ns`, confirmed by Redis and taken. Raises OSError."""
        limit_ns = time.time_ns() - self.limits.retain_ns
        for segment in self.segments[:-1]:
            if segment.seal.last_ns > limit_ns or self._lack(segment):
                return
            self._drop(segment)

    @property
    def disk_bytes(self) -> int:
        """Bytes on the disk, the reserve included."""
        paths = [*(each.path for each in list(self.segments)), self.directory / RESERVE]
        return sum(map(journal_directory.size_of, paths))

    # Inside.

    def _begin(self, producer_id: str) -> None:
        """Take over what is there; begin a segment for this session."""
        (self.directory / RESERVE).unlink(missing_ok=True)
        self.segments, head = recovery.recover(self.directory, producer_id)
        seal = Seal(0, 0, dict(head.seqs), head.jseq, 0)
        size = self.limits.segment_bytes
        self._switch(OpenSegment.begin(self.directory, head, seal, size=size))
        self.synced = self.jseq
        self.sync()
        journal_directory.sync(self.directory)
        self.opened = dict(self.seqs)

    @property
    def _is_half_full(self) -> bool:
        return self._open is not None and self._open.is_half_full

    def _size_for(self, room: int) -> int:
        return max(self.limits.segment_bytes, room + HEAD_BYTES_MAX + TRAILER_BYTES_MAX)

    def _with_room(self, size: int) -> OpenSegment:
        """Return the segment that takes a record of `size` bytes. Raises JournalFailed."""
        segment = self._open
        if segment is None:
            raise JournalFailed("the journal is closed")
        if not self._is_durable and self.limits.fsync == "always":
            raise JournalFailed(self.failure)
        if segment.seal.end + size <= segment.free_until:
            return segment
        return self._rotate(size)

    def _rotate(self, room: int) -> OpenSegment:
        """Go on in the next segment. Raises JournalFailed; the present one stays then."""
        head = replace(
            self.head,
            seqs=dict(self.seqs),
            jseq=self.jseq,
            is_claimed=self.is_claimed,
            replaces=None,
        )
        seal = Seal(0, 0, dict(head.seqs), head.jseq, 0)
        try:
            return self._follow(head, seal, room=room)
        except OSError as error:
            raise self._fail(f"no room for another segment: {error}") from None
        except JournalFailed as error:
            raise self._fail(str(error)) from None

    def _follow(self, head: Head, seal: Seal, *, room: int, moved: bytes = b"") -> OpenSegment:
        """Begin the next segment, then seal the one before. Raises OSError, JournalFailed."""
        former = self._open
        assert former is not None
        head = replace(head, ordinal=former.segment.ordinal + 1)
        size = self._size_for(room)
        with self._reserving:
            if journal_directory.size_of(self.directory / RESERVE) < size:
                self._make_room(size)
            segment = OpenSegment.begin(self.directory, head, seal, size=size, moved=moved)
        with self._syncing:
            self._finish(former)
            self._switch(segment)
        return segment

    def _switch(self, segment: OpenSegment) -> None:
        """Write to another segment from now on."""
        self._open = segment
        self.segments.append(segment.segment)
        self.jseq = segment.seal.jseq
        self._reserve_is_due, self._is_postponed = True, False

    def _finish(self, former: OpenSegment) -> None:
        """Seal a segment and close it: durable as a whole, before the next one takes a record."""
        former.finish()
        try:
            if self.limits.fsync != "never" and self._is_durable:
                os.fdatasync(former.descriptor)
                journal_directory.sync(self.directory)
                self.synced = self.jseq
        except OSError as error:
            self._not_durable(error)
        finally:
            os.close(former.descriptor)

    def _write_elsewhere(self, record: bytes, error: OSError) -> OpenSegment:
        """Write into the reserve what could not be written. Raises JournalFailed."""
        self._fail(f"a write failed: {error}")
        segment = self._rotate(len(record))
        try:
            segment.write(record)
        except OSError as again:
            raise JournalFailed(f"a write failed: {again}") from None
        return segment

    def _confirm(self, segment: OpenSegment) -> None:
        """Make a written record durable before it counts. Raises JournalFailed."""
        try:
            os.fdatasync(segment.descriptor)
        except OSError as error:
            segment.take_back()
            raise self._not_durable(error) from None

    def _not_durable(self, error: OSError) -> JournalFailed:
        self._is_durable = False
        return self._fail(f"the disk did not confirm what was written: {error}")

    def _lack(self, segment: Segment) -> str | None:
        """Return why a segment is still needed, None when it may go."""
        try:
            name, held = segment.producer, segment.held()
        except (Damaged, OSError) as error:
            return f"the oldest segment cannot be read: {error}"
        if any(self._acknowledged.get((name, kind), 0) < spans.last for kind, spans in held):
            return "Redis has not confirmed the oldest segment"
        runs = [(kind, name, *run) for kind, spans in held for run in spans]
        if not all(self.is_taken(*run) for run in runs):
            return "the ledger or the archive has not taken the oldest segment"
        return None

    def _make_room(self, size: int) -> None:
        """Keep below `bytes_max`, at the cost of `retain_ns`. Raises JournalFailed, OSError.

        Once a failure is told, what the halt brings may take a segment more.
        """
        bytes_max = self.limits.bytes_max + (0 if self.failure is None else size)
        while self.disk_bytes + size > bytes_max:
            lack = self._lack(self.segments[0]) if self.segments else None
            if lack is None and len(self.segments) < 2:
                lack = "there is one segment only"
            if lack is not None:
                raise JournalFailed(
                    f"journal.bytes_max ({self.limits.bytes_max}) is reached, and {lack}"
                )
            log.warning("journal.shortened", why="journal.bytes_max", wanted="journal.retain")
            self._drop(self.segments[0])

    def _drop(self, segment: Segment) -> None:
        self.on_drop()
        segment.path.unlink()
        self.segments.remove(segment)

    def _fail(self, reason: str) -> JournalFailed:
        """Note that nothing can be promised any more, and tell it once."""
        if self.failure is None:
            self.failure = reason
            log.critical("journal.failed", directory=str(self.directory), problem=reason)
            self.on_failure(reason)
        return JournalFailed(reason)


def damage(error: Damaged) -> str:
    """Return what to say of a damaged journal, and the command that repairs it."""
    listing = hints.command(f"journal --directory {error.path.parent}")
    return (
        f"journal.directory: {error}; see what is whole with `{listing}`, cut the damage out with "
        f"`{listing} --repair`"
    )


def _nothing(*_: object) -> None:
    """Tell nobody: a journal that nobody trades by."""


def _always(*_: object) -> bool:
    """Wait for nobody: a journal without readers behind it."""
    return True

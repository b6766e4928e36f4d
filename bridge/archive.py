"""The archive: every entry of the exec streams, once, in files that are only ever added to.

It keeps no cursor beside what it holds: what was taken, and how far a stream was read, is read
from the last manifest and the open segment. A kill at any byte leaves whole records and at most
one begun, which the next `open` cuts off.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bridge import archive_segments, exits, journal_directory
from bridge.archive_segments import Damaged, manifest_path
from bridge.archive_tally import Tally, id_key
from bridge.archive_writer import Writer
from bridge.core.contract import EXEC_KINDS
from bridge.core.spans import Spans
from bridge.exits import Exit
from bridge.reading import Dead, Item, Place, digest_of

SEGMENT_BYTES: Final = 64 << 20
HEAD_RECORDS: Final = 1_000

type Key = tuple[str, str, int | bytes]


class Head(NamedTuple):
    """A point of the chain, to be noted elsewhere: nothing up to it can be changed unseen.

    `first` and `last` are numbers of records, of this segment so far; `root` is the digest of the
    last one, in hex: what `verify` takes as `--head`. `archive` is the id of the archive.
    """

    segment: int
    records: int
    first: int
    last: int
    root: str
    ts_ns: int
    archive: str


class Archive:
    """The folder of an archive, opened for writing: a Sink. All of it is called from one thread."""

    name: Final = "archive"
    kinds: Final = EXEC_KINDS

    def __init__(
        self,
        directory: Path,
        tally: Tally,
        lock: int,
        *,
        segment_bytes: int,
        head_records: int,
        on_head: Callable[[Head], None],
    ) -> None:
        """See `open`."""
        self.directory = directory
        self._tally = tally
        self._writer = Writer(directory, tally, lock)
        self._segment_bytes = segment_bytes
        self._head_records = head_records
        self._on_head = on_head
        self._published = tally.last
        self._lock: int | None = lock
        self._foreign: set[Key] | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        streams: Mapping[str, str],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        head_records: int = HEAD_RECORDS,
        on_head: Callable[[Head], None] = lambda head: None,
    ) -> "Archive":
        """Open the archive of these streams (names by kind) for writing, made where there is none.

        `on_head` is told every `head_records` records, at each seal and at the end; it does not
        raise. Raises Exit: TAKEN when another process writes there, CONFIGURATION when it is an
        archive of other streams, BAD_DATA when it is damaged; OSError.
        """
        with contextlib.ExitStack() as held:
            lock = journal_directory.lock(directory, "archive.directory")
            held.callback(os.close, lock)
            try:
                last = archive_segments.segment_numbers(directory).stop - 1
                is_sealed = last == 0 or manifest_path(directory, last).exists()
                number = last + 1 if is_sealed else last
                archive = cls(
                    directory,
                    archive_segments.before(directory, number),
                    lock,
                    segment_bytes=segment_bytes,
                    head_records=head_records,
                    on_head=on_head,
                )
                held.callback(archive._writer.leave)
                archive._writer.resume(number, streams, is_begun=not is_sealed)
            except Damaged as damaged:
                raise Exit(exits.BAD_DATA, f"{directory} is damaged: {damaged}") from None
            held.pop_all()
            return archive

    @property
    def taken(self) -> Mapping[tuple[str, str], Spans]:
        """What was taken, by (kind, producer)."""
        return self._tally.taken

    @property
    def places(self) -> Mapping[str, Place]:
        """By kind, where to go on reading."""
        return self._tally.places

    @property
    def last(self) -> int:
        """How many records there are: the number of the last one."""
        return self._tally.last

    @property
    def root(self) -> str:
        """The digest of the last line, in hex."""
        return self._tally.root.hex()

    def new_ones(self, foreign: Sequence[Item]) -> list[Item]:
        """Return those of somebody else's entries that were not taken yet, in their order."""
        return [item for item in foreign if not self._is_known(item, _key(item))]

    def take(self, items: Sequence[Item], places: Mapping[str, Place]) -> list[Dead]:
        """Append what is not there yet, durably and all or nothing, and note the places.

        None is ever dead. Raises OSError: none was taken then, and it can be called again.
        """
        fresh: dict[Key, Item] = {}
        for item in items:
            key = _key(item)
            if not self._is_known(item, key):
                fresh.setdefault(key, item)
        if fresh:
            self._make_room()
            self._writer.append(list(fresh.values()))
            if self._foreign is not None:
                self._foreign.update([key for key, item in fresh.items() if not item.producer])
        self._tally.places.update(places)
        if self._tally.last - self._published >= self._head_records:
            self._publish()
        return []

    def close(self) -> None:
        """Publish the last head, and let the folder go."""
        if self._lock is None:
            return
        try:
            if self._tally.last > self._published:
                self._publish()
        finally:
            self._writer.leave()
            os.close(self._lock)
            self._lock = None

    def _is_known(self, item: Item, key: Key) -> bool:
        if item.producer:
            return item.seq in self._tally.taken.get((item.kind, item.producer), ())
        known = self._tally.foreign.get(item.kind)
        if known is None or id_key(item.id) > id_key(known.last):
            return False
        if self._foreign is None:  # rare: a stream is read once more, or its ids went back
            found = archive_segments.foreign(self.directory)
            self._foreign = {_key(each) for each in found}
        return key in self._foreign

    def _make_room(self) -> None:
        """Have an open segment with room in it. Raises OSError."""
        if self._writer.is_open and self._tally.size >= self._segment_bytes:
            self._writer.seal()
            self._publish()
        if not self._writer.is_open:
            self._writer.begin()

    def _publish(self) -> None:
        tally = self._tally
        head = Head(
            segment=tally.segment,
            records=tally.last - tally.first + 1,
            first=tally.first,
            last=tally.last,
            root=tally.root.hex(),
            ts_ns=time.time_ns(),
            archive=tally.archive,
        )
        self._published = tally.last
        self._on_head(head)


def _key(item: Item) -> Key:
    """Return what makes an entry the same as another: its number, or its id and its content."""
    if item.producer:
        return item.kind, item.producer, item.seq
    return item.kind, item.id, digest_of(item.fields)

"""The journal as a history: its entries as Redis holds them, read beside a bridge that writes.

Nothing is locked, written or removed. A bridge may seal, begin, renumber and drop segments
meanwhile: what was in the journal before a reading began, and still is behind it, is found.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hiredis
import structlog

from bridge import hints
from bridge.journal_directory import segment_paths
from bridge.open_segment import TRAILER_BYTES_MAX
from bridge.reading import Item
from bridge.segments import (
    CLAIM,
    FRAME,
    MARK,
    READ_BYTES,
    Damaged,
    Head,
    Record,
    Seal,
    next_whole,
    parse,
    read_seal,
)

log = structlog.get_logger("nautilus_bridge.history")

# Larger than a trailer and what stands behind its JSON text.
SEAL_BYTES_MAX: Final = 2 * TRAILER_BYTES_MAX


@dataclass
class _File:
    """A segment as far as it is known: `end` is the offset behind the last whole record."""

    path: Path
    # Device, inode, size and time: a sealed segment that has the same is the same.
    stamp: tuple[int, ...]
    head: Head
    start: int
    end: int
    ends: dict[str, int]
    is_sealed: bool
    is_claimed: bool
    # Whether it was read to its end once; what follows is what was written since.
    is_read: bool = False


class JournalHistory:
    """The entries of a journal's folder; one thread at a time.

    `problems` are, by file, what could not be read so far: it is stepped over, and told once.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problems: dict[Path, str] = {}
        self._files: dict[Path, _File] = {}
        # Where the last finding ended: by kind and producer the file, the number, the offset.
        self._spots: dict[tuple[str, str], tuple[Path, int, int]] = {}

    def find(self, kind: str, producer: str, first: int, last: int) -> Iterator[Item]:
        """Yield what there is of these numbers, rising. Raises OSError.

        Without those that Redis has not confirmed to be this journal's own: somebody else may have
        given them too, and they may be numbered again.
        """
        files = self._look()
        claimed = {each.head.session for each in files if each.is_claimed}
        for file in files:
            head = file.head
            upto = last if head.session in claimed else min(last, head.verified.get(kind, 0))
            begin, end = head.seqs.get(kind, 0) + 1, min(upto, file.ends.get(kind, 0))
            if head.producer == producer and max(begin, first) <= end:
                yield from self._find(file, kind, first, end)

    def walk(self) -> Iterator[Item]:
        """Yield every entry of the journal, in its order, with constant memory. Raises OSError."""
        for file in self._look():
            item_of = _itemizer(file.head)
            for _, record in self._records(file, file.start, file.end):
                if record.kind != CLAIM:
                    yield item_of(record)

    def _find(self, file: _File, kind: str, first: int, last: int) -> Iterator[Item]:
        index, item_of = file.head.kinds.index(kind), _itemizer(file.head)
        key, offset = (kind, file.head.producer), file.start
        path, number, spot = self._spots.get(key, (file.path, 0, 0))
        if path == file.path and 0 < number <= first and spot <= file.end:
            offset = spot
        for end, record in self._records(file, offset, file.end):
            if record.kind != index or record.seq < first:
                continue
            if record.seq > last:
                return
            self._spots[key] = (file.path, record.seq + 1, end)
            yield item_of(record)
            if record.seq == last:
                return

    # The files.

    def _look(self) -> list[_File]:
        """Return the segments that count as they are now, oldest first. Raises OSError."""
        try:
            paths = segment_paths(self.directory)
        except FileNotFoundError:
            paths = []
        known = {}
        for path in paths:
            try:
                file = self._file(path)
            except FileNotFoundError:
                continue  # a bridge has just removed it
            except Damaged as error:
                if _has_content(path):  # a power cut leaves a name without content
                    self._note(path, str(error))
                continue
            known[path] = file
        self._files = known
        replaced = {
            number
            for file in known.values()
            if file.head.replaces is not None
            for number in range(file.head.replaces, file.head.ordinal)
        }
        return [file for file in known.values() if file.head.ordinal not in replaced]

    def _file(self, path: Path) -> _File:
        """Return what is known of a segment now. Raises Damaged, OSError."""
        found, known = path.stat(), self._files.get(path)
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if known is not None and known.stamp[:2] != stamp[:2]:
            self._spots = {}
            known = None
        if known is not None and known.is_sealed and known.stamp == stamp:
            return known
        if known is None:
            head, start = Head.read(path)
            known = _File(path, stamp, head, start, start, dict(head.seqs), False, head.is_claimed)
        known.stamp = stamp
        seal = _seal_of(path)
        if seal is not None:
            known.end, known.ends, known.is_sealed = seal.end, dict(seal.ends), True
            known.is_claimed |= seal.is_claimed
            return known
        for end, record in self._records(known, known.end, None):
            known.end = end
            if record.kind == CLAIM:
                known.is_claimed = True
            else:
                known.ends[known.head.kinds[record.kind]] = record.seq
        known.is_read = True
        return known

    def _records(self, file: _File, offset: int, end: int | None) -> Iterator[tuple[int, Record]]:
        """Yield whole records, and the offset behind each, up to `end` (None: as far as they go).

        Steps over what is damaged, and notes it. A segment that is removed meanwhile ends there.
        """
        try:
            opened = file.path.open("rb")
        except FileNotFoundError:
            return
        with opened:
            size = READ_BYTES
            while end is None or offset < end:
                opened.seek(offset)
                data = opened.read(size if end is None else min(size, end - offset))
                at = 0
                while (record := parse(data, at)) is not None:
                    at = record.end
                    yield offset + at, record
                offset += at
                if at:
                    size = READ_BYTES
                elif end is None and file.is_read and data[:4] != MARK:
                    return
                elif len(data) == size and _is_longer(data):
                    size *= 2
                else:
                    opened.seek(offset)
                    behind = _behind_damage(opened.read(-1 if end is None else end - offset))
                    if behind is None:
                        if end is not None:
                            self._note(file.path, f"damaged from byte {offset} to its end")
                        return
                    if behind:
                        self._note(file.path, f"damaged at byte {offset}")
                    offset += behind

    def _note(self, path: Path, problem: str) -> None:
        if path not in self.problems:
            self.problems[path] = problem
            log.error(
                "journal.damaged",
                path=str(path),
                problem=problem,
                remedy=f"see `{hints.command('journal')}`",
            )


def _itemizer(head: Head) -> Callable[[Record], Item]:
    """Return the function that turns a segment's records into items."""
    reader = hiredis.Reader()
    kinds, producer = head.kinds, head.producer
    name, version = producer.encode(), str(head.version).encode()

    def item_of(record: Record) -> Item:
        reader.feed(b"*%d\r\n%s" % (record.width, record.payload))
        fields: list[bytes] = reader.gets()
        seq = record.seq
        fields += (b"producer", name, b"seq", b"%d" % seq, b"jseq", b"%d" % record.jseq)
        fields += (b"v", version)
        return Item(kinds[record.kind], "", producer, seq, fields)

    return item_of


def _seal_of(path: Path) -> Seal | None:
    """Return a segment's seal, None when it has none yet. Raises OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - SEAL_BYTES_MAX))
        return read_seal(file.read())


def _is_longer(data: bytes) -> bool:
    """Return whether a record may begin there that is longer than these bytes."""
    return data[:4] == MARK and FRAME.unpack_from(data)[1] + FRAME.size > len(data)


def _behind_damage(data: bytes) -> int | None:
    """Return where the first whole record begins, None when there is none.

    0 when it is whole now: a bridge was just writing it.
    """
    if parse(data, 0) is not None:
        return 0
    found = next_whole(data, 1)
    return None if found is None else found[0]


def _has_content(path: Path) -> bool:
    try:
        return bool(path.read_bytes().strip(b"\0"))
    except FileNotFoundError:
        return False

"""One exec stream on its way: what goes next, and what is in flight."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bridge.core.lanes import ExecStream, Kept
from bridge.core.resp import ReplyError
from bridge.journal import Chapter, Journal
from bridge.journal_reader import Reader

# What one call of the script carries; more would stall the other streams behind it.
BATCH_BYTES_MAX: Final = 1 << 20


class Batch(NamedTuple):
    """What one call of the script carries: numbers `first` to `last` of a producer."""

    producer: str
    first: int
    last: int
    appended_ns: int


@dataclass
class Shipment:
    """The state of one stream. `is_open`: batches may leave; else a claim is due, or under way.

    A chapter is what the journal holds of one producer; they go in their order, the present
    producer's last. `cursor` is the next number to be sent.
    """

    stream: ExecStream
    journal: Journal | None
    is_open: bool = False
    chapters: list[Chapter] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    cursor: int = 1
    in_flight: deque[Batch] = field(default_factory=deque)
    refusal: ReplyError | None = None
    is_refused: bool = False
    retry_seconds: float = 0.0
    # Holes that were told: by whose and its last number, the jseq of the entry that tells it.
    holes: dict[tuple[str, int], int] = field(default_factory=dict)
    _place: int = 0
    _reader: Reader | None = None

    def resume(self, chapters: list[Chapter], marks: dict[str, int]) -> None:
        """Go on right behind the marks, in the first chapter that Redis does not have whole."""
        self.chapters, self.marks = chapters, marks
        self.refusal = None
        self.is_open = True
        # A claim may succeed where entries are refused: only they tell that it is over.
        self.is_refused = self.is_refused and not self.is_whole
        self._open_chapter(0)

    def next_entries(self, entries_max: int) -> list[Kept]:
        """Return what goes next: entries that follow each other, at `cursor` or behind it."""
        while self.chapters:
            kept = self._read(entries_max)
            # The last of a chapter must be in before the next may leave: its numbers are others.
            if kept or self.is_present or self.in_flight:
                return _one_width(kept)
            self._open_chapter(self._place + 1)
        return []

    @property
    def producer(self) -> str:
        """Whose numbers go at present."""
        return self.chapters[self._place].producer

    @property
    def former(self) -> str:
        """Whose entries must be there before the first of this producer; empty behind the first."""
        is_first = self._place > 0 and not self.marks.get(self.producer, 0)
        return self.chapters[self._place - 1].producer if is_first else ""

    @property
    def is_present(self) -> bool:
        """Whether that is the producer which new entries get."""
        return self._place == len(self.chapters) - 1

    @property
    def is_whole(self) -> bool:
        """Whether Redis has confirmed all there is."""
        return self.stream.acknowledged >= self.stream.seq and not self.older_backlog

    @property
    def entries_in_flight(self) -> int:
        return sum([each.last - each.first + 1 for each in self.in_flight])

    @property
    def older_backlog(self) -> int:
        """Entries of former producers that Redis has not confirmed."""
        left = [
            each.last - max(each.first - 1, self.marks.get(each.producer, 0))
            for each in self.chapters[:-1]
        ]
        return sum([count for count in left if count > 0])

    def _open_chapter(self, place: int) -> None:
        self._place, self._reader = place, None
        self.cursor = self.marks.get(self.producer, 0) + 1

    def _read(self, entries_max: int) -> list[Kept]:
        stream, journal = self.stream, self.journal
        if journal is None:
            return stream.take(self.cursor, entries_max, None)
        upto_jseq = None
        if self.is_present:
            upto_jseq = journal.synced
            if self.cursor > stream.seq:
                return []
            kept = stream.take(self.cursor, entries_max, upto_jseq)
            if kept and kept[0].seq == self.cursor:
                return kept
            if stream.holds(self.cursor):
                return []  # not durable yet
        elif self.cursor > self.chapters[self._place].last:
            return []
        if self._reader is None:
            self._reader = Reader(journal, self.producer, stream.kind)
        return self._reader.read(self.cursor, entries_max, upto_jseq)


def _one_width(kept: list[Kept]) -> list[Kept]:
    """Return the leading entries of one width, a mebibyte at most: a batch has but one."""
    size = 0
    for count, each in enumerate(kept):
        size += len(each.data)
        if each.width != kept[0].width or (count and size > BATCH_BYTES_MAX):
            return kept[:count]
    return kept

"""Reads one stream of one producer out of the journal, from any number on."""

from collections.abc import Iterator

from bridge.core import contract
from bridge.core.lanes import Kept, tail_encoder
from bridge.journal import Journal
from bridge.segments import CLAIM, Record, Segment


class Reader:
    """A place in the journal; going on from where the last reading ended costs no search."""

    def __init__(self, journal: Journal, producer: str, kind: str) -> None:
        self._journal = journal
        self._producer = producer
        self._kind = kind
        self._segment: Segment | None = None
        self._records: Iterator[Record] = iter(())
        self._offset = 0
        self._wanted = 0
        self._ahead: Kept | None = None
        self._version = contract.VERSION
        self._tail = tail_encoder(producer, contract.VERSION)

    def read(self, seq: int, entries_max: int, upto_jseq: int | None) -> list[Kept]:
        """Return up to `entries_max` entries that follow each other, the first at `seq` or behind.

        None beyond `upto_jseq` (None: no such bound). Raises Damaged, OSError.
        """
        kept: list[Kept] = []
        if seq != self._wanted:
            self._seek(seq)
        while len(kept) < entries_max:
            entry = self._ahead = self._ahead or self._following()
            if entry is None or (upto_jseq is not None and entry.jseq > upto_jseq):
                break
            if kept and entry.seq != kept[-1].seq + 1:
                break
            kept.append(entry)
            self._ahead = None
            self._wanted = entry.seq + 1
        return kept

    def _seek(self, seq: int) -> None:
        self._wanted, self._ahead = seq, None
        self._records = iter(())
        for segment in self._segments():
            if segment.seal.ends.get(self._kind, 0) >= seq:
                self._segment, self._offset = segment, segment.start
                return
        self._segment = None

    def _following(self) -> Kept | None:
        """Return the next entry of the stream, None at the end of what is written."""
        while True:
            for record in self._records:
                self._offset = record.end
                if record.kind != CLAIM and record.seq >= self._wanted:
                    kept = self._kept(record)
                    if kept is not None:
                        return kept
            if not self._open_next():
                return None

    def _open_next(self) -> bool:
        """Go on in the same segment, when it has grown, or in the next; False at the end."""
        present = self._segment
        ordinal = 0 if present is None else present.ordinal
        following = next((each for each in self._segments() if each.ordinal > ordinal), None)
        # In this order: another thread may fill the present segment and begin the following.
        if present is not None and present.seal.end > self._offset:
            self._records = present.records(self._offset)
            return True
        if following is None:
            return False
        self._segment, self._offset = following, following.start
        self._records = following.records()
        return True

    def _segments(self) -> list[Segment]:
        return [each for each in list(self._journal.segments) if each.producer == self._producer]

    def _kept(self, record: Record) -> Kept | None:
        assert self._segment is not None
        head = self._segment.head
        if head.kinds[record.kind] != self._kind:
            return None
        if self._version != head.version:
            self._version = head.version
            self._tail = tail_encoder(self._producer, head.version)
        tail = self._tail(record.seq, record.jseq)
        return Kept(record.seq, record.jseq, record.width, record.payload + tail, 0)

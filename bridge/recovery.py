"""What a journal that was left behind means for the session that opens it."""

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import structlog

from bridge import journal_directory
from bridge.core import contract
from bridge.core.contract import EXEC_KINDS
from bridge.segments import CLAIM, Damaged, Head, Segment, encode, write_seal

log = structlog.get_logger("nautilus_bridge.recovery")


class Moved(NamedTuple):
    """Entries numbered again: where they were, the records, the last numbers they have now."""

    segments: list[Segment]
    records: bytes
    ends: dict[str, int]
    jseq: int

    @property
    def first(self) -> int | None:
        """The ordinal of the first segment they were in, None when there are none."""
        return self.segments[0].ordinal if self.segments else None


class Recovered(NamedTuple):
    """The segments that count, all sealed, and the head of the one that this session begins."""

    segments: list[Segment]
    head: Head


def recover(directory: Path, producer_id: str) -> Recovered:
    """Seal what was left open, and find where numbering goes on.

    It goes on where it ended, under the same producer, unless a torn tail was dropped, the folder
    is a copy, or `producer_id` is another one: then it begins anew, so that no number is given
    twice. Behind a session that Redis never confirmed it goes on in any case: its numbers are
    compared with what Redis has at the first claim. Raises Damaged, OSError.
    """
    uuid, is_copy = journal_directory.identity(directory)
    segments = journal_directory.load_segments(directory)
    _check_order(segments)
    torn_bytes = sum([_settle(each) for each in segments])
    if torn_bytes:
        log.warning("journal.torn", directory=str(directory), dropped_bytes=torn_bytes)
    last = segments[-1] if segments else None
    stem = f"{producer_id}.{uuid[:8]}"
    # Of all names: those of one whose segments are gone must not come again.
    incarnation = max([each.head.incarnation for each in segments], default=0) + 1
    ordinal = 1 if last is None else last.ordinal + 1
    head = Head(
        ordinal=ordinal,
        uuid=uuid,
        incarnation=incarnation,
        producer=f"{stem}.{incarnation}",
        version=contract.VERSION,
        kinds=EXEC_KINDS,
        seqs=dict.fromkeys(EXEC_KINDS, 0),
        jseq=0,
        verified={},
        created_ns=time.time_ns(),
        session=ordinal,
    )
    if last is None or is_copy or last.head.stem != stem:
        return Recovered(segments, head)
    claimed = is_claimed(segments, last.head.session)
    if claimed and (torn_bytes or last.seal.is_cut):
        return Recovered(segments, head)
    head = replace(
        head,
        incarnation=last.head.incarnation,
        producer=last.producer,
        seqs=head.seqs | last.seal.ends,
        jseq=last.seal.jseq,
        verified=dict(last.seal.ends) if claimed else last.head.verified,
    )
    return Recovered(segments, head)


def is_claimed(segments: Sequence[Segment], session: int) -> bool:
    """Return whether Redis has confirmed a session's numbers, by the ordinal that it began with."""
    return any(
        each.seal.is_claimed or each.head.is_claimed
        for each in list(segments)
        if each.head.session == session
    )


def moved(segments: Sequence[Segment], producer: str, verified: Mapping[str, int]) -> Moved:
    """Return what a producer has behind `verified`, numbered again from 1. Raises Damaged, OSError.

    What they were told of their durability holds no more: they are made durable anew, together.
    """
    beyond = [
        each
        for each in segments
        if each.producer == producer
        and any(seq > verified.get(kind, 0) for kind, seq in each.seal.ends.items())
    ]
    ends, jseq, records = dict.fromkeys(EXEC_KINDS, 0), 0, []
    for segment in beyond:
        for record in segment.records():
            kind = "" if record.kind == CLAIM else segment.head.kinds[record.kind]
            if not kind or record.seq <= verified.get(kind, 0):
                continue
            ends[kind] += 1
            jseq += 1
            index = EXEC_KINDS.index(kind)
            tail = (index, record.width, record.once, record.payload)
            records.append(encode(ends[kind], jseq, jseq - 1, *tail))
    return Moved(beyond, b"".join(records), ends, jseq)


def _check_order(segments: Sequence[Segment]) -> None:
    """Raise Damaged for a segment that ends before the next one says it did.

    A segment is durable as a whole before the next one takes its first record.
    """
    for segment, following in itertools.pairwise(segments):
        goes_on = following.producer == segment.producer and not segment.seal.is_cut
        is_next = following.ordinal == segment.ordinal + 1
        if goes_on and is_next and following.head.jseq > segment.seal.jseq:
            raise Damaged(segment.path, segment.seal.end, "what follows it held more")


def _settle(segment: Segment) -> int:
    """Make a segment durable, sealed if it was left open; return how many bytes were torn off."""
    descriptor = os.open(segment.path, os.O_RDWR)
    try:
        if not segment.is_sealed:
            # A start that is killed behind this must leave the next one something to know it by.
            segment.seal.is_cut = segment.torn_bytes > 0
            write_seal(descriptor, segment.seal)
            segment.is_sealed = True
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return segment.torn_bytes

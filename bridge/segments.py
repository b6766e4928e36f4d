"""Segments of the journal: the file format, and how a file is read, checked and repaired.

A segment is a head, records, and, once it is sealed, a trailer; what lies behind the last record
of an unsealed one was preallocated and is zero.

    head     magic, length and crc32c of a JSON text: `Head`
    record   mark, length, crc32c of the rest; seq, jseq, synced, kind, width, once; payload
    trailer  length 0xffffffff; a JSON text: `Seal`; its length, its crc32c, magic

Integers are little-endian. `kind` indexes the head's `kinds`, or is CLAIM. `width` is how many
strings the payload holds: RESP bulk strings, field names and values in turn, without the tail.
`once` is the entry's identity where it may be reported again (`bridge.fill_index`), else zero.
`synced` is the last jseq that was durable when the record was written: by it a hole that a power
cut left in what nobody had promised is told from damage.
"""

import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

import google_crc32c

from bridge.core.spans import Spans

crc32c = google_crc32c.value
extend_crc32c = google_crc32c.extend

MAGIC: Final = b"NRBJRNL1"
SEALED: Final = b"NRBSEAL1"
HEAD: Final = struct.Struct("<8sII")
# By it the next record is found behind damage.
MARK: Final = b"\xf5NRB"
FRAME: Final = struct.Struct("<4sII")
BODY: Final = struct.Struct("<QQQBB16s")
TRAILER: Final = struct.Struct("<II8s")
END: Final = b"\xff\xff\xff\xff"
# Not a stream: tells that Redis has confirmed this session's numbers.
CLAIM: Final = 255
READ_BYTES: Final = 1 << 18
NAME: Final = re.compile(r"(\d{10})\.seg")


class Damaged(Exception):
    """A segment holds what nobody wrote: `offset` in bytes, from where on it cannot be trusted."""

    def __init__(self, path: Path, offset: int, why: str) -> None:
        super().__init__(f"{path}: damaged at byte {offset}: {why}")
        self.path = path
        self.offset = offset


class Record(NamedTuple):
    """One record; `payload` without its tail, `end` the offset behind it."""

    seq: int
    jseq: int
    synced: int
    kind: int
    width: int
    once: bytes
    payload: bytes
    end: int


@dataclass(frozen=True)
class Head:
    """What a segment was opened with.

    `seqs` and `jseq` are the last numbers given before it. `verified` are, by kind, the highest
    numbers that Redis may have seen of this producer, as far as is known: an unclaimed session may
    have given numbers that somebody else gave too. `session` is the ordinal of the first segment of
    the process that wrote it, `is_claimed` whether Redis had confirmed its numbers by then.
    Segments from `replaces` up to this one count no more: their entries stand here again, under
    another producer.
    """

    ordinal: int
    uuid: str
    incarnation: int
    producer: str
    version: int
    kinds: tuple[str, ...]
    seqs: dict[str, int]
    jseq: int
    verified: dict[str, int]
    created_ns: int
    session: int
    is_claimed: bool = False
    replaces: int | None = None

    @property
    def stem(self) -> str:
        """The producer's name without its incarnation."""
        return self.producer.rpartition(".")[0]

    def encode(self) -> bytes:
        """Return the bytes that begin the file."""
        text = json.dumps(asdict(self)).encode()
        return HEAD.pack(MAGIC, len(text), crc32c(text)) + text

    @classmethod
    def read(cls, path: Path) -> tuple[Self, int]:
        """Return a file's head and the offset of its first record. Raises Damaged, OSError."""
        with path.open("rb") as file:
            start = file.read(HEAD.size)
            try:
                magic, length, crc = HEAD.unpack(start)
                text = file.read(length)
                if magic != MAGIC or crc32c(text) != crc:
                    raise ValueError("its head is not that of a segment")
                fields = json.loads(text)
            except (struct.error, ValueError, MemoryError) as error:
                raise Damaged(path, 0, str(error)) from None
        try:
            return cls(**{**fields, "kinds": tuple(fields["kinds"])}), HEAD.size + length
        except (KeyError, TypeError):
            raise Damaged(path, 0, "its head is of another version of the bridge") from None


@dataclass
class Seal:
    """What a segment holds, known when it is complete.

    `end` is the offset behind the last record and `crc` the crc32c of all before it. `ends` are the
    last numbers by kind, `last_ns` when the last record was written. `is_cut`: numbers that were
    given are lost from it, perhaps the last ones.
    """

    end: int
    crc: int
    ends: dict[str, int]
    jseq: int
    last_ns: int
    is_claimed: bool = False
    is_cut: bool = False

    def encode(self) -> bytes:
        """Return the trailer."""
        text = json.dumps(asdict(self)).encode()
        return END + text + TRAILER.pack(len(text), crc32c(text), SEALED)


@dataclass
class Segment:
    """One file of the journal and what is known of it."""

    path: Path
    head: Head
    start: int
    seal: Seal
    is_sealed: bool = False
    # How its reading ended when it was not sealed: the bytes that were dropped.
    torn_bytes: int = field(default=0, compare=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check a segment; for an unsealed one, find its end and drop what is torn.

        Nothing is written. Raises Damaged when what was durable cannot be read, OSError.
        """
        head, start = Head.read(path)
        data = path.read_bytes()
        seal = read_seal(data)
        if seal is not None:
            if crc32c(data[: seal.end]) != seal.crc:
                scan = _scan(data, head, start)
                raise Damaged(path, scan.seal.end, "its checksum does not hold")
            return cls(path, head, start, seal, is_sealed=True)
        scan = _scan(data, head, start)
        if scan.next_offset is not None:
            raise Damaged(path, scan.seal.end, f"whole records follow at byte {scan.next_offset}")
        last_ns = path.stat().st_mtime_ns
        seal = scan.seal
        seal.last_ns = last_ns
        return cls(path, head, start, seal, torn_bytes=scan.torn_bytes)

    @property
    def ordinal(self) -> int:
        return self.head.ordinal

    @property
    def producer(self) -> str:
        return self.head.producer

    def held(self) -> list[tuple[str, Spans]]:
        """Return the numbers that it holds, by kind; what was cut out of it is nowhere any more.

        Raises Damaged, OSError.
        """
        before = self.head.seqs
        found = {
            kind: Spans([(before.get(kind, 0) + 1, last)])
            for kind, last in self.seal.ends.items()
            if last > before.get(kind, 0)
        }
        if self.seal.is_cut:
            found = {}
            for record in self.records():
                if record.kind != CLAIM:
                    found.setdefault(self.head.kinds[record.kind], Spans()).add(record.seq)
        return list(found.items())

    def records(self, offset: int | None = None) -> Iterator[Record]:
        """Yield the records from `offset` (None: the first) to the end known now.

        Raises Damaged, OSError.
        """
        position, end = self.start if offset is None else offset, self.seal.end
        data = b""
        with self.path.open("rb") as file:
            while position < end:
                file.seek(position)
                data = file.read(min(end - position, len(data) * 2 + READ_BYTES))
                at = 0
                while (record := parse(data, at)) is not None:
                    yield record._replace(end=position + record.end)
                    at = record.end
                position += at
                if at:
                    data = b""
                elif position + len(data) >= end:
                    raise Damaged(self.path, position, "a record does not match its checksum")


def encode(
    seq: int, jseq: int, synced: int, kind: int, width: int, once: bytes, payload: bytes
) -> bytes:
    """Return a record."""
    body = BODY.pack(seq, jseq, synced, kind, width, once) + payload
    return FRAME.pack(MARK, len(body), crc32c(body)) + body


def parse(data: bytes, at: int) -> Record | None:
    """Return the record at `at`, None when there is no whole one."""
    if at + FRAME.size > len(data):
        return None
    mark, length, crc = FRAME.unpack_from(data, at)
    begin = at + FRAME.size
    end = begin + length
    if mark != MARK or length < BODY.size or end > len(data):
        return None
    if crc32c(data[begin:end]) != crc:
        return None
    payload = data[begin + BODY.size : end]
    seq, jseq, synced, kind, width, once = BODY.unpack_from(data, begin)
    return Record(seq, jseq, synced, kind, width, once, payload, end)


class _Scan(NamedTuple):
    seal: Seal
    torn_bytes: int
    # Where whole records that had been durable follow behind the end; None: nowhere.
    next_offset: int | None


def _scan(data: bytes, head: Head, start: int) -> _Scan:
    """Read as far as records are whole."""
    seal = Seal(start, 0, dict(head.seqs), head.jseq, 0)
    while (record := parse(data, seal.end)) is not None:
        if record.kind == CLAIM:
            seal.is_claimed = True
        else:
            seal.ends[head.kinds[record.kind]] = record.seq
            seal.jseq = record.jseq
        seal.end = record.end
    seal.crc = crc32c(data[: seal.end])
    rest = data[seal.end :].rstrip(b"\0")
    return _Scan(seal, len(rest), _next_durable(data, seal))


def _next_durable(data: bytes, seal: Seal) -> int | None:
    """Return where a whole record stands behind the end that tells of durable ones before it."""
    at = seal.end
    while (found := next_whole(data, at + 1)) is not None:
        offset, record = found
        if record.synced > seal.jseq:
            return offset
        at = offset
    return None


def next_whole(data: bytes, at: int) -> tuple[int, Record] | None:
    """Return the next whole record from `at` on, and where it stands."""
    while (at := data.find(MARK, at)) >= 0:
        record = parse(data, at)
        if record is not None:
            return at, record
        at += 1
    return None


def read_seal(data: bytes) -> Seal | None:
    """Return the seal at the end of a file, None when there is no whole one."""
    if len(data) < TRAILER.size:
        return None
    length, crc, magic = TRAILER.unpack_from(data, len(data) - TRAILER.size)
    text = data[-TRAILER.size - length : -TRAILER.size]
    if magic != SEALED or len(text) != length or crc32c(text) != crc:
        return None
    return Seal(**json.loads(text))


def write_seal(fd: int, seal: Seal) -> None:
    """Write the trailer behind the last record and cut the file off there. Raises OSError."""
    trailer = seal.encode()
    write_at(fd, trailer, seal.end)
    os.ftruncate(fd, seal.end + len(trailer))


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data`. Raises OSError; part of it may stand there then."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)

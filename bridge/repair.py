"""Cuts damage out of a segment, and says what is lost by it."""

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path

from bridge.segments import CLAIM, Head, Record, Seal, crc32c, next_whole, parse, read_seal


@dataclass
class Loss:
    """What a repair cut out: `numbers` are, by kind, the first and the last of each hole.

    Behind the last whole record of an unsealed segment nobody can tell: `is_open`.
    """

    bytes: int = 0
    numbers: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    is_open: bool = False


def repair(path: Path) -> Loss:
    """Cut out what is damaged and seal the segment; the damaged file is kept beside it.

    Raises Damaged when even the head cannot be read, OSError.
    """
    head, start = Head.read(path)
    data = path.read_bytes()
    sealed = read_seal(data)
    data = data if sealed is None else data[: sealed.end]
    loss = Loss(is_open=sealed is None)
    kept = [data[:start]]
    # Claimed: what is lost may be what said so, and numbers that Redis has must not be moved.
    seal = Seal(start, 0, dict(head.seqs), head.jseq, path.stat().st_mtime_ns, True, is_cut=True)
    at = start
    while at < len(data):
        record = parse(data, at)
        if record is None:
            following = next_whole(data, at + 1)
            behind = len(data) if following is None else following[0]
            # Zeros behind the last record were never written.
            lost = data[at:behind] if following or sealed else data[at:].rstrip(b"\0")
            loss.bytes += len(lost)
            at = behind
            continue
        kept.append(data[at : record.end])
        at = record.end
        _note(record, head, seal, loss)
    for kind, last in {} if sealed is None else sealed.ends.items():
        _note_hole(loss, kind, seal.ends[kind] + 1, last)
    body = b"".join(kept)
    seal.end, seal.crc = len(body), crc32c(body)
    _replace(path, body + seal.encode())
    return loss


def _note(record: Record, head: Head, seal: Seal, loss: Loss) -> None:
    if record.kind == CLAIM:
        return
    kind = head.kinds[record.kind]
    _note_hole(loss, kind, seal.ends.get(kind, 0) + 1, record.seq - 1)
    seal.ends[kind], seal.jseq = record.seq, record.jseq


def _note_hole(loss: Loss, kind: str, first: int, last: int) -> None:
    if last >= first:
        loss.numbers.setdefault(kind, []).append((first, last))


def _replace(path: Path, data: bytes) -> None:
    """Put `data` in place of the file, which keeps a name: at no moment is there none."""
    fresh = path.with_suffix(".repaired")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    kept = path.with_name(f"{path.name}.damaged")
    for number in itertools.count(2):
        if not kept.exists():
            break
        kept = path.with_name(f"{path.name}.damaged.{number}")
    os.link(path, kept)
    fresh.replace(path)

"""`python -m bridge journal`: what a journal holds, whether it is whole, and its repair."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge import exits, journal_directory, repair
from bridge.exits import Exit
from bridge.repair import Loss
from bridge.segments import CLAIM, Damaged, Segment

COLUMNS = "{:>10}  {:<20}  {:>11}  {:>9}  {:<8}  {}"


@dataclass(frozen=True)
class Line:
    """What is known of one segment; `problem` is empty when it is whole."""

    path: Path
    problem: str
    segment: Segment | None = None
    entries: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON types."""
        known: dict[str, Any] = {"file": str(self.path), "problem": self.problem}
        if self.segment is not None:
            head, seal = self.segment.head, self.segment.seal
            known |= {
                "ordinal": head.ordinal,
                "producer": head.producer,
                "created_ns": head.created_ns,
                "is_sealed": self.segment.is_sealed,
                "bytes": seal.end,
                "entries": self.entries,
                "first": {kind: seq + 1 for kind, seq in head.seqs.items()},
                "last": seal.ends,
            }
        return known


def examine(directory: Path) -> list[Line]:
    """Return a line for each segment, read from its first to its last byte.

    Reads only, also beside a bridge that writes. Raises Exit (BAD_DATA) where there is no journal.
    """
    if not (directory / journal_directory.IDENTITY).exists():
        raise Exit(exits.BAD_DATA, f"{directory} holds no journal; see journal.directory")
    lines = map(_examined, journal_directory.segment_paths(directory))
    return [line for line in lines if line is not None]


def _examined(path: Path) -> Line | None:
    try:
        segment = Segment.load(path)
        entries = sum([record.kind != CLAIM for record in segment.records()])
        return Line(path, "", segment, entries)
    except FileNotFoundError:
        return None  # a bridge has just removed it
    except (Damaged, OSError) as error:
        return Line(path, str(error))


def table(lines: list[Line]) -> Iterator[str]:
    """Yield the report for a person."""
    yield COLUMNS.format("segment", "begun (UTC)", "bytes", "entries", "state", "numbers")
    for line in lines:
        if line.segment is None:
            yield COLUMNS.format(line.path.stem, "", "", "", "DAMAGED", line.problem)
            continue
        head, seal = line.segment.head, line.segment.seal
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(head.created_ns / 1e9))
        state = "sealed" if line.segment.is_sealed else "open"
        numbers = ", ".join(
            [
                f"{kind} {head.seqs.get(kind, 0) + 1}-{last}"
                for kind, last in seal.ends.items()
                if last > head.seqs.get(kind, 0)
            ]
        )
        yield COLUMNS.format(
            line.path.stem,
            begun,
            seal.end,
            line.entries,
            state,
            f"{head.producer}: {numbers or '-'}",
        )
    damaged = sum([bool(line.problem) for line in lines])
    entries = sum([line.entries for line in lines])
    yield f"{len(lines)} segments, {entries} entries, {damaged} damaged"


def report(directory: Path, *, as_json: bool) -> tuple[list[str], int]:
    """Return what to print and the exit code: BAD_DATA when a segment is damaged."""
    lines = examine(directory)
    code = exits.BAD_DATA if any(line.problem for line in lines) else exits.DONE
    if as_json:
        return [json.dumps([line.as_dict() for line in lines], indent=2)], code
    return list(table(lines)), code


def mend(directory: Path) -> list[str]:
    """Cut the damage out of every segment that has some; return what was done.

    Raises Exit: TAKEN while a bridge writes there, BAD_DATA when a head cannot be read.
    """
    damaged = [line for line in examine(directory) if line.problem]
    lock = journal_directory.lock(directory)
    said = []
    try:
        for line in damaged:
            said.append(f"{line.path.name}: {_loss(repair.repair(line.path))}")
    except Damaged as error:
        raise Exit(
            exits.BAD_DATA, f"{error}; move the file away: all that it holds is lost"
        ) from None
    finally:
        os.close(lock)
    return said or ["nothing to repair"]


def _loss(loss: Loss) -> str:
    holes = [
        f"{kind} {', '.join([f'{first}-{last}' for first, last in spans])}"
        for kind, spans in loss.numbers.items()
    ]
    behind = ", and what may have stood behind the last whole record" if loss.is_open else ""
    return (
        f"cut out {loss.bytes} bytes; lost for good: {'; '.join(holes) or 'no known number'}"
        f"{behind}; the damaged file is kept beside it"
    )

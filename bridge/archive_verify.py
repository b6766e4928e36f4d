"""Whether an archive is whole: every line against its chain, manifests, and heads noted elsewhere.

The chain alone cannot show that the last records were cut off, or that all of it was written anew
by somebody who had the time: that shows by a head that was published, and is kept elsewhere.
"""

import json
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bridge.archive_segments import (
    Damaged,
    check_files,
    last_number,
    manifest_path,
    read,
    segment_path,
)
from bridge.archive_tally import Tally, digest_of_manifest
from bridge.core import chain

NUMBER: Final = re.compile(rb'\{"n":(\d+),')
WRITABLE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
# What no line says: when it was written, and what the reader noted behind the last record.
UNCHECKED: Final = ("created_ns", "places")


@dataclass(frozen=True)
class Broken:
    """Where an archive stops being what was written: the first record that cannot be trusted.

    `line` is 0 where a manifest is meant, 1 for the head of a segment.
    """

    file: str
    line: int
    offset: int
    record: int
    why: str

    def __str__(self) -> str:
        place = f"line {self.line}, byte {self.offset}" if self.line else "manifest"
        return f"{self.file}, {place}: record {self.record}: {self.why}"


@dataclass
class Report:
    """What `verify` found. `records` are those that hold, `root` is the digest of the last one."""

    archive: str = ""
    segments: int = 0
    records: int = 0
    root: str = ""
    # The begin of a line at the end of the open segment: being written, or left by a kill.
    torn_bytes: int = 0
    broken: Broken | None = None
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self) | {"is_whole": self.broken is None}


def verify(directory: Path, heads: Sequence[str] = ()) -> Report:
    """Walk an archive from its first to its last byte, also beside a bridge that writes.

    Each of `heads` must be the digest of one of its records. Raises OSError, ValueError (a head
    is no hex).
    """
    report, tally = Report(), Tally()
    unseen = {bytes.fromhex(head) for head in heads}
    last = last_number(directory)
    try:
        for number in range(1, last + 1):
            check_files(directory, number, last)
            _verify_segment(directory, number, tally, unseen, report)
            report.segments = number
        if unseen:
            raise Damaged(
                segment_path(directory, max(last, 1)),
                _lacking([head for head in heads if bytes.fromhex(head) in unseen]),
                line=tally.lines + 1,
                offset=tally.size,
            )
    except Damaged as damaged:
        report.broken = Broken(
            damaged.path.name,
            damaged.line,
            damaged.offset,
            damaged.record or tally.last + 1,
            damaged.why,
        )
    report.archive, report.records, report.root = tally.archive, tally.last, tally.root.hex()
    return report


def _lacking(heads: Sequence[str]) -> str:
    """Return what is wrong when these heads are in no record."""
    rest = f" and {len(heads) - 1} more" if len(heads) > 1 else ""
    return (
        f"no record has the head {heads[0]}{rest}: records were cut off, here or before others"
        " were written, or the archive is another one"
    )


def _verify_segment(
    directory: Path, number: int, tally: Tally, unseen: set[bytes], report: Report
) -> None:
    """Check a segment and its manifest, and go on in `tally`. Raises Damaged, OSError."""
    path, manifest = segment_path(directory, number), manifest_path(directory, number)
    is_sealed = manifest.exists()
    try:
        for _ in read(directory, number, tally):
            unseen.discard(tally.root)
    except Damaged as damaged:
        if is_sealed or not damaged.is_torn:
            raise _explained(damaged, number) from None
        report.torn_bytes = path.stat().st_size - damaged.offset
    if is_sealed:
        _verify_manifest(path, manifest, tally)
        writable = [each.name for each in (path, manifest) if each.stat().st_mode & WRITABLE]
        report.warnings += [f"{name} is sealed and not read-only" for name in writable]


def _verify_manifest(path: Path, manifest: Path, tally: Tally) -> None:
    """Compare what a manifest says with what its segment holds. Raises Damaged, OSError."""
    data = manifest.read_bytes()
    try:
        said = json.loads(data)
        ours = json.loads(json.dumps(tally.as_manifest(0)))
        ours |= {name: said[name] for name in UNCHECKED}
        differing = [name for name in {**ours, **said} if ours.get(name) != said.get(name)]
        if said["last"] > tally.last and said["first"] == tally.first:
            raise Damaged(
                path,
                f"missing: the manifest says that the last record is {said['last']}",
                line=tally.lines + 1,
                offset=tally.size,
                record=tally.last + 1,
            )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(manifest, "it is no manifest") from None
    if differing:
        raise Damaged(manifest, f"it differs from its segment: {', '.join(differing)}")
    tally.manifest = digest_of_manifest(data)


def _explained(damaged: Damaged, number: int) -> Damaged:
    """Return the damage with what can be told of it from the lines that follow."""
    if damaged.is_torn:
        why = "cut off: the file ends within it"
    elif damaged.record is None:
        why = f"edited, forged or missing: {damaged.why}"
        if number > 1:
            why += f"; or segment {number - 1} is forged"
    else:
        why = _why(damaged.record, _numbers(damaged.path, damaged.offset))
    return Damaged(
        damaged.path, why, line=damaged.line, offset=damaged.offset, record=damaged.record
    )


def _why(wanted: int, numbers: Iterator[int]) -> str:
    """Return what became of a record, by the numbers of the lines from its place on."""
    found, after = next(numbers, 0), next(numbers, 0)
    if found == wanted or not found:
        return "edited: it does not match its digest"
    if after == wanted or wanted in numbers:
        return f"out of order: record {found} stands before it"
    if after == wanted + 1:
        return "edited: it does not match its digest, nor its number"
    return f"missing: record {found} stands in its place"


def _numbers(path: Path, offset: int) -> Iterator[int]:
    """Yield what the lines from `offset` on say that they are; 0 for what is no record."""
    with path.open("rb") as file:
        file.seek(offset)
        for whole in file:
            number = NUMBER.match(whole)
            yield int(number[1]) if number is not None and len(whole) > chain.TAIL_BYTES else 0

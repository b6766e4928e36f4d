"""The files of the archive: segments of chained lines, a manifest for each sealed one; reading.

    0000000001.arc   a head, then one record a line (bridge.core.chain)
    0000000001.json  its manifest: what the segment holds, and what was taken until its end

The head of a segment names the SHA-256 of the manifest before it: manifests are in the chain, too.
Numbers of records are dense over all segments. All of this reads beside a bridge that writes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bridge.archive_tally import Tally, digest_of_manifest
from bridge.core import chain
from bridge.core.chain import Record
from bridge.core.spans import Spans
from bridge.reading import Item, Place, digest_of, item_of

READ_BYTES: Final = 1 << 20
NAME: Final = re.compile(r"\d{10}\.(arc|json)")
# What a kill leaves of a line, and a power cut: zeros where blocks of the last write were to be.
BEGUN: Final = re.compile(rb"[ -~]*(\t[0-9a-f]{0,64})?\0*")


class Damaged(OSError):
    """An archive does not hold what was written to it: where that begins, and why.

    `record` is None where a head or a manifest is concerned; then `line` is 1, or 0 for a manifest.
    `is_torn`: what stands there is the begin of a line, at the end of the file, zeros behind it.
    """

    def __init__(
        self,
        path: Path,
        why: str,
        *,
        line: int = 0,
        offset: int = 0,
        record: int | None = None,
        is_torn: bool = False,
    ) -> None:
        what = f"record {record}, line {line}" if record else f"line {line}" if line else "manifest"
        super().__init__(f"{path.name}: {what}, byte {offset}: {why}")
        self.path, self.why, self.line, self.offset = path, why, line, offset
        self.record, self.is_torn = record, is_torn


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:010}.arc"


def manifest_path(directory: Path, number: int) -> Path:
    return directory / f"{number:010}.json"


def last_number(directory: Path) -> int:
    """Return the highest number that a file of the archive has, 0 when there is none."""
    return max([int(path.stem) for path in directory.iterdir() if NAME.fullmatch(path.name)] + [0])


def check_files(directory: Path, number: int, last: int) -> None:
    """Raise Damaged when a file is missing without which segment `last` cannot be."""
    path, manifest = segment_path(directory, number), manifest_path(directory, number)
    if not path.exists():
        raise Damaged(path, "the segment is missing", line=1)
    if number < last and not manifest.exists():
        raise Damaged(manifest, "the manifest is missing")


def segment_numbers(directory: Path) -> range:
    """Return the numbers of the segments, 1 and up. Raises Damaged when one is missing, OSError."""
    last = last_number(directory)
    for number in range(1, last + 1):
        check_files(directory, number, last)
    return range(1, last + 1)


def before(directory: Path, number: int) -> Tally:
    """Return what stood in an archive when a segment was begun. Raises Damaged, OSError."""
    return load_manifest(directory, number - 1) if number > 1 else Tally()


def load_manifest(directory: Path, number: int) -> Tally:
    """Return what stood in an archive when a segment was sealed. Raises Damaged, OSError."""
    path = manifest_path(directory, number)
    try:
        return Tally.of_manifest(path.read_bytes())
    except ValueError:
        raise Damaged(path, "it is no manifest") from None


def read(directory: Path, number: int, tally: Tally) -> Iterator[tuple[Record, Item]]:
    """Yield the records of a segment, each counted into `tally`, the state before it.

    Raises Damaged at the first line that does not follow on the one before, OSError.
    """
    path, offset, line = segment_path(directory, number), 0, 0
    with path.open("rb", buffering=READ_BYTES) as file:
        for whole in file:
            line += 1
            root = chain.follows(whole, tally.root)
            wanted = tally.last + 1 if line > 1 else None
            try:
                if root is None:
                    raise ValueError("it does not follow on the line before")
                text = whole[: -chain.TAIL_BYTES]
                if wanted is None:
                    tally.begin(text, root)
                else:
                    record = chain.decode(text)
                    if record.n != wanted:
                        raise ValueError(f"it says that it is record {record.n}")
                    item = item_of(record.kind, record.id, record.fields)
                    tally.count(item, len(whole), root)
                    yield record, item
            except (ValueError, AttributeError) as error:
                torn = BEGUN.fullmatch(whole) is not None
                raise Damaged(
                    path,
                    "it ends within the line" if torn else str(error),
                    line=line,
                    offset=offset,
                    record=wanted,
                    is_torn=torn,
                ) from None
            offset += len(whole)
    if not line:
        raise Damaged(path, "it is empty", line=1, is_torn=True)


def read_all(directory: Path, number: int, tally: Tally) -> Iterator[tuple[Record, Item]]:
    """Yield the records of a segment, one that is being written as far as it is whole.

    `tally` goes on to the state behind it. Raises Damaged, OSError.
    """
    manifest = manifest_path(directory, number)
    is_sealed = manifest.exists()
    try:
        yield from read(directory, number, tally)
    except Damaged as damaged:
        if is_sealed or not damaged.is_torn:
            raise
    if is_sealed:
        tally.manifest = digest_of_manifest(manifest.read_bytes())


def records(directory: Path) -> Iterator[Record]:
    """Yield the records of an archive in the order they were taken, checked against their chain.

    Raises Damaged, OSError.
    """
    tally = Tally()
    for number in segment_numbers(directory):
        for record, _ in read_all(directory, number, tally):
            yield record


def begun(directory: Path) -> Tally:
    """Return what the first line of an archive tells: its id and its streams; nothing where there
    is none. Raises Damaged, OSError."""
    tally = Tally()
    if segment_path(directory, 1).exists():
        next(read_all(directory, 1, tally), None)  # damage further on is met later
    return tally


def cursors(directory: Path) -> Tally:
    """Return what an archive holds: its last manifest, and what was written since.

    Raises Damaged, OSError.
    """
    numbers = segment_numbers(directory)
    last = numbers[-1] if numbers else 0
    if last and not manifest_path(directory, last).exists():
        tally = before(directory, last)
        take_in(directory, last, tally)
        return tally
    return before(directory, last + 1)


def take_in(directory: Path, number: int, tally: Tally) -> None:
    """Count the open segment into the state before it, its places too. Raises Damaged, OSError."""
    latest: dict[str, Record] = {}
    try:
        for record, _ in read_all(directory, number, tally):
            if record.id:
                latest[record.kind] = record
    finally:
        for kind, record in latest.items():
            tally.places[kind] = Place(record.id, digest_of(record.fields))


def foreign(directory: Path) -> Iterator[Item]:
    """Yield somebody else's entries. Raises Damaged, OSError."""
    tally = Tally()
    for number in segment_numbers(directory):
        for _, item in read_all(directory, number, tally):
            if not item.producer:
                yield item


def find(directory: Path, kind: str, producer: str, first: int, last: int) -> Iterator[Item]:
    """Yield what an archive holds of a producer's numbers, rising. Raises Damaged, OSError."""

    def held(tally: Tally) -> list[tuple[int, int]]:
        runs = tally.taken.get((kind, producer), Spans())
        return [
            (max(begin, first), min(end, last))
            for begin, end in runs
            if begin <= last and end >= first
        ]

    wanted = (seq for begin, end in held(cursors(directory)) for seq in range(begin, end + 1))
    due = next(wanted, None)
    waiting: dict[int, Item] = {}  # what was taken before a lower number was
    for number in segment_numbers(directory):
        tally = before(directory, number)
        if manifest_path(directory, number).exists() and held(tally) == held(
            load_manifest(directory, number)
        ):
            continue
        for _, item in read_all(directory, number, tally):
            if due is None:
                return
            if item.producer == producer and item.kind == kind and first <= item.seq <= last:
                waiting[item.seq] = item
                while due in waiting:
                    yield waiting.pop(due)
                    due = next(wanted, None)

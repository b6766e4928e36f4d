"""Put market data files into a catalog: each row once, however often and however it is stopped.

A journal in the catalog has a line for each chunk, written before the chunk: no part of the catalog
is without an owner. A file is known by the hash of its content; one that was interrupted goes on
with its last chunk, or makes room for another; one that is refused leaves nothing.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from integrations.binance.columns import Columns
from integrations.binance.dataset import Integers
from integrations.binance.dumps import chunks, files
from integrations.binance.instruments import find_instrument
from integrations.binance.journal import Journal, Key
from integrations.binance.manifest import Instrument
from integrations.binance.progress import Progress
from integrations.binance.sniffing import AGGREGATE_NAMES, markets_of, symbol_of
from integrations.binance.source_files import FileError, Source, open_source

HASH_BYTES: Final = 1 << 20
PARQUET_END: Final = b"PAR1"

type Target = Callable[[Instrument, Columns, Integers], Path]
type Write = Callable[[Instrument, Columns, Integers], object]


class BlockedError(ValueError):
    """Rows that cannot be written, because the catalog's file `path` is in their way."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


class Job(NamedTuple):
    """A file and the instrument that its rows are of."""

    source: Source
    instrument: Instrument


class Outcome(NamedTuple):
    """What became of a file: how many of its rows are new, or why it was refused."""

    path: Path
    kind: str
    rows: int
    refused: str = ""


def find_jobs(
    folder: Path, symbols: Sequence[str], market: str, instruments: Sequence[Instrument]
) -> tuple[list[Job], list[Outcome]]:
    """Return the files below `folder` that are of the symbols, and those that cannot be used.

    Files of other symbols are left alone. Raises InstrumentError for an unknown symbol.
    """
    known = {symbol.upper(): find_instrument(instruments, symbol, market) for symbol in symbols}
    jobs, refused = [], []
    for path in files(folder):
        try:
            source = open_source(path)
            named = (source.first or {}).get("symbol") if source else None
            symbol = symbol_of(path, named, list(known))
            if symbol is None:
                continue
            if source is None:
                raise FileError(path, "is no market data that is known; remove or rename it")
            _check_market(source, market)
            jobs.append(Job(source, known[symbol]))
        except FileError as error:
            refused.append(Outcome(path, "", 0, str(error)))
    return jobs, refused


def one_numbering(jobs: Sequence[Job]) -> tuple[list[Job], list[Outcome]]:
    """Return the files but those of trades, or of aggTrades, of an instrument that came with the
    other kind before: both number the same trades, each in its own way.
    """
    kept, refused = [], []
    first: dict[str, Job] = {}
    for job in jobs:
        path, layout = job.source.path, job.source.layout
        before = job
        if layout.kind == "trades" and "id" in layout.fields:
            before = first.setdefault(job.instrument.id, job)
        if _is_aggregate(job) == _is_aggregate(before):
            kept.append(job)
        else:
            message = (
                f"{path}: numbers its trades in another way than {before.source.path.name}; "
                "ingest trades or aggTrades, not both"
            )
            refused.append(Outcome(path, layout.kind, 0, message))
    return kept, refused


def _is_aggregate(job: Job) -> bool:
    return job.source.layout.fields.get("id", "").strip().lower() == AGGREGATE_NAMES[0]


def _check_market(source: Source, market: str) -> None:
    """Raise FileError for a file that shows to be of another market than the one asked for."""
    names = () if source.is_parquet else source.names  # a dump is a CSV
    for found, why in markets_of(source.path.absolute(), source.layout, names, source.first or {}):
        if found != market:
            raise FileError(source.path, f"{why} belongs to {found}; use --market {found}")


def ingest(
    jobs: Sequence[Job], journal: Journal, target: Target, write: Write
) -> Iterator[Outcome]:
    """Write the rows of every file that are not in the catalog yet; yield what became of each.

    `target` and `write` are given an instrument, columns and their ts_init. `target` returns the
    file that `write` makes, which raises BlockedError when another is in the way, and ValueError to
    refuse the rows. Raises OSError when the catalog cannot be written.
    """
    sizes = [max(1, job.source.path.stat().st_size) for job in jobs]
    with Progress("ingest") as progress:
        for number, (job, size) in enumerate(zip(jobs, sizes, strict=True)):
            path, kind, before = job.source.path, job.source.layout.kind, sum(sizes[:number])

            def show(done: float, name: str = path.name, at: int = before, of: int = size) -> None:
                progress.show(name, (at + done * of) / sum(sizes))

            try:
                key = Key(_content_hash(path, show), kind, job.instrument.id)
            except FileError as error:
                yield Outcome(path, kind, 0, str(error))
                continue
            try:
                rows = _ingest_file(job, key, journal, target, write, show)
            except ValueError as error:
                _take_back(journal, key)
                message = str(error).removeprefix(f"{path}: ")
                yield Outcome(path, kind, 0, f"{path}: {message}")
            else:
                yield Outcome(path, kind, rows)


def _ingest_file(
    job: Job,
    key: Key,
    journal: Journal,
    target: Target,
    write: Write,
    show: Callable[[float], None],
) -> int:
    """Write what is not in yet; return how many rows were. Raises ValueError for a bad file."""
    if not _is_whole(journal, key):
        _take_back(journal, key)
    if journal.entry(key).is_done:
        return 0
    name, rows, new = job.source.path.name, journal.entry(key).rows, 0
    for chunk in chunks(job.source, job.instrument, skip=rows):
        content = job.instrument, chunk.columns, chunk.ts_init
        path = target(*content)
        part = path.relative_to(journal.root).as_posix()
        if journal.owner(part) not in (None, key):
            _make_room(journal, key, path, f"{path}: has rows already; keep one of the files")
        is_new = not path.exists()
        # What is there without an owner becomes this file's only if it has exactly these rows.
        if not is_new:
            _write(content, key, journal, write)
        if journal.owner(part) is None:
            journal.record(key, name, chunk.rows, part=part)
        if is_new:
            _write(content, key, journal, write)
            new += chunk.rows - rows
        rows = chunk.rows
        show(chunk.done)
    journal.record(key, name, rows, done=True)
    show(1)
    return new


def _write(
    content: tuple[Instrument, Columns, Integers], key: Key, journal: Journal, write: Write
) -> None:
    """Write rows, in the place of a file that was never finished if need be."""
    while True:
        try:
            write(*content)
        except BlockedError as error:
            _make_room(journal, key, error.path, str(error))
        else:
            return


def _make_room(journal: Journal, key: Key, path: Path, message: str) -> None:
    """Take back the file that a part in the way is of, if it is another that is not all there.

    Raises ValueError with the message when it is, or when the part is of no file.
    """
    owner = journal.owner(path.relative_to(journal.root).as_posix())
    if owner is None:
        raise ValueError(
            f"{message} (it is of no file that was ingested: remove it if it is not needed)"
        )
    entry = journal.entry(owner)
    if owner == key or (entry.is_done and _is_whole(journal, owner)):
        raise ValueError(
            f"{message} (it is of {entry.file}: to replace that one, remove this part)"
        )
    _take_back(journal, owner)


def _is_whole(journal: Journal, key: Key) -> bool:
    """Tell whether the parts that must be there are there, up to their end."""
    entry = journal.entry(key)
    parts = [journal.root / part for part in entry.parts]
    return all(_has_end(part) for part in (parts if entry.is_done else parts[:-1]))


def _has_end(part: Path) -> bool:
    try:
        with part.open("rb") as file:
            file.seek(-len(PARQUET_END), os.SEEK_END)
            return file.read() == PARQUET_END
    except OSError:
        return False


def _take_back(journal: Journal, key: Key) -> None:
    """Remove what a file has in the catalog; the journal last, so that no part loses its owner."""
    entry = journal.entry(key)
    for part in entry.parts:
        (journal.root / part).unlink(missing_ok=True)
    if entry.parts or entry.is_done:
        journal.record(key, entry.file, 0)


def _content_hash(path: Path, show: Callable[[float], None]) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(HASH_BYTES):
                digest.update(block)
                show(0)
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror}") from error
    return digest.hexdigest()

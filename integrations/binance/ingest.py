"""Put market data files into a catalog: each row once, however often and however it is stopped.

A journal in the catalog has a line for each chunk that is in. A file is known by the hash of its
content; one that was interrupted goes on after its last chunk; one that is refused leaves nothing.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, NamedTuple

from integrations.binance.columns import Columns
from integrations.binance.dataset import Integers
from integrations.binance.dumps import chunks, files
from integrations.binance.instruments import find_instrument
from integrations.binance.manifest import Instrument
from integrations.binance.progress import Progress
from integrations.binance.sniffing import symbol_of
from integrations.binance.source_files import FileError, Source, open_source

JOURNAL: Final = "ingest.jsonl"
HASH_BYTES: Final = 1 << 20
FUTURES_ONLY: Final = ("rates", "marks")

type Write = Callable[[Instrument, Columns, Integers], Path | None]


class BusyError(RuntimeError):
    """Another process is writing into the same catalog."""


class Job(NamedTuple):
    """A file and the instrument that its rows are of."""

    source: Source
    instrument: Instrument


class Key(NamedTuple):
    """What a file is known by, whatever its name: its content, kind and instrument."""

    content: str
    kind: str
    instrument: str


class Outcome(NamedTuple):
    """What became of a file: how many of its rows are new, or why it was refused."""

    path: Path
    kind: str
    rows: int
    refused: str = ""


@dataclass(slots=True)
class Entry:
    """How far a file is: rows that are in, the catalog's files that they are in."""

    rows: int = 0
    is_done: bool = False
    parts: list[str] = field(default_factory=list)


class Journal:
    """What is in the catalog at `root`, file by file. Use `open_journal`."""

    def __init__(self, root: Path, file: IO[str]) -> None:
        self.root, self._file = root, file
        self._entries: dict[Key, Entry] = {}
        self._owners: dict[str, Key] = {}
        for line in file:
            self._apply(json.loads(line))

    def entry(self, key: Key) -> Entry:
        """Return how far the file is that the key stands for."""
        return self._entries.get(key, Entry())

    def owner(self, part: str) -> Key | None:
        """Return the key of the file whose rows a part of the catalog has."""
        return self._owners.get(part)

    def record(self, key: Key, file: str, rows: int, *, part: str = "", done: bool = False) -> None:
        """Write down that so many rows of the file are in; 0 when none is left."""
        record = {**key._asdict(), "file": file, "rows": rows, "part": part, "done": done}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        self._apply(record)

    def _apply(self, record: dict[str, object]) -> None:
        key = Key(*(str(record[name]) for name in Key._fields))
        entry = self._entries.setdefault(key, Entry())
        entry.rows, entry.is_done = int(str(record["rows"])), bool(record["done"])
        part = str(record["part"])
        if part:
            entry.parts.append(part)
            self._owners[part] = key
        elif not entry.rows:
            for each in entry.parts:
                del self._owners[each]
            entry.parts.clear()


@contextmanager
def open_journal(root: Path) -> Iterator[Journal]:
    """Yield the journal of the catalog at `root`, locked. Raises BusyError."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / JOURNAL
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{root}: another process writes into this catalog; wait") from None
        _drop_torn_line(path)
        file.seek(0)
        yield Journal(root, file)


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
            if source.layout.kind in FUTURES_ONLY and market != "futures":
                raise FileError(path, "belongs to futures; use --market futures")
            jobs.append(Job(source, known[symbol]))
        except FileError as error:
            refused.append(Outcome(path, "", 0, str(error)))
    return jobs, refused


def ingest(jobs: Sequence[Job], journal: Journal, write: Write) -> Iterator[Outcome]:
    """Write the rows of every file that are not in the catalog yet; yield what became of each.

    `write` is given an instrument, columns and their ts_init, and returns the file that it wrote;
    ValueError refuses the file. Raises OSError when the catalog cannot be written.
    """
    sizes = [max(1, job.source.path.stat().st_size) for job in jobs]
    with Progress("ingest") as progress:
        for number, (job, size) in enumerate(zip(jobs, sizes, strict=True)):
            path, before = job.source.path, sum(sizes[:number])

            def show(done: float, name: str = path.name, at: int = before, of: int = size) -> None:
                progress.show(name, (at + done * of) / sum(sizes))

            key = Key(_content_hash(path, show), job.source.layout.kind, job.instrument.id)
            try:
                yield Outcome(path, key.kind, _ingest_file(job, key, journal, write, show))
            except ValueError as error:
                _take_back(journal, key, path)
                message = str(error).removeprefix(f"{path}: ")
                yield Outcome(path, key.kind, 0, f"{path}: {message}")


def _ingest_file(
    job: Job, key: Key, journal: Journal, write: Write, show: Callable[[float], None]
) -> int:
    """Write what is not in yet; return how many rows were. Raises ValueError for a bad file."""
    entry = journal.entry(key)
    if entry.is_done:
        return 0
    path, start, rows = job.source.path, entry.rows, entry.rows
    for chunk in chunks(job.source, job.instrument, skip=start):
        written = write(job.instrument, chunk.columns, chunk.ts_init)
        part = "" if written is None else written.relative_to(journal.root).as_posix()
        if journal.owner(part) not in (None, key):
            raise ValueError(f"{part} has rows of another file already; keep one of them")
        rows = chunk.rows
        journal.record(key, path.name, rows, part=part)
        show(chunk.done)
    journal.record(key, path.name, rows, done=True)
    show(1)
    return rows - start


def _take_back(journal: Journal, key: Key, path: Path) -> None:
    """Remove what a refused file has in the catalog."""
    parts = [*journal.entry(key).parts]
    journal.record(key, path.name, 0)
    for part in parts:
        (journal.root / part).unlink(missing_ok=True)


def _content_hash(path: Path, show: Callable[[float], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BYTES):
            digest.update(block)
            show(0)
    return digest.hexdigest()


def _drop_torn_line(path: Path) -> None:
    """Cut off what a process wrote of its last line when it was killed."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)

"""What a catalog has of which file, line by line: a line for each chunk, written before the chunk.

So no part of the catalog is without an owner, whenever a process is killed; and what the last line
of an unfinished file names may not be there yet.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, NamedTuple

JOURNAL: Final = "ingest.jsonl"


class BusyError(RuntimeError):
    """Another process is writing into the same catalog."""


class JournalError(ValueError):
    """A journal that cannot be read."""


class Key(NamedTuple):
    """What a file is known by, whatever its name: its content, kind and instrument."""

    content: str
    kind: str
    instrument: str


@dataclass(slots=True)
class Entry:
    """How far a file is: its name, and where each of its parts of the catalog ends in it.

    The last part is only sure to be there when the file is done.
    """

    file: str = ""
    is_done: bool = False
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return how many rows are sure to be in."""
        return [0, 0, *self.parts.values()][-1 if self.is_done else -2]


class Journal:
    """What is in the catalog at `root`, file by file. Use `open_journal`."""

    def __init__(self, root: Path, file: IO[bytes]) -> None:
        self.root, self._file = root, file
        self._entries: dict[Key, Entry] = {}
        self._owners: dict[str, Key] = {}
        self._lines = 0
        try:
            for line in file:
                self._apply(json.loads(line))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise JournalError(
                f"{root / JOURNAL}: line {self._lines + 1} cannot be read ({error!r}); restore the "
                "file from a copy, or ingest everything into a new catalog"
            ) from None

    def entry(self, key: Key) -> Entry:
        """Return how far the file is that the key stands for."""
        return self._entries.get(key, Entry())

    def owner(self, part: str) -> Key | None:
        """Return the key of the file whose rows a part of the catalog has, or is to have."""
        return self._owners.get(part)

    def record(self, key: Key, file: str, rows: int, *, part: str = "", done: bool = False) -> None:
        """Write down that so many rows of the file are in with `part`; 0 when none is left."""
        record = {**key._asdict(), "file": file, "rows": rows, "part": part, "done": done}
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        self._apply(record)

    def _apply(self, record: dict[str, object]) -> None:
        key = Key(*(str(record[name]) for name in Key._fields))
        entry = self._entries.setdefault(key, Entry())
        entry.file, entry.is_done = str(record["file"]), bool(record["done"])
        rows, part = int(str(record["rows"])), str(record["part"])
        if part:
            entry.parts[part] = rows
            self._owners[part] = key
        elif not rows:
            for each in entry.parts:
                del self._owners[each]
            entry.parts.clear()
        self._lines += 1


@contextmanager
def open_journal(root: Path) -> Iterator[Journal]:
    """Yield the journal of the catalog at `root`, locked. Raises BusyError."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / JOURNAL
    with path.open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{root}: another process writes into this catalog; wait") from None
        _drop_torn_line(path)
        file.seek(0)
        yield Journal(root, file)


def _drop_torn_line(path: Path) -> None:
    """Cut off what a process wrote of its last line when it was killed."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)

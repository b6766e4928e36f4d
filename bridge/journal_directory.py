"""The folder of a journal: its lock, its identity, its files, and how they are changed safely."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

from bridge import exits
from bridge.exits import Exit
from bridge.segments import NAME, Segment

IDENTITY: Final = "journal.json"
SERVER: Final = "server.json"
RESERVE: Final = "reserve"
LOCK: Final = "lock"


def lock(directory: Path, setting: str = "journal.directory") -> int:
    """Take the folder that `setting` names, made where there is none; return the descriptor that
    holds it.

    Raises Exit (TAKEN) when another process has it, OSError.
    """
    return hold(
        directory / LOCK,
        f"{setting}: another bridge writes to {directory}; stop it, or name another folder",
    )


def hold(path: Path, refusal: str) -> int:
    """Lock a file, made where there is none; return the descriptor that holds it.

    Raises Exit (TAKEN) with `refusal` when another process has it, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Exit(exits.TAKEN, refusal) from None
    return descriptor


def identity(directory: Path) -> tuple[str, bool]:
    """Return the folder's uuid, made at first use, and whether the folder is a copy of another.

    A copy carries the uuid of the original, which may go on numbering: it gets one of its own. A
    copied file has another inode, or is on another device. Raises OSError.
    """
    path = directory / IDENTITY
    try:
        known, found = json.loads(path.read_text()), path.stat()
        if known["file"] == [found.st_dev, found.st_ino]:
            return str(known["uuid"]), False
        is_copy = True
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        is_copy = any(segment_paths(directory))
    uuid = uuid4().hex
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        made = os.fstat(file.fileno())
        json.dump({"uuid": uuid, "file": [made.st_dev, made.st_ino]}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync(directory)
    return uuid, is_copy


def segment_paths(directory: Path) -> list[Path]:
    """Return the segments' files, oldest first."""
    return sorted(path for path in directory.iterdir() if NAME.fullmatch(path.name))


def load_segments(directory: Path) -> list[Segment]:
    """Return the segments that count, oldest first; remove those that others have replaced.

    Raises Damaged, OSError.
    """
    loaded = []
    for path in segment_paths(directory):
        if path.read_bytes().strip(b"\0"):
            loaded.append(Segment.load(path))
        else:
            path.unlink()  # its name was durable before a power cut, what stood in it was not
    replaced = {
        number
        for segment in loaded
        if segment.head.replaces is not None
        for number in range(segment.head.replaces, segment.ordinal)
    }
    for segment in loaded:
        if segment.ordinal in replaced:
            segment.path.unlink()
    return [segment for segment in loaded if segment.ordinal not in replaced]


def preallocate(path: Path, size: int) -> None:
    """Make a file of `size` zero bytes that have their place on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        allocate(descriptor, size)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def allocate(descriptor: int, size: int) -> None:
    """Reserve `size` bytes on the disk. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        for offset in range(0, size, 1 << 20):
            os.pwrite(descriptor, b"\0" * min(1 << 20, size - offset), offset)


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 when it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def read_run_id(directory: Path) -> str | None:
    """Return the run id of the Redis that was last known to be whole."""
    try:
        return str(json.loads((directory / SERVER).read_text())["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_run_id(directory: Path, run_id: str) -> None:
    """Remember a Redis as whole. Raises OSError."""
    fresh = directory / f"{SERVER}.new"
    fresh.write_text(json.dumps({"run_id": run_id}))
    fresh.rename(directory / SERVER)


def sync(directory: Path) -> None:
    """Make new names in the folder durable. Raises OSError."""
    with _opened(directory) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

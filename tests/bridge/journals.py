"""A journal as the tests use it: entries in, entries out, and all that can happen to its folder."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from bridge import journal as journal_module
from bridge.core import contract
from bridge.core.contract import EXEC_KINDS
from bridge.core.lanes import tail_encoder
from bridge.journal import Journal, Limits
from bridge.journal_directory import segment_paths
from bridge.journal_reader import Reader
from bridge.segments import Record, Segment
from tests.bridge.processes import ROOT

# Small segments, so that a hundred entries fill several.
LIMITS: Final = Limits(segment_bytes=16_384)
PAGE: Final = 100
# The functions of `os` by which a journal changes files.
CHANGES: Final = (
    *("pwrite", "ftruncate", "posix_fallocate", "fdatasync", "fsync"),
    *("rename", "replace", "unlink", "link"),
)
# An interruption that takes longer waits for a lock.
LOCKED_SECONDS: Final = 0.02


def opened(directory: Path, producer_id: str = "A", limits: Limits = LIMITS) -> Journal:
    return Journal.open(directory, producer_id, limits)


def put(journal: Journal, payload: bytes, kind: str = "orders", once: bytes = b"") -> int:
    """Append an entry under the next number; return the number."""
    seq = journal.seqs[kind] + 1
    journal.append(EXEC_KINDS.index(kind), seq, journal.jseq + 1, 2, once, payload)
    return seq


def put_many(journal: Journal, count: int, kind: str = "orders", size: int = 100) -> list[bytes]:
    """Append so many entries that differ; return their payloads."""
    chance = random.Random(f"{journal.producer}{journal.jseq}")
    payloads = [chance.randbytes(size) for _ in range(count)]
    for payload in payloads:
        put(journal, payload, kind)
    return payloads


def held(journal: Journal, kind: str = "orders") -> dict[str, dict[int, bytes]]:
    """Return what readers find of a stream: payloads by producer and number, without the tails."""
    found: dict[str, dict[int, bytes]] = {}
    for chapter in journal.chapters(kind):
        reader = Reader(journal, chapter.producer, kind)
        tail = tail_encoder(chapter.producer, contract.VERSION)
        payloads, seq = found.setdefault(chapter.producer, {}), chapter.first
        while kept := reader.read(seq, PAGE, None):
            for each in kept:
                end = tail(each.seq, each.jseq)
                assert each.data.endswith(end)
                assert each.seq not in payloads
                payloads[each.seq] = each.data.removesuffix(end)
            seq = kept[-1].seq + 1
    return {producer: payloads for producer, payloads in found.items() if payloads}


def count(journal: Journal, kind: str = "orders") -> int:
    """Return how many entries of a stream readers find."""
    return sum([len(payloads) for payloads in held(journal, kind).values()])


def last_segment(directory: Path) -> Path:
    return segment_paths(directory)[-1]


def records_of(path: Path) -> list[Record]:
    return list(Segment.load(path).records())


# What can happen.


def killed(journal: Journal) -> None:
    """Leave the journal as SIGKILL does: its descriptors are closed, nothing more is written."""
    let_go(journal.directory)


def let_go(directory: Path) -> None:
    """Close every descriptor that this process has in a folder."""
    for descriptor in descriptors(directory):
        os.close(descriptor)


def killed_at(call: int, work: Callable[[], object]) -> bool:
    """Run `work` in a process of its own, and kill that at its nth call that changes a file.

    A write is done by half first. False when `work` ended before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork beside threads: the child needs none of them
        child = os.fork()
    if child == 0:
        try:
            _die_at(call)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _die_at(call: int) -> None:
    left = [call]

    def killing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*words: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if name == "pwrite":
                    function(words[0], words[1][: len(words[1]) // 2], words[2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*words, **named)

        return wrapped

    for name in CHANGES:
        setattr(os, name, killing(name, getattr(os, name)))


def descriptors(directory: Path) -> list[int]:
    """Return this process's descriptors of files in a folder."""
    ours = {(found.st_dev, found.st_ino) for path in directory.iterdir() if (found := path.stat())}
    return [descriptor for descriptor in range(3, 512) if _file_of(descriptor) in ours]


def _file_of(descriptor: int) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = os.fstat(descriptor)
        return found.st_dev, found.st_ino
    return None


def snapshot(directory: Path) -> dict[Path, bytes]:
    """Return the segments as they are at this moment."""
    return {path: path.read_bytes() for path in segment_paths(directory)}


def restore(directory: Path, segments: Mapping[Path, bytes]) -> None:
    """Set the folder back to a snapshot; it stays the same folder."""
    for path in segment_paths(directory):
        path.unlink()
    for path, data in segments.items():
        path.write_bytes(data)


def flip(path: Path, offset: int) -> None:
    """Change one byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def erase(path: Path, start: int, end: int) -> None:
    """Put zeros there, as a block does that was never written."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(end - start))


def interrupted(work: Callable[[], None], line: int, interruption: Callable[[], None]) -> bool:
    """Run `work`, and at its nth line within bridge/journal.py `interruption` in another thread.

    An interruption that has to wait for `work` does so. False when there is no such line.
    """
    left, thread = [line], threading.Thread(target=interruption)

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != journal_module.__file__:
            return None
        left[0] -= event == "line"
        if left[0] == 0 and not thread.ident:
            thread.start()
            thread.join(LOCKED_SECONDS)
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(former)
    is_met = thread.ident is not None
    if is_met:
        thread.join()
    return is_met


@contextlib.contextmanager
def tmpfs(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Have a file system of that size at `folder`; skip the test where we may not mount one."""
    folder.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder))
    try:
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        problem = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        pytest.skip(f"cannot mount a tmpfs: {problem}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path) -> Path:
    """Take all the room that is left there; return the file that has it."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def in_a_child(code: str, *words: object) -> str:
    """Run Python code in a process of its own; return the last line that it prints."""
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]

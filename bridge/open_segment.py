"""The segment that is written: its file, what it holds, how much room it has."""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from bridge import journal_directory
from bridge.journal_directory import RESERVE
from bridge.segments import Head, Seal, Segment, crc32c, extend_crc32c, write_at, write_seal

# More than a head takes.
HEAD_BYTES_MAX: Final = 4096
# Left free at the end of a segment for its trailer.
TRAILER_BYTES_MAX: Final = 4096


class OpenSegment:
    """One segment, from its begin to its seal. Whoever writes calls `write`, then `note`."""

    def __init__(self, segment: Segment, descriptor: int, size: int) -> None:
        self.segment = segment
        self.seal = segment.seal
        self.descriptor = descriptor
        self.free_until = size - TRAILER_BYTES_MAX

    @classmethod
    def begin(
        cls, directory: Path, head: Head, seal: Seal, *, size: int, moved: bytes = b""
    ) -> "OpenSegment":
        """Begin the segment of `head`, in the reserve where that is large enough.

        `moved` are records that it begins with, `seal` has the numbers behind them. A kill leaves
        all of it, or nothing. Raises OSError.
        """
        text = head.encode()
        reserve = directory / RESERVE
        if journal_directory.size_of(reserve) < size:
            journal_directory.preallocate(reserve, size)
        path = directory / f"{head.ordinal:010}.seg"
        descriptor = os.open(reserve, os.O_RDWR)
        try:
            write_at(descriptor, text + moved, 0)
            if moved:
                os.fdatasync(descriptor)
            reserve.rename(path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                reserve.unlink()  # it is no reserve any more: something stands in it
            raise
        seal.end, seal.crc = len(text) + len(moved), crc32c(text + moved)
        return cls(Segment(path, head, len(text), seal), descriptor, size)

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to prepare the next."""
        return self.seal.end > self.free_until // 2

    def write(self, record: bytes) -> None:
        """Write a record behind the last one. Raises OSError; nothing of it is left then."""
        try:
            if os.pwrite(self.descriptor, record, self.seal.end) != len(record):
                write_at(self.descriptor, record, self.seal.end)
        except OSError:
            self.take_back()
            raise

    def note(self, record: bytes) -> None:
        """Count a written record in."""
        seal = self.seal
        seal.crc = extend_crc32c(seal.crc, record)
        seal.end += len(record)

    def take_back(self) -> None:
        """Cut off what is written but not counted in."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, self.seal.end)

    def finish(self) -> None:
        """Seal it, if the disk lets us: without a seal it is read to its end instead."""
        self.seal.last_ns = time.time_ns()
        with contextlib.suppress(OSError):
            write_seal(self.descriptor, self.seal)
            self.segment.is_sealed = True

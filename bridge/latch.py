"""A halt that stays: a file with room of its own, so that a full disk cannot keep it from us."""

import json
import os
import time
from pathlib import Path
from typing import Final

from bridge import journal_directory

NAME: Final = "latch"
BYTES: Final = 4096


class Latch:
    """`reason` is why trading must not go on, None when nothing holds it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        if journal_directory.size_of(self.path) == 0:
            journal_directory.preallocate(self.path, BYTES)

    @property
    def reason(self) -> str | None:
        """Why it is set, with the time; None when it is not. What cannot be read counts as set."""
        text = self.path.read_bytes().rstrip(b"\0")
        if not text:
            return None
        try:
            said = json.loads(text)
            return f"{said['reason']} (since {said['since']})"
        except (ValueError, KeyError, TypeError):
            return f"{self.path} cannot be read"

    def set(self, reason: str) -> None:
        """Hold trading from now on. Raises OSError."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # A character may take as much as six bytes for each of its own.
        short = reason.encode(errors="replace")[: BYTES // 8].decode(errors="ignore")
        self._write(json.dumps({"reason": short, "since": since}).encode())

    def clear(self) -> None:
        """Let trading go on. Raises OSError."""
        self._write(b"")

    def _write(self, text: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, text.ljust(BYTES, b"\0"), 0)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

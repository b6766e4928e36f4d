"""A halt that stays: a file with room of its own, so that a full disk cannot keep it from us."""

import json
import os
import secrets
import time
from pathlib import Path
from typing import Final

from bridge import journal_directory
from bridge.core import control
from bridge.core.control import Halt, Latch

NAME: Final = "latch"
BYTES: Final = 4096
# A character may take as much as six bytes in JSON for each of its own; what Redis told has no
# bound. An id that was cut is not that in Redis any more: then the halt holds until `resume`.
REASON_BYTES_MAX: Final = BYTES // 8
ID_BYTES_MAX: Final = 64


class LatchFile:
    """Keeps a `Latch` on the disk; what cannot be read counts as a halt.

    What was `set` here outlives every `store` of this process, which knows nothing of it.
    """

    def __init__(self, directory: Path) -> None:
        self._set: Halt | None = None
        self.path = directory / NAME
        if journal_directory.size_of(self.path) == 0:
            journal_directory.preallocate(self.path, BYTES)

    def load(self) -> Latch:
        """Return what is kept. Raises OSError."""
        text = self.path.read_bytes().rstrip(b"\0")
        if not text:
            return Latch()
        try:
            kept = json.loads(text)
            halt, ended = kept["halt"], kept["ended"]
            if not isinstance(ended, str):
                raise ValueError("the id is no text")
            return Latch(None if halt is None else _halt(halt), ended)
        except (ValueError, KeyError, TypeError):
            return Latch(Halt(new_id(), "latch", f"{self.path} cannot be read", time.time_ns()))

    def store(self, latch: Latch) -> None:
        """Keep it, durably. Raises OSError."""
        halt = self._set or latch.halt
        if halt is not None:
            reason = _short(halt.reason, REASON_BYTES_MAX)
            halt = halt._replace(id=_short(halt.id, ID_BYTES_MAX), reason=reason)
        ended = _short(latch.ended, ID_BYTES_MAX)
        text = json.dumps({"halt": halt and halt._asdict(), "ended": ended}).encode()
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, text.ljust(BYTES, b"\0"), 0)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def set(self, cause: str, reason: str) -> None:
        """Halt from now on, if nothing halts already. Raises OSError."""
        latch = self.load()
        latch = control.latched(latch, cause, reason, new_id=new_id(), now_ns=time.time_ns())
        self._set = latch.halt
        self.store(latch)

    def clear(self) -> Halt | None:
        """End the halt; return which one it was. Raises OSError."""
        latch = self.load()
        self._set = None
        if latch.halt is not None:
            self.store(Latch(None, latch.halt.id))
        return latch.halt


def new_id() -> str:
    """Return the id of another halt."""
    return secrets.token_hex(6)


def _short(text: str, bytes_max: int) -> str:
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def _halt(kept: dict[str, object]) -> Halt:
    id_, cause, reason = kept["id"], kept["cause"], kept["reason"]
    since_ns, is_sighted = kept["since_ns"], kept["is_sighted"]
    texts = isinstance(id_, str) and isinstance(cause, str) and isinstance(reason, str)
    if not (texts and isinstance(since_ns, int) and isinstance(is_sighted, bool)):
        raise ValueError("a value is of the wrong type")
    return Halt(str(id_), str(cause), str(reason), since_ns, is_sighted)

"""Says on stderr how far something is, once it takes longer than two seconds."""

import sys
import time
from typing import Final, Self, TextIO

AFTER_SECONDS: Final = 2.0
EVERY_SECONDS: Final = 0.2  # on a terminal, where a line is written over
EVERY_SECONDS_IN_LOGS: Final = 5.0
CELLS: Final = 30


class Progress:
    """A bar on a terminal, elsewhere a line every few seconds. A context manager: it ends the
    line."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self._name, self._stream = name, sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._next = time.monotonic() + AFTER_SECONDS
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._is_terminal:
            self._stream.write("\n")

    def show(self, what: str, fraction: float) -> None:
        """Say that `fraction` of `what` is done, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (EVERY_SECONDS if self._is_terminal else EVERY_SECONDS_IN_LOGS)
        self._shown = True
        if self._is_terminal:
            done = int(fraction * CELLS)
            bar = "#" * done + "." * (CELLS - done)
            self._stream.write(f"\r{self._name}: {what:10} [{bar}] {fraction:4.0%}")
        else:
            self._stream.write(f"{self._name}: {what} {fraction:.0%}\n")
        self._stream.flush()

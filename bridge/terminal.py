"""Writing to a terminal or pipe from a thread of its own.

A terminal that is stopped (Ctrl-S), a pager that waits or a log collector that hangs blocks who
writes to it. That must not be the trading loop.
"""

import contextlib
import io
import os
import threading
from collections import deque
from typing import Final, TextIO

# Texts that wait for a reader; beyond it the oldest are dropped.
TEXTS_MAX: Final = 10_000


class Writer:
    """A text stream that never blocks and never raises; what cannot be written is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._texts: deque[str] = deque(maxlen=TEXTS_MAX)
        self._is_writing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="bridge.terminal", daemon=True).start()

    def write(self, text: str) -> int:
        """Leave `text` to the thread."""
        with self._changed:
            self._texts.append(text)
            self._changed.notify_all()
        return len(text)

    def lines(self, *lines: str) -> None:
        """Write whole lines at once."""
        self.write("".join([f"{line}\n" for line in lines]))

    def flush(self) -> None:
        """Do nothing: the thread writes at once."""

    def drain(self, seconds_max: float) -> None:
        """Wait until everything is written, or for so long."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._texts or self._is_writing), seconds_max)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._texts)
                text, self._is_writing = self._texts.popleft(), True
            # Full disks, closed pipes and closed streams: nobody reads it any more.
            with contextlib.suppress(OSError, ValueError):
                if self._stream is not None:
                    _put(self._stream, text)


def _put(stream: TextIO, text: str) -> None:
    """Write past the stream's buffer: Python flushes that at its end, and aborts when it cannot."""
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:  # it is kept in memory
        stream.write(text)
        stream.flush()
        return
    data = text.encode(stream.encoding, errors="backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]

"""Writing to a terminal or pipe from a thread of its own.

A terminal that is stopped (Ctrl-S), a pager that waits or a log collector that hangs blocks who
writes to it. That must not be the trading loop.
"""

import contextlib
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
        self._more = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        threading.Thread(target=self._run, name="bridge.terminal", daemon=True).start()

    def write(self, text: str) -> int:
        """Leave `text` to the thread."""
        self._idle.clear()
        self._texts.append(text)
        self._more.set()
        return len(text)

    def lines(self, *lines: str) -> None:
        """Write whole lines at once."""
        self.write("".join([f"{line}\n" for line in lines]))

    def flush(self) -> None:
        """Do nothing: the thread writes at once."""

    def drain(self, seconds_max: float) -> None:
        """Wait until everything is written, or for so long."""
        self._idle.wait(seconds_max)

    def _run(self) -> None:
        while True:
            self._more.wait()
            self._more.clear()
            while self._texts:
                text = self._texts.popleft()
                # Full disks, closed pipes and closed streams: nobody reads it any more.
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    self._stream.write(text)  # type: ignore[union-attr]
                    self._stream.flush()  # type: ignore[union-attr]
            if not self._more.is_set():
                self._idle.set()

"""What systemd is told, and when: see sd_notify(3). Without $NOTIFY_SOCKET nobody is told."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

# Between two words about how it goes; shorter where the watchdog wants to be fed more often.
BEAT_SECONDS: Final = 5.0
# A watchdog is fed so often in its time: one datagram that is lost does no harm.
FEEDS_MIN: Final = 4
POLL_SECONDS: Final = 0.05


class Manager:
    """The service manager that started this process, or none. Telling it never waits."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte in front of an abstract name.
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if name else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self.beat_seconds = min(BEAT_SECONDS, _watchdog_seconds(environ) / FEEDS_MIN)

    @property
    def is_there(self) -> bool:
        """Whether anybody is told."""
        return self._socket is not None

    def tell(self, **fields: object) -> bool:
        """Send one datagram, such as READY=1; return whether it was taken."""
        if self._socket is None:
            return False
        lines = [f"{name}={' '.join(str(value).split())}" for name, value in fields.items()]
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:  # nobody is there, or it does not keep up; the next beat says it again
            return False
        return True

    def begins(self, what: str, seconds_max: float) -> None:
        """Say what is done now, and that starting or stopping may take so much longer."""
        self.tell(STATUS=what, EXTEND_TIMEOUT_USEC=round(seconds_max * 1e6))

    def reloads(self) -> None:
        """Say that the settings are read again; READY=1 ends it."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    async def attend(
        self, is_up: Callable[[], bool], progress_ns: Callable[[], int], status: Callable[[], str]
    ) -> None:
        """Say when it is up, and from then on how it goes; feed the watchdog while it moves.

        A loop that hangs says nothing, a source that hangs lets the watchdog go hungry.
        """
        is_ready, seen_ns = False, None
        while True:
            is_ready = is_ready or (is_up() and self.tell(READY=1))
            if is_ready:
                was_ns, seen_ns = seen_ns, progress_ns()
                fed = {"WATCHDOG": 1} if seen_ns != was_ns else {}
                self.tell(STATUS=status(), **fed)
            await asyncio.sleep(self.beat_seconds if is_ready else POLL_SECONDS)

    def close(self) -> None:
        """Tell nobody any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return how often this process must feed the watchdog; infinite where there is none."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return float("inf")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else float("inf")

"""Where a test hears what systemd would be told: the socket that NOTIFY_SOCKET names."""

import os
import select
import socket
from typing import Self


class Receiver:
    """A datagram socket with an abstract name. Use as a context manager."""

    def __init__(self) -> None:
        self.name = f"@nautilus-bridge-test-{os.getpid()}-{id(self):x}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{self.name[1:]}")
        self._heard: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def heard(self) -> list[dict[str, str]]:
        """What was said until now, one dict for each datagram."""
        while self.hears(0):
            lines = self._socket.recv(65_536).decode().splitlines()
            self._heard.append(dict(line.split("=", 1) for line in lines))
        return self._heard

    def hears(self, seconds: float) -> bool:
        """Return whether something arrives that nobody has read, within that time."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def values(self, name: str, since: int = 0) -> list[str]:
        """Return the values under a name, in the order they came, behind the first `since`."""
        return [each[name] for each in self.heard[since:] if name in each]

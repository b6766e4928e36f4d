"""Where the bench runs: CPUs, servers, the size of it, and what one round hands back."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.servers import RedisServer

CHUNK = 256


class Round(NamedTuple):
    """What one round measured. `lost` is what must be 0 whatever `value` is."""

    value: float
    detail: dict[str, float] = {}  # noqa: RUF012 - a default that nobody changes
    lost: int = 0


class Cpus(NamedTuple):
    """Where server and client run; None where they cannot be told apart."""

    server: int | None
    client: int | None

    @classmethod
    def choose(cls) -> "Cpus":
        """Take the first two CPUs that this process may use."""
        if not hasattr(os, "sched_setaffinity"):
            return cls(None, None)
        allowed = sorted(os.sched_getaffinity(0))
        return cls(*allowed[:2]) if len(allowed) > 1 else cls(None, None)

    @contextmanager
    def on_server(self) -> Iterator[None]:
        """Run on the server's CPU: a process started in here inherits it, threads included."""
        with _running_on({self.server}):
            yield

    @contextmanager
    def on_client(self) -> Iterator[None]:
        """Run on the client's CPU, threads that are started in here included."""
        with _running_on({self.client}):
            yield

    @contextmanager
    def on_both(self) -> Iterator[None]:
        """Run on either CPU: a daemon started in here is placed as the system likes."""
        with _running_on({self.server, self.client}):
            yield


@contextmanager
def _running_on(cpus: set[int | None]) -> Iterator[None]:
    known = {cpu for cpu in cpus if cpu is not None}
    if not known:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, known)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Bench(NamedTuple):
    """What a row needs to make its own server and to size itself. `scale` 1 is the full size."""

    binary: Path
    folder: Path
    cpus: Cpus
    scale: float

    @contextmanager
    def server(self, *options: str) -> Iterator[RedisServer]:
        """Yield a fresh server, pinned; it is gone afterwards."""
        folder = self.folder / f"redis-{time.monotonic_ns()}"
        folder.mkdir()
        server = RedisServer(self.binary, folder, *options)
        try:
            self.start(server)
            yield server
        finally:
            server.close()

    def start(self, server: RedisServer) -> None:
        """Start the server, again too, on its own CPU."""
        with self.cpus.on_server():
            server.start()

    def entries(self, count: int) -> int:
        """Return `count` at this scale, in whole chunks."""
        return max(1, round(count * self.scale / CHUNK)) * CHUNK

    def seconds(self, full: float) -> float:
        """Return `full` at this scale; never so short that nothing happens."""
        return max(0.05, full * self.scale)

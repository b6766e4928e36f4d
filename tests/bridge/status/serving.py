"""A status server in this process: made with a feed that has nothing to show yet, run, asked."""

import asyncio
import contextlib
import http.client
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bridge.config import load
from bridge.metrics import Metrics
from bridge.readers import Places, Readers
from bridge.status.feed import Feed
from bridge.status.server import StatusServer
from bridge.status_settings import StatusSettings

HOST = "127.0.0.1"
# Nobody listens there.
NO_REDIS = "redis://127.0.0.1:1/0"


class Answer(NamedTuple):
    """The status code, the headers by lower-case name, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def feed_of(
    metrics: Metrics,
    health: Callable[[], str | None] = lambda: None,
    *,
    kind: type[Feed] = Feed,
    **environ: str,
) -> Any:
    """Return a feed of a bridge that is not built yet; its class is `kind`."""
    folder = Path(tempfile.gettempdir(), "no such folder")
    places = Places(load(None, environ=environ), NO_REDIS, folder)
    return kind(places, Readers(places, metrics), metrics, folder, NO_REDIS, health)


def make(
    *,
    metrics: Metrics | None = None,
    health: Callable[[], str | None] = lambda: None,
    feed: Feed | None = None,
    **settings: Any,
) -> StatusServer:
    """Return a server on a free port of the loopback interface, unless `settings` say otherwise."""
    metrics = metrics or Metrics()
    given = StatusSettings.model_validate({"host": HOST, "port": 0} | settings)
    return StatusServer(given, feed or feed_of(metrics, health), metrics, health)


def address_of(server: StatusServer) -> tuple[str, int]:
    """Return the address on this machine."""
    return HOST, int(server.url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def running(server: StatusServer) -> AsyncIterator[asyncio.Task[None]]:
    """Run the server for the block, then stop it."""
    server.bind()
    task = asyncio.create_task(server.run())
    try:
        yield task
    finally:
        server.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def fetch(server: StatusServer, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """Ask in a thread: the server runs on this loop. `headers` by name, with _ for -."""

    def exchange() -> Answer:
        with contextlib.closing(http.client.HTTPConnection(*address_of(server))) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, told, answer.read())

    return await asyncio.to_thread(exchange)


class Stream:
    """A client of `/events`. Use as an async context manager."""

    def __init__(self, address: tuple[str, int], headers: str = "") -> None:
        self._address = address
        self._headers = headers
        self.head = b""

    async def __aenter__(self) -> "Stream":
        self._reader, self._writer = await asyncio.open_connection(*self._address, limit=1 << 22)
        host = f"{self._address[0]}:{self._address[1]}"
        self._writer.write(f"GET /events HTTP/1.1\r\nHost: {host}\r\n{self._headers}\r\n".encode())
        self.head = await self._reader.readuntil(b"\r\n\r\n")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def chunk(self) -> str:
        """Return what was sent at once. Raises EOFError at a good end, OSError at another one."""
        line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("the server hung up")
        if not (size := int(line, 16)):
            raise EOFError
        return (await self._reader.readexactly(size + 2))[:-2].decode()

    async def event(self) -> dict[str, str]:
        """Return the fields of the next event with data. Raises what `chunk` raises."""
        while True:
            lines = [line.partition(": ")[::2] for line in (await self.chunk()).splitlines()]
            if (fields := dict(lines)).get("data"):
                return fields

    async def document(self) -> dict[str, Any]:
        """Return the document of the next event."""
        told: dict[str, Any] = json.loads((await self.event())["data"])
        return told


def exchange(address: tuple[str, int], sent: bytes, *, seconds: float = 5.0) -> bytes:
    """Send bytes, and return what comes back until the other side hangs up."""
    with socket.create_connection(address, timeout=seconds) as client:
        client.sendall(sent)
        return rest(client)


def rest(client: socket.socket) -> bytes:
    """Return what comes until the other side hangs up."""
    got = b""
    while part := client.recv(1 << 16):
        got += part
    return got

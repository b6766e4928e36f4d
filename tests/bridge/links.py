"""For tests of bridge/link.py: who owns a link, and a peer that is no Redis."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from bridge.cluster_link import link_to
from bridge.core import resp
from bridge.core.resp import Reply
from bridge.embedded_redis import HOST
from bridge.endpoints import Endpoint
from bridge.link import Link
from tests.proxies import until

type Prepare = Callable[[], Awaitable[None]]


class Owner:
    """Owns a link and notes all it says. `prepare` runs on each new connection."""

    def __init__(self, endpoint: Endpoint, prepare: Prepare | None = None) -> None:
        self.errors: Counter[str] = Counter()
        self.ups = self.downs = 0
        self.replies: list[Reply] = []
        self.link = link_to(
            endpoint,
            name="exec",
            backoff_seconds_max=0.02,
            prepare=_ready if prepare is None else prepare,
            on_up=self._up,
            on_replies=self.replies.extend,
            on_down=self._down,
            on_error=self._error,
        )

    def _up(self) -> None:
        self.ups += 1

    def _down(self) -> None:
        self.downs += 1

    def _error(self, kind: str) -> None:
        self.errors[kind] += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Link]:
        task = asyncio.create_task(self.link.run())
        try:
            yield self.link
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled(), task.exception()

    async def ask(self, *words: str) -> Reply:
        """Send a command over the link; return the answer."""
        self.replies.clear()
        self.link.write(resp.command(*words))
        await until(lambda: self.replies)
        return self.replies[0]


async def _ready() -> None:
    """Arrange nothing."""


@contextlib.asynccontextmanager
async def peer(says: bytes) -> AsyncIterator[int]:
    """Serve a peer that greets everybody with these bytes, and is silent then."""
    writers = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(says)

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()

"""HTTP in the daemon's own loop: the ops page and its events, `/metrics` and `/health`."""

import asyncio
import contextlib
import errno
import functools
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bridge.metrics import CONTENT_TYPE, Metrics
from bridge.status.access import Access
from bridge.status.connection import Connection, Turns
from bridge.status.events import Events
from bridge.status.feed import Feed
from bridge.status.page import Asset, assets
from bridge.status_settings import StatusSettings

SHUTDOWN_GRACE_SECONDS = 0.1
"""Time for responses under way at the end; what is left is cut off."""

SCRAPE_SHARE = 10
"""So many times as long as making the metrics took they are answered as they were: trading keeps
the loop, however often somebody asks."""
BACKLOG = 32
"""Connections that may wait for a turn of the loop, which takes all of them."""
SEND_BUFFER_BYTES = 1 << 17
"""What the kernel may hold of a connection's answer, before the client has taken it."""


class CannotBind(Exception):
    """The listening socket cannot be had. `setting` is the setting to change."""

    def __init__(self, why: str, *, host: str, port: int, setting: str) -> None:
        super().__init__(f"{setting}: cannot listen on {host} port {port}: {why}")
        self.host = host
        self.port = port
        self.setting = setting


class PortTaken(CannotBind):
    """Another process listens on the port already."""


class StatusServer:
    """Serve the ops page, the metrics and the health of one bridge.

    `health` returns None while all is well, else the reason in words. Call `bind()` early, to learn
    of a taken port before anything else starts, then `run()` in the daemon's task group.
    """

    def __init__(
        self,
        settings: StatusSettings,
        feed: Feed,
        metrics: Metrics,
        health: Callable[[], str | None],
    ) -> None:
        self._host = settings.host
        self._port = settings.port
        self._metrics = metrics
        self._health = health
        self._socket: socket.socket | None = None
        self._events = Events(feed.document, feed.state, feed.measures.late_seconds.append)
        self._server = _Server(_config(Access(self._app(), settings)), self._events.close)
        self._running = False
        self._scraped = b""
        self._scrape_at = 0.0

    @property
    def url(self) -> str:
        """The base URL with the real port, no trailing slash; this machine's name stands for all of
        its addresses. Raises RuntimeError before `bind`."""
        if self._socket is None:
            raise RuntimeError("the status server has no URL before bind()")
        is_any = ipaddress.ip_address(self._socket.getsockname()[0]).is_unspecified
        name = socket.gethostname() if is_any else self._host
        host = f"[{name}]" if ":" in name else name
        return f"http://{host}:{self._port}"

    def bind(self) -> None:
        """Listen on the port; port 0 takes any free one. Harmless when done already.

        Raises PortTaken, or CannotBind when the address is unknown, not this host's or forbidden.
        """
        if self._socket is None:
            self._socket = _listen(self._host, self._port)
            self._port = self._socket.getsockname()[1]

    async def run(self) -> None:
        """Serve until `stop()` or cancellation; ends within a second even with clients connected.

        Raises what `bind()` raises when that was not called before.
        """
        if self._server.should_exit:
            return
        self.bind()
        assert self._socket is not None
        self._running = True
        with self._socket:
            making = asyncio.create_task(self._events.run(), name="status.events")
            try:
                await self._server.serve(sockets=[self._socket])
            finally:
                making.cancel()
                if not self._server.started:
                    # Canceled in uvicorn's startup: asyncio still watches the descriptor, and
                    # whoever is given its number next would not be served.
                    asyncio.get_running_loop().remove_reader(self._socket)
                await self._server.close()

    def stop(self) -> None:
        """Make `run()` end; before `run()`, give the port back. Harmless when done already."""
        self._server.should_exit = True
        if self._socket is not None and not self._running:
            self._socket.close()

    def _app(self) -> Starlette:
        # Coroutines, so that starlette calls them in the loop and not on a thread.
        async def metrics(_: Request) -> Response:
            return Response(self._scrape(), headers={"content-type": CONTENT_TYPE})

        async def health(request: Request) -> Response:
            reason = self._health()
            if reason is None:
                return JSONResponse({"status": "ok"})
            told = {"reason": reason} if request.scope["knows"] else {}
            return JSONResponse({"status": "unhealthy"} | told, status_code=503)

        routes = [Route("/metrics", metrics), Route("/health", health)]
        routes += [Route(path, _answer(each)) for path, each in assets().items()]
        return Starlette(routes=[*routes, Route("/events", self._events)])

    def _scrape(self) -> bytes:
        """Return the metrics, made anew when that takes no more than its share of the loop."""
        now = time.monotonic()
        if now >= self._scrape_at:
            self._scraped = self._metrics.exposition()
            self._scrape_at = now + SCRAPE_SHARE * (time.monotonic() - now)
        return self._scraped


def _answer(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(asset.body, headers={"content-type": asset.content_type})

    return answer


class _Server(uvicorn.Server):
    """uvicorn as a guest: signals belong to the daemon, and its end is short and bounded.

    `end_streams` is called at the end: what has no end by itself is to come to one.
    """

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave the closing to `close()`, which runs after a cancellation too."""

    async def close(self) -> None:
        """Close the listener and all connections, after a grace for responses under way."""
        self._end_streams()
        for server in getattr(self, "servers", ()):  # set by uvicorn's startup
            server.close()
        connections = self.server_state.connections
        if not connections:
            return
        for connection in tuple(connections):
            connection.shutdown()
        try:
            await asyncio.sleep(SHUTDOWN_GRACE_SECONDS)
        finally:
            for connection in tuple(connections):
                connection.transport.abort()


def _config(app: ASGIApp) -> uvicorn.Config:
    # Errors of the application go to the daemon's log; requests and broken clients do not.
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], functools.partial(Connection, Turns())),
        backlog=BACKLOG,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Listening at once, not only binding: two sockets with SO_REUSEADDR can both be bound.
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = (
                "something listens there already; end it, or choose another port (0: any free one)"
            )
            raise PortTaken(why, host=host, port=port, setting="status.port") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            why = "not permitted; choose a port above 1023"
            raise CannotBind(why, host=host, port=port, setting="status.port") from error
        why = f"{error.strerror}; name an address of this host, such as 127.0.0.1"
        raise CannotBind(why, host=host, port=port, setting="status.host") from error
    # What is accepted has it, too: a page that is never read takes no more.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listener

"""HTTP in the daemon's own loop: `/metrics`, `/health` and a page that names them."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bridge.metrics import CONTENT_TYPE, Metrics

CONNECTIONS_MAX = 64
"""Open connections at which requests are answered 503 until some have closed."""
SHUTDOWN_GRACE_SECONDS = 0.1
"""Time for responses under way at the end; what is left is cut off."""

INDEX = """nautilus bridge
/metrics  metrics in Prometheus's text format
/health   200 while healthy, else 503 with the reason
"""


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
    """Serve the metrics and the health of one bridge.

    `health` returns None while all is well, else the reason in words. Call `bind()` early, to learn
    of a taken port before anything else starts, then `run()` in the daemon's task group.
    """

    def __init__(
        self, *, host: str, port: int, metrics: Metrics, health: Callable[[], str | None]
    ) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        self._socket: socket.socket | None = None
        self._server = _Server(_config(self._app()))
        self._running = False

    @property
    def url(self) -> str:
        """The base URL with the real port, no trailing slash. Raises RuntimeError before `bind`."""
        if self._socket is None:
            raise RuntimeError("the status server has no URL before bind()")
        host = f"[{self._host}]" if ":" in self._host else self._host
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
            try:
                await self._server.serve(sockets=[self._socket])
            finally:
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
            return Response(self._metrics.exposition(), headers={"content-type": CONTENT_TYPE})

        async def health(_: Request) -> Response:
            reason = self._health()
            if reason is None:
                return JSONResponse({"status": "ok"})
            return JSONResponse({"status": "unhealthy", "reason": reason}, status_code=503)

        async def index(_: Request) -> Response:
            return PlainTextResponse(INDEX)

        routes = (("/metrics", metrics), ("/health", health), ("/", index))
        return Starlette(routes=[Route(path, answer, methods=["GET"]) for path, answer in routes])


class _Server(uvicorn.Server):
    """uvicorn as a guest: signals belong to the daemon, and its end is short and bounded."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave the closing to `close()`, which runs after a cancellation too."""

    async def close(self) -> None:
        """Close the listener and all connections, after a grace for responses under way."""
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


def _config(app: Starlette) -> uvicorn.Config:
    # Errors of the application go to the daemon's log; requests and broken clients do not.
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Listening at once, not only binding: two sockets with SO_REUSEADDR can both be bound.
        return socket.create_server(address[:2], family=family)
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

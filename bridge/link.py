"""One raw connection to Redis that comes back by itself.

redis-py costs 22 µs an entry and retries ten times by default, which turns one lost reply into
several entries; the lanes need neither. Everything that is not on the hot path uses redis-py.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import structlog
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from bridge.core import resp
from bridge.core.resp import ProtocolError, Reply, ReplyError, ReplyParser

log = structlog.get_logger("nautilus_bridge.link")

CONNECT_SECONDS_MAX: Final = 5.0
BACKOFF_SECONDS_MIN: Final = 0.01
# A peer that vanished without a FIN is given up after half a minute; a stalled one is waited for.
KEEPALIVE: Final = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 5,
    "TCP_USER_TIMEOUT": 30_000,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where Redis is and how to get in. Exactly one of `path` and `host` is used."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Parse a redis://, rediss:// or unix:// URL. Raises ValueError when it is none."""
        parts: dict[str, Any] = dict(parse_url(url))
        kind = parts.pop("connection_class", None)
        wanted = {name: parts[name] for name in cls._plain() if name in parts}
        if kind is UnixDomainSocketConnection:
            return cls(**wanted)
        tls = _tls_context(parts) if kind is SSLConnection else None
        return cls(**wanted, tls=tls)

    @property
    def where(self) -> str:
        """The address, fit to be logged."""
        return self.path or f"{self.host}:{self.port}"

    @staticmethod
    def _plain() -> tuple[str, ...]:
        return ("host", "port", "path", "db", "username", "password")

    def without_secrets(self, text: str) -> str:
        """Return what Redis said without the password, should Redis repeat it."""
        text = text.partition(", with args beginning with")[0]
        return text.replace(self.password, "***") if self.password else text

    def greeting(self) -> list[tuple[str, ...]]:
        """Return the commands that open a session; each must be answered without an error."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            # With the user's name, as redis-py does it: without, a server that has no password
            # refuses what it accepts with one.
            commands.append(("AUTH", self.username or "default", self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        commands.append(("PING",))
        return commands


def _tls_context(parts: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=parts.get("ssl_ca_certs"))
    if parts.get("ssl_certfile"):
        context.load_cert_chain(parts["ssl_certfile"], parts.get("ssl_keyfile"))
    if parts.get("ssl_check_hostname") is False:
        context.check_hostname = False
    if parts.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class RedisRefused(Exception):
    """Redis answered what a connection needs with an error."""

    def __init__(self, error: ReplyError, text: str | None = None) -> None:
        super().__init__(error.message if text is None else text)
        self.error = error
        self.kind = error.kind


GREETING_ANSWERS: Final[dict[str, Reply]] = {
    "AUTH": b"OK",
    "SELECT": b"OK",
    "PING": b"PONG",
}

# Every way in which Redis can be away; anything else is a fault of ours and ends the process.
OUTAGE: Final = (OSError, TimeoutError, RedisRefused, ProtocolError)


class Connection(asyncio.Protocol):
    """One TCP or unix connection: bytes to replies, and a future that tells its end."""

    def __init__(self, on_replies: Callable[[Sequence[Reply]], None]) -> None:
        self.on_replies = on_replies
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._parser = ReplyParser()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; let the kernel notice a peer that vanished."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE.items():
                if hasattr(socket, option):  # macOS has not all of them
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def data_received(self, data: bytes) -> None:
        """Hand whole replies on. A fault in their handling ends the connection's owner."""
        try:
            replies = self._parser.feed(data)
            if replies:
                self.on_replies(replies)
        except Exception as error:  # noqa: BLE001 - it is raised again by whoever awaits `closed`
            self._end(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the owner."""
        self._end(error or ConnectionResetError("Redis closed the connection"))

    def _end(self, error: Exception) -> None:
        if not self.closed.done():
            self.closed.set_exception(error)
        self.drop()

    def write(self, data: bytes) -> None:
        """Send, or discard what comes after the end: uvloop raises then, asyncio does not."""
        if self.transport is not None and not self.closed.done():
            self.transport.write(data)

    def drop(self) -> None:
        """Cut the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def forget(self) -> None:
        """Cut the connection; nobody asks for its end any more."""
        if not self.closed.done():
            self.closed.cancel()
        elif not self.closed.cancelled():  # it is when who awaited it was
            self.closed.exception()
        self.drop()


class Link:
    """Keeps one connection up for ever; never blocks who writes.

    Once a connection is greeted, `on_replies` gets what it answers, until `on_down` tells that it
    is gone; `prepare` may write and wait before the link is up, which `on_up` tells. All of it runs
    on the loop that runs `run`. `on_error` is told the kind of every failure.
    """

    def __init__(
        self,
        target: Target,
        *,
        name: str,
        backoff_seconds_max: float,
        prepare: Callable[[], Awaitable[None]],
        on_up: Callable[[], None],
        on_replies: Callable[[Sequence[Reply]], None],
        on_down: Callable[[], None],
        on_error: Callable[[str], None],
    ) -> None:
        self.name = name
        self.is_up = False
        self.connects = 0
        self._serves = False
        self._target = target
        self._greeting = target.greeting()
        self._prepare = prepare
        self._backoff_seconds_max = backoff_seconds_max
        self._on_up = on_up
        self._on_replies = on_replies
        self._on_down = on_down
        self._on_error = on_error
        self._connection: Connection | None = None
        self.problem: str | None = "not connected yet"
        self._logged: set[str] = set()
        self.write: Callable[[bytes], None] = _discard

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        delay = BACKOFF_SECONDS_MIN
        while True:
            try:
                connection = await self._connect()
                self._serves = True
                self.write = connection.write
                connection.on_replies = self._on_replies
                await self._prepare_on(connection)
                delay = BACKOFF_SECONDS_MIN
                self._up()
                await connection.closed
            except OUTAGE as error:
                self._note(error)
            finally:
                self._down()
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._backoff_seconds_max)

    def fail(self, error: BaseException) -> None:
        """End `run` by raising `error` there."""
        if self._connection is not None and not self._connection.closed.done():
            self._connection.closed.set_exception(error)

    def drop(self) -> None:
        """Cut the connection: `run` makes a new one."""
        if self._connection is not None:
            self._connection.drop()

    async def _prepare_on(self, connection: Connection) -> None:
        """Run `prepare` for as long as the connection stands."""
        task = asyncio.ensure_future(self._prepare())
        try:
            await asyncio.wait({task, connection.closed}, return_when=asyncio.FIRST_COMPLETED)
            if connection.closed.done():
                connection.closed.result()
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # the connection's end is told, not what came of it
        task.result()

    def _up(self) -> None:
        self.is_up = True
        self.connects += 1
        self.problem = None
        self._logged.clear()
        log.info("redis.connected", lane=self.name, connects=self.connects)
        self._on_up()

    def _down(self) -> None:
        if self._connection is not None:
            self._connection.forget()
            self._connection = None
        self.write = _discard
        self.is_up = False
        if self._serves:
            self._serves = False
            self._on_down()

    def _note(self, error: Exception) -> None:
        kind = error.kind if isinstance(error, RedisRefused) else "connection"
        if isinstance(error, ProtocolError):
            kind = "protocol"
        self._on_error(kind)
        said = (
            self._target.without_secrets(str(error))
            or f"no answer within {CONNECT_SECONDS_MAX:.0f} s"
        )
        self.problem = problem = f"{type(error).__name__}: {said}"
        if problem not in self._logged:
            self._logged.add(problem)
            log.warning(
                "redis.lost",
                lane=self.name,
                redis=self._target.where,
                kind=kind,
                problem=problem,
                retrying=True,
            )

    async def _connect(self) -> Connection:
        answers: list[Reply] = []
        enough = asyncio.Event()
        greeting = self._greeting

        def collect(replies: Sequence[Reply]) -> None:
            answers.extend(replies)
            if len(answers) >= len(greeting):
                enough.set()

        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            self._connection = connection = await self._open(collect)
            connection.write(b"".join([resp.command(*words) for words in greeting]))
            connection.closed.add_done_callback(lambda _: enough.set())
            await enough.wait()
        for answer in answers:  # first: a server that is full says so and hangs up
            if isinstance(answer, ReplyError):
                # It may repeat what it was told.
                raise RedisRefused(answer, self._target.without_secrets(answer.message))
        for words, answer in zip(greeting, answers, strict=False):
            if answer != GREETING_ANSWERS[words[0]]:
                # Without the answer: it may be what was asked, password included.
                raise ProtocolError(f"what does not answer {words[0]} like Redis is none")
        if connection.closed.done():
            connection.closed.result()
        return connection

    async def _open(self, collect: Callable[[Sequence[Reply]], None]) -> Connection:
        loop = asyncio.get_running_loop()
        target = self._target
        if target.path is not None:
            _, connection = await loop.create_unix_connection(
                lambda: Connection(collect), target.path
            )
        else:
            _, connection = await loop.create_connection(
                lambda: Connection(collect), target.host, target.port, ssl=target.tls
            )
        return connection


def _discard(_: bytes) -> None:
    """Write to a connection that is not there: what was meant for it is still in its lane."""

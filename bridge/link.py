"""One raw connection to Redis that comes back by itself.

redis-py costs 22 µs an entry and retries ten times by default, which turns one lost reply into
several entries; the lanes need neither. Everything that is not on the hot path uses redis-py.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

import structlog

from bridge import resolving
from bridge.core import resp
from bridge.core.resp import ProtocolError, Reply, ReplyError, ReplyParser
from bridge.endpoints import Endpoint
from bridge.sentinel import PORTS, NotLocated
from bridge.target import Target

log = structlog.get_logger("nautilus_bridge.link")

CONNECT_SECONDS_MAX: Final = 5.0
BACKOFF_SECONDS_MIN: Final = 0.01
# A former primary may take writes for many seconds more: Sentinel is in no hurry to tell it.
FOLLOW_SECONDS: Final = 1.0
# A connection that ends sooner is an attempt in vain like any other. Less than the above: one that
# is left for the primary's sake was none.
STEADY_SECONDS: Final = 0.5
# A peer that vanished without a FIN is given up after half a minute; a stalled one is waited for.
KEEPALIVE: Final = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 5,
    "TCP_USER_TIMEOUT": 30_000,
}


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
OUTAGE: Final = (OSError, TimeoutError, RedisRefused, ProtocolError, NotLocated)
NO_PRIMARY: Final = ReplyError("READONLY", "READONLY it is no primary (any more)")


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
            self.end(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the owner."""
        self.end(error or ConnectionResetError("Redis closed the connection"))

    def end(self, error: Exception) -> None:
        """Cut the connection at once; `error` is why, unless it has ended before."""
        if not self.closed.done():
            self.closed.set_exception(error)
        self.drop()

    def write(self, data: bytes) -> None:
        """Send, or discard what comes after the end: uvloop raises then, asyncio does not."""
        if self.transport is not None and not self.closed.done():
            self.transport.write(data)

    async def ask(self, commands: Sequence[tuple[str, ...]]) -> list[Reply]:
        """Send commands and return what is answered, which nobody else gets to see.

        Raises what the connection ends with before that.
        """
        answers: list[Reply] = []
        is_told = asyncio.get_running_loop().create_future()

        def take(replies: Sequence[Reply]) -> None:
            answers.extend(replies)
            if len(answers) >= len(commands) and not is_told.done():
                is_told.set_result(None)

        self.on_replies = take
        self.write(b"".join([resp.command(*words) for words in commands]))
        await asyncio.wait((is_told, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not is_told.done():
            self.closed.result()
        return answers[: len(commands)]

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

    Sentinels are asked where the primary is, before each attempt and each second.
    Attempts follow each other more and more slowly until a connection stands for a moment.
    Once a connection is greeted, `on_replies` gets what it answers, until `on_down` tells that it
    is gone; `prepare` may write and wait before the link is up, which `on_up` tells. All of it runs
    on the loop that runs `run`. `on_error` is told the kind of every failure.
    """

    def __init__(
        self,
        endpoint: Endpoint,
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
        self._endpoint = endpoint
        self._target: Target | None = None
        self._follower: asyncio.Task[None] | None = None
        self._prepare = prepare
        self._backoff_seconds_max = backoff_seconds_max
        self._on_up = on_up
        self._on_replies = on_replies
        self._on_down = on_down
        self._on_error = on_error
        self._connection: Connection | None = None
        self.problem: str | None = "not connected yet"
        self._logged: set[str] = set()
        self._is_logged_up = self._was_unsteady = False
        self._delay = BACKOFF_SECONDS_MIN
        self.write: Callable[[bytes], None] = _discard

    @property
    def target(self) -> Target | None:
        """The server that it is connected to, or tries to; None in a Cluster, and where nobody
        tells who it is."""
        return self._target

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        while True:
            try:
                connection = await self._connect()
                self._begin_following(connection)
                self._serves = True
                self.write = connection.write
                connection.on_replies = self._on_replies
                await self._prepare_on(connection)
                self._up()
                await asyncio.wait({connection.closed}, timeout=STEADY_SECONDS)
                self._was_unsteady = connection.closed.done()
                if not self._was_unsteady:
                    self._steady()
                await connection.closed
            except OUTAGE as error:
                self._note(error)
            finally:
                self._down()
            delay = self._delay
            self._delay = min(delay * 2, self._backoff_seconds_max)
            await asyncio.sleep(delay)

    def fail(self, error: BaseException) -> None:
        """End `run` by raising `error` there."""
        if self._connection is not None and not self._connection.closed.done():
            self._connection.closed.set_exception(error)

    def drop(self) -> None:
        """Cut the connection: `run` makes a new one."""
        if self._connection is not None:
            self._connection.drop()

    def seek(self, key: str, refusal: Reply) -> bool:
        """Send ASKING and GET where a key of a Cluster is just moved to; return whether they were.

        One server moves nothing.
        """
        return False

    def one_of_each_node(self, keys: Sequence[str]) -> list[str]:
        """Return of the keys that lie on the same node of a Cluster the first; none for one server,
        which is all in one."""
        return []

    def _begin_following(self, connection: Connection) -> None:
        def end(follower: asyncio.Task[None]) -> None:
            if not follower.cancelled():
                why = f"the primary cannot be followed: {follower.exception()!r}"
                connection.end(ConnectionResetError(why))

        if not isinstance(self._endpoint, Target):
            self._follower = asyncio.ensure_future(self._follow(connection))
            self._follower.add_done_callback(end)

    async def _follow(self, connection: Connection) -> None:
        """End a connection whose peer is the primary no more; it need not know that yet itself."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            if where := await self._elsewhere():
                connection.end(ConnectionResetError(f"the primary is {where} now"))

    async def _elsewhere(self) -> str:
        """Return where the primary has gone; empty while it is where it was."""
        found = await self._endpoint.locate(FOLLOW_SECONDS / 2)
        return "" if found == self._target else found.where

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
        if not self._was_unsteady:
            self._log_up()
        self._on_up()

    def _steady(self) -> None:
        self._delay = BACKOFF_SECONDS_MIN
        self._logged.clear()
        if not self._is_logged_up:
            self._log_up()

    def _log_up(self) -> None:
        self._is_logged_up = True
        log.info("redis.connected", lane=self.name, connects=self.connects)

    def _down(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
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
        endpoint = self._endpoint
        said = endpoint.without_secrets(str(error)) or (
            f"no answer within {CONNECT_SECONDS_MAX:.0f} s"
        )
        problem = f"{type(error).__name__}: {said}"
        if endpoint.problem:
            problem = f"{problem}; {endpoint.problem}"
        self.problem = problem
        if self._is_logged_up or problem not in self._logged:
            self._is_logged_up = False
            self._logged.add(problem)
            log.warning(
                "redis.lost",
                lane=self.name,
                redis=(self._target or endpoint).where,
                kind=kind,
                problem=problem,
                retrying=True,
            )

    async def _connect(self) -> Connection:
        self._target = None
        target = self._target = await self._endpoint.locate()
        self._connection = await connect(target)
        return self._connection


async def connect(target: Target) -> Connection:
    """Open a connection and greet. Raises one of OUTAGE; then nothing is left open."""
    greeting, answers, enough = target.greeting(), list[Reply](), asyncio.Event()

    def collect(replies: Sequence[Reply]) -> None:
        answers.extend(replies)
        if len(answers) >= len(greeting):
            enough.set()

    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        connection = await _open(target, collect)
        try:
            connection.write(b"".join([resp.command(*words) for words in greeting]))
            connection.closed.add_done_callback(lambda _: enough.set())
            await enough.wait()
            _check(target, greeting, answers)
            if connection.closed.done():
                connection.closed.result()
        except BaseException:
            connection.forget()
            raise
    return connection


def _check(target: Target, greeting: Sequence[tuple[str, ...]], answers: Sequence[Reply]) -> None:
    for answer in answers:  # first: a server that is full says so and hangs up
        if isinstance(answer, ReplyError):
            # It may repeat what it was told.
            raise RedisRefused(answer, target.without_secrets(answer.message))
    for words, answer in zip(greeting, answers, strict=False):
        if words[0] == "ROLE" and isinstance(answer, list):
            if answer[:1] != [b"master"]:
                raise RedisRefused(NO_PRIMARY)
        elif answer != GREETING_ANSWERS.get(words[0]):
            # Without the answer: it may be what was asked, password included.
            raise ProtocolError(f"what does not answer {words[0]} like Redis is none")


async def _open(target: Target, collect: Callable[[Sequence[Reply]], None]) -> Connection:
    loop = asyncio.get_running_loop()
    if target.path is not None:
        _, connection = await loop.create_unix_connection(lambda: Connection(collect), target.path)
    else:
        if target.port not in PORTS:  # uvloop takes the rest of a division by 65,536
            raise ProtocolError(f"{target.where}: no port has this number")
        name = target.host if target.tls else None
        try:
            _, connection = await resolving.connected(
                target.host,
                lambda address: loop.create_connection(
                    lambda: Connection(collect),
                    address,
                    target.port,
                    ssl=target.tls,
                    server_hostname=name,
                ),
            )
        except UnicodeError as error:  # a node of a Cluster was told to be there
            raise ProtocolError(f"{target.where}: {error}") from None
    return connection


def _discard(_: bytes) -> None:
    """Write to a connection that is not there: what was meant for it is still in its lane."""

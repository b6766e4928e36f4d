"""bridge/status/connection.py: nobody holds a connection open, fills it, or crowds others out."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from bridge.metrics import Metrics
from bridge.status import connection, events
from bridge.status.feed import Feed
from bridge.status.server import StatusServer
from tests.bridge.status.serving import (
    Stream,
    address_of,
    exchange,
    feed_of,
    fetch,
    make,
    rest,
    running,
)

SECONDS_MAX = 10.0
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Flooding(Feed):
    """A feed whose documents are large, and due at every look."""

    def state(self) -> object:
        """Return another one each time."""
        return object()

    def document(self) -> bytes:
        """Return a large one."""
        return b"0" * (1 << 20)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have time limits be short."""
    monkeypatch.setattr(connection, "SECONDS_MAX", 0.2)


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have connections come as fast as they are made."""
    monkeypatch.setattr("bridge.status.server.BACKLOG", 1024)


@contextlib.asynccontextmanager
async def clients(
    server: StatusServer, count: int, sent: bytes = b""
) -> AsyncIterator[list[socket.socket]]:
    """Connect so many times, and send so much each time."""
    found: list[socket.socket] = []

    def connect() -> None:
        for _ in range(count):
            found.append(socket.create_connection(address_of(server), timeout=SECONDS_MAX))
            found[-1].sendall(sent)

    try:
        await asyncio.to_thread(connect)
        yield found
    finally:
        for client in found:
            client.close()


def asking(server: StatusServer, sent: bytes) -> socket.socket:
    """Return a client that has sent so much before the server's loop, which is the test's, has
    another turn: however short the limits are, it did so in time."""
    client = socket.create_connection(address_of(server), timeout=SECONDS_MAX)
    client.sendall(sent)
    return client


def is_open(client: socket.socket) -> bool:
    """Return whether the other side has not hung up behind all that it sent, as far as is known."""
    client.setblocking(False)
    with contextlib.suppress(ConnectionError):
        while True:
            try:
                if not client.recv(1 << 16):
                    return False
            except BlockingIOError:
                return True
    return False


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HTTP/1.1\r\nHost: loc",
        REQUEST,
        REQUEST + b"GET /heal",
    ],
    ids=["nothing", "half", "whole", "one and a half"],
)
@pytest.mark.usefixtures("brief")
async def test_who_sends_no_whole_request_is_cut_off(sent: bytes) -> None:
    """Whether nothing came, a half, or nothing any more behind an answer."""
    server = make()

    async with running(server), asyncio.timeout(SECONDS_MAX):
        with asking(server, sent) as client:
            got = await asyncio.to_thread(rest, client)

    assert got.count(b"HTTP/1.1 200") == sent.count(b"\r\n\r\n")


@pytest.mark.usefixtures("brief")
async def test_a_trickle_is_cut_off_too() -> None:
    """One header more at a time does not count as a request."""
    server = make()

    async with running(server), asyncio.timeout(SECONDS_MAX):
        reader, writer = await asyncio.open_connection(*address_of(server))
        writer.write(b"GET /health HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                writer.write(b"X-More: 1\r\n")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.01)
        writer.close()


@pytest.mark.usefixtures("brief")
async def test_who_does_not_read_is_cut_off() -> None:
    """Pipelined requests whose answers nobody takes fill the buffers, and then it is over."""
    server = make(metrics=Metrics())
    ask = REQUEST.replace(b"/health", b"/metrics")

    async with running(server), asyncio.timeout(SECONDS_MAX):
        with socket.create_connection(address_of(server), timeout=SECONDS_MAX) as client:

            def send_all() -> None:
                with pytest.raises(OSError):
                    while True:
                        client.sendall(ask)

            await asyncio.to_thread(send_all)


@pytest.mark.usefixtures("brief")
async def test_a_page_that_is_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives way to another one, though nobody else asks for its place."""
    monkeypatch.setattr(events, "CLIENTS_MAX", 1)
    server = make(feed=feed_of(Metrics(), kind=Flooding))
    ask = REQUEST.replace(b"/health", b"/events")

    async with running(server), asyncio.timeout(SECONDS_MAX):
        with asking(server, ask) as unread:
            assert (await asyncio.to_thread(unread.recv, 15)).startswith(b"HTTP/1.1 200")
            monkeypatch.setattr(connection, "SECONDS_MAX", SECONDS_MAX)  # of all others
            head = b""
            while b" 200 " not in head:
                async with Stream(address_of(server)) as stream:
                    head = stream.head


@pytest.mark.usefixtures("roomy")
async def test_a_flood_of_connections_leaves_room_for_a_probe() -> None:
    """The oldest of those that ask nothing make room, as many as there are."""
    server = make()
    most = connection.CONNECTIONS_MAX

    async with running(server), clients(server, 3 * most) as silent:
        answer = await fetch(server, "/health")
        left = [is_open(client) for client in silent]

    assert answer.status == 200
    # The probe itself took the last place.
    assert left == [False] * (2 * most + 1) + [True] * (most - 1)


@pytest.mark.usefixtures("roomy")
async def test_a_flood_leaves_streams_alone() -> None:
    """Who looks at the page is not crowded out by silent connections."""
    server = make()
    ask = REQUEST.replace(b"/health", b"/events")

    async with running(server), clients(server, 1, ask) as [stream]:
        assert (await asyncio.to_thread(stream.recv, 15)).startswith(b"HTTP/1.1 200")
        async with clients(server, 2 * connection.CONNECTIONS_MAX):
            assert (await fetch(server, "/health")).status == 200
            assert is_open(stream)


@pytest.mark.parametrize("path", ["/health", "/events"])
@pytest.mark.parametrize(
    "header",
    [
        "Transfer-Encoding: chunked",
        "Content-Length: 1",
        f"content-length:{'9' * 20}",
        "\r\n".join(["X: 1"] * connection.HEAD_LINES_MAX),
        "X: " + "1" * (connection.HEAD_BYTES_MAX + connection.TURN_BYTES),
    ],
    ids=["chunks", "one byte", "many bytes", "many headers", "a long header"],
)
async def test_a_head_that_costs_too_much_is_refused(path: str, header: str) -> None:
    """What announces a body, or is large itself, is answered by 400 and hanging up; nothing that
    comes behind it is looked at."""
    server = make()
    sent = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode()

    async with running(server), asyncio.timeout(SECONDS_MAX):
        reader, writer = await asyncio.open_connection(*address_of(server))
        writer.write(sent)
        got = await reader.read()
        writer.close()

    assert got.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in got.lower()


async def test_no_body_can_be_said_in_words() -> None:
    """A length of zero is no body."""
    server = make()
    sent = REQUEST.replace(b"\r\n\r\n", b"\r\nContent-Length: 00\r\nConnection: close\r\n\r\n")

    async with running(server):
        got = await asyncio.to_thread(exchange, address_of(server), sent)

    assert got.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://localhost/health", "localhost", b"200"),
        ("http://localhost:9309/metrics?x=1", "evil.example", b"200"),
        ("HTTP://[::1]", "localhost", b"200"),
        ("https://127.0.0.1?x=1", "localhost", b"200"),
        ("http://localhost/nothing", "localhost", b"404"),
        ("http://evil.example/metrics", "localhost", b"403"),
        ("http://localhost@evil.example/metrics", "localhost", b"403"),
        ("http:///metrics", "localhost", b"403"),
        ("ftp://localhost/metrics", "localhost", b"404"),
    ],
)
async def test_an_absolute_target(target: str, host: str, expected: bytes) -> None:
    """Its path is what is asked for, and its authority the name that is asked; what Host says does
    not count."""
    server = make()
    sent = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    async with running(server):
        got = await asyncio.to_thread(exchange, address_of(server), sent)

    assert got.split()[1] == expected


async def test_requests_that_come_together_are_all_answered() -> None:
    """More than fit into a turn, and the last one ends the connection."""
    server = make()
    last = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    async with running(server):
        got = await asyncio.to_thread(exchange, address_of(server), REQUEST * 200 + last)

    assert got.count(b"HTTP/1.1 200") == 201


async def test_what_comes_behind_a_request_for_events_is_left_alone() -> None:
    """The stream goes on, whatever else is sent on its connection."""
    server = make()
    ask = REQUEST.replace(b"/health", b"/events")

    async with running(server), asyncio.timeout(SECONDS_MAX):
        reader, writer = await asyncio.open_connection(*address_of(server))
        writer.write(ask)
        await reader.readuntil(b"data: ")
        writer.write(b"no request\r\n\r\n" * connection.TURN_BYTES)
        for _ in range(2):
            await reader.readuntil(b"data: ")
        writer.close()


async def test_the_loop_takes_turns() -> None:
    """However many connections have something to be parsed, the loop does other things between any
    two of them, and who has hung up has no turn."""
    turns, seen, is_last = connection.Turns(), list[object](), asyncio.Event()

    class Counted:
        loop = asyncio.get_running_loop()

        def __init__(self, name: int) -> None:
            self.name = name

        def take_turn(self) -> None:
            seen.append(self.name)
            self.loop.call_soon(seen.append, "other")
            if self.name == 3:
                is_last.set()

    each = [cast(connection.Connection, Counted(number)) for number in range(4)]
    for one in each:
        turns.ask(one)
    turns.leave(each[2])
    async with asyncio.timeout(SECONDS_MAX):
        await is_last.wait()

    assert seen == [0, "other", 1, "other", 3, "other"]

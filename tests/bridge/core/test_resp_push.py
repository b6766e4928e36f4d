"""bridge/core/resp.py in RESP3: pushes, maps and null, from a real server and cut anywhere."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core import resp
from bridge.core.resp import ProtocolError, Push, Reply, ReplyParser
from tests.servers import RedisServer

WORDS = st.binary(max_size=20).filter(lambda data: b"\r" not in data and b"\n" not in data)


class Wire:
    """A raw connection that has greeted with HELLO 3."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._parser = ReplyParser()
        self._replies: list[Reply] = []
        self.greeting = self.ask("HELLO", "3")

    def ask(self, *words: str) -> Reply:
        self._socket.sendall(resp.command(*words))
        return self.heard()

    def heard(self) -> Reply:
        """Return the next thing that the server says, asked or not."""
        while not self._replies:
            self._replies += self._parser.feed(self._socket.recv(65536))
        return self._replies.pop(0)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def connection(redis_server: RedisServer) -> Iterator[Wire]:
    connection = Wire(redis_server.port)
    yield connection
    connection.close()


def feed(data: bytes, size: int) -> list[Reply]:
    """Return the replies in `data`, which comes in pieces of that size."""
    parser = ReplyParser()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [reply for piece in pieces for reply in parser.feed(piece)]


def wire(word: bytes | None) -> bytes:
    return b"_\r\n" if word is None else b"$%d\r\n%s\r\n" % (len(word), word)


def test_greeting_is_a_map(connection: Wire) -> None:
    """A map is its keys and values in turn; it is no push."""
    greeting = connection.greeting
    assert isinstance(greeting, list)
    assert not isinstance(greeting, Push)
    told = dict(zip(greeting[::2], greeting[1::2], strict=True))
    assert (told[b"server"], told[b"proto"]) == (b"redis", 3)


def test_null(connection: Wire) -> None:
    """A key that is not there is None, as it is in RESP2."""
    assert connection.ask("GET", "nothing") is None
    assert connection.ask("MGET", "nothing", "nowhere") == [None, None]


def test_tracking(connection: Wire, redis_server: RedisServer) -> None:
    """Changed keys are pushed by name; FLUSHALL pushes null; answers stay answers."""
    assert connection.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "features:") == b"OK"
    redis_server.client.set("features:a", "1")
    pushed = connection.heard()
    assert isinstance(pushed, Push)
    assert pushed == [b"invalidate", [b"features:a"]]
    redis_server.client.flushall()
    assert connection.heard() == [b"invalidate", None]
    answer = connection.ask("MGET", "features:a", "b")
    assert (answer, isinstance(answer, Push)) == ([None, None], False)


def test_keyspace_events(connection: Wire, redis_server: RedisServer) -> None:
    """What is published is pushed, and so is the answer to SUBSCRIBE; others may still be asked."""
    answer = connection.ask("SUBSCRIBE", "c")
    assert isinstance(answer, Push)
    assert answer == [b"subscribe", b"c", 1]
    redis_server.client.publish("c", "said")
    assert connection.heard() == [b"message", b"c", b"said"]
    assert connection.ask("PING") == b"PONG"


@given(words=st.lists(st.none() | WORDS, max_size=5), size=st.integers(1, 40))
def test_cut_anywhere(words: list[bytes | None], size: int) -> None:
    """A push between answers, and a map, are whole wherever the bytes are cut."""
    items = b"".join(map(wire, words))
    push = b">%d\r\n%s" % (len(words) + 1, b"$7\r\nmessage\r\n" + items)
    mapping = b"%%%d\r\n%s" % (len(words), items + items)
    replies = feed(b":1\r\n" + push + b"$3\r\n1-1\r\n" + mapping + b"_\r\n", size)
    assert replies == [1, [b"message", *words], b"1-1", [*words, *words], None]
    assert [isinstance(reply, Push) for reply in replies] == [False, True, False, False, False]


@pytest.mark.parametrize("data", [b">0\r\n", b"%0\r\n"])
def test_empty(data: bytes) -> None:
    """A push or a map of nothing is an empty list."""
    assert feed(data, 1) == [[]]


def test_a_push_inside_of_another() -> None:
    """Depth is bounded for maps and pushes as it is for arrays."""
    with pytest.raises(ProtocolError, match="inside each other"):
        feed(b">1\r\n%1\r\n" * 100, 1000)


@pytest.mark.parametrize("garbage", [b"_x\r\n", b">x\r\n", b"%x\r\n", b"%1\r\n?\r\n", b"#t\r\n"])
def test_garbage(garbage: bytes) -> None:
    """What is none of these is an error, not an answer."""
    with pytest.raises(ProtocolError):
        feed(garbage, 1)

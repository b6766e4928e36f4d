"""bridge/preflight.py: whatever stands at redis.url, the answer is an exit with a reason."""

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from bridge import config, exits
from bridge.core.contract import default_names
from bridge.core.resp import ReplyError
from bridge.exits import Exit
from bridge.link import RedisRefused, Target
from bridge.preflight import prepare_redis
from tests.servers import free_port

PASSWORD = "s3cret"
# As many answers as redis-py waits for, so that no test waits for its timeout.
ANSWERS = 8
UNKNOWN = f"ERR unknown command 'AUTH', with args beginning with: '{PASSWORD}'"

type Peer = Callable[[Callable[[bytes], bytes]], int]


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Return `peer(answer)`: the port of a server that answers whatever it receives."""
    with contextlib.ExitStack() as servers:

        def serve(answer: Callable[[bytes], bytes]) -> int:
            class Handler(socketserver.BaseRequestHandler):
                def handle(self) -> None:
                    with contextlib.suppress(OSError):
                        while data := self.request.recv(65_536):
                            self.request.sendall(answer(data))

            server = servers.enter_context(
                socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
            )
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            servers.callback(thread.join)
            servers.callback(server.shutdown)
            return int(server.server_address[1])

        yield serve


def refused(url: str) -> Exit:
    """Return the exit that `url` leads to."""
    settings = config.load(None, environ={}, overrides={"redis.url": url})
    with pytest.raises(Exit) as caught:
        prepare_redis(url, settings, default_names())
    return caught.value


@pytest.mark.parametrize(
    "garbage",
    [
        b":x\r\n",
        b"$x\r\n",
        b"*x\r\n",
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe\x00\r\n",
        b"*1\r\n" * 20_000 + b":1\r\n",
        b"-\r\n",
        b"+\xff\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        b"*-1\r\n",
    ],
    ids=lambda garbage: repr(garbage[:12]),
)
def test_what_is_no_redis(peer: Peer, garbage: bytes) -> None:
    """Any answer but Redis's own is exit 69, whatever redis-py raises at it."""
    port = peer(lambda _: garbage * ANSWERS)

    error = refused(f"redis://127.0.0.1:{port}/0")

    assert error.code == exits.UNAVAILABLE
    assert str(error).startswith(f"redis.url: redis://127.0.0.1:{port}/0: ")


@pytest.mark.parametrize(
    "address",
    ["a..b:6379/0", f"{'a' * 64}.example:6379/0", "127.0.0.1:{port}/0?no_such_option=1"],
    ids=["empty label", "long label", "query"],
)
def test_an_address_that_cannot_be_used(address: str) -> None:
    """A name that cannot be looked up, or an option that is none: an exit, without the password."""
    error = refused(f"redis://:{PASSWORD}@{address.format(port=free_port())}")

    assert error.code in (exits.UNAVAILABLE, exits.CONFIGURATION)
    assert str(error).startswith("redis.url: redis://:***@")
    assert PASSWORD not in str(error)


@pytest.mark.parametrize("option", ["socket_timeout=x", "protocol=9"])
def test_a_url_that_is_not_checked(option: str) -> None:
    """An embedded server's URL is not one of the settings: a bad one is an exit as well."""
    settings = config.load(None, environ={}, overrides={})

    with pytest.raises(Exit):
        url = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0?{option}"
        prepare_redis(url, settings, default_names())


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: f"-{UNKNOWN}\r\n".encode() * ANSWERS,
        lambda _: f"-ERR what is {PASSWORD}?\r\n".encode() * ANSWERS,
        lambda _: f"{PASSWORD}\r\n".encode() * ANSWERS,
        lambda data: data * ANSWERS,
    ],
    ids=["unknown command", "in an error", "in garbage", "echo"],
)
def test_a_password_that_is_repeated(peer: Peer, answer: Callable[[bytes], bytes]) -> None:
    """A peer that says the password back does not get it into the message."""
    port = peer(answer)

    error = refused(f"redis://:{PASSWORD}@127.0.0.1:{port}/0")

    assert error.code in (exits.UNAVAILABLE, exits.REFUSED)
    assert PASSWORD not in str(error)


@pytest.mark.parametrize("text", [UNKNOWN, f"ERR what is {PASSWORD}?"])
def test_a_refused_link_tells_no_password(text: str) -> None:
    """Nor does the link's error, which /health and the log show."""
    error = RedisRefused(ReplyError("ERR", text), Target(password=PASSWORD))

    assert str(error).startswith("ERR ")
    assert PASSWORD not in str(error)


def test_a_password_that_redis_cuts_off() -> None:
    """Redis repeats no more than the beginning of what it does not know: that is a secret too."""
    said = f"ERR unknown command 'AUTH', with args beginning with: '{PASSWORD}"

    assert PASSWORD not in Target(password=PASSWORD * 50).without_secrets(said)


def test_only_the_secret_is_left_out() -> None:
    """What Redis says is told otherwise as it is."""
    said = "OOM command not allowed when used memory > 'maxmemory'."

    assert Target(password=PASSWORD).without_secrets(said) == said
    assert Target().without_secrets(said) == said

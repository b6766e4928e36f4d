"""bridge/preflight.py: whatever stands at redis.url, the answer is an exit with a reason."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from bridge import config, exits
from bridge.core.contract import default_names, json_schema
from bridge.exits import Exit
from bridge.lease import Lease
from bridge.link import Target
from bridge.preflight import prepare_redis, release
from bridge.settings import Config
from tests.servers import RedisServer, free_port

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
    ["a..b:6379/0", f"{'a' * 64}.example:6379/0"],
    ids=["empty label", "long label"],
)
def test_an_address_that_cannot_be_used(address: str) -> None:
    """A name that cannot be looked up is an exit, without the password."""
    error = refused(f"redis://:{PASSWORD}@{address}")

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


def test_a_password_that_redis_cuts_off() -> None:
    """Redis repeats no more than the beginning of what it does not know: that is a secret too."""
    said = f"ERR unknown command 'AUTH', with args beginning with: '{PASSWORD}"

    assert PASSWORD not in Target(password=PASSWORD * 50).without_secrets(said)


def test_only_the_secret_is_left_out() -> None:
    """What Redis says is told otherwise as it is."""
    said = "OOM command not allowed when used memory > 'maxmemory'."

    assert Target(password=PASSWORD).without_secrets(said) == said
    assert Target().without_secrets(said) == said


def given(server: RedisServer) -> Config:
    return config.load(None, environ={}, overrides={"redis.url": server.url})


def test_the_contract_is_published(redis_server: RedisServer) -> None:
    """A Redis that can be used holds the contract, under the prefix, and nothing else of ours."""
    prepare_redis(redis_server.url, given(redis_server), default_names("p:"))

    assert redis_server.client.keys() == ["p:bridge:contract"]
    schema = json.loads(redis_server.client.get("p:bridge:contract"))
    assert schema == json_schema(default_names("p:"))


@pytest.mark.parametrize("right", ["set", "script", "evalsha"])
def test_a_right_that_lacks(make_redis: Callable[..., RedisServer], right: str) -> None:
    """A user who may not SET or may not run scripts is refused at the start: exit 77."""
    server = make_redis()
    server.client.execute_command("ACL", "SETUSER", "default", f"-{right}")

    with pytest.raises(Exit, match=f"'{right}.*correct user and password .* ACL") as caught:
        prepare_redis(server.url, given(server), default_names())

    assert caught.value.code == exits.REFUSED


def test_a_lease_is_taken_and_given_back(redis_server: RedisServer) -> None:
    """Behind it every key of the lease is ours, for its time, until it is released."""
    lease = Lease.make(["lease:a", "lease:b"], seconds=7, uuid="u")

    prepare_redis(redis_server.url, given(redis_server), default_names(), lease=lease)
    held = {key: redis_server.client.get(key) for key in lease.keys}
    left = [redis_server.client.pttl(key) for key in lease.keys]
    release(redis_server.url, lease)

    assert held == dict.fromkeys(lease.keys, lease.value)
    assert all(0 < each <= 7000 for each in left)
    assert not redis_server.client.exists(*lease.keys)


def test_a_lease_of_another_is_respected(redis_server: RedisServer) -> None:
    """A name that another bridge holds is exit 73, and no key is kept; a takeover takes it."""
    theirs = Lease.make(["lease:b"], seconds=60, uuid="theirs")
    ours = Lease.make(["lease:a", "lease:b"], seconds=60, uuid="ours")
    settings = given(redis_server)
    prepare_redis(redis_server.url, settings, default_names(), lease=theirs)

    with pytest.raises(Exit, match="lease:b is held by another bridge") as caught:
        prepare_redis(redis_server.url, settings, default_names(), lease=ours)
    assert caught.value.code == exits.TAKEN
    assert redis_server.client.mget("lease:a", "lease:b") == [None, theirs.value]

    prepare_redis(redis_server.url, settings, default_names(), lease=ours, takeover=True)
    assert redis_server.client.mget("lease:a", "lease:b") == [ours.value] * 2
    release(redis_server.url, theirs)
    assert redis_server.client.get("lease:b") == ours.value, "not theirs any more"


def test_a_release_that_nobody_takes() -> None:
    """Without Redis a lease ends by itself: the log says so, and nothing is raised."""
    with capture_logs() as logs:
        release(f"redis://127.0.0.1:{free_port()}/0", Lease.make(["a"], seconds=1, uuid="u"))

    assert [log["event"] for log in logs] == ["lease.not_released"]

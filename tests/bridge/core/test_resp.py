"""bridge/core/resp.py: what a real server understands, and every way its answer can be cut."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.core import resp
from bridge.core.resp import ProtocolError, Reply, ReplyError, ReplyParser
from tests.servers import RedisServer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
AWKWARD = ["", " ", "\r\n", "a\r\n$3\r\nxyz\r\n", "BTC€USDT", "€" * 300, "x" * 511, "x" * 512, "\0"]

# Only stream ids and short words come back as bulk strings, never a line break inside of one.
BULKS = st.binary(max_size=60).filter(lambda data: b"\r" not in data and b"\n" not in data)
LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
IDS = st.builds("{}-{}".format, st.integers(0, 2**64), st.integers(0, 2**64)).map(str.encode)
ERRORS = st.sampled_from(["OOM command not allowed", "WRONGTYPE x", "ERR", "NOPERM a  b"])
SCALARS = st.one_of(
    IDS,
    BULKS,
    st.integers(-(2**63), 2**63 - 1),
    st.none(),
    ERRORS.map(lambda text: ReplyError(text.split(" ")[0], text)),
    LINES.map(lambda line: ("simple", line.encode())),
)
REPLIES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
# Mostly runs of ids, as in life: that is where the fast path and the slow one meet.
STREAMS = st.lists(st.one_of(REPLIES, st.lists(IDS, max_size=6).map(tuple)), max_size=12)


def wire(reply: object) -> bytes:
    """Return a reply as a server writes it."""
    match reply:
        case None:
            return b"$-1\r\n"
        case ("simple", bytes() as line):
            return b"+%s\r\n" % line
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case ReplyError(message=message):
            return f"-{message}\r\n".encode()
        case list():
            return b"*%d\r\n%s" % (len(reply), b"".join(map(wire, reply)))
    raise AssertionError(reply)


def meaning(reply: object) -> object:
    """Return what the parser shall make of a reply: a simple string is bytes like any other."""
    match reply:
        case ("simple", line):
            return line
        case list():
            return [meaning(item) for item in reply]
    return reply


def flatten(drawn: list[object]) -> list[object]:
    """Return the replies one by one: a tuple of bytes was a run of ids."""
    replies: list[object] = []
    for item in drawn:
        if isinstance(item, tuple) and item[:1] != ("simple",):
            replies.extend(item)
        else:
            replies.append(item)
    return replies


def feed_all(pieces: list[bytes]) -> list[Reply]:
    """Return what one parser makes of the pieces."""
    parser = ReplyParser()
    return [reply for piece in pieces for reply in parser.feed(piece)]


class Wire:
    """A raw connection that asks and reads answers, with nothing but the code under test."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._parser = ReplyParser()

    def ask(self, command: bytes) -> Reply:
        self._socket.sendall(command)
        while not (replies := self._parser.feed(self._socket.recv(65536))):
            pass
        (reply,) = replies
        return reply

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def connection(redis_server: RedisServer) -> Iterator[Wire]:
    connection = Wire(redis_server.port)
    yield connection
    connection.close()


@given(value=TEXTS)
@example("€")
@example("x" * 600)
def test_bulk_counts_bytes(value: str) -> None:
    """The length of a bulk string is that of its UTF-8 bytes."""
    data = value.encode()

    assert resp.bulk(value).encode() == b"$%d\r\n%s\r\n" % (len(data), data)


def test_command_is_an_array_of_bulks() -> None:
    """Numbers are written as text."""
    assert resp.command("SET", "k", 12) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n12\r\n"


def test_headers_agree_with_header() -> None:
    """The table of short lengths says what `header` says."""
    assert all(resp.HEADERS[n] == resp.header("x" * n) for n in range(len(resp.HEADERS)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.one_of(TEXTS, st.sampled_from(AWKWARD)), min_size=1, max_size=8))
@example(AWKWARD)
def test_server_stores_what_was_encoded(
    connection: Wire, redis_server: RedisServer, values: list[str]
) -> None:
    """Prefix and pairs are one XADD to a real server, and every field comes back as it was."""
    names = [f"é{n}" for n in range(len(values))]
    prefix = resp.xadd_prefix("market.raw.crypto.BTC€", len(names)).encode()

    reply = connection.ask(prefix + resp.pairs_encoder(names)(values))

    assert isinstance(reply, bytes)
    entries = redis_server.client.xrange("market.raw.crypto.BTC€", min=reply.decode())
    assert list(entries[0][1].items()) == list(zip(names, values, strict=True))


def test_trimming_xadd_keeps_about_maxlen(connection: Wire, redis_server: RedisServer) -> None:
    """With `maxlen` the same command trims the stream to whole nodes of about that many."""
    trimming = (resp.xadd_prefix("s", 1, maxlen=100) + resp.bulk("n") + resp.bulk("1")).encode()

    for _ in range(1000):
        connection.ask(trimming)

    assert 100 <= redis_server.client.xlen("s") < 300


@given(fields=st.dictionaries(TEXTS, st.one_of(TEXTS, st.sampled_from(AWKWARD)), max_size=8))
@example({"a": "a\r\n$3\r\nxyz\r\n", "": "€" * 300})
@example({"a": "x" * 511, "b": "x" * 512})
@example({"a": "€" * 600, "b": "x" * 600})
def test_pairs_are_read_back(fields: dict[str, str]) -> None:
    """`pairs` gives names and values back as they were encoded, in their order."""
    data = resp.pairs_encoder(list(fields))(list(fields.values()))

    assert list(resp.pairs(data).items()) == list(fields.items())


def test_encoder_refuses_a_wrong_number_of_values() -> None:
    """A command with a wrong count would make the server wait, and swallow the next one."""
    with pytest.raises(ValueError, match="size 1"):
        resp.pairs_encoder(("a", "b"))(("1",))


def test_encoder_refuses_what_is_not_unicode() -> None:
    """A lone surrogate has no bytes: it is an error here and not on the wire."""
    with pytest.raises(UnicodeEncodeError):
        resp.pairs_encoder(("a",))(("\ud800",))


@given(drawn=STREAMS, data=st.data())
def test_splits_do_not_matter(drawn: list[object], data: st.DataObject) -> None:
    """The same bytes give the same replies wherever they are cut."""
    replies = flatten(drawn)
    whole = b"".join(map(wire, replies))
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=12).map(sorted))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    assert feed_all(pieces) == [meaning(reply) for reply in replies]


@given(drawn=STREAMS)
def test_byte_by_byte(drawn: list[object]) -> None:
    """One byte at a time gives the same replies, each as soon as its last byte is in."""
    replies, parser = flatten(drawn), ReplyParser()

    for reply in replies:
        *first, last = [bytes([byte]) for byte in wire(reply)]
        assert [parser.feed(byte) for byte in first] == [[]] * len(first)
        assert parser.feed(last) == [meaning(reply)]


@given(drawn=STREAMS)
def test_paths_agree(drawn: list[object]) -> None:
    """The fast path for runs of ids reads them as the slow path does."""
    whole = b"".join(map(wire, flatten(drawn)))

    assert ReplyParser().feed(whole) == ReplyParser()._parse(whole)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\r\n",
        b"$x\r\n",
        b"*\r\n",
        b":1.5\r\n",
        b"?1\r\n",
        b"*1\r\n$3\r\nabcde\r\n",
        b"*1\r\n?1\r\n",
    ],
)
@pytest.mark.parametrize("lead", [b"", b"$3\r\n1-1\r\n"])
def test_garbage_is_an_error(lead: bytes, garbage: bytes) -> None:
    """Bytes that are not RESP2 raise, alone or behind a good reply."""
    with pytest.raises(ProtocolError):
        ReplyParser().feed(lead + garbage)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "oom"),
        ("READONLY You can't write against a read only replica.", "readonly"),
        ("MASTERDOWN Link with MASTER is down", "readonly"),
        ("NOREPLICAS Not enough good replicas to write.", "readonly"),
        ("MISCONF Redis is configured to save RDB snapshots", "readonly"),
        ("LOADING Redis is loading the dataset in memory", "loading"),
        ("CLUSTERDOWN The cluster is down", "readonly"),
        ("MOVED 9853 127.0.0.1:54211", "moved"),
        ("ASK 9853 127.0.0.1:54211", "moved"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "moved"),
        ("WRONGTYPE Operation against a key", "wrongtype"),
        ("NOAUTH Authentication required.", "auth"),
        ("WRONGPASS invalid username-password pair", "auth"),
        ("NOPERM this user has no permissions", "auth"),
        ("ERR unknown command", "other"),
        ("NOSCRIPT No matching script. Please use EVAL.", "other"),
        ("GAP 7", "other"),
        ("SOMETHING new", "other"),
    ],
)
def test_errors_are_of_a_kind(message: str, kind: str) -> None:
    """What Redis says becomes one of the label values of the metric."""
    (error,) = ReplyParser().feed(f"-{message}\r\n".encode())

    assert isinstance(error, ReplyError)
    assert (error.kind, error.message) == (kind, message)

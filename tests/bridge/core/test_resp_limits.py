"""bridge/core/resp.py against a peer without bounds, and what counts as a receipt."""

import pytest

from bridge.core import resp
from bridge.core.resp import DEPTH_MAX, REPLY_BYTES_MAX, ProtocolError, Reply, ReplyError

PIECE = 65_536


def feed(data: bytes) -> list[Reply]:
    """Return the replies in `data`, which comes in pieces as from a socket."""
    parser = resp.ReplyParser()
    replies: list[Reply] = []
    for start in range(0, len(data), PIECE):
        replies += parser.feed(data[start : start + PIECE])
    return replies


def test_some_depth_is_understood() -> None:
    """Arrays inside each other, as many as are allowed, are a reply."""
    assert feed(b"*1\r\n" * DEPTH_MAX + b":7\r\n") == [[[[[7]]]]]


@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 20_000])
def test_too_deep(depth: int) -> None:
    """More arrays inside each other are no reply of Redis, and no RecursionError."""
    with pytest.raises(ProtocolError, match="inside each other"):
        feed(b"*1\r\n" * depth + b":7\r\n")


@pytest.mark.parametrize(
    "begins",
    [b"+", b"-ERR ", b"$%d\r\n" % (1 << 40), b"*2\r\n:1\r\n+"],
    ids=["line", "error", "bulk", "array"],
)
def test_too_long(begins: bytes) -> None:
    """A reply that does not end is given up before it fills the memory."""
    parser = resp.ReplyParser()
    parser.feed(begins)

    with pytest.raises(ProtocolError, match=f"more than {REPLY_BYTES_MAX} bytes"):
        for _ in range(REPLY_BYTES_MAX // PIECE + 1):
            parser.feed(b"x" * PIECE)


def test_long_is_not_too_long() -> None:
    """A reply of nearly the limit arrives whole."""
    size = REPLY_BYTES_MAX - 100

    assert feed(b"$%d\r\n%s\r\n:1\r\n" % (size, b"x" * size)) == [b"x" * size, 1]


def test_many_are_not_too_long() -> None:
    """The limit is that of one reply: more bytes of whole replies at once are fine."""
    one = b"+%s\r\n" % (b"x" * 100)
    count = 2 * REPLY_BYTES_MAX // len(one)

    assert len(resp.ReplyParser().feed(one * count)) == count


@pytest.mark.parametrize("reply", [b"0-1", b"1700000000000-0", b"18446744073709551615-1"])
def test_an_id(reply: bytes) -> None:
    """Stream ids are."""
    assert resp.is_id(reply)


@pytest.mark.parametrize(
    "reply", [b"OK", b"QUEUED", b"", 1, None, [], [b"0-1"], ReplyError("ERR", "ERR 0-1")]
)
def test_no_id(reply: Reply) -> None:
    """Nothing else is, not an error that has one in its text either."""
    assert not resp.is_id(reply)

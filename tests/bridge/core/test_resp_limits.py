"""bridge/core/resp.py against a peer without bounds, and what counts as a receipt."""

from typing import Any

import pytest

from bridge.core import resp
from bridge.core.resp import (
    DEPTH_MAX,
    ITEMS_MAX,
    LINE_BYTES_MAX,
    REPLY_BYTES_MAX,
    ProtocolError,
    Reply,
    ReplyError,
)

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


@pytest.mark.parametrize("begins", [b"+", b"-ERR ", b":", b"$", b"*2\r\n:1\r\n+"])
def test_too_long_a_line(begins: bytes) -> None:
    """A line that does not end is given up before it fills the memory."""
    parser = resp.ReplyParser()
    parser.feed(begins)

    with pytest.raises(ProtocolError, match=f"line of more than {LINE_BYTES_MAX} bytes"):
        for _ in range(LINE_BYTES_MAX // PIECE + 1):
            parser.feed(b"1" * PIECE)


@pytest.mark.parametrize("lead", [b"", b":1\r\n", b"*2\r\n"], ids=["", "second", "inside"])
def test_too_long_a_bulk(lead: bytes) -> None:
    """What says that it is too long is believed."""
    with pytest.raises(ProtocolError, match=f"reply of more than {REPLY_BYTES_MAX} bytes"):
        feed(lead + b"$%d\r\n" % (REPLY_BYTES_MAX - 10))


def test_too_long_an_array() -> None:
    """An array that does not end is given up, though each of its items is whole."""
    parser = resp.ReplyParser()
    parser.feed(b"*3000\r\n")
    item = b"$1000\r\n%s\r\n" % (b"x" * 1000)

    with pytest.raises(ProtocolError, match=f"reply of more than {REPLY_BYTES_MAX} bytes"):
        for _ in range(REPLY_BYTES_MAX // len(item) + 1):
            parser.feed(item)


def test_arrays_one_after_the_other() -> None:
    """Each reply counts for itself, however the bytes are cut."""
    one = b"*1000\r\n" + b"$600\r\n%s\r\n" % (b"x" * 600) * 1000
    assert len(one) < REPLY_BYTES_MAX < 2 * len(one)
    assert [len(each) for each in feed(one * 5) if isinstance(each, list)] == [1000] * 5


@pytest.mark.parametrize("kind", [b"*", b">", b"%"])
def test_too_many_items(kind: bytes) -> None:
    """An array, a push or a map that says that it has more items than anything is refused."""
    with pytest.raises(ProtocolError, match=f"more than {ITEMS_MAX} items"):
        resp.ReplyParser().feed(kind + b"%d\r\n" % (ITEMS_MAX + 1))


@pytest.mark.parametrize(
    ("lead", "piece", "looks_max"),
    [
        (b"*5000\r\n" + b":1\r\n" * 4000, b":1\r\n", 10_000),
        (b"*2\r\n*5000\r\n" + b"$1\r\nx\r\n" * 4000, b":1\r\n", 10_000),
        (b"$5000\r\n" + b"\r\n" * 2000, b"x", 10),
    ],
    ids=["array", "array inside of another", "bulk"],
)
def test_in_small_pieces(
    monkeypatch: pytest.MonkeyPatch, lead: bytes, piece: bytes, looks_max: int
) -> None:
    """What comes in many small pieces is not read from its beginning at each of them: a peer that
    sends so must not keep the loop that halts run on."""
    looks = 0
    look = resp._parse_one

    def counting(*where: Any) -> Any:
        nonlocal looks
        looks += 1
        return look(*where)

    monkeypatch.setattr(resp, "_parse_one", counting)
    parser = resp.ReplyParser()
    assert parser.feed(lead) == []
    for _ in range(990):
        assert parser.feed(piece) == []

    assert looks < looks_max


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

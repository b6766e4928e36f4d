"""A record as text: the exact bytes come back, and no line can be changed unseen."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core import chain

PRICE = (b"price", b"100.5")
texts = st.one_of(st.binary(max_size=12), st.text(max_size=8).map(str.encode))
pairs = st.lists(st.tuples(texts, texts), max_size=6)


@given(pairs)
@example([])
@example([(b"", b"")])
@example([PRICE, PRICE])
@example([(b"a", b"\xff\x00\n\t\"\\'"), (b"a", b"\xed\xa0\x80\xed\xb0\x80"), (b"\x7f", b"")])
@example([(b"x", "\U0001f600".encode() + b"\xf0\x9f"), (b"y", b"\\u0041")])
def test_any_bytes_come_back(fields: list[tuple[bytes, bytes]]) -> None:
    """Whatever the names and values are: also no UTF-8, empty, a name twice."""
    flat = [each for pair in fields for each in pair]
    text = chain.encode(7, "fills", "12-3", flat)
    assert chain.decode(text) == (7, "fills", "12-3", flat)
    assert text.isascii()
    assert not {b"\n", b"\t"} & {text[at : at + 1] for at in range(len(text))}


@given(pairs)
def test_the_text_is_json(fields: list[tuple[bytes, bytes]]) -> None:
    """Any JSON parser reads a record: number, kind, id, and the pairs in their order."""
    flat = [each for pair in fields for each in pair]
    known = json.loads(chain.encode(7, "fills", "", flat), object_pairs_hook=list)
    assert known[:3] == [("n", 7), ("kind", "fills"), ("id", "")]
    names_and_values = [
        each.encode(errors="surrogateescape") for pair in known[3][1] for each in pair
    ]
    assert names_and_values == flat


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"1", b'{"n":1}', b'{"n":1,"kind":"a","id":"","fields":[1]}', b"\xff{}"],
)
def test_what_is_no_record(text: bytes) -> None:
    """A text that is no record is a ValueError, never another exception."""
    with pytest.raises(ValueError):
        chain.decode(text)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_changed_line_does_not_follow(text: bytes, data: st.DataObject) -> None:
    """A line follows on the digest before it; with one other byte anywhere it does not."""
    root = chain.digest(chain.BEGIN, text)
    line = chain.line(text, root)
    assert chain.follows(line, chain.BEGIN) == root
    at = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda each: each != line[at]))
    assert chain.follows(line[:at] + bytes([byte]) + line[at + 1 :], chain.BEGIN) is None


def test_a_line_follows_on_one_only() -> None:
    """The same text behind another line has another digest."""
    first = chain.digest(chain.BEGIN, b"a")
    line = chain.line(b"b", chain.digest(first, b"b"))
    assert chain.follows(line, first)
    assert chain.follows(line, chain.BEGIN) is None
    assert chain.follows(b"", chain.BEGIN) is None

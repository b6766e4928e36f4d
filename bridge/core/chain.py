"""The chain of the archive: a record's text, and how it is bound to all that stand before it.

A line is a JSON text, a tab, and 64 hex digits: SHA-256 over the digest before (32 bytes) and the
text. Whoever changes, drops, inserts or moves a line has to write every later one anew, and cannot
arrive at a digest that somebody else has noted down.

The text is ASCII. Bytes that are no UTF-8 stand in it as Python's surrogates (`\\udcff` for 0xff),
and a name that occurs twice occurs twice: the exact bytes of an entry come back.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from typing import Any, Final, NamedTuple

# What the first line of an archive is chained to.
BEGIN: Final = bytes(32)
# Tab, digest, line feed.
TAIL_BYTES: Final = 66
# What JSON writes as it is.
_PLAIN: Final = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
_START: Final = re.compile(rb'\{"n":(\d+),"kind":"(\w+)","id":"([\d-]*)","fields":\{')


class Record(NamedTuple):
    """One entry in the archive: the `n`th of all, with its stream id and its names and values."""

    n: int
    kind: str
    id: str
    fields: Sequence[bytes]


def encode(n: int, kind: str, entry_id: str, fields: Sequence[bytes]) -> bytes:
    """Return a record's text; `kind` and `entry_id` are plain ASCII, names and values are any."""
    if b"".join(fields).translate(None, _PLAIN):
        fields = [_escaped(each) for each in fields]
    pairs = _pairs(len(fields) // 2) % tuple(fields)
    return b'{"n":%d,"kind":"%b","id":"%b","fields":{%b}}' % (
        n,
        kind.encode(),
        entry_id.encode(),
        pairs,
    )


def decode(text: bytes) -> Record:
    """Return the record of a text that `encode` returned. Raises ValueError."""
    start = _START.match(text)
    if start is not None and b"\\" not in text and text.endswith(b"}}"):
        # Nothing is escaped: every quotation mark begins or ends a name or a value.
        fields = text[start.end() : -2].split(b'"')[1::2]
        return Record(int(start[1]), start[2].decode(), start[3].decode(), fields)
    try:
        known = dict(json.loads(text.decode("ascii"), object_pairs_hook=list))
        fields = [
            each.encode(errors="surrogateescape") for pair in known["fields"] for each in pair
        ]
        return Record(int(known["n"]), str(known["kind"]), str(known["id"]), fields)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("it is no record") from None


def encode_head(head: dict[str, Any]) -> bytes:
    """Return the text of a segment's first line."""
    return json.dumps(head, separators=(",", ":")).encode()


def digest(before: bytes, text: bytes) -> bytes:
    """Return what binds a text to the digest of the line before it."""
    return sha256(before + text).digest()


def line(text: bytes, own: bytes) -> bytes:
    """Return a text and its own digest as they stand in the file."""
    return b"%b\t%b\n" % (text, own.hex().encode())


def follows(whole: bytes, before: bytes) -> bytes | None:
    """Return the digest of a line that follows on `before`, None when it does not."""
    own = sha256(before + whole[:-TAIL_BYTES])
    if whole[-TAIL_BYTES:] != b"\t%b\n" % own.hexdigest().encode():
        return None
    return own.digest()


def _escaped(raw: bytes) -> bytes:
    return encode_basestring_ascii(raw.decode(errors="surrogateescape"))[1:-1].encode()


@lru_cache(64)
def _pairs(count: int) -> bytes:
    return b",".join([b'"%b":"%b"'] * count)

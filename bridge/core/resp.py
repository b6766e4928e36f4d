"""RESP, the Redis wire protocol: commands to bytes, bytes to typed replies.

Written for three uses only: appending entries as fast as a Python process can, knowing which entry
each reply belongs to, and hearing what a RESP3 server pushes. Pure: no socket, no clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

# What a Redis error means for the bridge; also the closed set of the metric's label.
ERROR_KINDS: Final = {
    "OOM": "oom",
    "READONLY": "readonly",
    "LOADING": "loading",
    "MASTERDOWN": "readonly",
    "NOREPLICAS": "readonly",
    "MISCONF": "readonly",
    "CLUSTERDOWN": "readonly",
    "MOVED": "moved",
    "ASK": "moved",
    "TRYAGAIN": "moved",
    "WRONGTYPE": "wrongtype",
    "NOAUTH": "auth",
    "WRONGPASS": "auth",
    "NOPERM": "auth",
}

# `$n\r\n` for every length a value of ours can usually have; `header` covers the rest.
HEADERS: Final = tuple(f"${n}\r\n" for n in range(512))

# A stream id is a bulk string of 3 (`0-1`) to 41 bytes.
_ID_HEADERS: Final = frozenset(b"$%d" % n for n in range(3, 42))


# No answer to what we ask comes near these: more is not Redis, or not for us.
REPLY_BYTES_MAX: Final = 1 << 20
LINE_BYTES_MAX: Final = 1 << 16
ITEMS_MAX: Final = 1 << 16
DEPTH_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class ReplyError:
    """An error reply. `code` is its first word, `message` the whole text."""

    code: str
    message: str

    @property
    def kind(self) -> str:
        """One of the closed set of metric label values, `other` for what is not named there."""
        if self.message.startswith("ERR The user executing the script"):
            return "auth"  # an ACL forbids what a script of ours does
        return ERROR_KINDS.get(self.code, "other")

    @property
    def is_elsewhere(self) -> bool:
        """Whether the connection leads to the wrong server: it is no primary, or not this key's."""
        return self.kind == "readonly" or self.code == "MOVED"


class Push(list["Reply"]):
    """What a RESP3 server says without being asked."""


type Reply = bytes | int | ReplyError | list[Reply] | None


class ProtocolError(Exception):
    """The peer sent bytes that are not RESP: the connection cannot be used any further."""


def header(value: str) -> str:
    """Return the `$n\\r\\n` header of `value`: its length in UTF-8 bytes, not in characters."""
    return f"${len(value) if value.isascii() else len(value.encode())}\r\n"


def bulk(value: str) -> str:
    """Return `value` as a bulk string."""
    return f"{header(value)}{value}\r\n"


def command(*words: str | int) -> bytes:
    """Return one command."""
    return f"*{len(words)}\r\n{''.join([bulk(str(word)) for word in words])}".encode()


def xadd_prefix(key: str, fields: int, maxlen: int | None = None) -> str:
    """Return the constant part of an XADD of `fields` name-value pairs to `key`.

    With `maxlen` the stream is trimmed to about that many entries by the same command.
    """
    words = ["XADD", key]
    if maxlen is not None:
        words += ["MAXLEN", "~", str(maxlen)]
    words.append("*")
    return f"*{len(words) + 2 * fields}\r\n{''.join([bulk(word) for word in words])}"


def pairs_encoder(names: Sequence[str]) -> Callable[[Sequence[str]], bytes]:
    """Return the function that turns values, as many as `names`, into names and values in turn."""
    # Name, header, value; the end of a value stands before the name that follows it.
    end = "\r\n"
    blank = ["", "", ""] * len(names) + [end] * bool(names)
    blank[:-1:3] = [f"{end * bool(number)}{bulk(name)}" for number, name in enumerate(names)]

    def encode(values: Sequence[str]) -> bytes:
        words = blank.copy()
        words[2::3] = values
        try:
            words[1::3] = map(HEADERS.__getitem__, map(len, values))
        except IndexError:
            words[1::3] = map(header, values)
        text = "".join(words)
        if text.isascii():
            return text.encode()
        words[1::3] = map(header, values)
        return "".join(words).encode()

    return encode


def pairs(data: bytes) -> dict[str, str]:
    """Return the names and values that stand in `data` in turn, as bulk strings."""
    words, at = [], 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        length = int(data[at + 1 : end])
        words.append(data[end + 2 : end + 2 + length].decode())
        at = end + 4 + length
    return dict(zip(words[::2], words[1::2], strict=True))


def is_id(reply: Reply) -> bool:
    """Return whether a reply can be a stream id: that, and nothing else, confirms an entry."""
    return type(reply) is bytes and b"-" in reply


@dataclass(slots=True)
class _Array:
    """An array: the items so far, and how many are to follow."""

    items: list[Reply]
    missing: int


class ReplyParser:
    """Bytes in, whole replies out. What is not yet whole is kept as far as it is parsed: who sends
    it in small pieces makes nobody read it again and again."""

    def __init__(self) -> None:
        # The item that is not whole yet, and how many bytes it lacks at least.
        self._rest: list[bytes] = []
        self._missing = 0
        # The arrays that are not whole yet, each inside the one before it; their bytes so far.
        self._arrays: list[_Array] = []
        self._arrays_bytes = 0

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that `data` completes, oldest first.

        Raises ProtocolError when the bytes are not RESP.
        """
        if self._rest:
            self._rest.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._rest)
        if self._arrays or data[:1] != b"$":
            return self._parse(data)
        # Nearly all replies are stream ids, one header line and one id line each, and come by
        # the hundred: for those, two C-speed calls replace a loop over the lines.
        lines = data.split(b"\r\n")
        whole = (len(lines) - 1) & ~1
        if not whole or not set(lines[:whole:2]) <= _ID_HEADERS:
            return self._parse(data)
        ids: list[Reply] = list(lines[1:whole:2])
        rest = b"\r\n".join(lines[whole:])
        return ids + self._parse(rest)

    def _parse(self, data: bytes) -> list[Reply]:
        replies: list[Reply] = []
        arrays, begin, position = self._arrays, 0, 0
        while not isinstance(parsed := _parse_one(data, position), int):
            item, position = parsed
            if isinstance(item, _Array):
                if len(arrays) == DEPTH_MAX:
                    raise ProtocolError(
                        f"a reply of more than {DEPTH_MAX} arrays inside each other"
                    )
                if item.missing:
                    arrays.append(item)
                    continue
                item = item.items
            while arrays:
                array = arrays[-1]
                array.items.append(item)
                array.missing -= 1
                if array.missing:
                    break
                item = arrays.pop().items
            else:
                replies.append(item)
                self._arrays_bytes, begin = 0, position
        self._arrays_bytes += position - begin
        rest = data[position:]
        self._rest, self._missing = [rest] if rest else [], parsed
        if self._arrays_bytes + len(rest) + parsed > REPLY_BYTES_MAX:
            raise ProtocolError(f"a reply of more than {REPLY_BYTES_MAX} bytes")
        return replies


def _parse_one(buffer: bytes, position: int) -> tuple[Reply | _Array, int] | int:
    """Return one item, of an array only its beginning, and the position behind it; or how many
    bytes it lacks at least."""
    end = buffer.find(b"\r\n", position)
    if end < 0:
        if len(buffer) - position > LINE_BYTES_MAX:
            raise ProtocolError(f"a line of more than {LINE_BYTES_MAX} bytes")
        return 1
    kind, line, position = buffer[position : position + 1], buffer[position + 1 : end], end + 2
    if kind == b"+":
        return line, position
    if kind == b"_" and not line:
        return None, position
    if kind == b"-":
        text = line.decode(errors="replace")
        return ReplyError(text.split(" ", 1)[0], text), position
    try:
        number = int(line)
    except ValueError:
        raise ProtocolError(f"not a Redis reply: {(kind + line)[:40]!r}") from None
    if kind == b":":
        return number, position
    if kind == b"$":
        if number < 0:
            return None, position
        end = position + number
        return (buffer[position:end], end + 2) if end + 2 <= len(buffer) else end + 2 - len(buffer)
    if kind in b"*>%":  # an array, a push, a map: its keys and values in turn
        return _array(kind, number), position
    raise ProtocolError(f"not a Redis reply: type {kind!r}")


def _array(kind: bytes, length: int) -> _Array | None:
    if length < 0:
        return None
    count = 2 * length if kind == b"%" else length
    if count > ITEMS_MAX:
        raise ProtocolError(f"an array of more than {ITEMS_MAX} items")
    return _Array(Push() if kind == b">" else [], count)

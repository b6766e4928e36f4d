"""What `python -m bridge doctor` reads of one stream and of its marks."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Final

import redis

from bridge.audit_marks import rewound
from bridge.core import scripts
from bridge.doctor import Refused, Stream
from bridge.doctor_asking import hash_of, refusal, text_of, tried
from bridge.preflight import asked

PIPELINED_KEYS: Final = 200
# How many entries of an execution stream are looked at: the last ones, and some at equal spans of
# time from the first one to the last.
LAST_ENTRIES: Final = 50
PLACES: Final = 16
ENTRIES_OF_PLACE: Final = 5
# Nautilus's own message bus writes entries of these fields.
BUS_FIELDS: Final = {b"topic", b"payload"}


def streams(client: redis.Redis, keys: Sequence[bytes]) -> list[Stream]:
    """Return what Redis tells of these keys, but for those that have gone meanwhile."""
    found = [
        _stream(key, *told)
        for part in itertools.batched(keys, PIPELINED_KEYS)
        for key, told in zip(part, _told(client, part), strict=True)
    ]
    return [each for each in found if each.type != "none" or each.refused is not None]


def exec_stream(client: redis.Redis, key: str, *, has_marks: bool) -> Stream:
    """Return what Redis tells of a stream of execution entries, of its marks, of some entries."""
    mark = scripts.mark_key(key)
    keys = (key, mark) if has_marks else (key,)
    [told] = _told(client, [key.encode()])
    found = _stream(key.encode(), *told)
    mark_kind = tried(client, "TYPE", mark) if has_marks else None
    has_bus = _has_bus(client, found)
    rewound_from = _rewound(client, key, mark) if has_marks else None
    left_ms = {each: tried(client, "PTTL", each) for each in keys}
    refusals = [found.refused, refusal(mark, mark_kind)]
    refusals += [each for each in (has_bus, rewound_from) if isinstance(each, Refused)]
    refusals += [refusal(each, said) for each, said in left_ms.items()]
    return dataclasses.replace(
        found,
        mark_type=text_of(mark_kind) if isinstance(mark_kind, bytes) else "none",
        expiring={each: ms for each, ms in left_ms.items() if isinstance(ms, int) and ms >= 0},
        has_bus=has_bus is True,
        rewound=rewound_from if isinstance(rewound_from, str) else "",
        refused=next(filter(None, refusals), None),
    )


def _told(client: redis.Redis, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """Return of each key its type, what it tells as a stream, and its size; errors, too."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            asked(pipe, "TYPE", key)
            asked(pipe, "XINFO", "STREAM", key)
            asked(pipe, "MEMORY", "USAGE", key)
        return list(itertools.batched(pipe.execute(raise_on_error=False), 3))


def _stream(raw: bytes, kind: Any, flat: Any, size_bytes: Any) -> Stream:
    key = text_of(raw)
    info = {} if isinstance(flat, Exception) else dict(itertools.batched(flat, 2))
    first, last = info.get(b"first-entry"), info.get(b"last-entry")
    return Stream(
        key,
        type=text_of(kind) if isinstance(kind, bytes) else "none",
        length=info.get(b"length", 0),
        size_bytes=size_bytes if isinstance(size_bytes, int) else None,
        added=info.get(b"entries-added"),
        first_ms=_ms(first[0]) if first else 0,
        last_ms=_ms(info.get(b"last-generated-id", b"0-0")),
        fields=hash_of(last[1]) if last else {},
        refused=refusal(key, kind) or refusal(key, flat),
    )


def _has_bus(client: redis.Redis, stream: Stream) -> bool | Refused:
    """Return whether Nautilus's own message bus wrote one of the entries that are looked at."""
    if not stream.length:
        return False
    with client.pipeline(transaction=False) as pipe:
        asked(pipe, "XREVRANGE", stream.key, "+", "-", "COUNT", LAST_ENTRIES)
        for number in range(PLACES):
            at_ms = stream.first_ms + (stream.last_ms - stream.first_ms) * number // PLACES
            asked(pipe, "XRANGE", stream.key, at_ms, "+", "COUNT", ENTRIES_OF_PLACE)
        pages = pipe.execute(raise_on_error=False)
    for page in pages:
        if isinstance(page, Exception):
            return refusal(stream.key, page) or False
        if any(BUS_FIELDS.issubset(fields[::2]) for _, fields in page if fields):
            return True
    return False


def _rewound(client: redis.Redis, key: str, mark: str) -> str | Refused | None:
    """Return in words how a stream is not what its marks were taken from, or what refused to
    tell."""
    marks = tried(client, "HGETALL", mark)
    if not isinstance(marks, list):
        return refusal(mark, marks)
    try:
        for producer, text in itertools.batched(marks, 2):
            if not producer.startswith(b"owner:") and (said := rewound(client, key, text)):
                return said
    except redis.ResponseError as error:
        return refusal(key, error)
    return None


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])

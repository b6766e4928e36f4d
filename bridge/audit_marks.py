"""Whether a stream still is what its marks were taken from: as `bridge.core.scripts` judges it."""

import itertools
import re
from typing import Any, Final

import redis

from bridge.archive_tally import id_key
from bridge.preflight import asked

# A mark of a stream: a number, the id of its entry, how many entries the stream had then.
MARK: Final = re.compile(rb"\d+ (\d+-\d+) (\d+)")


def info_of(client: redis.Redis, key: str) -> dict[bytes, Any]:
    """Return what Redis tells of a stream, nothing where there is none. Raises redis.RedisError."""
    try:
        return dict(itertools.batched(asked(client, "XINFO", "STREAM", key), 2))
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return {}
        raise


def rewound(client: redis.Redis, key: str, text: bytes) -> str:
    """Return in words how a stream is not what a mark was taken from, nothing when it is.

    Raises redis.RedisError.
    """
    mark = MARK.fullmatch(text)
    if mark is None:
        return f"has a mark that is none: {text.decode(errors='replace')}"
    entry_id, added = mark[1], int(mark[2])
    if entry_id == b"0-0":
        return ""
    # The entry first: what is trimmed behind that look was there.
    is_there = bool(asked(client, "XRANGE", key, entry_id, entry_id))
    info = info_of(client, key)
    if not info:
        return f"is gone: its mark knows of the entry {entry_id.decode()}"
    told, at = f"was set back: its mark knows of the entry {entry_id.decode()}", _id(entry_id)
    if _id(info[b"last-generated-id"]) < at:
        return f"{told}, the last one is {info[b'last-generated-id'].decode()}"
    total = info.get(b"entries-added")
    if total is not None and total < added:
        return f"{told} as number {added}, it has had {total}"
    deleted, first = info.get(b"max-deleted-entry-id"), info[b"first-entry"]
    if is_there or total is None or deleted is None or not first or _id(deleted) >= at:
        return ""
    return "" if total > info[b"length"] and at < _id(first[0]) else f"{told}, which is not there"


def _id(text: bytes) -> tuple[int, int]:
    return id_key(text.decode())

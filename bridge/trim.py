"""`python -m bridge trim`: shorten the exec streams, never past what ledger and archive have taken.

Nor past what a consumer group still has to be given. An entry goes when all of them are beyond it
and it is older than asked for.
"""

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import redis

from bridge import archive_segments, exits
from bridge.archive_tally import id_key
from bridge.cluster_client import node_of
from bridge.core.contract import EXEC_KINDS
from bridge.exits import Exit
from bridge.ledger_view import LedgerView
from bridge.preflight import asked, raw_client_of, refusal_of
from bridge.readers import KINDS, Places
from bridge.reading import Place, digest_of

START: Final = "0-0"
PAGE_ENTRIES: Final = 1_000
# A stream is looked at again when somebody writes to it meanwhile.
LOOKS_MAX: Final = 1_000


class Bound(NamedTuple):
    """Entries below `id` may go; `why` is who needs what follows."""

    id: str
    why: str


def trim(places: Places, *, older_seconds: float, is_rehearsal: bool) -> tuple[list[str], int]:
    """Return what was removed of each stream, or with `is_rehearsal` what would be, and the exit
    code: FAILED when one of them is no stream.

    Raises Exit: CONFIGURATION when nobody keeps what is to be removed; OSError, sqlite3.Error when
    it cannot be told what they keep: nothing was removed then.
    """
    kept = places.kept()
    if not kept:
        raise Exit(
            exits.CONFIGURATION,
            "ledger.reader and archive.reader are off: nobody keeps what trim would remove; use "
            "redis-cli XTRIM if that is what you want",
        )
    readers = {name: _places_of(name, places) for name in kept}
    client = raw_client_of(places.url)
    oldest = Bound(f"{max(0, int((time.time() - older_seconds) * 1000))}-0", "--older-than")
    lines, code = [], exits.DONE
    done = "would be removed" if is_rehearsal else "removed"
    try:
        for kind in EXEC_KINDS:
            known = {name: each.get(kind) for name, each in readers.items() if kind in KINDS[name]}
            key = places.streams[kind]
            try:
                count, bound = _trim(client, key, oldest, known, is_rehearsal=is_rehearsal)
                left = asked(client, "XLEN", key)
                lines.append(f"{key}: {count} entries {done}, {left} are there; bound: {bound.why}")
            except redis.ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                lines.append(f"{key}: left alone: {error}")
                code = exits.FAILED
        return lines, code
    except (redis.RedisError, OSError) as error:
        raise refusal_of(error, places.url) from None
    finally:
        client.close()


def _places_of(name: str, places: Places) -> dict[str, Place]:
    if name == "archive":
        return dict(archive_segments.cursors(places.archive).places)
    with contextlib.closing(LedgerView.read_only(places.ledger)) as view:
        return view.places_now()


def _trim(
    client: redis.Redis,
    key: str,
    oldest: Bound,
    readers: Mapping[str, Place | None],
    *,
    is_rehearsal: bool,
) -> tuple[int, Bound]:
    """Remove what may go of one stream, in one step with the look at it; return how many that were.

    Raises redis.RedisError.
    """
    with node_of(client, key).pipeline() as pipe:
        for _ in range(LOOKS_MAX):
            try:
                pipe.watch(key)  # type: ignore[no-untyped-call]
                bound = min([oldest, *_bounds(pipe, key, readers)], key=lambda b: id_key(b.id))
                if id_key(bound.id) == id_key(START):
                    return 0, bound
                if is_rehearsal:
                    return _count_below(pipe, key, bound.id), bound
                pipe.multi()
                pipe.execute_command("XTRIM", key, "MINID", "=", bound.id)  # type: ignore[no-untyped-call]
                return int(pipe.execute()[0]), bound
            except redis.WatchError:
                continue
    return 0, Bound(START, "it never stands still: try again")


def _bounds(client: redis.Redis, key: str, readers: Mapping[str, Place | None]) -> Iterator[Bound]:
    """Yield how far each of those who read a stream lets it be trimmed."""
    for name, place in readers.items():
        if place is not None and _stands(client, key, place):
            yield Bound(place.id, f"the {name}")
        else:
            yield Bound(START, f"the {name}, which has to read it from its start")
    if not asked(client, "EXISTS", key):
        return
    for flat in asked(client, "XINFO", "GROUPS", key):
        group = dict(itertools.batched(flat, 2))
        name = group[b"name"].decode(errors="replace")
        yield Bound(group[b"last-delivered-id"].decode(), f"the group {name}")
        _, oldest, *_ = asked(client, "XPENDING", key, group[b"name"])
        if oldest:
            yield Bound(oldest.decode(), f"the group {name}, which has not acknowledged it")


def _stands(client: redis.Redis, key: str, place: Place) -> bool:
    """Return whether a reader's place still holds; if not, it is about to read from the start."""
    found = asked(client, "XRANGE", key, place.id, place.id)
    return bool(found) and digest_of(found[0][1]) == place.digest


def _count_below(client: redis.Redis, key: str, bound: str) -> int:
    count, start = 0, "-"
    while page := asked(client, "XRANGE", key, start, f"({bound}", "COUNT", PAGE_ENTRIES):
        count += len(page)
        start = f"({page[-1][0].decode()}"
    return count

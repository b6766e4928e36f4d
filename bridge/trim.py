"""`python -m bridge trim`: shorten the exec streams, never past what ledger and archive have taken.

Nor past what a consumer group still has to be given. An entry goes when all of them are beyond it
and it is older than asked for.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import redis

from bridge import archive_segments, exits
from bridge.archive_tally import id_key
from bridge.core.contract import EXEC_KINDS
from bridge.exits import Exit
from bridge.ledger_view import LedgerView
from bridge.preflight import asked, raw_client_of, refusal_of
from bridge.readers import KINDS, Places
from bridge.reading import Place, digest_of

START: Final = "0-0"
PAGE_ENTRIES: Final = 1_000
# A stream is looked at again when what was seen has changed meanwhile.
LOOKS_MAX: Final = 1_000

# KEYS stream; ARGV a bound, the digest of the look that it comes from (empty: look), ids ...
# -> of a look its digest, what stands at the ids, and of each group its name, the last id it was
# given, the oldest one it has not acknowledged; else how many entries below the bound were removed,
# nil when the look is another one by now. A script, not MULTI: a Redis that is full queues nothing.
LOOK: Final = """
local stream, entries, groups = KEYS[1], {}, {}
local kind = redis.call('TYPE', stream)['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE ' .. stream .. ' is a ' .. kind .. ', no stream')
end
for i = 3, #ARGV do entries[i - 2] = redis.call('XRANGE', stream, ARGV[i], ARGV[i]) end
for _, flat in ipairs(kind == 'stream' and redis.call('XINFO', 'GROUPS', stream) or {}) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  local oldest = redis.call('XPENDING', stream, group['name'])[2]
  groups[#groups + 1] = {group['name'], group['last-delivered-id'], oldest or ''}
end
local digest = redis.sha1hex(cmsgpack.pack({entries, groups}))
if ARGV[2] == '' then return {digest, entries, groups} end
return digest == ARGV[2] and redis.call('XTRIM', stream, 'MINID', '=', ARGV[1])
"""


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
    why = f"younger than {_span(older_seconds)}, see --older-than"
    oldest = Bound(f"{max(0, int((time.time() - older_seconds) * 1000))}-0", why)
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


def _span(seconds: float) -> str:
    """Return a time in the largest unit of --older-than that it is a whole number of."""
    units = {"d": 86_400, "h": 3600, "m": 60}
    for unit, size in units.items():
        if seconds >= size and not seconds % size:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


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
    """Remove what may go of one stream, unless what was seen of it has changed; return how many
    that were. Raises redis.RedisError.
    """
    ids = [place.id for place in readers.values() if place is not None]
    for _ in range(LOOKS_MAX):
        digest, entries, groups = asked(client, "EVAL", LOOK, 1, key, "", "", *ids)
        found = dict(zip(ids, entries, strict=True))
        bound = min([oldest, *_bounds(readers, found, groups)], key=lambda b: id_key(b.id))
        if id_key(bound.id) == id_key(START):
            return 0, bound
        if is_rehearsal:
            return _count_below(client, key, bound.id), bound
        count = asked(client, "EVAL", LOOK, 1, key, bound.id, digest, *ids)
        if count is not None:
            return count, bound
    return 0, Bound(START, "it never stands still: try again")


def _bounds(
    readers: Mapping[str, Place | None], found: Mapping[str, Any], groups: Iterable[Sequence[bytes]]
) -> Iterator[Bound]:
    """Yield how far each of those who read a stream lets it be trimmed; `found` is what stands at
    the readers' places."""
    for name, place in readers.items():
        if place is not None and _stands(found[place.id], place):
            yield Bound(place.id, f"the {name}")
        else:
            yield Bound(START, f"the {name}, which has to read it from its start")
    for group, given, oldest in groups:
        who = f"the group {group.decode(errors='replace')}"
        yield Bound(given.decode(), who)
        if oldest:
            yield Bound(oldest.decode(), f"{who}, which has not acknowledged it")


def _stands(found: Any, place: Place) -> bool:
    """Return whether a reader's place still holds; if not, it is about to read from the start."""
    return bool(found) and digest_of(found[0][1]) == place.digest


def _count_below(client: redis.Redis, key: str, bound: str) -> int:
    count, start = 0, "-"
    while page := asked(client, "XRANGE", key, start, f"({bound}", "COUNT", PAGE_ENTRIES):
        count += len(page)
        start = f"({page[-1][0].decode()}"
    return count

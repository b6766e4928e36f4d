"""What `python -m bridge doctor` reads of Redis. It changes nothing: what would be a write is
queued in a transaction, which is where Redis checks permissions, and then discarded.

A node of a Cluster answers MOVED to what it would do if the key were its own."""

import itertools
import re
import time
from collections.abc import Iterator, Sequence
from string import Formatter
from typing import Any, Final, NamedTuple

import redis

from bridge import exits
from bridge.audit_marks import rewound
from bridge.controller import Keys
from bridge.core import contract, control, scripts
from bridge.core.contract import ARCHIVE_KIND, EXEC_KINDS, MARKET_KINDS, Names
from bridge.core.control import FLAGS, MODE_KEY, WRONG_TYPE, Raw
from bridge.doctor import Answer, Reading, Stream
from bridge.doctor_keys import EXEC_TOPICS, HEARTBEAT_TOPIC, TRADER, topic_of, trader_of
from bridge.doctor_rights import Need, needs
from bridge.exits import Exit
from bridge.preflight import asked

SETTINGS: Final = ("save", "appendfsync", "dir", "min-replicas-to-write")
ROUND_TRIPS: Final = 20
SCAN_ENTRIES: Final = 1_000
SCAN_SECONDS_MAX: Final = 2.0
PIPELINED_KEYS: Final = 200
SCRIPTS: Final = (
    scripts.CLAIM, scripts.REMARK, scripts.SHIP, scripts.SEARCH, scripts.LEASE, scripts.RELEASE,
)  # fmt: skip


def read_all(
    client: redis.Redis, names: Names, role: str, wanted: Sequence[Need] | None = None
) -> Reading:
    """Return what doctor wants to know of a server; `client` is that of `raw_client_of`.

    `wanted`: what its user is to have the right to; None: what the bridge does. What the user may
    not ask is left empty. Raises redis.RedisError, OSError; Exit (UNAVAILABLE) when it is no Redis
    that can be judged.
    """
    info = _tried(client, "INFO", "everything")
    if isinstance(info, Exception) and "unknown command" in str(info):
        what = "it does not know INFO: it is the demo's stand-in for a Redis, or none"
        raise Exit(exits.UNAVAILABLE, f"{what}; install redis-server, or name another --url")
    round_trips_ns = _round_trips(client)
    skew_ns, now_ms = _clock(client)
    exec_keys = {kind: names.key(kind) for kind in (*EXEC_KINDS, ARCHIVE_KIND)}
    scripts_problem, script_ns = _scripts(client, exec_keys["orders"])
    found, is_whole = _scanned(client, names)
    exec_streams = _streams(client, list(exec_keys.values()), with_marks=True)
    return Reading(
        info=_info(info),
        settings={
            name: value
            for each in SETTINGS
            for name, value in _hash(_tried(client, "CONFIG", "GET", each)).items()
        },
        user=_user(client),
        answers=_answers(client, [*needs(names, role)] if wanted is None else wanted),
        round_trips_ns=round_trips_ns,
        skew_ns=skew_ns,
        now_ms=now_ms,
        scripts_problem=scripts_problem,
        script_ns=script_ns,
        values=_values(client, (*FLAGS, MODE_KEY, *control.limit_keys(found.symbols))),
        state=_hash(_tried(client, "HGETALL", Keys.of(role).state)),
        metrics=_hash(_tried(client, "HGETALL", names.prefixed(contract.METRICS_KEY))),
        contract=_raw(_tried(client, "GET", names.prefixed(contract.CONTRACT_KEY))),
        exec_streams=dict(zip(exec_keys, exec_streams, strict=True)),
        market_streams=_streams(client, found.market),
        bus_streams=_streams(client, found.bus),
        traders=found.traders,
        is_whole=is_whole,
    )


class Found(NamedTuple):
    """The keys of interest: market streams, streams of Nautilus's bus, its caches' traders, and the
    symbols that have a limit of their own."""

    market: list[str]
    bus: list[str]
    traders: list[str]
    symbols: list[str]


def _answers(client: redis.Redis, wanted: Sequence[Need]) -> list[Answer] | None:
    """Return what Redis says to commands in a transaction that is discarded; None: it has none."""
    connection: Any = client.connection_pool.get_connection()
    try:
        # Only what does not run what it should queue is given more: a server that is full refuses.
        connection.send_command("MULTI")
        if _reply(connection) != b"OK":
            return None
        connection.send_command("PING")
        if _reply(connection) == b"PONG":
            return None
        connection.send_packed_command(
            connection.pack_commands([words for *_, words in wanted] + [("DISCARD",)])
        )
        replies = [_reply(connection) for _ in wanted]
        _reply(connection)
    finally:
        connection.disconnect()
        client.connection_pool.release(connection)
    return [
        Answer(words, key, must, "" if reply == b"QUEUED" or _is_moved(reply) else str(reply))
        for (must, key, words), reply in zip(wanted, replies, strict=True)
    ]


def _is_moved(said: Any) -> bool:
    return isinstance(said, redis.exceptions.MovedError)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _tried(client: redis.Redis, *words: str) -> Any:
    """Return the answer, or the error that Redis answers with. Raises redis.RedisError, OSError."""
    try:
        return asked(client, *words)
    except redis.ResponseError as error:
        return error


def _round_trips(client: redis.Redis) -> list[int]:
    """Return how long each answer took, a refusal too."""
    taken = []
    _tried(client, "PING")  # connects
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter_ns()
        _tried(client, "PING")
        taken.append(time.perf_counter_ns() - began)
    return taken


def _clock(client: redis.Redis) -> tuple[int | None, int]:
    """Return how far Redis's clock is ahead, and its time in ms; ours where it may not be asked."""
    before = time.time_ns()
    said = _tried(client, "TIME")
    after = time.time_ns()
    if isinstance(said, Exception):
        return None, after // 1_000_000
    theirs_ns = int(said[0]) * 10**9 + int(said[1]) * 1000
    return theirs_ns - (before + after) // 2, theirs_ns // 1_000_000


def _scripts(client: redis.Redis, key: str) -> tuple[str, int]:
    """Return why the scripts cannot run, else how long one took that only reads."""
    for script in SCRIPTS:
        if isinstance(said := _tried(client, "SCRIPT", "LOAD", script), Exception):
            return str(said), 0
    began = time.perf_counter_ns()
    said = _tried(client, "EVALSHA", scripts.digest(scripts.SEARCH), "1", key, "+", "1", "nobody")
    is_well = _is_moved(said) or str(said).startswith("WRONGTYPE")
    is_wrong = isinstance(said, Exception) and not is_well
    return str(said) if is_wrong else "", time.perf_counter_ns() - began


def _scanned(client: redis.Redis, names: Names) -> tuple[Found, bool]:
    """Return the keys of interest, and whether all keys were seen within SCAN_SECONDS_MAX."""
    ours = re.compile("|".join([_pattern(names, kind) for kind in MARKET_KINDS]))
    # Most keys are nobody's business: they are told by how they begin.
    heads = [names.prefix + names.templates[kind].partition("{")[0] for kind in MARKET_KINDS]
    known = tuple([each.encode() for each in (*heads, control.POSITION_KEY, TRADER)])
    market, bus, traders, symbols = set[str](), set[str](), set[str](), set[str]()
    cursor, deadline = b"0", time.monotonic() + SCAN_SECONDS_MAX
    while True:
        page = _tried(client, "SCAN", cursor.decode(), "COUNT", str(SCAN_ENTRIES))
        if isinstance(page, Exception):
            break
        cursor, keys = page
        for key in [_text(each) for each in keys if each.startswith(known)]:
            if ours.fullmatch(key):
                market.add(key)
            elif key.startswith(control.POSITION_KEY):
                symbols.add(key.removeprefix(control.POSITION_KEY))
            elif key.startswith(TRADER) and (topic := topic_of(key)):
                if topic.startswith((*EXEC_TOPICS, HEARTBEAT_TOPIC)):
                    bus.add(key)
            elif key.startswith(TRADER):
                traders.add(trader_of(key))
        if cursor == b"0" or time.monotonic() > deadline:
            break
    found = Found(*map(sorted, (market, bus, traders, symbols)))
    return found, cursor == b"0" and not isinstance(page, Exception)


def _pattern(names: Names, kind: str) -> str:
    """Return what matches the streams of a kind, whatever stands for the placeholders."""
    parts = Formatter().parse(names.templates[kind])
    texts = [re.escape(text) + (".+" if name else "") for text, name, *_ in parts]
    return re.escape(names.prefix) + "".join(texts)


def _streams(client: redis.Redis, keys: Sequence[str], *, with_marks: bool = False) -> list[Stream]:
    return [
        stream
        for part in itertools.batched(keys, PIPELINED_KEYS)
        for stream in _read_streams(client, part, with_marks=with_marks)
    ]


def _read_streams(
    client: redis.Redis, keys: Sequence[str], *, with_marks: bool
) -> Iterator[Stream]:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            asked(pipe, "TYPE", key)
            asked(pipe, "XINFO", "STREAM", key)
            asked(pipe, "MEMORY", "USAGE", key)
            if with_marks:
                asked(pipe, "TYPE", scripts.mark_key(key))
        answers = itertools.batched(pipe.execute(raise_on_error=False), 3 + with_marks)
    for key, (kind, flat, size_bytes, *mark) in zip(keys, answers, strict=True):
        info = {} if isinstance(flat, Exception) else dict(itertools.batched(flat, 2))
        first, last = info.get(b"first-entry"), info.get(b"last-entry")
        mark_type = _text(mark[0]) if mark and isinstance(mark[0], bytes) else "none"
        yield Stream(
            key,
            type=_text(kind) if isinstance(kind, bytes) else "none",
            length=info.get(b"length", 0),
            size_bytes=size_bytes if isinstance(size_bytes, int) else None,
            added=info.get(b"entries-added"),
            first_ms=_ms(first[0]) if first else 0,
            last_ms=_ms(info.get(b"last-generated-id", b"0-0")),
            fields=_hash(last[1]) if last else {},
            mark_type=mark_type,
            rewound=_rewound(client, key) if mark_type == "hash" else "",
        )


def _rewound(client: redis.Redis, key: str) -> str:
    """Return in words how a stream is not what its marks were taken from."""
    marks = _tried(client, "HGETALL", scripts.mark_key(key))
    if isinstance(marks, Exception):
        return ""
    try:
        for producer, text in itertools.batched(marks, 2):
            if not producer.startswith(b"owner:") and (said := rewound(client, key, text)):
                return said
    except redis.ResponseError:  # no stream, or not allowed: that is told of elsewhere
        pass
    return ""


def _values(client: redis.Redis, keys: Sequence[str]) -> dict[str, Raw]:
    return {key: _raw(_tried(client, "GET", key)) for key in keys}


def _raw(said: Any) -> Raw:
    if isinstance(said, Exception):
        return WRONG_TYPE if str(said).startswith("WRONGTYPE") else None
    return said if isinstance(said, bytes) else None


def _user(client: redis.Redis) -> str:
    """Return who we are to Redis; who may not ask is who we said we are."""
    said = _tried(client, "ACL", "WHOAMI")
    given = client.connection_pool.connection_kwargs.get("username")
    return _text(said) if isinstance(said, bytes) else given or "default"


def _info(said: Any) -> dict[str, str]:
    lines = _text(said).splitlines() if isinstance(said, bytes) else []
    return {name: value for name, _, value in [line.partition(":") for line in lines] if name}


def _hash(said: Any) -> dict[str, str]:
    """Return names and values that stand in turn; nothing for an error."""
    if not isinstance(said, list):
        return {}
    return {_text(name): _text(value) for name, value in itertools.batched(said, 2)}


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _text(said: bytes) -> str:
    return said.decode(errors="replace")

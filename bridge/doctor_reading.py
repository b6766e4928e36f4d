"""What `python -m bridge doctor` reads of Redis. It changes nothing: what would be a write is
queued in a transaction, which is where Redis checks permissions, and then discarded.

A node of a Cluster answers MOVED to what it would do if the key were its own."""

import re
import time
from collections.abc import Sequence
from string import Formatter
from typing import Any, Final, NamedTuple

import redis

from bridge import exits, lease
from bridge.controller import Keys
from bridge.core import contract, control, scripts
from bridge.core.contract import ARCHIVE_KIND, EXEC_KINDS, MARKET_KINDS, Names
from bridge.core.control import FLAGS, MODE_KEY
from bridge.doctor import Answer, Reading, Refused
from bridge.doctor_asking import hash_at, hash_of, refusal, text_of, tried, value_of
from bridge.doctor_nautilus import EXEC_TOPICS, HEARTBEAT_TOPIC, TRADER, topic_of, trader_of
from bridge.doctor_rights import Need
from bridge.doctor_streams import exec_stream, streams
from bridge.exits import Exit
from bridge.role_state import pid_here

SETTINGS: Final = ("save", "appendfsync", "dir", "min-replicas-to-write")
ROUND_TRIPS: Final = 20
SCAN_ENTRIES: Final = 1_000
SCAN_SECONDS_MAX: Final = 2.0
SCRIPTS: Final = (
    scripts.CLAIM, scripts.REMARK, scripts.SHIP, scripts.SEARCH, scripts.LEASE, scripts.RELEASE,
)  # fmt: skip


def read_all(client: redis.Redis, names: Names, role: str, wanted: Sequence[Need]) -> Reading:
    """Return what doctor wants to know of a server; `client` is that of `raw_client_of`.

    `wanted`: what its user is to have the right to. What the user may not ask is left empty.
    Raises redis.RedisError, OSError; Exit (UNAVAILABLE) when it is no Redis that can be judged.
    """
    info = tried(client, "INFO", "everything")
    if isinstance(info, Exception) and "unknown command" in str(info):
        what = "it does not know INFO: it is the demo's stand-in for a Redis, or none"
        raise Exit(exits.UNAVAILABLE, f"{what}; install redis-server, or name another --url")
    round_trips_ns = _round_trips(client)
    skew_ns, now_ms = _clock(client)
    exec_keys = {kind: names.key(kind) for kind in (*EXEC_KINDS, ARCHIVE_KIND)}
    scripts_problem, script_ns = _scripts(client, exec_keys["orders"])
    found, is_whole, scan_refused = _scanned(client, names)
    holder = value_of(client, f"{lease.PREFIX}role:{role}")
    exec_streams = {
        kind: exec_stream(client, key, has_marks=kind != ARCHIVE_KIND)  # nothing is numbered there
        for kind, key in exec_keys.items()
    }
    return Reading(
        info=_info(info),
        settings={
            name: value
            for each in SETTINGS
            for name, value in hash_of(tried(client, "CONFIG", "GET", each)).items()
        },
        user=_user(client),
        answers=_answers(client, wanted),
        round_trips_ns=round_trips_ns,
        skew_ns=skew_ns,
        now_ms=now_ms,
        scripts_problem=scripts_problem,
        script_ns=script_ns,
        values={
            key: value_of(client, key)
            for key in (*FLAGS, MODE_KEY, *control.limit_keys(found.symbols))
        },
        state=hash_at(client, Keys.of(role).state),
        pid_here=pid_here(holder if isinstance(holder, bytes) else None),
        metrics=hash_at(client, names.prefixed(contract.METRICS_KEY)),
        metrics_key=names.prefixed(contract.METRICS_KEY),
        contract=value_of(client, names.prefixed(contract.CONTRACT_KEY)),
        exec_streams=exec_streams,
        market_streams=streams(client, found.market),
        bus_streams=streams(client, found.bus),
        traders=found.traders,
        is_whole=is_whole,
        scan_refused=scan_refused,
    )


class Found(NamedTuple):
    """The keys of interest: market streams, streams of Nautilus's bus, its caches' traders, and the
    symbols that have a limit of their own."""

    market: list[bytes]
    bus: list[bytes]
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


def _round_trips(client: redis.Redis) -> list[int]:
    """Return how long each answer took, a refusal too."""
    taken = []
    tried(client, "PING")  # connects
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter_ns()
        tried(client, "PING")
        taken.append(time.perf_counter_ns() - began)
    return taken


def _clock(client: redis.Redis) -> tuple[int | None, int]:
    """Return how far Redis's clock is ahead, and its time in ms; ours where it may not be asked."""
    before = time.time_ns()
    said = tried(client, "TIME")
    after = time.time_ns()
    if isinstance(said, Exception):
        return None, after // 1_000_000
    theirs_ns = int(said[0]) * 10**9 + int(said[1]) * 1000
    return theirs_ns - (before + after) // 2, theirs_ns // 1_000_000


def _scripts(client: redis.Redis, key: str) -> tuple[str, int]:
    """Return why the scripts cannot run, else how long one took that only reads."""
    for script in SCRIPTS:
        if isinstance(said := tried(client, "SCRIPT", "LOAD", script), Exception):
            return str(said), 0
    began = time.perf_counter_ns()
    words = ("1", key, "+", "-", "1", "nobody")
    said = tried(client, "EVALSHA", scripts.digest(scripts.SEARCH), *words)
    is_wrong = isinstance(said, Exception) and not str(said).startswith("WRONGTYPE")
    return str(said) if is_wrong else "", time.perf_counter_ns() - began


def _scanned(client: redis.Redis, names: Names) -> tuple[Found, bool, Refused | None]:
    """Return the keys of interest, whether all keys were seen within SCAN_SECONDS_MAX, and what
    refused to tell of them."""
    ours = re.compile("|".join([_pattern(names, kind) for kind in MARKET_KINDS]))
    # Most keys are nobody's business: they are told by how they begin.
    heads = [names.prefix + names.templates[kind].partition("{")[0] for kind in MARKET_KINDS]
    known = tuple([each.encode() for each in (*heads, control.POSITION_KEY, TRADER)])
    market, bus, traders, symbols = set[bytes](), set[bytes](), set[str](), set[str]()
    cursor, deadline = b"0", time.monotonic() + SCAN_SECONDS_MAX
    refused = None
    while True:
        page = tried(client, "SCAN", cursor.decode(), "COUNT", str(SCAN_ENTRIES))
        if (refused := refusal("", page)) is not None:
            break
        cursor, keys = page
        for raw in [each for each in keys if each.startswith(known)]:
            key = text_of(raw)
            if ours.fullmatch(key):
                market.add(raw)
            elif key.startswith(control.POSITION_KEY):
                symbols.add(key.removeprefix(control.POSITION_KEY))
            elif key.startswith(TRADER) and (topic := topic_of(key)):
                if topic.startswith((*EXEC_TOPICS, HEARTBEAT_TOPIC)):
                    bus.add(raw)
            elif key.startswith(TRADER):
                traders.add(trader_of(key))
        if cursor == b"0" or time.monotonic() > deadline:
            break
    found = Found(sorted(market), sorted(bus), sorted(traders), sorted(symbols))
    return found, cursor == b"0" and refused is None, refused


def _pattern(names: Names, kind: str) -> str:
    """Return what matches the streams of a kind, whatever stands for the placeholders."""
    parts = Formatter().parse(names.templates[kind])
    texts = [re.escape(text) + (".+" if name else "") for text, name, *_ in parts]
    return re.escape(names.prefix) + "".join(texts)


def _user(client: redis.Redis) -> str:
    """Return who we are to Redis; who may not ask is who we said we are."""
    said = tried(client, "ACL", "WHOAMI")
    given = client.connection_pool.connection_kwargs.get("username")
    return text_of(said) if isinstance(said, bytes) else given or "default"


def _info(said: Any) -> dict[str, str]:
    lines = text_of(said).splitlines() if isinstance(said, bytes) else []
    return {name: value for name, _, value in [line.partition(":") for line in lines] if name}

"""What `python -m bridge doctor` concludes of the keys: flags, streams, and what a Nautilus node
of its own accord keeps in the same Redis."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bridge.core import contract, control
from bridge.core.contract import Names
from bridge.core.control import FLAGS, MODE_KEY, ON_WORDS, WRONG_TYPE, Mode, word_of
from bridge.core.limits import Limits
from bridge.doctor import Finding, Level, Reading, Stream, size

OFF_WORDS: Final = ("0", "false", "off", "no", "")
# Nautilus's own message bus writes entries of these fields.
BUS_FIELDS: Final = {"topic", "payload"}
# Its streams of execution events, by how their topics begin.
EXEC_TOPICS: Final = ("events.order", "events.position", "events.fills", "events.account")
HEARTBEAT_TOPIC: Final = "health:heartbeat"
# How all its keys begin.
TRADER: Final = "trader-"
# A bus that has written nothing for so long, while its node goes on, has died.
SILENT_MS_MAX: Final = 60_000
AHEAD_MS_MAX: Final = 1_000
FRESH_NS: Final = 10_000_000_000
CLOSED: Final = "nautilus_bridge_native_backing_closed"


def keys(
    read: Reading,
    *,
    names: Names,
    role: str,
    normal_words: Sequence[str],
    limits: Limits,
) -> Iterator[Finding]:
    """Yield what is found of flags, mode, limits and execution streams."""
    yield bridge(read, role)
    yield from flags(read, role)
    yield mode(read, normal_words)
    yield risk(read, limits)
    yield schema(read, names)
    for stream in read.exec_streams.values():
        yield exec_stream(stream, read.now_ms)


def bridge(read: Reading, role: str) -> Finding:
    """Tell whether a bridge of the role runs."""
    if not read.state:
        return Finding(Level.OK, "bridge", f"none of the role {role} runs")
    why = f": {read.state['reason']}" if read.state.get("reason") else ""
    held = read.state.get("latched")
    what = f"{role} runs, pid {read.state.get('pid')}, {read.state.get('state')}{why}"
    remedy = f"python -m bridge resume --role {role}, when you know why" if held else ""
    return Finding(Level.WARN if held else Level.OK, "bridge", what, remedy)


def flags(read: Reading, role: str) -> Iterator[Finding]:
    """Judge the flags: what is no value of a flag counts as off."""
    for key in FLAGS:
        raw = read.values.get(key)
        is_on, which = control.flag_of(raw), "" if key != control.FLAG_OF_ROLE[role] else ", ours"
        if raw is WRONG_TYPE:
            what, remedy = "it holds no string: it counts as off", f"DEL {key}, then SET {key} 1"
            yield Finding(Level.WARN, key, what, remedy)
        elif raw is not None and word_of(raw) not in (*ON_WORDS, *OFF_WORDS):
            what = f"{word_of(raw)!r} is no value of a flag: it counts as off"
            yield Finding(Level.WARN, key, what, f"SET {key} 1, or 0")
        else:
            how = "missing: off" if raw is None else "on" if is_on else "off"
            yield Finding(Level.OK, key, f"{how}{which}")


def mode(read: Reading, normal_words: Sequence[str]) -> Finding:
    """Judge the mode: an unknown word lets positions only shrink."""
    raw = read.values.get(MODE_KEY)
    said = control.mode_of(raw, normal_words)
    if said is Mode.UNKNOWN:
        word = "what is no string" if raw is WRONG_TYPE else repr(word_of(raw))
        what = f"{word} is no mode: orders may only reduce positions"
        known = " ".join([*normal_words, Mode.REDUCE, Mode.HALT])
        remedy = f"SET mode to one of: {known}" if raw is not WRONG_TYPE else "DEL mode, then SET"
        return Finding(Level.WARN, MODE_KEY, what, remedy)
    return Finding(Level.OK, MODE_KEY, "missing: normal" if raw is None else word_of(raw))


def risk(read: Reading, limits: Limits) -> Finding:
    """Judge the limits: where a value is none the configured one holds."""
    given = {key: raw for key, raw in read.values.items() if key.startswith("risk:")}
    _, refused = control.limits_of(given, limits)
    if refused:
        what = f"{' '.join(refused)}: no limit; the configured one holds"
        return Finding(Level.WARN, "limits", what, "SET a number, fractions from 0 to 1")
    named = " ".join([key for key, raw in given.items() if raw is not None])
    return Finding(Level.OK, "limits", f"{named or 'none'} in Redis, the others as configured")


def schema(read: Reading, names: Names) -> Finding:
    """Judge whether the contract in Redis is the one of these settings."""
    key = names.prefixed(contract.CONTRACT_KEY)
    if read.contract is None:
        return Finding(Level.OK, key, "missing: no bridge has run with this prefix yet")
    if isinstance(read.contract, bytes) and _is_json(read.contract, contract.json_schema(names)):
        return Finding(Level.OK, key, f"version {contract.VERSION}, these stream names")
    what = "it was written by another version, or with other stream names (streams.*)"
    return Finding(Level.WARN, key, what, "name the --config of the bridge, or restart that")


def _is_json(text: bytes, wanted: object) -> bool:
    try:
        found: object = json.loads(text)
    except ValueError:
        return False
    return found == wanted


def exec_stream(stream: Stream, now_ms: int) -> Finding:
    """Judge one stream of execution entries, and how fast it grows."""
    key = stream.key
    if stream.type not in ("stream", "none"):
        what = f"it holds a {stream.type}: no entry can be written"
        return Finding(Level.LOSE, key, what, f"RENAME {key} {key}:old")
    if stream.mark_type not in ("hash", "none"):
        mark = f"bridge:mark:{{{key}}}"
        what = f"{mark} holds a {stream.mark_type}: no entry can be written"
        return Finding(Level.LOSE, key, what, f"DEL {mark}")
    if stream.fields.keys() >= BUS_FIELDS:
        what = "Nautilus's own message bus writes into it"
        remedy = "give MessageBusConfig.streams_prefix of that node another name"
        return Finding(Level.LOSE, key, what, remedy)
    if stream.rewound:
        remedy = "python -m bridge audit; a bridge that runs sends again what its journal has"
        return Finding(Level.WARN, key, stream.rewound, remedy)
    if stream.last_ms > now_ms + AHEAD_MS_MAX:
        seconds = (stream.last_ms - now_ms) / 1000
        what = f"its last id is {seconds:.0f} s ahead of Redis's clock: that was set back"
        return Finding(Level.WARN, key, what, "set Redis's clock by NTP; trim by time only later")
    return Finding(Level.OK, key, _growth(stream, now_ms))


def _growth(stream: Stream, now_ms: int) -> str:
    if not stream.length:
        return "empty"
    held = f"{stream.length:,} entries"
    if stream.size_bytes is not None:
        held += f", {size(stream.size_bytes)}"
    daily = stream.entries_per_day(now_ms)
    if daily is None:
        return f"{held}; too young to tell its growth"
    return f"{held}; {daily:,.0f} entries, {size(stream.bytes_per_day(now_ms))} a day"


def market(read: Reading, maxlen: int) -> Finding:
    """Judge the streams of market data, all together."""
    if wrong := [each for each in read.market_streams if each.type != "stream"]:
        kinds = ", ".join([f"{each.key} holds a {each.type}" for each in wrong])
        remedy = "; ".join([f"RENAME {each.key} {each.key}:old" for each in wrong])
        return Finding(Level.LOSE, "market streams", f"{kinds}: nothing can be written", remedy)
    found = read.market_streams
    used = sum([each.size_bytes or 0 for each in found])
    full = sum([max(maxlen, each.length) * each.entry_bytes for each in found])
    what = f"{len(found)}, {size(used)}; {size(full)} once each holds {maxlen:,} entries"
    if not read.is_whole:
        remedy = "ask again while Redis is less busy; or there are too many keys to look at"
        return Finding(Level.UNKNOWN, "market streams", f"{what}; not all keys were seen", remedy)
    return Finding(Level.OK, "market streams", what if found else "none")


class NodeConfig(NamedTuple):
    """A Nautilus node's configuration, as JSON, and where it was found.

    `is_here`: its cache is in the Redis that is judged.
    """

    origin: str
    config: Mapping[str, Any]
    is_here: bool


def nautilus(
    read: Reading, *, now_ns: int, db: int, cache_db: int | None, nodes: Sequence[NodeConfig]
) -> Iterator[Finding]:
    """Yield what is found of Nautilus's own Redis backing: of its message bus and of its cache.

    `db` is the bridge's database; `cache_db` that of cache.url when it is on the same server.
    """
    yield closed(read, now_ns)
    yield shared(read, db, cache_db, nodes)
    yield autotrim(read, nodes)


def closed(read: Reading, now_ns: int) -> Finding:
    """Judge whether the message bus's backing still writes: when it dies it says nothing.

    Nautilus 1.231: one lost connection ends its publish task for good.
    """
    name, remedy = "nautilus backing", "restart the node; take the bridge's streams instead"
    if int(read.metrics.get("ts_ns", "0")) > now_ns - FRESH_NS and read.metrics.get(CLOSED) == "1":
        what = "closed: the bridge's own node publishes nothing by it any more"
        return Finding(Level.LOSE, name, what, remedy)
    orders = read.exec_streams.get("orders")
    trader = orders.fields.get("trader_id", "") if orders is not None else ""
    topics = {trader_of(each.key): 0 for each in read.bus_streams}
    for each in read.bus_streams:
        of = trader_of(each.key)
        if topic_of(each.key).startswith("events.order"):
            topics[of] = max(topics[of], each.last_ms)
    if orders is not None and 0 < topics.get(trader, 0) < orders.last_ms - SILENT_MS_MAX:
        seconds = (orders.last_ms - topics[trader]) / 1000
        what = f"closed: {trader} has gone on for {seconds:.0f} s behind what it wrote last"
        return Finding(Level.LOSE, name, what, remedy)
    beats = [each for each in read.bus_streams if topic_of(each.key) == HEARTBEAT_TOPIC]
    silent = [each for each in beats if each.last_ms < read.now_ms - SILENT_MS_MAX]
    if silent:
        who = " ".join([trader_of(each.key) for each in silent])
        what = f"no heartbeat of {who} for over a minute: the node has ended, or its backing"
        ask = "node.kernel.msgbus_database.is_closed() tells; where it is True, restart the node"
        return Finding(Level.WARN, name, what, ask)
    if not read.bus_streams:
        return Finding(Level.OK, name, "no message bus writes here")
    warning = f"{' '.join(sorted(topics))} writes; one lost connection would end it without a word"
    return Finding(Level.OK, name, warning)


def shared(read: Reading, db: int, cache_db: int | None, nodes: Sequence[NodeConfig]) -> Finding:
    """Judge whether a node that starts with flush_on_start would empty the bridge's database.

    Nautilus 1.231 flushes with FLUSHDB, and always uses database 0.
    """
    name, apart = "nautilus cache", "give Nautilus's cache a Redis of its own"
    for origin, config, is_here in nodes:
        if section(config, "cache").get("flush_on_start") and is_here and db == 0:
            what = f"{origin} sets flush_on_start: a node that starts deletes all of this database"
            return Finding(Level.LOSE, name, what, f"unset it, or {apart}")
    if db == 0 and (read.traders or cache_db is not None):
        who = " ".join(read.traders) or "cache.url"
        what = f"{who} shares this database: a node with flush_on_start would delete all"
        flushed = _calls(read.info, "flushdb") + _calls(read.info, "flushall")
        if flushed:
            remedy = f"{apart}, and take FLUSHDB from its user: -flushdb -flushall"
            seen = f"{what}; {flushed} times something has, since Redis began"
            return Finding(Level.LOSE, name, seen, remedy)
        return Finding(Level.WARN, name, what, apart)
    if cache_db:
        what = f"cache.url names database {cache_db}: Nautilus takes 0 all the same"
        return Finding(Level.WARN, name, what, apart)
    return Finding(Level.OK, name, "not in this database")


def autotrim(read: Reading, nodes: Sequence[NodeConfig]) -> Finding:
    """Judge whether the message bus's backing cuts execution events off its own streams."""
    name = "nautilus autotrim"
    remedy = "unset MessageBusConfig.autotrim_mins, or read the bridge's exec:* streams instead"
    for origin, config, _ in nodes:
        if minutes := section(config, "message_bus").get("autotrim_mins"):
            what = f"{origin} sets autotrim_mins: execution events go after {minutes} minutes"
            return Finding(Level.LOSE, name, what, remedy)
    events = [s for s in read.bus_streams if topic_of(s.key).startswith(EXEC_TOPICS)]
    cut = [each for each in events if each.added is not None and each.added > each.length]
    if cut:
        gone = sum([(each.added or 0) - each.length for each in cut])
        what = f"{gone:,} execution events are gone from {' '.join([each.key for each in cut])}"
        return Finding(Level.LOSE, name, what, remedy)
    return Finding(Level.OK, name, f"nothing is gone from {len(events)} streams of its events")


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a table of a configuration, empty where it is none."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _calls(info: Mapping[str, str], command: str) -> int:
    """Return how often a command was called since the server began."""
    fields = info.get(f"cmdstat_{command}", "calls=0").split(",")
    return int(fields[0].removeprefix("calls="))


def trader_of(key: str) -> str:
    """Return the trader's id in a key of Nautilus's: trader-<id>:<what>:<name>."""
    return key.removeprefix(TRADER).partition(":")[0]


def topic_of(key: str) -> str:
    """Return the topic that a stream of Nautilus's message bus is of, empty for other keys."""
    return key.partition(":stream:")[2]

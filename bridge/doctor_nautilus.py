"""What `python -m bridge doctor` concludes of what a Nautilus node of its own accord keeps in the
same Redis."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bridge.doctor import Finding, Level, Reading, Refused, judged
from bridge.role_state import NS_DIGITS_MAX

# The message bus's streams of execution events, by how their topics begin.
EXEC_TOPICS: Final = ("events.order", "events.position", "events.fills", "events.account")
HEARTBEAT_TOPIC: Final = "health:heartbeat"
# How all its keys begin.
TRADER: Final = "trader-"
# A bus that has written nothing for so long, while its node goes on, has died.
SILENT_MS_MAX: Final = 60_000
FRESH_NS: Final = 10_000_000_000
CLOSED: Final = "nautilus_bridge_native_backing_closed"


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
    yield judged("nautilus backing", closed, read, now_ns)
    yield judged("nautilus cache", shared, read, db, cache_db, nodes)
    yield judged("nautilus autotrim", autotrim, read, nodes)


def closed(read: Reading, now_ns: int) -> Finding:
    """Judge whether the message bus's backing still writes: when it dies it says nothing.

    Nautilus 1.231: one lost connection ends its publish task for good.
    """
    name, remedy = "nautilus backing", "restart the node; take the bridge's streams instead"
    metrics = {} if isinstance(read.metrics, Refused) else read.metrics
    told = metrics.get("ts_ns", "")
    if told and not (told.isascii() and told.isdecimal() and len(told) <= NS_DIGITS_MAX):
        what = f"{read.metrics_key}: its ts_ns {told[:40]!r} is no time in ns"
        ask = f"HDEL {read.metrics_key} ts_ns; a bridge that runs writes it anew"
        return Finding(Level.UNKNOWN, name, what, ask)
    if int(told or "0") > now_ns - FRESH_NS and metrics.get(CLOSED) == "1":
        what = "closed: the bridge's own node publishes nothing by it any more"
        return Finding(Level.LOSE, name, what, remedy)
    seen = [each for each in read.bus_streams if each.refused is None]
    orders = read.exec_streams.get("orders")
    trader = orders.fields.get("trader_id", "") if orders is not None else ""
    topics = {trader_of(each.key): 0 for each in seen}
    for each in seen:
        of = trader_of(each.key)
        if topic_of(each.key).startswith("events.order"):
            topics[of] = max(topics[of], each.last_ms)
    if orders is not None and 0 < topics.get(trader, 0) < orders.last_ms - SILENT_MS_MAX:
        seconds = (orders.last_ms - topics[trader]) / 1000
        what = f"closed: {trader} has gone on for {seconds:.0f} s behind what it wrote last"
        return Finding(Level.LOSE, name, what, remedy, {"behind_seconds": seconds})
    beats = [each for each in seen if topic_of(each.key) == HEARTBEAT_TOPIC]
    silent = [each for each in beats if each.last_ms < read.now_ms - SILENT_MS_MAX]
    if silent:
        who = " ".join([trader_of(each.key) for each in silent])
        what = f"no heartbeat of {who} for over a minute: the node has ended, or its backing"
        ask = "node.kernel.msgbus_database.is_closed() tells; where it is True, restart the node"
        return Finding(Level.WARN, name, what, ask)
    what = "no message bus writes here"
    if seen:
        what = f"{' '.join(sorted(topics))} writes; one lost connection would end it without a word"
    refused = [read.metrics, *[each.refused for each in (orders, *read.bus_streams) if each]]
    return _unread(name, refused) or read.unseen(name, what) or Finding(Level.OK, name, what)


def _unread(name: str, found: Sequence[object]) -> Finding | None:
    """Return that what is called `name` is not known, where something of it was refused."""
    refused = next((each for each in found if isinstance(each, Refused)), None)
    return None if refused is None else refused.finding(name)


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
    what = "not in this database"
    return read.unseen(name, what) or Finding(Level.OK, name, what)


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
        return Finding(Level.LOSE, name, what, remedy, {"entries_gone": gone})
    what = f"nothing is gone from the {len(events)} streams of its events"
    refused = [each.refused for each in events]
    return _unread(name, refused) or read.unseen(name, what) or Finding(Level.OK, name, what)


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

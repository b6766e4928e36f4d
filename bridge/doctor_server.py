"""What `python -m bridge doctor` concludes of a Redis server: whether it takes what is written, and
how long it keeps that."""

import re
import statistics
from collections.abc import Iterator
from math import inf
from typing import Final

from bridge import hints
from bridge.doctor import Finding, Level, Reading, Stream, judged, size
from bridge.doctor_rights import is_refusal
from bridge.embedded_redis import VERSION_MIN

VERSION_WHOLE: Final = (7, 0)
FULL_SHARE: Final = 0.9
DAYS_LOSE: Final = 1
DAYS_WARN: Final = 7
# Of a quote in a stream of Redis 7.0; the shortest kind of entry.
ENTRY_BYTES: Final = 83
ROUND_TRIP_NS_MAX: Final = 5_000_000
STALL_NS_MAX: Final = 250_000_000
SKEW_NS_MAX: Final = 500_000_000
# bridge.acl leaves it out on purpose.
ASK: Final = "ask as administrator, or let the user call CONFIG (it tells passwords): '+config|get'"
REPLICAS_MIN: Final = 2


def server(
    read: Reading, *, is_ours: bool, is_replaceable: bool, market_maxlen: int, kinds: int
) -> Iterator[Finding]:
    """Yield what is found of the server itself. `is_ours`: the demo's, which keeps nothing.
    `is_replaceable`: Sentinels or a Cluster put another one in its place.

    `market_maxlen` entries are kept of each market stream, and at least `kinds` of those there are.
    """
    yield judged("version", version, read)
    yield judged("role", role, read)
    if is_replaceable:
        yield judged("cut off", cut_off, read)
    yield judged("persistence", persistence, read, is_ours=is_ours)
    yield judged("eviction", eviction, read)
    yield judged("memory", memory, read, market_maxlen=market_maxlen, kinds=kinds)
    yield judged("latency", latency, read)
    yield judged("clock", clock, read)
    yield judged("scripts", scripts, read)


def _unread(name: str) -> Finding:
    return Finding(Level.UNKNOWN, name, "INFO tells nothing", "let the user call INFO: +info")


def version(read: Reading) -> Finding:
    """Judge Redis's version."""
    text = read.info.get("redis_version", "")
    numbers = tuple(map(int, re.findall(r"\d+", text)[:2]))
    if not numbers:
        return _unread("version")
    if numbers < VERSION_MIN:
        least = ".".join(map(str, VERSION_MIN))
        return Finding(Level.LOSE, "version", f"{text} is older than {least}", "upgrade Redis")
    if numbers < VERSION_WHOLE:
        what = f"{text} does not count a stream's entries: a stream set back is noticed less often"
        return Finding(Level.WARN, "version", what, "upgrade to Redis 7.0 or newer")
    return Finding(Level.OK, "version", text)


def role(read: Reading) -> Finding:
    """Judge whether this is the server to write to, and whether it takes writes at all."""
    must = [each for each in read.answers or () if each.must and not is_refusal(each)]
    refused = next((each.said for each in must if each.said), "")
    if read.info.get("role") == "slave":
        where = f"{read.info.get('master_host')}:{read.info.get('master_port')}"
        what = f"it is a replica of {where}: it refuses every write"
        return Finding(Level.LOSE, "role", what, "name the primary in redis.url")
    if refused:
        remedy = "make it accept writes: its log says why it does not"
        return Finding(Level.LOSE, "role", f"it refuses writes: {refused}", remedy)
    if not read.info:
        return _unread("role")
    replicas = read.info.get("connected_slaves", "0")
    if (read.info.get("cluster_enabled"), replicas) == ("1", "0"):
        remedy = "give it one: a Cluster that lacks one primary stops all trading"
        return Finding(Level.WARN, "role", "a primary without a replica", remedy)
    what = f"primary, accepts writes; replicas: {replicas}"
    return Finding(Level.OK, "role", what, numbers={"replicas": int(replicas)})


def cut_off(read: Reading) -> Finding:
    """Judge whether a primary that was replaced goes on taking writes while it is cut off."""
    least, name = read.settings.get("min-replicas-to-write"), "cut off"
    if least is None:
        what = "whether a primary needs a replica to take writes cannot be asked"
        return Finding(Level.UNKNOWN, name, what, ASK)
    replicas = int(read.info.get("connected_slaves", "0"))
    if least == "0":
        what = "a primary that others have replaced takes writes while it is cut off from them"
        remedy = "CONFIG SET min-replicas-to-write 1, and the same in redis.conf of each server"
        if replicas < REPLICAS_MIN:
            remedy = f"give it {REPLICAS_MIN} replicas, then {remedy}"
        return Finding(Level.WARN, name, what, remedy)
    if replicas <= int(least):
        what = f"min-replicas-to-write {least}, replicas: {replicas}: the next primary takes no "
        what += "writes until this one is back as its replica"
        return Finding(Level.WARN, name, what, "give it another replica")
    return Finding(Level.OK, name, f"min-replicas-to-write {least}, replicas: {replicas}")


def persistence(read: Reading, *, is_ours: bool) -> Finding:
    """Judge what a restart of Redis leaves."""
    info, name = read.info, "persistence"
    if not info:
        return _unread(name)
    if is_ours:
        return Finding(Level.OK, name, "none: the demo's own Redis keeps nothing, on purpose")
    saves, has_aof = read.settings.get("save"), info.get("aof_enabled") == "1"
    if has_aof and info.get("aof_last_write_status", "ok") != "ok":
        what = "its last write to the append-only file failed"
        return Finding(Level.LOSE, name, what, "see its log; is its disk full?")
    if has_aof and info.get("aof_last_bgrewrite_status", "ok") != "ok":
        what = "the last rewrite of its append-only file failed"
        remedy = "see its log; is its disk full? The bridge waits for a rewrite behind a restart"
        return Finding(Level.WARN, name, what, remedy)
    if has_aof and "appendfsync" not in read.settings:
        what = "append-only file; how often it is synced cannot be asked"
        return Finding(Level.UNKNOWN, name, what, ASK)
    if has_aof and read.settings["appendfsync"] == "no":
        what = "append-only file, fsync left to the kernel: a power cut costs half a minute"
        return Finding(Level.WARN, name, what, "CONFIG SET appendfsync everysec")
    if has_aof:
        return Finding(Level.OK, name, f"append-only file, fsync {read.settings['appendfsync']}")
    if saves is None:
        what = "no append-only file; whether it takes snapshots cannot be asked"
        return Finding(Level.UNKNOWN, name, what, ASK)
    keep = "CONFIG SET appendonly yes, and appendonly yes in redis.conf"
    if not saves:
        what = "none: a restart forgets flags, halts and limits, and all that the journal has not"
        return Finding(Level.LOSE, name, what, keep)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        what = "snapshots only, and the last one failed"
        return Finding(Level.LOSE, name, what, f"see its log; is its disk full? Better: {keep}")
    what = f"snapshots only (save {saves}): a crash forgets what came behind the last one"
    return Finding(Level.WARN, name, what, keep)


def eviction(read: Reading) -> Finding:
    """Judge what Redis does when its memory is full."""
    policy, limit = read.info.get("maxmemory_policy"), int(read.info.get("maxmemory", 0))
    if policy is None:
        return _unread("eviction")
    if policy == "noeviction":
        return Finding(Level.OK, "eviction", policy)
    remedy = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    when = f"at {size(limit)}" if limit else "as soon as maxmemory is set"
    if policy.startswith("allkeys"):
        return Finding(Level.LOSE, "eviction", f"{policy}: it deletes streams {when}", remedy)
    what = f"{policy}: {when} it deletes leases and states, and another bridge may step in"
    return Finding(Level.WARN, "eviction", what, remedy)


def memory(read: Reading, *, market_maxlen: int, kinds: int) -> Finding:
    """Judge how long the memory lasts: market streams grow to their bound, the others for ever."""
    if "used_memory" not in read.info:
        return _unread("memory")
    used, limit = int(read.info["used_memory"]), int(read.info.get("maxmemory", 0))
    bound = f"maxmemory {size(limit)}"
    if not limit:
        limit = int(read.info.get("total_system_memory", 0))
        bound = f"no maxmemory, the machine has {size(limit)}"
    if not limit:
        what = f"{size(used)} used; how much there is cannot be told"
        return Finding(Level.UNKNOWN, "memory", what, "set maxmemory", {"used_bytes": used})
    market = [max(0, market_maxlen - s.length) * s.entry_bytes for s in read.market_streams]
    least = kinds * market_maxlen * ENTRY_BYTES
    room = limit - used - sum(market)
    daily = _daily_bytes(read)
    days = room / daily if daily else inf
    grows = "how fast the execution streams grow is not known yet"
    if daily is not None:
        grows = f"the execution streams grow by {size(daily)} a day"
    what = f"{size(used)} used; {bound}; {grows}"
    known = {"growth_bytes_per_day": daily, "days_left": days if days < inf else None}
    numbers: dict[str, float] = {"used_bytes": used, "limit_bytes": limit, "room_bytes": room}
    numbers |= {name: number for name, number in known.items() if number is not None}
    ends = ""
    if used >= FULL_SHARE * limit:
        ends = "it is full, then it refuses writes"
    elif room <= 0:
        ends = f"it is full before the market streams hold {market_maxlen} entries each"
    elif limit < least:
        ends = f"{size(least)} is what one market stream of each kind may take"
    if ends or days < DAYS_WARN:
        level = Level.LOSE if ends or days < DAYS_LOSE else Level.WARN
        trim = hints.command("trim --older-than 1h")
        remedy = f"raise it (CONFIG SET maxmemory), {trim}, or lower market.maxlen"
        return Finding(
            level, "memory", f"{what}: {ends or f'full in {days:.1f} days'}", remedy, numbers
        )
    if any(each.length and each.size_bytes is None for each in _streams(read)):
        remedy = "let the user call MEMORY USAGE: '+memory|usage'"
        return Finding(Level.UNKNOWN, "memory", what, remedy, numbers)
    return read.unseen("memory", what) or Finding(Level.OK, "memory", what, numbers=numbers)


def _daily_bytes(read: Reading) -> float | None:
    """Return how fast the execution streams grow together; None: not one of them tells."""
    held = [each for each in read.exec_streams.values() if each.length]
    known = [daily for each in held if (daily := each.bytes_per_day(read.now_ms)) is not None]
    return sum(known) if known else None


def _streams(read: Reading) -> Iterator[Stream]:
    yield from read.exec_streams.values()
    yield from read.market_streams


def latency(read: Reading) -> Finding:
    """Judge how long an answer takes."""
    usual, worst = statistics.median(read.round_trips_ns), max(read.round_trips_ns)
    what = f"{usual / 1e6:.2f} ms usually, {worst / 1e6:.2f} ms at worst, of a PING"
    numbers = {"median_ms": usual / 1e6, "max_ms": worst / 1e6}
    if usual > ROUND_TRIP_NS_MAX or worst > STALL_NS_MAX:
        remedy = "run Redis nearer, or see what stalls it: SLOWLOG GET, LATENCY DOCTOR"
        return Finding(Level.WARN, "latency", what, remedy, numbers)
    return Finding(Level.OK, "latency", what, numbers=numbers)


def clock(read: Reading) -> Finding:
    """Judge how Redis's clock, which numbers the streams, goes against ours."""
    if read.skew_ns is None:
        return Finding(Level.UNKNOWN, "clock", "TIME is refused", "let the user call TIME: +time")
    what = f"Redis's is {read.skew_ns / 1e9:+.3f} s against this machine's"
    numbers = {"skew_seconds": read.skew_ns / 1e9}
    if abs(read.skew_ns) > SKEW_NS_MAX:
        return Finding(Level.WARN, "clock", what, "set both by NTP: chronyc tracking", numbers)
    return Finding(Level.OK, "clock", what, numbers=numbers)


def scripts(read: Reading) -> Finding:
    """Judge whether the scripts by which execution entries are written can run."""
    if read.scripts_problem:
        remedy = "allow SCRIPT LOAD, EVAL and EVALSHA: +script|load +eval +evalsha"
        return Finding(Level.LOSE, "scripts", read.scripts_problem, remedy)
    return Finding(Level.OK, "scripts", f"all load; one ran in {read.script_ns / 1e6:.2f} ms")

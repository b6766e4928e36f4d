"""What the bridge does to Redis, and what `python -m bridge doctor` concludes of what its user may
not do."""

from collections.abc import Iterator, Sequence
from typing import Final

from bridge.controller import Keys
from bridge.core import contract, control, scripts
from bridge.core.contract import ARCHIVE_KIND, EXEC_KINDS, MARKET_KINDS, Names
from bridge.doctor import COMMAND, Answer, Finding, Level, Reading
from bridge.lease import PREFIX

# Commands that are told by two words, and those that tell how many keys they have.
CONTAINERS: Final = ("XINFO", "MEMORY", "SCRIPT", "CLIENT", "CLUSTER")
SCRIPTS: Final = ("EVAL", "EVALSHA")
# How doctor looks at a stream.
LOOKS: Final = ("TYPE", "XINFO STREAM", "MEMORY USAGE")
# A stream of market data to try permissions with.
EXAMPLE: Final = {
    "asset": "crypto", "symbol": "BTCUSDT", "venue": "BINANCE", "base": "BTC", "quote": "USDT",
}  # fmt: skip


ANY: Final = dict.fromkeys(EXAMPLE, "*")


# Whether the bridge must, the key (empty: none; a pattern where the command has an example of those
# that are meant), the command.
type Need = tuple[bool, str, tuple[str, ...]]


def market_needs(names: Names) -> Iterator[Need]:
    """Yield what the bridge does to a Redis that is for market data alone."""
    yield True, "", ("PING",)
    for line in ("INFO", "TIME", "SCAN 0"):
        yield False, "", tuple(line.split())
    yield from _of_market(names)


def _of_market(names: Names) -> Iterator[Need]:
    for kind in MARKET_KINDS:
        key, meant = names.key(kind, EXAMPLE), names.key(kind, ANY)
        yield True, meant, ("XADD", key, "*", "a", "b")
        for line in LOOKS:
            yield False, meant, (*line.split(), key)


def needs(
    names: Names,
    keys: Keys,
    leases: Sequence[str],
    *,
    market: bool = True,
    has_sentinels: bool = False,
) -> Iterator[Need]:
    """Yield what the bridge does to its Redis; without `market`, market data go to another one.

    `keys` are those of its role, `leases` all that it holds. `ops/redis/bridge.acl` allows this.
    What need not be is doctor's, the other commands', or done another way by the daemon.
    """
    for line in ("PING", "SCRIPT LOAD x", *(["ROLE"] if has_sentinels else [])):
        yield True, "", tuple(line.split())
    for line in ("INFO", "BGREWRITEAOF", "HELLO 3", "CLIENT TRACKING ON", "TIME", "SCAN 0"):
        yield False, "", tuple(line.split())
    for key in [names.key(kind) for kind in EXEC_KINDS]:
        yield from _of_stream(key)
    heads = names.key(ARCHIVE_KIND)
    yield True, heads, ("XADD", heads, "*", "a", "b")
    for line in (*LOOKS, "PTTL"):
        yield False, heads, (*line.split(), heads)
    yield False, heads, ("XRANGE", heads, "-", "+", "COUNT", "1")
    yield False, heads, ("XREVRANGE", heads, "+", "-", "COUNT", "1")
    yield from _of_market(names) if market else ()
    contract_key = names.prefixed(contract.CONTRACT_KEY)
    limits = [control.limit_keys([symbol]) for symbol in (EXAMPLE["symbol"], "*")]
    for key, meant in zip(*limits, strict=True):
        yield True, meant, ("GET", key)
    for key in (*keys.reads, contract_key, *leases):
        yield True, key, ("GET", key)
    for key in (contract_key, keys.latch, *leases):
        yield True, key, ("SET", key, "a")
    for key in (keys.halt, keys.resume, keys.latch, *leases):
        yield True, key, ("DEL", key)
    for key in (names.prefixed(contract.METRICS_KEY), keys.state):
        yield True, key, ("HSET", key, "a", "b")
        yield False, key, ("HGETALL", key)
    for key in (keys.state, *leases):
        yield True, key, ("PEXPIRE", key, "1")
    for key in (contract_key, *leases):
        yield True, key, ("EVALSHA", "x", "1", key)
        yield True, key, ("EVAL", "x", "1", key)
    for key in (keys.flag, control.MODE_KEY, keys.halt, keys.resume):
        yield False, key, ("SET", key, "a")
    for role in control.FLAG_OF_ROLE:  # `status` asks all of them
        yield False, Keys.of(role).state, ("HGETALL", Keys.of(role).state)
        yield False, f"{PREFIX}role:{role}", ("GET", f"{PREFIX}role:{role}")
    if "{" in keys.latch:
        yield from _of_cluster(keys)


def _of_cluster(keys: Keys) -> Iterator[Need]:
    """Yield what is done on a Cluster besides: the map, a slot that moves, a beat on each node."""
    yield True, "", ("CLUSTER", "SLOTS")
    yield False, "", ("CLUSTER", "INFO")
    yield False, "", ("COMMAND",)
    yield False, "", ("ASKING",)
    beat, meant = f"{keys.state}:{{{keys.flag}}}", f"{keys.state}:*"
    yield True, meant, ("HSET", beat, "a", "b")
    yield True, meant, ("PEXPIRE", beat, "1")


def _of_stream(key: str) -> Iterator[Need]:
    """Yield what is done to an execution stream, to its mark, and to both by one script."""
    yield True, key, ("XADD", key, "*", "a", "b")
    yield True, key, ("XINFO", "STREAM", key)
    yield True, key, ("XRANGE", key, "-", "+", "COUNT", "1")
    yield True, key, ("XREVRANGE", key, "+", "-", "COUNT", "1")
    yield True, key, ("XREAD", "COUNT", "1", "STREAMS", key, "0-0")
    yield True, key, ("TYPE", key)
    for line in ("XLEN", "XINFO GROUPS", "MEMORY USAGE", "PTTL"):
        yield False, key, (*line.split(), key)
    yield False, key, ("XPENDING", key, "a")
    yield False, key, ("XTRIM", key, "MINID", "=", "0-0")
    yield False, f"{key}:dead", ("XADD", f"{key}:dead", "*", "a", "b")
    mark = scripts.mark_key(key)
    yield False, key, ("EXISTS", key, mark)
    yield False, mark, ("PTTL", mark)
    yield True, mark, ("TYPE", mark)
    yield True, mark, ("HGET", mark, "a")
    yield True, mark, ("HMGET", mark, "a")
    yield True, mark, ("HGETALL", mark)
    yield True, mark, ("HSET", mark, "a", "b")
    yield True, mark, ("EVALSHA", "x", "2", key, mark)
    yield True, key, ("EVAL", "x", "1", key)


def permissions(read: Reading) -> Finding:
    """Tell what the user of redis.url may not do, and the words of ACL SETUSER that let it."""
    if read.answers is None:
        what = f"what the user {read.user} may do could not be tried: MULTI is refused"
        return Finding(Level.UNKNOWN, "permissions", what, "let it: +multi +discard")
    refused = [each for each in read.answers if is_refusal(each)]
    if not refused:
        what = f"the user {read.user} may do all that is needed"
        return Finding(Level.OK, "permissions", what)
    level = Level.LOSE if any(each.must for each in refused) else Level.WARN
    said = ", ".join(dict.fromkeys(map(_called, refused)))
    has_selectors = not read.info.get("redis_version", "").startswith("6.")
    what = f"the user {read.user} may not: {said}"
    rights = " ".join(_rights(refused, has_selectors=has_selectors))
    return Finding(level, "permissions", what, f"ACL SETUSER {read.user} {rights}")


def is_refusal(answer: Answer) -> bool:
    """Return whether it is the user's permissions that are in the way."""
    return "permission" in answer.said


def _called(answer: Answer) -> str:
    """Return what is refused: a command, or else a key."""
    command = COMMAND.search(answer.said)
    return command[1].replace("|", " ").upper() if command else f"touch {answer.key}"


def right(command: Sequence[str]) -> str:
    """Return the rule of an ACL that lets a user run a command, such as `+xinfo|stream`."""
    return f"+{'|'.join(command[: 1 + (command[0] in CONTAINERS)]).lower()}"


def _rights(refused: Sequence[Answer], *, has_selectors: bool) -> Iterator[str]:
    """Yield the rules that let a user do what was refused.

    A command that has keys comes together with them: the user's rules for it may be of other keys
    only, and who may not run it is not told whether the keys are his. Redis 6 knows no such
    selectors, and none of those rules.
    """
    missing = dict[str, None]()
    by_keys = dict[Sequence[str], dict[str, None]]()
    for each in refused:
        keys = _keys(each)
        if keys and has_selectors:
            by_keys.setdefault(keys, {})[right(each.command)] = None
            continue
        if COMMAND.search(each.said):
            missing[right(each.command)] = None
        missing |= dict.fromkeys(f"~{key}" for key in keys)
    yield from (f"'{rule}'" for rule in missing)
    by_rights = dict[Sequence[str], dict[str, None]]()
    for keys, rights in by_keys.items():
        by_rights.setdefault((*rights,), {}).update(dict.fromkeys(keys))
    for rules, named in by_rights.items():
        yield f"'({' '.join([*(f'~{key}' for key in named), *rules])})'"


def _keys(answer: Answer) -> Sequence[str]:
    """Return the keys of a command that has several, else the one or the pattern that is meant."""
    name, *words = answer.command
    if name in SCRIPTS:
        return tuple(words[2 : 2 + int(words[1])])
    if name == "EXISTS":
        return tuple(words)
    return (answer.key,) if answer.key else ()

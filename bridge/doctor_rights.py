"""What the bridge does to Redis, and what `python -m bridge doctor` concludes of what its user may
not do."""

import re
from collections.abc import Iterator
from typing import Final

from bridge.controller import Keys
from bridge.core import contract, control, scripts
from bridge.core.contract import ARCHIVE_KIND, EXEC_KINDS, MARKET_KINDS, Names
from bridge.doctor import Answer, Finding, Level, Reading
from bridge.lease import PREFIX

REFUSED_COMMAND: Final = re.compile(r"run the '([^']+)' command")
# A stream of market data to try permissions with.
EXAMPLE: Final = {
    "asset": "crypto", "symbol": "BTCUSDT", "venue": "BINANCE", "base": "BTC", "quote": "USDT",
}  # fmt: skip


def needs(names: Names, role: str) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Yield what the bridge does: whether it must, the key (empty: none), the command."""
    for line in ("PING", "SCRIPT LOAD x", "EVAL x 0", "EVALSHA x 0"):
        yield True, "", tuple(line.split())
    for line in ("INFO", "BGREWRITEAOF", "HELLO 3", "CLIENT TRACKING ON"):
        yield False, "", tuple(line.split())
    for key in [names.key(kind) for kind in EXEC_KINDS]:
        yield True, key, ("XADD", key, "*", "a", "b")
        yield True, key, ("XINFO", "STREAM", key)
        yield True, key, ("XRANGE", key, "-", "+", "COUNT", "1")
        yield True, key, ("XREVRANGE", key, "+", "-", "COUNT", "1")
        yield True, key, ("XREAD", "COUNT", "1", "STREAMS", key, "0-0")
        yield True, key, ("TYPE", key)
        yield False, f"{key}:dead", ("XADD", f"{key}:dead", "*", "a", "b")
        mark = scripts.mark_key(key)
        yield True, mark, ("TYPE", mark)
        yield True, mark, ("HGET", mark, "a")
        yield True, mark, ("HMGET", mark, "a")
        yield True, mark, ("HGETALL", mark)
        yield True, mark, ("HSET", mark, "a", "b")
    heads = names.key(ARCHIVE_KIND)
    yield True, heads, ("XADD", heads, "*", "a", "b")
    for key in [names.key(kind, EXAMPLE) for kind in MARKET_KINDS]:
        yield True, key, ("XADD", key, "*", "a", "b")
        yield True, key, ("XTRIM", key, "MAXLEN", "~", "1")
    keys, lease = Keys.of(role), f"{PREFIX}role:{role}"
    for key in (*keys.reads, *control.limit_keys(()), lease):
        yield True, key, ("GET", key)
    for key in (names.prefixed(contract.CONTRACT_KEY), keys.latch, lease):
        yield True, key, ("SET", key, "a")
    for key in (keys.halt, keys.resume, lease):
        yield True, key, ("DEL", key)
    for key in (names.prefixed(contract.METRICS_KEY), keys.state):
        yield True, key, ("HSET", key, "a", "b")
    for key in (keys.state, lease):
        yield True, key, ("PEXPIRE", key, "1")


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
    rights = " ".join(dict.fromkeys(map(_right, refused)))
    what = f"the user {read.user} may not: {said}"
    return Finding(level, "permissions", what, f"ACL SETUSER {read.user} {rights}")


def is_refusal(answer: Answer) -> bool:
    """Return whether it is the user's permissions that are in the way."""
    return "permission" in answer.said


def _called(answer: Answer) -> str:
    """Return what is refused: a command, or else a key."""
    command = REFUSED_COMMAND.search(answer.said)
    return command[1].replace("|", " ").upper() if command else f"touch {answer.key}"


def _right(answer: Answer) -> str:
    command = REFUSED_COMMAND.search(answer.said)
    return f"'+{command[1]}'" if command else f"'~{answer.key}'"

"""ops/redis/bridge.acl: its users may do what the bridge does, and nothing else."""

import itertools
from collections.abc import Iterator

import pytest
import redis

from bridge.controller import Keys
from bridge.core.contract import default_names
from bridge.doctor_rights import Need, market_needs, needs, right
from bridge.preflight import raw_client_of
from tests.servers import RedisServer
from tests.topologies.acl import USERS, WithUsers, may, started

PREFIXES = {"": "live", "demo:": "demo", "shadow:": "shadow"}

# What a user may do, by kind of key; all that Redis lets everybody do is beside it.
LOOKS = "exists type xinfo|groups xinfo|stream xlen xrange xread xrevrange"
BRIDGE = {
    "no key": "acl|whoami bgrewriteaof client|tracking discard info multi ping role scan"
    " script|load select time",
    "stream": f"{LOOKS} memory|usage pttl xpending xadd xtrim eval evalsha",
    "mark": "exists type pttl hget hmget hgetall hset eval evalsha",
    "market": "xadd type xinfo|stream memory|usage",
    "flag": "get set",
    "mode": "get set",
    "limit": "get",
    "latch": "get set del",
    "asked": "get set del",
    "lease": "get set del pexpire eval evalsha",
    "lease of a role": "get set del pexpire eval evalsha",
    "contract": "get set eval evalsha",
    "state": "hset hgetall pexpire",
    "metrics": "hset hgetall",
    "stream of a backtest": "",
    "mark of a backtest": "",
    "market of a backtest": "",
    "contract of a backtest": "",
    "foreign": "",
}
MARKET = dict.fromkeys(BRIDGE, "") | {
    "no key": "acl|whoami discard info multi ping role scan select time",
    "market": BRIDGE["market"],
}
READER = dict.fromkeys(BRIDGE, "") | {
    "no key": "ping select",
    "stream": LOOKS.replace("xinfo|groups ", ""),
    "mark": "hgetall",
    "market": LOOKS.replace("xinfo|groups ", ""),
    "flag": "get",
    "mode": "get",
    "limit": "get",
    "lease of a role": "get",
    "contract": "get",
    "state": "hgetall",
    "metrics": "hgetall",
    "stream of a backtest": LOOKS.replace("xinfo|groups ", ""),
    "market of a backtest": LOOKS.replace("xinfo|groups ", ""),
}
OPERATOR = dict.fromkeys(BRIDGE, "") | {
    "no key": "ping select",
    "flag": "get set del",
    "mode": "get set del",
    "limit": "get set del",
    "asked": "set",
    "lease of a role": "get",
    "state": "hgetall",
}
BACKTEST = dict.fromkeys(BRIDGE, "") | {
    "no key": "ping select info script|load",
    "flag": "get",
    "stream of a backtest": "xadd xinfo|stream xlen xrange xrevrange type eval evalsha",
    "mark of a backtest": "type hget hmget hset eval evalsha",
    "market of a backtest": "xadd",
    "contract of a backtest": "get set eval evalsha",
}
ALLOWED = dict(zip(USERS, (BRIDGE, MARKET, READER, OPERATOR, BACKTEST), strict=True))

# Keys of each kind; % is the prefix of a role.
KEYS = {
    "stream": ("%exec:orders", "%exec:control", "%exec:archive", "%exec:fills:dead"),
    "mark": ("bridge:mark:{%exec:orders}",),
    "market": ("%market.raw.crypto.BTCUSDT", "%market.raw.bars.ETHUSDT-PERP"),
    "flag": ("features:nautilus_engine", "features:nautilus_live_exec"),
    "mode": ("mode",),
    "limit": ("risk:max_daily_loss", "risk:max_position:BTCUSDT"),
    "latch": ("bridge:latch:demo",),
    "asked": ("bridge:halt:live", "bridge:resume:shadow"),
    "lease": ("bridge:lease:X-1", "bridge:lease:trader:X-1", "bridge:lease:prefix:demo:"),
    "lease of a role": ("bridge:lease:role:live",),
    "contract": ("%bridge:contract",),
    "state": ("bridge:state:demo", "bridge:state:demo:{mode}"),
    "metrics": ("%metrics:nautilus_bridge",),
    "stream of a backtest": ("backtest:1a:exec:orders",),
    "mark of a backtest": ("bridge:mark:{backtest:1a:exec:orders}",),
    "market of a backtest": ("backtest:1a:market.raw.crypto.BTCUSDT",),
    "contract of a backtest": ("backtest:1a:bridge:contract",),
    "foreign": (
        *("x", "modes", "exec", "other:exec:orders", "features:other", "bridge:mark:{x}"),
        *("bridge:probe:demo", "market.normalized.BTC", "bridge:mark:{market.raw.x}"),
    ),
}
# The words of commands that do not have the key first and nothing behind it.
WORDS = {
    "eval": "EVAL x 1 KEY",
    "evalsha": "EVALSHA x 1 KEY",
    "hget": "HGET KEY a",
    "hmget": "HMGET KEY a",
    "hset": "HSET KEY a b",
    "memory|usage": "MEMORY USAGE KEY",
    "pexpire": "PEXPIRE KEY 1",
    "set": "SET KEY a",
    "xadd": "XADD KEY * a b",
    "xinfo|groups": "XINFO GROUPS KEY",
    "xinfo|stream": "XINFO STREAM KEY",
    "xpending": "XPENDING KEY a",
    "xrange": "XRANGE KEY - +",
    "xread": "XREAD STREAMS KEY 0",
    "xrevrange": "XREVRANGE KEY + -",
    "xtrim": "XTRIM KEY MINID = 0-0",
    # Without a key.
    "client|tracking": "CLIENT TRACKING ON",
    "script|load": "SCRIPT LOAD x",
    "select": "SELECT 1",
    "scan": "SCAN 0",
}
KEYED = frozenset(" ".join([each for kind, each in BRIDGE.items() if kind != "no key"]).split())
IN_A_CLUSTER = {"+cluster|slots", "+cluster|info", "+command", "+asking"}
# Of the connection and of transactions: doctor does not try them.
UNTRIED = {"acl|whoami", "discard", "multi", "role", "select"}
# Redis lets everybody: to get in, and out.
ALWAYS = {"auth", "hello", "quit", "reset"}


def all_needs(prefix: str, role: str) -> Iterator[Need]:
    """Yield what a bridge of a role does, in a Cluster too: but for the rights that are added."""
    leases = [f"bridge:lease:{each}" for each in ("X-1", f"prefix:{prefix}", "trader:X-1")]
    for url in ("redis://h", "redis+cluster://h"):
        for each in needs(default_names(prefix), Keys.of(role, url), leases):
            if right(each[2]) not in IN_A_CLUSTER:
                yield each


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithUsers]:
    with started(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.mark.parametrize(("prefix", "role"), PREFIXES.items())
def test_what_doctor_asks_for(server: WithUsers, prefix: str, role: str) -> None:
    """The user bridge may do all that `doctor` knows the bridge to do, in every role."""
    wanted = [words for _, _, words in all_needs(prefix, role)]

    assert [words for words in wanted if not may(server.client, "bridge", *words)] == []


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_doctor_asks_for_market_data(server: WithUsers, prefix: str) -> None:
    """The user bridge-market may do all that the bridge does to a Redis for market data alone."""
    wanted = [words for _, _, words in market_needs(default_names(prefix))]

    assert [words for words in wanted if not may(server.client, "bridge-market", *words)] == []


def test_doctor_asks_for_all_of_it() -> None:
    """What the user bridge may do is what `doctor` tries, but for the words of a connection."""
    tried = {right(words).removeprefix("+") for *_, words in all_needs("", "live")}

    assert set(" ".join(BRIDGE.values()).split()) == (tried | UNTRIED) - ALWAYS


@pytest.mark.parametrize(
    ("user", "kind"), [each for each in itertools.product(USERS, KEYS) if each[1] != "no key"]
)
def test_what_may_be_done_to_keys(server: WithUsers, user: str, kind: str) -> None:
    """What a user may do to keys of a kind is what the table says, for each role's prefix."""
    keys = [key.replace("%", prefix) for key in KEYS[kind] for prefix in PREFIXES]
    wanted = set(ALLOWED[user][kind].split())

    for key in keys:
        found = {name for name in KEYED if may(server.client, user, *_words(name, key))}
        assert found == wanted, key


@pytest.mark.parametrize("user", USERS)
def test_all_other_commands_are_denied(server: WithUsers, user: str) -> None:
    """Of all commands that the server has a user may run those of the table, and no other."""
    allowed = set(" ".join(ALLOWED[user].values()).split()) | ALWAYS
    # Where a key is needed for a right it is tried above.
    tried = {name: arity for name, arity in _commands(server) if name not in KEYED & allowed}

    found = {name for name, arity in tried.items() if _runs(server.client, user, name, arity)}

    assert len(tried) > 250
    assert found == allowed - KEYED


def test_one_foreign_key_among_ones_own(server: WithUsers) -> None:
    """A command is refused for one of its keys, and where another command may do it."""
    for words in (
        ("XREAD", "STREAMS", "exec:orders", "x", "0", "0"),
        ("EVAL", "x", "2", "exec:orders", "x"),
        ("SET", "market.raw.crypto.X", "a"),
        ("EXISTS", "exec:orders", "x"),
        ("DEL", "bridge:halt:demo", "exec:orders"),
        ("XADD", "risk:max_daily_loss", "*", "a", "b"),
    ):
        assert not may(server.client, "bridge", *words), words


def _commands(server: RedisServer) -> Iterator[tuple[str, int]]:
    """Yield the names of all commands and subcommands, and how many words each wants."""
    client = raw_client_of(server.admin_url)
    names = [each.decode() for each in client.execute_command("COMMAND", "LIST")]
    containers = {name.partition("|")[0] for name in names if "|" in name}
    names = [name for name in names if name not in containers]
    for name, told in zip(names, client.execute_command("COMMAND", "INFO", *names), strict=True):
        yield name, abs(told[1])
    client.close()


def _runs(client: redis.Redis, user: str, name: str, arity: int) -> bool:
    """Return whether a user may run a command at all, though perhaps not with this key."""
    words = WORDS.get(name, "").split() or name.split("|")
    words += ["1"] * (arity - len(words))
    said = str(client.execute_command("ACL", "DRYRUN", user, *words))
    assert said == "OK" or "permission" in said, f"{words}: {said}"
    return "permissions to run the" not in said


def _words(name: str, key: str) -> list[str]:
    return [key if word == "KEY" else word for word in WORDS.get(name, f"{name} KEY").split()]

"""bridge/core/slots.py: keys and commands to slots, slots to nodes; judged by a real Redis."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.core import resp, scripts
from bridge.core.contract import EXEC_KINDS, default_names
from bridge.core.resp import ProtocolError, Reply
from bridge.core.slots import SLOTS, Node, commands, slot_map, slot_of
from tests.servers import RedisServer, free_port

NAMES = default_names()
KEYS = (
    *("", "a", "123456789", "mode", "features:nautilus_live_exec", "market.raw.crypto.BTCUSDT"),
    *("{a}b", "b{a}", "{}a", "{a", "}a{", "{{a}}", "{a}{b}", "a{}{b}", "é{ü}\x00"),
    *map(NAMES.key, EXEC_KINDS),
)
TAGGED = st.lists(st.sampled_from([b"{", b"}", b"a", b"\xff"]), max_size=8).map(b"".join)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.just("$3\r\nx\r\n")
FIRST, SECOND = [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.2", 7001, b"id", []]


@pytest.fixture
def keyslot(make_redis: Callable[..., RedisServer]) -> Callable[[bytes], int]:
    """What a real node of a Cluster says of a key."""
    bus = str(free_port())
    client = make_redis("--cluster-enabled", "yes", "--cluster-port", bus).client
    return lambda key: client.execute_command("CLUSTER KEYSLOT", key)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.binary(max_size=40) | TAGGED)
def test_slots_are_those_of_redis(keyslot: Callable[[bytes], int], key: bytes) -> None:
    """A key's slot is what CLUSTER KEYSLOT says, braces in any order included."""
    assert slot_of(key) == keyslot(key)


@pytest.mark.parametrize("key", KEYS)
def test_slots_of_our_keys(keyslot: Callable[[bytes], int], key: str) -> None:
    """The names of the contract, and each case of the specification's hash tags."""
    assert slot_of(key.encode()) == keyslot(key.encode())


def test_slot_of_the_specification() -> None:
    """The example of the Redis Cluster specification: CRC16 of 123456789 is 0x31C3."""
    assert slot_of(b"123456789") == 0x31C3


@pytest.mark.parametrize("kind", EXEC_KINDS)
def test_a_stream_and_its_mark_share_a_slot(kind: str) -> None:
    """The two keys of the delivery scripts lie in one slot, with a prefix too."""
    for key in (NAMES.key(kind), f"shadow:{NAMES.key(kind)}"):
        assert slot_of(scripts.mark_key(key).encode()) == slot_of(key.encode())


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=4)), max_size=5))
@example([("a\r\n*1\r\n$4\r\nPING\r\n", ["*1\r\n$4\r\nPING"])])
def test_commands_are_told_apart(written: list[tuple[str, list[str]]]) -> None:
    """Commands behind each other come apart as they were put together, whatever their words."""
    data = [resp.command("SET", key, *rest) for key, rest in written]
    wanted = [(key.encode(), each) for (key, _), each in zip(written, data, strict=True)]
    assert list(commands(b"".join(data))) == wanted


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("XADD", "s", "*", "n", "1"), b"s"),
        (("GET", "mode"), b"mode"),
        (("EVALSHA", "0" * 40, "2", "s", "m{s}", "x"), b"s"),
        (("EVAL", "return 1", "1", "lease", "x"), b"lease"),
        (("SCRIPT", "LOAD", "return 1"), None),
        (("CLIENT", "TRACKING", "ON"), None),
        (("HELLO", "3"), None),
        (("TIME",), None),
    ],
)
def test_what_decides_where_a_command_goes(words: tuple[str, ...], key: bytes | None) -> None:
    """A script goes by its first key, another command by its own; without one to every node."""
    data = resp.command(*words)
    assert list(commands(data)) == [(key, data)]


def test_a_map_names_each_slot_s_primary() -> None:
    """Each slot leads to the first node of its range; replicas are not looked at."""
    found = slot_map([[0, 99, FIRST, SECOND], [101, SLOTS - 1, FIRST], [100, 100, SECOND]])
    assert found.nodes == (Node("10.0.0.1", 7000), Node("10.0.0.2", 7001))
    assert [found.places[slot] for slot in (0, 99, 100, 101, SLOTS - 1)] == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("host", [None, b""])
def test_a_node_that_tells_no_host(host: bytes | None) -> None:
    """No host, as a node without an address of its own says, is told as such."""
    assert slot_map([[0, SLOTS - 1, [host, 7000, b"id"]]]).nodes == (Node("", 7000),)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ([], "16384 of 16384 slots have no primary"),
        ([[1, SLOTS - 1, FIRST]], "1 of 16384 slots have no primary"),
        ([[0, SLOTS - 1, [b"?", 7000, b"id"]]], "cluster-announce-hostname"),
    ],
)
def test_a_map_with_holes(reply: Reply, said: str) -> None:
    """A slot without a primary, or a primary without an address, is no map to go by."""
    with pytest.raises(ValueError, match=said):
        slot_map(reply)


@pytest.mark.parametrize(
    "reply", [b"OK", None, 1, [b"x"], [[0, SLOTS, FIRST]], [[5, 4, FIRST]], [[0, 1]], [[0, 1, []]]]
)
def test_what_is_no_map(reply: Reply) -> None:
    """What no Cluster answers is refused as such."""
    with pytest.raises(ProtocolError, match="CLUSTER SLOTS"):
        slot_map(reply)

"""bridge/status/recent.py: the newest entries, in memory that does not grow."""

import pytest
import redis

from bridge.core import contract
from bridge.core.contract import EXEC_KINDS, STREAMS, TAIL
from bridge.status.recent import (
    CONTROL_MAX,
    POSITIONS_MAX,
    TRADES_MAX,
    Recent,
    Taken,
    recalled,
    whole,
)
from tests.servers import RedisServer

KEYS = {kind: f"t:exec:{kind}" for kind in EXEC_KINDS}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recalled here delays nobody's end."""
    monkeypatch.setattr("bridge.status.recent.ANSWER_SECONDS_MAX", 10.0)


def entry(kind: str, seq: int, producer: str = "T.0123abcd.1", **changes: str) -> tuple[str, ...]:
    """Return the values of an entry with its tail."""
    tail = {"producer": producer, "seq": str(seq), "jseq": str(seq), "v": "1"}
    known = {name: f"{name}{seq}" for name in STREAMS[kind].names} | {"account": "A-1"}
    known |= tail | changes
    return tuple([known[name] for name in STREAMS[kind].fields])


def seqs(taken: list[Taken]) -> list[str]:
    return [contract.to_dict(kind, values)["seq"] for kind, values in taken]


def test_only_the_newest_stay() -> None:
    """Orders and fills in the order they came, control apart, each within its bound."""
    recent = Recent()
    for seq in range(1_000):
        recent.take("orders" if seq % 2 else "fills", entry("orders" if seq % 2 else "fills", seq))
        recent.take("control", entry("control", seq))
        recent.take("account", entry("account", seq))

    newest = [str(seq) for seq in range(1_000)]
    assert seqs([*recent.trades]) == newest[-TRADES_MAX:]
    assert seqs([*recent.control]) == newest[-CONTROL_MAX:]


def test_the_last_fill_stays() -> None:
    """However many orders follow it; one that is recalled is older than any that was taken."""
    recent = Recent()
    recent.recall([("fills", entry("fills", 7)), ("orders", entry("orders", 8))])
    assert recent.last_fill == entry("fills", 7)
    recent.take("fills", entry("fills", 9, "T.0123abcd.2"))
    for seq in range(TRADES_MAX):
        recent.take("orders", entry("orders", seq))
    recent.recall([("fills", entry("fills", 8))])

    assert {kind for kind, _ in recent.trades} == {"orders"}
    assert recent.last_fill == entry("fills", 9, "T.0123abcd.2")
    assert recent.fills_told() == {"T.0123abcd.1": 8, "T.0123abcd.2": 9}


def test_positions_that_are_open() -> None:
    """The last word on each, gone when it is flat; not more than there is room for."""
    recent = Recent()
    for qty in ("1", "2"):
        recent.take("positions", entry("positions", 1, position_id="P-1", side="LONG", qty=qty))
    recent.take("positions", entry("positions", 2, position_id="P-2", side="SHORT", symbol="ETH"))
    recent.take("positions", entry("positions", 3, position_id="P-2", side="FLAT", symbol="ETH"))

    [known] = recent.positions.values()
    assert contract.to_dict("positions", known)["qty"] == "2"
    for number in range(2 * POSITIONS_MAX):
        recent.take("positions", entry("positions", 1, position_id=f"Q-{number}", side="LONG"))
    assert len(recent.positions) == POSITIONS_MAX


def put(client: redis.Redis, kind: str, seq: int, producer: str, entry_id: str) -> None:
    values = entry(kind, seq, producer)
    client.xadd(KEYS[kind], dict(zip(STREAMS[kind].fields, values, strict=True)), id=entry_id)


def test_what_was_before_this_process_is_recalled(redis_server: RedisServer) -> None:
    """The last of it from Redis, of all incarnations of this producer and of nobody else, in
    order, in front of what this process took, and nothing twice."""
    client = redis_server.client
    for seq in range(1, 201):
        put(client, "orders", seq, "T.0123abcd.1", "1000-*")
    for seq, producer in ((1, "T.0123abcd.2"), (2, "OTHER.0123abcd.1"), (2, "T.0123abcd.2")):
        put(client, "fills", seq, producer, "2000-*")
        put(client, "control", seq, producer, "2000-*")
    client.xadd(KEYS["fills"], {"price": "1"})  # somebody else's has no producer
    recent = Recent()
    recent.take("fills", entry("fills", 2, "T.0123abcd.2"))
    recent.take("control", entry("control", 3, "T.0123abcd.2"))

    found = recalled(redis_server.url, KEYS, "T")
    recent.recall(found)

    assert seqs([*recent.control]) == ["1", "2", "3"]
    told = [contract.to_dict(*each) for each in recent.trades]
    assert len(told) == TRADES_MAX
    assert [(each["producer"], each["seq"]) for each in told[-3:]] == [
        ("T.0123abcd.1", "200"),
        ("T.0123abcd.2", "1"),
        ("T.0123abcd.2", "2"),
    ]


def test_what_cannot_be_used_is_left_out(redis_server: RedisServer) -> None:
    """Anybody can write our name: what has no numbers of ours does not keep the rest away."""
    client = redis_server.client
    put(client, "fills", 1, "T.0123abcd.1", "1000-*")
    for wrong in ({}, {"jseq": "x", "seq": "2"}, {"jseq": "9" * 5_000, "seq": "2"}, {"jseq": "2"}):
        client.xadd(KEYS["fills"], {"producer": "T.0123abcd.1"} | wrong)
    put(client, "fills", 3, "T.0123abcd.1", "*")

    assert seqs(recalled(redis_server.url, KEYS, "T")) == ["1", "3"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("9223372036854775807", 2**63 - 1), ("9223372036854775808", None)]
    + [(text, None) for text in ("", "-1", "1.0", "x", "²", "٣", "9" * 5_000)],
)
def test_a_number_of_63_bits(text: str, number: int | None) -> None:
    """Anything else is none."""
    assert whole(text) == number


def test_a_full_memory_recalls_nothing() -> None:
    """What this process took itself is newer than all that was before."""
    recent = Recent()
    for seq in range(TRADES_MAX):
        recent.take("orders", entry("orders", 1_000 + seq))
    before = [*recent.trades]
    recent.recall([("orders", entry("orders", seq)) for seq in range(10)])

    assert [*recent.trades] == before


def test_the_tail_is_where_it_is_looked_for() -> None:
    """Producer and number, by which an entry is known, are the first two of the four at the end."""
    assert [*TAIL] == ["producer", "seq", "jseq", "v"]
